"""Training logs are read right, whatever stands in them."""

import io
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.logs import begin, say, step
from helpers.paths import shared_path
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rloss_caffe.pictures import curves
from rloss_caffe.pictures.training_log import MOST_OUTPUTS, TrainingLog, read_log, read_logs


def read(text):
    return read_log(text.splitlines(keepends=True))


def test_every_kind_of_line():
    text = (
        say("Iteration 0, Testing net (#0)")
        + say("    Test net output #0: accuracy = 0.5")
        + say("    Test net output #1: accuracy = 0.4")
        + say("    Test net output #2: accuracy = 0.3")
        + say("    Test net output #3: loss = 2.5 (* 1 = 2.5 loss)")
        + say("Iteration 0, Testing net (#1)")
        + say("    Test net output #0: score = 7")
        + step(0, 1.5, -300000, accuracy=(0.25, 0.125, 0.0625))
        + say("Iteration 10, loss = 1.25e-05")
    )
    log = read(text)
    assert log.iterations == [0, 10]
    assert log.columns == {
        "total_loss": [1.5, 1.25e-05],
        "lr": [0.001, None],
        "train/accuracy/pixel_accuracy": [0.25, None],
        "train/accuracy/mean_recall": [0.125, None],
        "train/accuracy/mean_jaccard": [0.0625, None],
        "train/densecrf_loss": [-300000, None],
        "train/densecrf_loss/weighted": [-0.03, None],
        "train/loss": [1.53, None],
        "train/loss/weighted": [1.5, None],
        "test/accuracy/pixel_accuracy": [0.5, None],
        "test/accuracy/mean_recall": [0.4, None],
        "test/accuracy/mean_jaccard": [0.3, None],
        "test/loss": [2.5, None],
        "test/loss/weighted": [2.5, None],
        "test1/score": [7, None],
    }
    assert list(log.columns)[:3] == ["total_loss", "lr", "train/accuracy/pixel_accuracy"]
    assert log.weights == {"densecrf_loss": 1e-7, "loss": 1}
    assert log.series("lr") == ([0], [0.001]) and log.series("nothing") == ([], [])


@pytest.mark.parametrize("speed", ["inf iter/s, 0s/10 iters", "-1.37693e+38 iter/s, 0.012s/5 iters", "nan iter/s"])
def test_speeds_that_are_no_numbers(speed):
    assert read(say(f"Iteration 5 ({speed}), loss = 2")).columns == {"total_loss": [2]}


def test_nan_and_inf_are_values():
    log = read("".join(say(f"Iteration {i}, loss = {v}") for i, v in enumerate(["nan", "-nan", "inf", "-inf", "1"])))
    values = log.columns["total_loss"]
    assert math.isnan(values[0]) and math.isnan(values[1]) and values[2:] == [math.inf, -math.inf, 1]


def test_three_values_are_seg_accuracy_by_type_or_name():
    def three(name, net=""):
        return read(
            net
            + say("Iteration 0, loss = 1")
            + "".join(say(f"    Train net output #{k}: {name} = 0.{k}") for k in range(3))
        )

    head = say("Initializing net from parameters: ")
    fork = head + 'name: "net"\nlayer {\n  name: "a"\n  type: "SegAccuracy"\n  bottom: "x"\n  top: "figures"\n}\n'
    ours = head + 'layer {\n  type: "Python"\n  top: "figures"\n  python_param {\n    layer: "SegAccuracy"\n  }\n}\n'
    other = head + 'layer {\n  type: "Softmax"\n  top: "accurate"\n}\n'
    for log in (three("figures", fork), three("figures", ours)):
        assert log.layer_types == {"figures": "SegAccuracy"}
        assert log.columns["train/figures/mean_jaccard"] == [0.2]
    assert three("my_accuracy").columns["train/my_accuracy/pixel_accuracy"] == [0.0]
    assert three("figures").columns["train/figures/1"] == [0.1]
    assert three("accurate", other).columns["train/accurate/2"] == [0.2]


def test_foreign_and_broken_lines_change_nothing():
    clean = begin() + "".join(step(i, 2 - i / 100, -1e5) for i in range(0, 50, 10))
    lines = clean.splitlines(keepends=True)
    dirt = [
        "Iteration 3, loss = 77\n",  # somebody's print: this log's own lines have prefixes
        "  0%|          | 0/100 [00:00<?, ?it/s]\r",
        say("Iteration 20 (2.51 iter/s, 3.98s/10 it")[:-1] + say("    Test net output")[:-1] + "\n",
        say("    Train net output #0: densecrf_loss = -3.1e (* 1"),
        say("    Train net output #0: densecrf_loss = -3.1e+07 (* 1e-07 = -3.1"),
        say("Snapshotting to binary proto file model/run_iter_20.caffemodel"),
        "\x00\ufffd\n",
        "\n",
    ]
    dirty = "".join(line + dirt[index % len(dirt)] for index, line in enumerate(lines))
    for text in (dirty, dirty.replace("\n", "\r\n")):
        log = read_log(io.StringIO(text))
        assert (log.iterations, log.columns) == (read(clean).iterations, read(clean).columns)


@pytest.mark.parametrize(
    "line, is_known",
    [
        ("Iteration 40, Testing net (#0)", True),
        ("Iteration 40, Tes!ng net (#0)", False),
        ("Iteration 40, loss = ", False),
        ("Iteration 40, loss = 1.2 and more", False),
        ("Iteration 4x, Testing net (#0)", False),
        (f"Iteration {'4' * 400}, Testing net (#0)", False),
    ],
)
def test_a_line_with_an_iteration_always_moves_on(line, is_known):
    text = say("Iteration 20, Testing net (#0)") + say("    Test net output #0: accuracy = 0.5")
    text += say(line) + say("    Test net output #0: accuracy = 0.9")
    assert read(text).series("test/accuracy") == (([20, 40], [0.5, 0.9]) if is_known else ([20], [0.5]))


def test_a_missing_line_with_an_iteration_is_noticed():
    text = step(20, 2.0, -1e5) + "".join(step(40, 1.0, -2e5).splitlines(True)[1:-1]) + step(60, 0.5, -3e5)
    log = read(text)
    assert log.iterations == [20, 60] and log.series("train/densecrf_loss")[1] == [-1e5, -3e5]
    doubled = "".join(line * 2 for line in text.splitlines(True))  # as glog's alsologtostderr does
    assert read(doubled) == log


def test_numbers_of_windows():
    found = ["1.#QNAN", "-1.#IND", "-nan(ind)", "nan(snan)", "1.#INF", "-1.#INF", "1.5e+010", "Infinity"]
    log = read("".join(say(f"Iteration {i}, loss = {text}") for i, text in enumerate(found)))
    values = log.series("total_loss")[1]
    assert all(map(math.isnan, values[:4])) and values[4:] == [math.inf, -math.inf, 1.5e10, math.inf]
    assert read(say("Iteration 1, loss = " + "9" * 400)).series("total_loss")[1] == [math.inf]


def test_forms_of_other_caffes():
    nvidia = say("Iteration 50, lr = 0.0001, m = 0.9, wd = 0.0004, gs = 1")
    nvidia += say("Iteration 100 (2.1 iter/s, 23.8s/50 iter), 1.2/10ep, loss = 3.25")
    assert read(nvidia).curves == {"lr": ([50], [0.0001]), "total_loss": ([100], [3.25])}
    old = say("Iteration 0, Testing net") + say("Test score #0: 0.25") + say("Test score #1: 2.5")
    assert read(old + step(0, 2.0)).columns["test/score/0"] == [0.25]
    assert read(old + step(0, 2.0)).columns["test/score/1"] == [2.5]


def test_a_convolution_is_no_filler():
    net = say("Initializing net from parameters: ") + 'layer {\n  type: "Convolution"\n  top: "score"\n'
    net += '  convolution_param {\n    weight_filler {\n      type: "xavier"\n    }\n  }\n}\n'
    assert read(net + step(0, 1.0)).layer_types == {"score": "Convolution"}


def test_two_lines_run_together_count_as_the_second():
    log = read(say("Iteration 0, loss = 2") + say("Iteration 10, lo")[:-1] + say("Iteration 20, loss = 1"))
    assert log.series("total_loss") == ([0, 20], [2, 1])


def test_a_lost_line_does_not_shift_the_names():
    whole = step(0, 1, accuracy=(0.5, 0.4, 0.3))
    broken = "".join(line for line in step(10, 1, accuracy=(0.9, 0.8, 0.7)).splitlines(True) if "0.9" not in line)
    log = read(whole + broken)
    assert log.columns["train/accuracy/pixel_accuracy"] == [0.5, None]
    assert log.columns["train/accuracy/mean_jaccard"] == [0.3, 0.7]


def test_log_without_prefixes():
    text = "Iteration 0, loss = 2\n    Train net output #0: loss = 2 (* 1 = 2 loss)\nIteration 0, lr = 0.1\n"
    assert read(text).columns == {"total_loss": [2], "lr": [0.1], "train/loss": [2], "train/loss/weighted": [2]}


@pytest.mark.parametrize("has_head", [True, False])
def test_restart_from_a_snapshot(has_head):
    head = begin() if has_head else ""
    again = begin(thread=77) + say("Restoring previous solver status from model/run_iter_15.solverstate", thread=77)
    text = head + "".join(step(i, 100 + i) for i in range(0, 50, 10))
    text += (again if has_head else "") + "".join(step(i, i, thread=77) for i in (20, 30))
    log = read(text)
    assert log.series("total_loss") == ([0, 10, 20, 30], [100, 110, 20, 30])
    assert log.restarts == [(40, 20)]


def test_several_solvers_one_after_the_other():
    text = begin("one", "model/a") + step(0, 1) + step(10, 2) + begin("two", "model/b") + step(0, 3)
    logs = read_logs(text.splitlines(True))
    assert [(log.name, log.iterations, log.columns["total_loss"]) for log in logs] == [
        ("a", [0, 10], [1, 2]),
        ("b", [0], [3]),
    ]
    with pytest.raises(ValueError, match="expected one training, found 2: a, b"):
        read(text)


def test_two_processes_at_a_time():
    one, two = (begin(n, n, thread=t) for n, t in (("one", 1), ("two", 2)))
    text = one + two + "".join(step(i, i, thread=1) + step(i // 2, -i, thread=2) for i in range(0, 40, 10))
    logs = read_logs(text.splitlines(True))
    assert [log.iterations for log in logs] == [[0, 10, 20, 30], [0, 5, 10, 15]]
    assert logs[1].columns["total_loss"] == [0, -10, -20, -30] and not logs[0].restarts


def actor(iteration, **where):
    return step(iteration, 1 + iteration / 8).replace("loss =", "loss_a =").replace(", loss_a =", ", loss =")


def critic(iteration, **where):
    return step(iteration, 50 - iteration, -1e4)


@pytest.mark.parametrize("shows_nets", [False, True])
@pytest.mark.parametrize("order", ["abab", "aabb", "bbaa", "abbbaa"])
def test_two_solvers_of_one_process(shows_nets, order):
    nets = [
        say("Initializing net from parameters: ") + f'layer {{\n  type: "Loss"\n{tops}}}\n'
        for tops in ('  top: "loss_a"\n', '  top: "loss"\n  top: "densecrf_loss"\n')
    ]
    if not shows_nets:
        nets = ["", ""]
    text = begin("one", "model/a") + nets[0] + begin("two", "model/b") + nets[1]
    iterations = {"a": 0, "b": 0}
    for name in order:
        test = say(f"Iteration {iterations[name]}, Testing net (#0)") + say(
            f"    Test net output #0: acc = {ord(name)}"
        )
        text += test + (actor if name == "a" else critic)(iterations[name])
        iterations[name] += 10
    logs = {log.name: log for log in read_logs(text.splitlines(True))}
    names = "ab" if shows_nets or order[0] == "a" else "ba"  # what trains first was made first, if nothing else tells
    found = logs[names[0]], logs[names[1]]
    assert [log.iterations for log in found] == [list(range(0, iterations[name], 10)) for name in "ab"]
    assert found[0].series("train/loss_a")[1] == [1 + i / 8 for i in found[0].iterations]
    assert found[1].series("total_loss")[1] == [50 - i for i in found[1].iterations]
    assert [set(log.series("test/acc")[1]) for log in found] == [{97}, {98}]
    assert [log.weights for log in found] == [{"loss_a": 1}, {"loss": 1, "densecrf_loss": 1e-7}]
    assert not any(log.restarts for log in logs.values())


def test_two_solvers_that_lose_lines():
    text = begin("one", "model/a") + begin("two", "model/b")
    for iteration in range(0, 50, 10):
        lost = "".join(line for line in critic(iteration).splitlines(True) if "densecrf" not in line)
        text += actor(iteration) + (lost if iteration == 20 else critic(iteration))
    first, second = read_logs(text.splitlines(True))
    assert first.iterations == second.iterations == [0, 10, 20, 30, 40]
    assert second.series("train/densecrf_loss")[0] == [0, 10, 30, 40] and second.series("train/loss")[0][2] == 20


def test_two_solvers_that_cannot_be_told_apart(tmp_path):
    head = begin("one", "model/a") + begin("two", "model/b")
    in_turn = head + "".join(2 * step(i, 1.0) for i in range(0, 50, 10))
    path = tmp_path / "gan.log"
    path.write_text(in_turn)
    with pytest.raises(ValueError, match=r"gan\.log, line 14: 2 solvers of one process, a, b, have the same outputs"):
        read_logs(path)
    one_by_one = head + "".join(step(i, loss) for loss in (1.0, 2.0) for i in range(0, 50, 10))
    logs = read_logs(one_by_one.splitlines(True))
    assert [(log.name, set(log.series("total_loss")[1])) for log in logs] == [("a", {1.0}), ("b", {2.0})]
    (log,) = read_logs((head + step(0, 1.0)).splitlines(True))
    assert log.name == "b"  # the first was made, but did not train


def test_phases_of_one_process_with_the_same_net():
    text = begin("net", "model/one") + step(0, 1.0) + step(10, 1.0) + begin("net", "model/two") + step(0, 2.0)
    assert [log.series("total_loss")[1] for log in read_logs(text.splitlines(True))] == [[1, 1], [2]]


def test_a_resumed_training_whose_net_has_a_temporary_name():
    def head(net, thread):
        return begin(thread=thread).replace('"train.prototxt"', f'"{net}"')

    temporary = ["/tmp/tmp1g0c56fz/net_crsl9cuv.prototxt", "C:\\\\Temp\\\\tmp1th2pg0h\\\\net_ybcwmwgu.prototxt"]
    for nets in (temporary, [temporary[0], "train.prototxt"], ["train.prototxt", temporary[1]]):
        text = "".join(head(net, n) + step(10 * n, n, thread=n) for n, net in enumerate(nets))
        (log,) = read_logs(text.splitlines(True))
        assert log.name == "run" and log.series("total_loss") == ([0, 10], [0, 1])
    other = head("first.prototxt", 1) + step(0, 1, thread=1) + head("second.prototxt", 2) + step(0, 1, thread=2)
    assert len(read_logs(other.splitlines(True))) == 2


@pytest.mark.parametrize(
    "case, expected",
    [
        ("log-nvcaffe-lr", [("lr", [0.0001, 0.0001, 0.00001]), ("total_loss", [5.08, 3.22, 3.25])]),
        ("log-two-test-nets", [("test/accuracy", [0.1, 0.5]), ("test1/accuracy", [0.3, 0.9])]),
        ("log-windows-nan", [("total_loss", [16.29, 12.5, math.nan, math.nan, math.nan])]),
        ("log-two-solvers-one-process", [("total_loss", [0.5, 0.4, 0.3])]),
        ("resume-two-trainings", [("total_loss", [1.20379, 1.40743, 1.66617, 1.18616, 1.14013])]),
    ],
)
def test_logs_of_other_people(case, expected):
    path = next(shared_path(f"cases/{case}").glob("*.log"))
    log = read_logs(path)[0]
    assert len(read_logs(path)) == (2 if "solvers" in case else 1)
    for name, values in expected:
        np.testing.assert_array_equal(log.series(name)[1], values)


# Whatever stands in a log, the reader gives its trainings or a ValueError with the line.

LINES = [
    *begin("one", "model/a").splitlines(),
    *begin("two", "model/b", thread=7).splitlines(),
    *begin("three", "model/c").splitlines(),
    *step(0, 2.5, -1e5, accuracy=(0.5, 0.4, 0.3)).splitlines(),
    *step(10, 1.5, -2e5, accuracy=(0.6, 0.5, 0.4)).splitlines(),
    *step(20, 0.5, thread=7).splitlines(),
    say("Iteration 10, Testing net (#0)")[:-1],
    say("Iteration 10, Testing net (#1)")[:-1],
    say("    Test net output #0: accuracy = 0.9")[:-1],
    say("Test loss: 1.5")[:-1],
    say("Initializing net from parameters: ")[:-1],
    "layer {",
    '  type: "SegAccuracy"',
    '  top: "accuracy"',
    "}",
    "WARNING: Logging before InitGoogleLogging() is written to STDERR",
]


@st.composite
def log_texts(draw):
    """Lines of logs in any order; some cut, doubled, run together, or with something else in them."""
    lines = []
    for line in draw(st.lists(st.sampled_from(LINES), max_size=40)):
        change = draw(st.integers(0, 9))
        place = draw(st.integers(0, len(line)))
        if change == 0:
            line = line[:place]
        elif change == 1:
            line = line[:place] + draw(st.text(max_size=6)) + line[place:]
        elif change == 2:
            line = line[:place] + draw(st.sampled_from(LINES))
        elif change == 3:
            line = line[:place] + draw(st.sampled_from(["9" * 400, "1.#QNAN", "-", " = ", "(* ", "#", "nan", "\r"]))
        lines.append(line)
    return "\n".join(lines) + "\n"


def lines_of(text):
    """As Python reads a file's lines."""
    return list(io.StringIO(text, newline=None))


def same(one, other):
    return repr(one) == repr(other)  # as nan is not nan


@settings(max_examples=300, deadline=None)
@given(log_texts())
@example("Iteration 1, loss = " + "9" * 400 + "\n")
def test_any_log_gives_trainings_or_a_clear_error(tmp_path_factory, text):
    try:
        logs = read_logs(lines_of(text))
    except ValueError as error:
        assert re.match(r"line \d+: ", str(error))
        logs = None
    path = tmp_path_factory.getbasetemp() / "any.log"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding, "surrogatepass"))
        if logs is None:
            with pytest.raises(ValueError, match=r"any\.log, line \d+: "):
                read_logs(path)
        else:
            assert same(read_logs(path), logs)
    for log in logs or ():
        assert isinstance(log, TrainingLog) and log.iterations == sorted(set(log.iterations))
        for name, (iterations, values) in log.curves.items():
            assert iterations and len(iterations) == len(values) and iterations == sorted(set(iterations))
            assert set(iterations) <= set(log.iterations)
            assert [value for value in log.column(name) if value is not None] == pytest.approx(values, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=100, max_size=100),
)
def test_two_processes_may_write_in_any_order(turns, whose):
    """Lines of two processes, mixed in any way, give what each gives alone."""
    logs = []
    for thread, name in enumerate("ab"):
        steps = [step(10 * k, 100 * thread + turn, -turn, thread=thread) for k, turn in enumerate(turns)]
        logs.append((begin(name, name, thread=thread) + "".join(steps)).splitlines(True))
    heads = [1 + next(k for k, line in enumerate(lines) if "Solving" in line) for lines in logs]  # dumps have no thread
    mixed = logs[0][: heads[0]] + logs[1][: heads[1]]
    rest = [lines[head:] for lines, head in zip(logs, heads)]
    for turn in whose:
        if rest[turn]:
            mixed.append(rest[turn].pop(0))
    mixed += rest[0] + rest[1]
    alone = {read_log(lines).name: read_log(lines) for lines in logs}
    assert {log.name: log for log in read_logs(mixed)} == alone


def test_a_log_that_goes_on_being_written(tmp_path):
    """At whatever byte it is cut, what is read is the beginning of what is read in the end."""
    text = begin() + "".join(step(i, 2 - i / 100, -1e5 - i) for i in range(0, 40, 10))
    path = tmp_path / "train.log"
    whole = read(text)
    for end in range(0, len(text), 7):
        path.write_text(text[:end])
        for log in read_logs(path):
            for name, (iterations, values) in log.curves.items():
                assert whole.series(name)[0][: len(iterations)] == iterations
                assert whole.series(name)[1][: len(values)] == values


def test_lines_without_an_end(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(step(0, 2.0) + "x" * 300_000 + say("Iteration 10, loss = 3") + step(20, 1.0))
    assert read_log(path).iterations == [0, 20]
    path.write_text(step(0, 2.0) + "x" * 300_000)
    assert read_log(path).iterations == [0]


def test_too_many_outputs(tmp_path):
    path = tmp_path / "train.log"
    outputs = (say(f"    Train net output #{k}: out{k} = 1") for k in range(MOST_OUTPUTS + 5))
    path.write_text(say("Iteration 0, loss = 1") + "".join(outputs))
    with pytest.raises(ValueError, match=r"train\.log, line \d+: more than 10000 different outputs"):
        read_logs(path)


def test_a_number_that_is_still_being_written(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(say("Iteration 0, loss = 2") + say("Iteration 10, loss = 1.5")[:-2])
    assert read_log(path).series("total_loss") == ([0], [2])


def test_no_training(tmp_path):
    path = tmp_path / "empty.log"
    path.write_text("nothing\n")
    assert read_logs(path) == []
    with pytest.raises(ValueError, match=r"empty\.log: no training found.*GLOG_minloglevel"):
        read_log(str(path))


NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 1 dim: 3 dim: 6 dim: 6 } data_filler { type: "gaussian" std: 50 }
  shape { dim: 1 dim: 1 dim: 6 dim: 6 } data_filler { type: "constant" value: 1 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
layer { name: "crf" type: "Python" bottom: "data" bottom: "prob" top: "crf" loss_weight: 1e-4 propagate_down: false
  propagate_down: true python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
layer { name: "figures" type: "Python" bottom: "score" bottom: "label" top: "figures"
  python_param { module: "rloss_caffe.layers" layer: "SegAccuracy" } }
"""
SOLVER = """
net: "net.prototxt" test_iter: 1 test_interval: 10 base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 10
max_iter: 20 display: 5 snapshot: 10 snapshot_prefix: "small" solver_mode: CPU random_seed: 1
"""
TRAIN = """
import sys
import caffe
solver = caffe.get_solver("solver.prototxt")
if len(sys.argv) > 1:
    solver.restore(sys.argv[1])
print("begins", solver.iter, file=sys.stderr)
for _ in range(solver.param.max_iter - solver.iter):
    solver.step(1)
    print("VALUE", solver.iter - 1, *(float(solver.net.blobs[n].data.flat[k]) for n, k in
          (("loss", 0), ("crf", 0), ("figures", 0), ("figures", 1), ("figures", 2))))
"""


@pytest.fixture(scope="module")
def real_logs(tmp_path_factory):
    """Two logs of a real solver, the second of a resumed training, and the values that its blobs had."""
    pytest.importorskip("caffe")
    folder = tmp_path_factory.mktemp("real")
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    results = []
    for arguments in ([], ["small_iter_10.solverstate"]):
        environment = {"GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
        run = subprocess.run(
            [sys.executable, "-c", TRAIN, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        assert run.returncode == 0, run.stderr[-2000:]
        path = folder / f"log{len(results)}.txt"
        path.write_text(run.stderr)
        values = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("VALUE")]
        results.append((path, {int(i): [float(v) for v in rest] for i, *rest in values}))
    return results


def check_against_blobs(log, values):
    names = ["loss", "crf", "figures/pixel_accuracy", "figures/mean_recall", "figures/mean_jaccard"]
    iterations, _ = log.series("train/loss")
    for column, index in zip(names, range(5)):
        expected = [values[iteration][index] for iteration in iterations]
        np.testing.assert_allclose(log.series(f"train/{column}")[1], expected, rtol=1e-5)
    return iterations


def test_log_of_a_real_solver(real_logs):
    path, values = real_logs[0]
    log = read_log(path)
    assert check_against_blobs(log, values) == [0, 5, 10, 15]
    assert log.name == "small" and log.series("lr") == ([0, 5, 10, 15], [0.01, 0.01, 0.001, 0.001])
    total = np.array(log.series("train/loss/weighted")[1]) + log.series("train/crf/weighted")[1]
    np.testing.assert_allclose(log.series("total_loss")[1], total, rtol=1e-5)
    assert {name: log.layer_types[name] for name in ("loss", "crf", "figures")} == {
        "loss": "SoftmaxWithLoss",
        "crf": "DenseCRFLoss",
        "figures": "SegAccuracy",
    }
    assert log.series("test/figures/mean_jaccard")[0] == [0, 10] and log.weights == {"loss": 1, "crf": 1e-4}


def test_log_of_a_real_restart(real_logs):
    (first, before), (second, after) = real_logs
    log = read_log(io.StringIO(first.read_text() + second.read_text()))
    assert log.restarts == [(15, 10)]
    assert check_against_blobs(log, {**before, **after}) == [0, 5, 10, 15]


def test_picture_of_a_real_log(real_logs):
    pytest.importorskip("matplotlib", minversion="3.7")
    path, values = real_logs[0]
    figure = curves.draw(curves.read_runs([path]))
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == [
        "total loss",
        "crf (DenseCRF loss), times 0.0001",
        "loss (cross-entropy)",
        "learning rate (logarithmic scale)",
        "pixel accuracy, %",
        "mean recall of classes, %",
        "mean Jaccard index (mIoU over all classes), %",
    ]
    train, test = panels["loss (cross-entropy)"].lines
    np.testing.assert_array_equal(train.get_xdata(), [0, 5, 10, 15])
    np.testing.assert_allclose(train.get_ydata(), [values[i][0] for i in (0, 5, 10, 15)], rtol=1e-5)
    np.testing.assert_array_equal(test.get_xdata(), [0, 10])
    np.testing.assert_allclose(
        panels["pixel accuracy, %"].lines[0].get_ydata(), [100 * values[i][2] for i in (0, 5, 10, 15)], rtol=1e-5
    )
    assert panels["learning rate (logarithmic scale)"].get_yscale() == "log"
    assert all(axes.lines for axes in figure.axes)
