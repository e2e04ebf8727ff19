"""``rloss-caffe train``, ``test``, ``time`` and ``device_query`` with real solvers and nets, as commands."""

import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.processes import open_terminal

caffe = pytest.importorskip("caffe", reason="the commands run pycaffe")

from caffe.proto import caffe_pb2  # noqa: E402

from rloss_caffe.commands import COMMANDS, main  # noqa: E402

DATA = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 2 dim: 3 dim: 6 dim: 7 } shape { dim: 2 dim: 1 dim: 6 dim: 7 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 2 } } }
"""
SCORE = """
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 2 }'
# Slow enough for a signal to arrive in the middle of an iteration, and says so.
SLOW = """
layer { name: "slow" type: "Python" bottom: "score" top: "slow" python_param { module: "slow_layer" layer: "Slow" } }
layer { name: "silence" type: "Silence" bottom: "slow" }
"""
SLOW_LAYER = """
import pathlib, time, caffe
class Slow(caffe.Layer):
    def setup(self, bottom, top): self.count = 0
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top):
        self.count += 1
        pathlib.Path("iteration").write_text(str(self.count))
        time.sleep(0.15)
        if pathlib.Path("fail").exists():
            raise ValueError("this layer cannot go on")
    def backward(self, top, propagate_down, bottom): pass
"""
PATIENCE = 300  # seconds, for a process that takes one where nothing else runs
LOG_LINE = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\] ")


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path)


def fill(folder):
    (folder / "net.prototxt").write_text(DATA + SCORE + LOSS)
    (folder / "slow.prototxt").write_text(DATA + SCORE + SLOW + LOSS)
    (folder / "slow_layer.py").write_text(SLOW_LAYER)
    (folder / "snap").mkdir()
    write_solver(folder)
    return folder


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("trained"))
    call(folder, "train", "--solver=solver.prototxt")
    return folder


@pytest.fixture
def trained(trained_once, tmp_path):
    """A folder in which solver.prototxt has been trained to its end, for what comes after."""
    return shutil.copytree(trained_once, tmp_path / "trained")


def write_solver(folder, name="solver", **settings):
    values = {"net": "net.prototxt", "base_lr": 0.1, "lr_policy": "step", "gamma": 0.5, "stepsize": 3, "max_iter": 10}
    values.update(momentum=0.9, random_seed=1, snapshot_prefix="snap/s", display=2, snapshot=5, average_loss=3)
    values.update(settings)
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    (folder / f"{name}.prototxt").write_text("\n".join([*lines, "solver_mode: CPU"]))


def environment(folder, level="0"):
    return dict(os.environ, GLOG_minloglevel=level, PYTHONPATH=f"{ROOT}{os.pathsep}{folder}")


def command(*arguments):
    return [sys.executable, "-m", "rloss_caffe", *map(str, arguments)]


def call(folder, *arguments, status=0):
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def weights(folder, iteration, prefix="snap/s"):
    message = caffe_pb2.NetParameter()
    message.ParseFromString((folder / f"{prefix}_iter_{iteration}.caffemodel").read_bytes())
    return {layer.name: [list(blob.data) for blob in layer.blobs] for layer in message.layer if layer.blobs}


# --- train -----------------------------------------------------------------------------------------------------------


def test_train_is_caffes_own_training(folder, monkeypatch):
    log = call(folder, "train", "-solver", "solver.prototxt")  # other tests: one dash or two, a space or =
    found = weights(folder, 10)
    monkeypatch.chdir(folder)
    caffe.set_mode_cpu()
    caffe.get_solver("solver.prototxt").solve()
    assert weights(folder, 10) == found
    lines = log.splitlines()
    assert all(LOG_LINE.match(line) for line in lines if line and line[0] in "IWEF" and line[1:2].isdigit())
    iterations = [int(match) for match in re.findall(r"solver\.cpp:\d+\] Iteration (\d+) \(", log)]
    assert iterations == [0, 2, 4, 6, 8]
    rates = re.findall(r"Iteration \d+, lr = (\S+)", log)
    assert [float(rate) for rate in rates] == [0.1, 0.1, 0.05, 0.025, 0.025]
    assert log.rstrip().endswith("Optimization Done.")


def test_resume_has_rate_and_momentum(folder):
    """Data are constant, so that straight training and two halves must agree to the bit."""
    for name in ("net", "slow"):
        path = folder / f"{name}.prototxt"
        path.write_text(path.read_text().replace('"gaussian" std: 1 }', '"constant" value: 1.5 }'))
    call(folder, "train", "--solver", "solver.prototxt")
    straight = weights(folder, 10)
    os.unlink(folder / "snap/s_iter_10.caffemodel")
    log = call(folder, "train", "--solver=solver.prototxt", "--snapshot=snap/s_iter_5.solverstate")
    assert weights(folder, 10) == straight
    assert "Resuming from snap/s_iter_5.solverstate" in log
    assert re.findall(r"Iteration \d+, lr = (\S+)", log) == ["0.025", "0.025"]


def test_weights_are_a_comma_list(trained):
    folder = trained
    write_solver(folder, "zero", base_lr=0, max_iter=1, snapshot_prefix="snap/z")
    names = "snap/s_iter_5.caffemodel, snap/s_iter_10.caffemodel"
    log = call(folder, "train", "-solver=zero.prototxt", f"-weights={names}")
    assert weights(folder, 1, "snap/z") == weights(folder, 10) != weights(folder, 5)
    assert log.count("Finetuning from") == 2


def start_slow(folder, *flags, **settings):
    write_solver(folder, net="slow.prototxt", max_iter=3000, snapshot=0, **settings)
    with open(folder / "log", "w") as log:
        arguments = command("train", "--solver=solver.prototxt", *flags)
        process = subprocess.Popen(arguments, cwd=folder, env=environment(folder), stderr=log, stdout=log)
    wait_for(folder, 3)
    return process


def wait_for(folder, iteration):
    deadline = time.time() + PATIENCE
    while time.time() < deadline:
        path = folder / "iteration"
        if path.exists() and int(path.read_text() or 0) >= iteration:
            return
        time.sleep(0.01)
    raise AssertionError((folder / "log").read_text())


def snapshots(folder):
    return sorted(int(re.search(r"_(\d+)\.", path.name).group(1)) for path in (folder / "snap").glob("*.solverstate"))


def test_interrupt_stops_with_a_snapshot_to_go_on_from(folder):
    process = start_slow(folder)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    log = (folder / "log").read_text()
    assert "Optimization stopped early." in log and "Traceback" not in log
    (iteration,) = snapshots(folder)
    assert iteration == int((folder / "iteration").read_text())  # the iteration was finished, none was begun
    write_solver(folder, net="slow.prototxt", max_iter=iteration + 2, snapshot=0)
    call(folder, "train", "--solver=solver.prototxt", f"--snapshot=snap/s_iter_{iteration}.solverstate")
    assert snapshots(folder) == [iteration, iteration + 2]


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background, where it is ignored
class Finder:
    def find_spec(name, *_):
        if name == "caffe._caffe":
            os.kill(os.getpid(), signal.SIG)
sys.meta_path.insert(0, Finder)
from rloss_caffe.commands import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "words", ["train --solver=solver.prototxt", "test --model=net.prototxt", "time --model=net.prototxt"]
)
def test_a_signal_while_caffe_is_imported_is_kept(trained, name, words):
    """Python would raise it within the import, where it gets lost."""
    folder = trained
    flags = [] if words.startswith("train") else ["--iterations=100000000"]
    if words.startswith("train"):
        shutil.rmtree(folder / "snap")
    if words.startswith("test"):
        flags.append("--weights=snap/s_iter_10.caffemodel")
    arguments = [sys.executable, "-c", INTERRUPTED.replace("SIG)", f"{name})"), *words.split(), *flags]
    done = subprocess.run(
        arguments, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE
    )
    expected = {"train": 0, "test": 130, "time": {"SIGINT": 130, "SIGTERM": 143}[name]}[words.split()[0]]
    assert done.returncode == expected, done.stderr
    if words.startswith("train"):
        assert "Optimization stopped early." in done.stderr
        assert not snapshots(folder)  # of an untouched net there is nothing to keep


def test_termination_does_what_an_interrupt_does(folder):
    process = start_slow(folder)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert "Optimization stopped early." in (folder / "log").read_text()
    assert snapshots(folder) == [int((folder / "iteration").read_text())]


def test_a_signal_ends_the_tests_of_a_training(folder):
    (folder / "fail").unlink(missing_ok=True)
    process = start_slow(folder, test_interval=1000, test_iter=1000, test_initialization=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert "Optimization stopped early." in (folder / "log").read_text() and not snapshots(folder)


def test_hangup_saves_and_goes_on(folder):
    process = start_slow(folder)
    process.send_signal(signal.SIGHUP)
    wait_for(folder, 6)
    assert process.poll() is None and len(snapshots(folder)) == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0 and len(snapshots(folder)) == 2


def test_effects_can_be_chosen(folder):
    process = start_slow(folder, "--sigint_effect=none", "-sighup_effect", "stop")
    process.send_signal(signal.SIGINT)
    wait_for(folder, 6)
    assert process.poll() is None and not snapshots(folder)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 0 and len(snapshots(folder)) == 1


def test_a_failing_layer_does_not_lose_the_training(folder):
    process = start_slow(folder)
    (folder / "fail").write_text("")
    assert process.wait(PATIENCE) == 1
    log = (folder / "log").read_text()
    assert "rloss-caffe train: this layer cannot go on" in log and "Traceback" not in log
    assert snapshots(folder) == [int((folder / "iteration").read_text()) - 1]


# --- values that are not finite, disks that are full ------------------------------------------------------------------

SICK = """
layer { name: "sick" type: "Python" bottom: "score" top: "sick" python_param { module: "sick_layer" layer: "Sick" } }
"""
SICK_LAYER = """
import caffe, numpy
class Sick(caffe.Layer):
    def setup(self, bottom, top): self.count = 0
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
        if self.count >= FIRST:
            top[0].data[0, 1, 2, 3] = numpy.VALUE
        self.count += 1
    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = top[0].diff
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_training_ends_at_the_first_loss_that_is_not_finite(folder, value):
    (folder / "sick_layer.py").write_text(SICK_LAYER.replace("FIRST", "7").replace("VALUE", value))
    (folder / "net.prototxt").write_text(DATA + SCORE + SICK + LOSS.replace('bottom: "score"', 'bottom: "sick"'))
    log = call(folder, "train", "--solver=solver.prototxt", status=1)
    line = log.strip().splitlines()[-1]
    assert line.startswith("rloss-caffe train: iteration 7: ")
    assert f"blob 'sick' of layer 'sick', which holds {value} (1 of 336 values are not finite)" in line or (
        f"blob 'sick' holds {value} (1 of 336" in line
    )
    assert "the last snapshot is of iteration 5" in line
    assert snapshots(folder) == [5]
    log = call(folder, "train", "--solver=solver.prototxt", "--allow_nonfinite")
    assert snapshots(folder) == [5, 10]


def test_scores_without_a_loss_count_and_so_does_every_part_of_an_iteration(folder):
    (folder / "sick_layer.py").write_text(SICK_LAYER.replace("FIRST", "4").replace("VALUE", "nan"))
    (folder / "net.prototxt").write_text(DATA + SCORE + SICK + LOSS)  # 'sick' is an output beside the loss
    write_solver(folder, iter_size=3)
    line = call(folder, "train", "--solver=solver.prototxt", status=1).strip().splitlines()[-1]
    assert "iteration 1: blob 'sick' holds nan" in line and "no snapshot was saved before" in line


def test_weights_that_are_not_finite_are_neither_saved_nor_scored(trained):
    folder = trained
    message = caffe_pb2.NetParameter.FromString((folder / "snap/s_iter_10.caffemodel").read_bytes())
    (layer,) = (layer for layer in message.layer if layer.blobs)
    layer.blobs[1].data[2] = float("inf")
    (folder / "bad.caffemodel").write_bytes(message.SerializeToString())
    for path in (folder / "snap").iterdir():
        path.unlink()
    log = call(folder, "train", "--solver=solver.prototxt", "--weights=bad.caffemodel", status=1)
    assert "'score'" in log.strip().splitlines()[-1] and not snapshots(folder)
    log = call(folder, "test", "--model=net.prototxt", "--weights=bad.caffemodel", status=1)
    assert "'score'" in log.strip().splitlines()[-1]


WIDE = """
layer { name: "wide" type: "InnerProduct" bottom: "data" top: "wide"
  inner_product_param { num_output: 3000 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "sum" type: "Reduction" bottom: "wide" top: "sum" loss_weight: 0.1 reduction_param { operation: SUMSQ } }
"""


@pytest.fixture(scope="module")
def with_large_snapshots(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("large"))
    (folder / "net.prototxt").write_text(DATA + SCORE + WIDE + LOSS)
    write_solver(folder, base_lr=0.001)
    call(folder, "train", "--solver=solver.prototxt")
    return folder


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99, 1.01])
def test_a_full_disk_costs_no_older_snapshot(with_large_snapshots, tmp_path, share):
    """The limit on a file's size is what a full disk is: writing ends with an error in its middle."""
    resource = pytest.importorskip("resource", reason="no Unix")
    folder = shutil.copytree(with_large_snapshots, tmp_path / "large")
    before = {path.name: path.read_bytes() for path in (folder / "snap").iterdir()}
    limit = int(share * max(map(len, before.values())) + (1 << 16) * (share > 1))
    write_solver(folder, base_lr=0.002)
    done = subprocess.run(
        command("train", "--solver=solver.prototxt"),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    after = {path.name: path.read_bytes() for path in (folder / "snap").iterdir()}
    if share > 1:
        assert done.returncode == 0 and set(after) == set(before) and after != before
        return
    assert done.returncode == 1 and after == before
    assert "no snapshot of iteration 5 in snap: it needs " in done.stderr
    assert "Training goes on, and the next snapshot is tried again." in done.stderr
    assert "rloss-caffe train: no snapshot of iteration 10 in snap: it needs " in done.stderr.splitlines()[-1]


STEPS = """
import glob, json, os, signal, sys
import caffe
from rloss_caffe.commands import main
from rloss_caffe.commands._snapshots import _problem
def killing(function):
    def call(*arguments, **keywords):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return call
for step in range(1, 100):
    for path in glob.glob("snap/s_*"):
        os.unlink(path)
    child = os.fork()
    if child == 0:
        left = [step]
        for name in ("replace", "unlink", "fsync", "makedirs"):
            setattr(os, name, killing(getattr(os, name)))
        os._exit(main(["train", "--solver=solver.prototxt"]))
    status = os.waitpid(child, 0)[1]
    print(json.dumps([status, {path: _problem(path) for path in sorted(glob.glob("snap/s_*"))}]))
    if status != signal.SIGKILL:
        break
"""


def test_killed_at_each_step_of_a_snapshot(folder):
    """Whatever is there under a final name is whole, and an older pair is there before a newer one is begun."""
    write_solver(folder, max_iter=4, snapshot=2)
    arguments = [sys.executable, "-c", STEPS]
    done = subprocess.run(
        arguments, cwd=folder, env=environment(folder, "2"), timeout=PATIENCE, capture_output=True, text=True
    )
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) > 10 and [status for status, _ in steps] == [signal.SIGKILL] * (len(steps) - 1) + [0], done.stderr
    for _, problems in steps:
        assert not any(problems.values())
        expected = [f"snap/s_iter_{iteration}.{kind}" for iteration in (2, 4) for kind in ("caffemodel", "solverstate")]
        assert list(problems) == expected[: len(problems)]
    assert len(problems) == 4 and not list((folder / "snap").glob(".*"))


def test_a_missing_folder_is_made(folder):
    write_solver(folder, snapshot_prefix="new/folder/s")
    log = call(folder, "train", "--solver=solver.prototxt")
    assert "Made the folder new/folder for snapshots." in log
    assert (folder / "new/folder/s_iter_10.solverstate").exists()


def test_snapshots_are_listed(trained, monkeypatch):
    from rloss_caffe.commands import _snapshots

    folder = trained
    monkeypatch.chdir(folder)
    assert call(folder, "snapshots", "snap/s").splitlines() == [
        "whole:     snap/s_iter_10.solverstate",
        "whole:     snap/s_iter_5.solverstate",
    ]
    path = folder / "snap/s_iter_10.solverstate"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        newest = _snapshots.newest_whole("snap/s")
        assert newest.state == "snap/s_iter_5.solverstate" and len(newest.passed_over) == 1, length
    assert "there is no whole snapshot" in call(folder, "snapshots", "other", status=1)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_train_errors(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)

    def error(*flags):
        assert main(["train", *flags]) == 1
        return capfd.readouterr().err

    assert "Need a solver definition to train." in error()
    both = error("--solver=solver.prototxt", "--weights=a", "--snapshot=b")
    assert "Give a snapshot to resume training or weights to finetune but not both." in both
    assert "--weights: no such file: a.caffemodel" in error("--solver=solver.prototxt", "--weights=a.caffemodel")
    assert "cannot read nothing: No such file" in error("--solver=nothing")
    write_solver(folder, "template")
    text = (folder / "template.prototxt").read_text()
    (folder / "template.prototxt").write_text(text.replace("max_iter: 10", "max_iter: ${MAX_ITER}"))
    assert "template.prototxt:6: ${MAX_ITER} must be filled in first" in error("--solver=template.prototxt")
    (folder / "bad.caffemodel").write_bytes(b"\xff\xff no weights")
    assert "bad.caffemodel is no binary" in error("--solver=solver.prototxt", "--weights=bad.caffemodel")
    assert "bad.caffemodel is no binary" in error("--solver=solver.prototxt", "--snapshot=bad.caffemodel")
    if "1.0.0" in caffe.__version__:
        assert "this Caffe is CPU-only or finds no GPU 0" in error("--solver=solver.prototxt", "--gpu=0")
    assert "expected ids such as 0 or 0,1, or 'all', found 'x'" in error("--solver=solver.prototxt", "--gpu=x")


def test_weights_that_do_not_fit(trained):
    folder = trained
    path = folder / "net.prototxt"
    path.write_text(path.read_text().replace("num_output: 4", "num_output: 5"))
    log = call(folder, "train", "--solver=solver.prototxt", "--weights=snap/s_iter_10.caffemodel", status=1)
    assert "layer 'score' has blobs of shape 5 x 3 x 1 x 1, 5 in the net and 4 x 3 x 1 x 1, 4 in the file" in log
    resumed = call(folder, "train", "--solver=solver.prototxt", "--snapshot=snap/s_iter_5.solverstate", status=1)
    assert "snap/s_iter_5.caffemodel does not fit the net: layer 'score'" in resumed
    path.write_text(path.read_text().replace('"score"', '"other"'))
    log = call(folder, "train", "--solver=solver.prototxt", "--weights=snap/s_iter_10.caffemodel")
    assert "nothing was loaded" in log


def test_gpu_solver_on_a_cpu(folder):
    path = folder / "solver.prototxt"
    path.write_text(path.read_text().replace("CPU", "GPU"))
    log = call(folder, "train", "--solver=solver.prototxt")
    assert ("using the CPU" in log) == ("Use CPU." in log)


def test_level_and_stage(folder):
    extra = 'layer { name: "extra" type: "Convolution" bottom: "data" top: "extra" include { stage: "more" }'
    extra += " convolution_param { num_output: 1 kernel_size: 1 } }\n"
    extra += 'layer { name: "s" type: "Silence" bottom: "extra" include { stage: "more" } }'
    with open(folder / "net.prototxt", "a") as file:
        file.write(extra)
    call(folder, "train", "--solver", "solver.prototxt")
    assert set(weights(folder, 10)) == {"score"}
    call(folder, "train", "--solver=solver.prototxt", "--stage=more")
    assert set(weights(folder, 10)) == {"score", "extra"}


# --- several GPUs: what can be tried without one ----------------------------------------------------------------------

SECOND = """
import argparse, caffe
from rloss_caffe.commands import _signals, _snapshots, _training, train
parser = argparse.ArgumentParser()
train.add_arguments(parser)
caffe.set_solver_count(2)
caffe.set_solver_rank(1)
caffe.set_multiprocess(True)
job = _training.read_job(parser.parse_args(["--solver=solver.prototxt"]))
snapshots = _snapshots.Snapshots(job.parameters, job.prefix)
with _signals.Requests(job.effects) as requests:
    solver = _training.make_solver(job, snapshots)
    assert _training.solve(solver, job, snapshots, requests, is_root=False)
assert solver.iter == 10
"""


def test_a_second_solver_trains_but_saves_nothing(folder):
    """Caffe ends the process of a solver of rank 1 that solves or saves."""
    for net, status in {"net": 0, "slow": 1}.items():
        write_solver(folder, net=f"{net}.prototxt")
        if net == "slow":
            (folder / "fail").write_text("")
        arguments = [sys.executable, "-c", SECOND]
        done = subprocess.run(arguments, cwd=folder, env=environment(folder), capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert ("ValueError: this layer cannot go on" in done.stderr) == (net == "slow")
        assert not list((folder / "snap").iterdir())


def test_one_process_that_fails_ends_all():
    from rloss_caffe.commands._multi_gpu import _join

    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=time.sleep, args=(600,)), context.Process(target=sys.exit, args=(3,))]
    for process in processes:
        process.start()
    with pytest.raises(RuntimeError, match="training failed on GPU 5;"):
        _join(processes, [4, 5])
    assert not any(process.is_alive() for process in processes)


# --- test ------------------------------------------------------------------------------------------------------------

SEG_ACCURACY = """
layer { name: "accuracy" type: "Python" bottom: "score" bottom: "label" top: "accuracy"
  python_param { module: "rloss_caffe.layers" layer: "SegAccuracy" param_str: "reset: false" } }
"""


def test_test(trained):
    folder = trained
    (folder / "test.prototxt").write_text(DATA + SCORE + LOSS + SEG_ACCURACY)
    flags = "--model=test.prototxt", "--weights=snap/s_iter_10.caffemodel", "-iterations", "3", "--json=scores.json"
    log = call(folder, "test", *flags)
    batches = re.findall(r"caffe\.cpp:\d+\] Batch (\d), (\w+) = (\S+)", log)
    assert [batch for batch, name, _ in batches if name == "loss"] == ["0", "1", "2"]
    assert sum(name == "accuracy" for _, name, _ in batches) == 9
    losses = [float(value) for _, name, value in batches if name == "loss"]
    mean = float(re.search(r"\] loss = (\S+) \(\* 2 = (\S+) loss\)", log).group(1))
    assert abs(mean - np.mean(losses)) < 1e-4
    assert abs(float(re.search(r"\] Loss: (\S+)", log).group(1)) - 2 * mean) < 1e-4
    (figures,) = json.loads((folder / "scores.json").read_text()).values()
    final = [float(value) for _, name, value in batches if name == "accuracy"][-3:]
    assert np.allclose([figures[key] / 100 for key in ("pixel_accuracy", "mean_recall", "mean_jaccard")], final)
    assert f"mean IoU over the 1 classes that occur: {figures['mean_iou']:.2f}" in log
    assert re.search(rf"^class 2 +{figures['classes']['class 2']['iou']:.2f} ", log, re.MULTILINE)


def test_test_errors(folder):
    assert "Need a model definition to score." in call(folder, "test", status=1)
    assert "Need model weights to score." in call(folder, "test", "--model=net.prototxt", status=1)
    done = subprocess.run(command("test", "--iterations=0"), env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 2 and "iterations" in done.stderr


# --- on a terminal ---------------------------------------------------------------------------------------------------


def on_terminal(folder, *arguments, stdout=None):
    """What a terminal of 100 columns gets from standard error (and output), and the exit status."""
    ours, theirs = open_terminal()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        command(*arguments), cwd=folder, env=environment(folder), stdout=stdout or theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return shown.decode(), process.wait(PATIENCE)


def as_seen(text):
    """What stands on a terminal's lines in the end."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [line.rsplit("\r", 1)[-1].replace("\x1b[K", "").rstrip() for line in lines]


def test_training_shows_the_time_left_on_a_terminal(folder):
    pytest.importorskip("tqdm", reason="it draws the bar")
    write_solver(folder, net="slow.prototxt", max_iter=12, snapshot=0)
    shown, status = on_terminal(folder, "train", "--solver=solver.prototxt")
    assert status == 0, shown
    assert re.search(r"\rtraining: +\d+%.*[1-9]/12 \[\d\d:\d\d<\d\d:\d\d, .*loss=\d", shown.replace("\x1b[K", "")), (
        shown
    )
    lines = as_seen(shown)
    assert not any("training:" in line for line in lines)  # it is gone in the end
    assert sum(" solver.cpp:" in line and "] Iteration " in line for line in lines) == 7
    assert all(LOG_LINE.match(line) for line in lines if " Iteration " in line)


def test_scoring_shows_a_bar_in_place_of_the_batches(trained):
    pytest.importorskip("tqdm", reason="it draws the bar")
    folder = trained
    flags = "--model=slow.prototxt", "--weights=snap/s_iter_10.caffemodel", "--iterations=5"
    shown, status = on_terminal(folder, "test", *flags)
    assert status == 0, shown
    assert "Batch 0" not in shown and re.search(r"scoring: +\d+%.*[1-5]/5 \[", shown)
    assert "] loss = " in shown
    log = call(folder, "test", *flags)
    assert "Batch 4, loss" in log and "scoring" not in log


@pytest.mark.parametrize("arguments", [["--help"], ["snapshots", "snap/s"], ["train", "--help"]])
def test_a_reader_that_has_enough_ends_a_command_quietly(folder, arguments):
    for iteration in range(3000):
        (folder / f"snap/s_iter_{iteration}.solverstate").write_bytes(b"")
    words = " ".join(command(*arguments))
    done = subprocess.run(
        f"{words} | head -n 1", shell=True, cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 1 and not done.stderr


# --- time, device_query ----------------------------------------------------------------------------------------------


def test_time(folder):
    log = call(folder, "time", "--model=net.prototxt", "--iterations=2")
    order = ["Performing Forward", "Initial loss: ", "Performing Backward", "*** Benchmark begins ***"]
    order += ["Testing for 2 iterations.", "Iteration: 1 forward-backward time: ", "Iteration: 2 forward-backward"]
    order += ["Average time per layer: ", "Average Forward pass: ", "Average Backward pass: "]
    order += ["Average Forward-Backward: ", "Total Time: ", "*** Benchmark ends ***"]
    places = [log.index(text) for text in order]
    assert places == sorted(places)
    for name in ("data", "score", "loss"):
        for way in ("forward", "backward"):
            assert re.search(rf"\] {name:>10}\t{way}: [\d.e-]+ ms\.", log)


def test_device_query_without_a_gpu(folder):
    from rloss_caffe.commands._devices import has_gpu

    if has_gpu():
        pytest.skip("there is a GPU")
    assert "CPU-only or finds no GPU" in call(folder, "device_query", status=1)


def test_help_names_the_flags(folder):
    text = call(folder, "train", "--help")
    for flag in ("--solver", "--snapshot", "--weights", "--gpu", "--sigint_effect", "--sighup_effect"):
        assert flag in text


@pytest.mark.parametrize("name", [name for commands in COMMANDS.values() for name in commands])
def test_the_help_of_a_command_begins_with_an_example_that_is_right(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.startswith(f"example: rloss-caffe {name}")
    assert "``" not in text and "Parameters\n" not in text
    usage = text.split("\n\n", 1)[1]
    for word in shlex.split(text.split("\n", 1)[0]):
        assert not word.startswith("-") or re.search(rf"{word.split('=')[0]}\b", usage), word


def test_the_help_names_every_command_under_its_heading(capsys):
    assert main([]) == 2
    text = capsys.readouterr().err
    folder = ROOT / "rloss_caffe" / "commands"
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    names = {name.replace("-", "_") for commands in COMMANDS.values() for name in commands}
    assert modules - {"gradient"} == names - {"gradient"}
    for heading, commands in COMMANDS.items():
        assert f"\n{heading}:\n" in text
        assert all(re.search(rf"^  {name} +\w", text, re.MULTILINE) for name in commands)


def test_the_shell_completes_words(folder):
    """As bash calls it: the answer goes to file descriptor 8."""
    pytest.importorskip("argcomplete", reason="it completes words")
    for line, expected in {"rloss-caffe tr": "train", "rloss-caffe train --snap": "--snapshot"}.items():
        asked = dict(
            environment(folder), _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS=" "
        )
        words = " ".join(command()) + " 8>answer"
        subprocess.run(words, shell=True, cwd=folder, env=asked, timeout=PATIENCE)
        assert (folder / "answer").read_text().strip() == expected
