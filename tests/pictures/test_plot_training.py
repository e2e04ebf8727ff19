"""Training logs are read right, whatever stands in them, and drawn and written as they are."""

import csv
import importlib.util
import io
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from rloss_caffe.pictures.training_log import read_log, read_logs

TOOL = ROOT / "tools" / "plot_training.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("plot_training", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(*arguments, **options):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def say(text, thread=9853, place="solver.cpp:228"):
    return f"I0301 11:46:37.911602 {thread:5d} {place}] {text}\n"


def step(iteration, loss, crf=None, lr="0.001", accuracy=None, **where):
    """The lines of one displayed iteration; the cross-entropy is the total minus the weighted DenseCRF loss."""
    text = say(f"Iteration {iteration} (2.51 iter/s, 3.98s/10 iters), loss = {loss}", **where)
    outputs = [f"accuracy = {value}" for value in accuracy or ()]
    if crf is not None:
        outputs.append(f"densecrf_loss = {crf:g} (* 1e-07 = {1e-7 * crf:g} loss)")
    outputs.append(f"loss = {loss if crf is None else loss - 1e-7 * crf:g} (* 1 = {loss:g} loss)")
    for number, output in enumerate(outputs):
        text += say(f"    Train net output #{number}: {output}", **where)
    return text + say(f"Iteration {iteration}, lr = {lr}", **where)


def begin(net="train", prefix="model/run", **where):
    head = say("Initializing solver from parameters: ", **where)
    return f'{head}train_net: "{net}.prototxt"\nbase_lr: 0.1\nsnapshot_prefix: "{prefix}"\n' + say("Solving ", **where)


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
        say("Iteration 20 (2.51 iter/s, 3.98s/10 it")[:-1] + say("Iteration 40, lr")[:-1] + "\n",
        say("Iteration 12, loss = 1.2 and more"),
        say("Iteration 12, loss = "),
        say("Iteration 9x, loss = 1"),
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


def test_figure_of_a_real_log(tool, real_logs):
    pytest.importorskip("matplotlib")
    path, values = real_logs[0]
    figure = tool.draw(tool.read_runs([path]))
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


@pytest.fixture
def phases(tmp_path):
    paths = tmp_path / "one.log", tmp_path / "two.log"
    paths[0].write_text(begin("one", "one") + "".join(step(i, 3 - i / 100) for i in range(0, 110, 10)))
    paths[1].write_text(begin("two", "two") + "".join(step(i, 2 - i / 100, -1e6) for i in range(0, 60, 10)))
    return paths


def test_joined_phases(tool, phases):
    pytest.importorskip("matplotlib")
    figure = tool.draw(tool.read_runs([], [phases]), window=3)
    total, crf = figure.axes[0], figure.axes[2]
    curves = [line for line in total.lines if len(line.get_xdata()) > 2]
    assert [line.get_xdata()[0] for line in curves] == [0, 0, 100, 100]  # as logged and smoothed, each phase by itself
    np.testing.assert_array_equal(curves[2].get_xdata(), range(100, 160, 10))
    np.testing.assert_allclose(curves[2].get_ydata(), [2, 1.9, 1.8, 1.7, 1.6, 1.5])
    (line,) = (line for line in total.lines if line.get_linestyle() == ":")
    assert list(line.get_xdata()) == [100, 100] and [text.get_text() for text in total.texts] == ["phase 2"]
    assert crf.get_title(loc="left") == "densecrf_loss (DenseCRF loss), times 1e-07"
    np.testing.assert_allclose(crf.lines[1].get_ydata(), -0.1)


def test_phases_whose_iterations_go_on_stay_in_place(tool, phases):
    phases[1].write_text("".join(step(i, 1) for i in range(100, 130, 10)))
    (run,) = tool.read_runs([], [phases])
    assert [phase.offset for phase in run.phases] == [0, 0]


def test_overlaid_runs_and_their_labels(tool, phases):
    pytest.importorskip("matplotlib")
    runs = tool.read_runs(phases, labels=["first", "second"])
    figure = tool.draw(runs)
    one, two = figure.axes[0].lines
    assert one.get_color() != two.get_color() and len(one.get_xdata()) == 11 and len(two.get_xdata()) == 6
    assert [text.get_text() for text in figure.legends[0].texts] == ["first", "second"]
    with pytest.raises(ValueError, match=r"expected 2 labels, one a run \(one, two\), found 1"):
        tool.read_runs(phases, labels=["first"])


def test_a_phase_that_two_runs_share_is_striped(tool, phases, tmp_path):
    pytest.importorskip("matplotlib")
    other = tmp_path / "three.log"
    other.write_text(phases[1].read_text().replace("1.9", "1.8"))
    lines = tool.draw(tool.read_runs([], [phases, (phases[0], other)]), window=1).axes[0].lines
    curves = [line for line in lines if len(line.get_xdata()) > 2]
    assert [line.is_dashed() for line in curves] == [False, False, True, False]
    assert len({line.get_color() for line in curves}) == 2


def test_logs_of_one_name_in_two_folders(tool, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.log").write_text(step(0, 1))
    runs = tool.read_runs([tmp_path / folder / "train.log" for folder in ("a", "b")])
    assert [run.label for run in runs] == [str(tmp_path / folder / "train.log") for folder in ("a", "b")]


def test_nan_is_marked_not_hidden(tool, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "bad.log"
    path.write_text("".join(say(f"Iteration {i}, loss = {v}") for i, v in enumerate(["2", "nan", "inf", "1"])))
    axes = tool.draw(tool.read_runs([path])).axes[0]
    curve, marks = axes.lines
    np.testing.assert_array_equal(curve.get_ydata(), [2, np.nan, np.nan, 1])
    assert list(marks.get_xdata()) == [1, 2] and marks.get_marker() == "x"
    assert axes.get_ylim()[0] > 0.5 and axes.get_ylim()[1] < 2.5


def test_smoothing(tool):
    random = np.random.RandomState(0)
    values = random.rand(50).tolist()
    padded = np.array([np.nan] * 3 + values + [np.nan] * 3)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 7)
    np.testing.assert_allclose(tool.smooth(values, 7, "median"), np.nanmedian(windows, axis=1))
    weights = 0.75 ** np.arange(50)[::-1]  # a window of 7 points: each new one counts a quarter
    expected = 0.25 * (weights[1:] * values[1:]).sum() + weights[0] * values[0]
    np.testing.assert_allclose(tool.smooth(values, 7, "ema")[-1], expected)
    assert tool.smooth(values, 1, "median") == values and tool.smooth(values, 1, "ema") == pytest.approx(values)
    np.testing.assert_array_equal(tool.smooth([1, math.nan, math.inf, 3], 3, "median"), [1, math.nan, math.nan, 3])
    np.testing.assert_array_equal(tool.smooth([1, math.nan, 3], 3, "ema"), [1, math.nan, 2])


def test_table(phases, tmp_path):
    path = tmp_path / "table.csv"
    run = run_tool("--join", *phases, "--csv", path, "--labels", "both, in one", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.glob("*.png"))  # only what was asked for
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17 and {row["run"] for row in rows} == {"both, in one"}
    assert [row["iteration_on_axis"] for row in rows[-2:]] == ["140", "150"]
    assert rows[-1]["phase"] == "2" and rows[-1]["iteration"] == "50" and float(rows[-1]["total_loss"]) == 1.5
    assert rows[0]["train/densecrf_loss"] == "" and float(rows[-1]["train/densecrf_loss"]) == -1e6
    assert run_tool(phases[0], "--csv", "-").stdout.startswith("run,phase,iteration,iteration_on_axis,total_loss,lr,")


@pytest.mark.parametrize("suffix, beginning", [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures(phases, tmp_path, suffix, beginning):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curves.{suffix}"
    run = run_tool(phases[0], "--join", *phases, "--smooth", 5, "--smoothing", "ema", "--output", path)
    assert run.returncode == 0, run.stderr
    assert path.read_bytes().startswith(beginning)
    assert "one: 100 iterations, total loss 2 at the end" in run.stderr


def test_messages_for_people(phases, tmp_path):
    for arguments, message in [
        ([tmp_path / "missing.log"], "missing.log"),
        ([TOOL], "no training found"),
        ([], "give at least one log"),
        ([phases[0], "--smooth", "0"], "--smooth must be >= 1"),
        ([phases[0], "--output", tmp_path / "curves.docx"], "docx"),
    ]:
        run = run_tool(*arguments, cwd=tmp_path)
        assert run.returncode != 0 and message in run.stderr and "Traceback" not in run.stderr


def test_without_matplotlib(phases, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = run_tool(phases[0], "--output", tmp_path / "x.png", env=environment)
    assert run.returncode == 1 and "pip install 'rloss_caffe[pictures]'" in run.stderr
    assert run_tool(phases[0], "--csv", tmp_path / "x.csv", env=environment).returncode == 0
