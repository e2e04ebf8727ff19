"""``rloss-caffe train``, ``test``, ``time`` and ``device_query`` with real solvers and nets, as commands."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.paths import ROOT

caffe = pytest.importorskip("caffe", reason="the commands run pycaffe")

from caffe.proto import caffe_pb2  # noqa: E402

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
LOG_LINE = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\] ")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.prototxt").write_text(DATA + SCORE + LOSS)
    (tmp_path / "slow.prototxt").write_text(DATA + SCORE + SLOW + LOSS)
    (tmp_path / "slow_layer.py").write_text(SLOW_LAYER)
    (tmp_path / "snap").mkdir()
    write_solver(tmp_path)
    return tmp_path


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
        command(*arguments), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def weights(folder, iteration, prefix="snap/s"):
    message = caffe_pb2.NetParameter()
    message.ParseFromString((folder / f"{prefix}_iter_{iteration}.caffemodel").read_bytes())
    return {layer.name: [list(blob.data) for blob in layer.blobs] for layer in message.layer if layer.blobs}


# --- train -----------------------------------------------------------------------------------------------------------


FLAGS = [["-solver", "solver.prototxt"], ["-solver=solver.prototxt"]]
FLAGS += [["--solver", "solver.prototxt"], ["--solver=solver.prototxt"]]


@pytest.mark.parametrize("flags", FLAGS)
def test_train_is_caffes_own_training(folder, flags, monkeypatch):
    log = call(folder, "train", *flags)
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


def test_weights_are_a_comma_list(folder):
    call(folder, "train", "--solver=solver.prototxt")
    write_solver(folder, "zero", base_lr=0, max_iter=1, snapshot_prefix="snap/z")
    names = "snap/s_iter_5.caffemodel, snap/s_iter_10.caffemodel"
    log = call(folder, "train", "-solver=zero.prototxt", f"-weights={names}")
    assert weights(folder, 1, "snap/z") == weights(folder, 10) != weights(folder, 5)
    assert log.count("Finetuning from") == 2


def start_slow(folder, *flags, **settings):
    write_solver(folder, net="slow.prototxt", max_iter=200, snapshot=0, **settings)
    with open(folder / "log", "w") as log:
        arguments = command("train", "--solver=solver.prototxt", *flags)
        process = subprocess.Popen(arguments, cwd=folder, env=environment(folder), stderr=log, stdout=log)
    wait_for(folder, 3)
    return process


def wait_for(folder, iteration):
    deadline = time.time() + 30
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
    assert process.wait(30) == 0
    log = (folder / "log").read_text()
    assert "Optimization stopped early." in log and "Traceback" not in log
    (iteration,) = snapshots(folder)
    assert iteration == int((folder / "iteration").read_text())  # the iteration was finished, none was begun
    write_solver(folder, net="slow.prototxt", max_iter=iteration + 2, snapshot=0)
    call(folder, "train", "--solver=solver.prototxt", f"--snapshot=snap/s_iter_{iteration}.solverstate")
    assert snapshots(folder) == [iteration, iteration + 2]


INTERRUPTED = """
import os, signal, sys
class Finder:
    def find_spec(name, *_):
        if name == "caffe._caffe":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
from rloss_caffe.commands import main
sys.exit(main(["train", "--solver=solver.prototxt"]))
"""


def test_an_interrupt_while_caffe_is_imported_is_kept(folder):
    write_solver(folder)
    arguments = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(arguments, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0 and "Optimization stopped early." in done.stderr, done.stderr
    assert not snapshots(folder)  # of an untouched net there is nothing to keep


def test_hangup_saves_and_goes_on(folder):
    process = start_slow(folder)
    process.send_signal(signal.SIGHUP)
    wait_for(folder, 6)
    assert process.poll() is None and len(snapshots(folder)) == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0 and len(snapshots(folder)) == 2


def test_effects_can_be_chosen(folder):
    process = start_slow(folder, "--sigint_effect=none", "-sighup_effect", "stop")
    process.send_signal(signal.SIGINT)
    wait_for(folder, 6)
    assert process.poll() is None and not snapshots(folder)
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) == 0 and len(snapshots(folder)) == 1


def test_a_failing_layer_does_not_lose_the_training(folder):
    process = start_slow(folder)
    (folder / "fail").write_text("")
    assert process.wait(30) == 1
    log = (folder / "log").read_text()
    assert "rloss-caffe train: this layer cannot go on" in log and "Traceback" not in log
    assert snapshots(folder) == [int((folder / "iteration").read_text()) - 1]


def test_train_errors(folder):
    def error(*flags):
        return call(folder, "train", *flags, status=1)

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


def test_weights_that_do_not_fit(folder):
    call(folder, "train", "--solver=solver.prototxt")
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
    call(folder, "train", "--solver=solver.prototxt")
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


def test_test(folder):
    call(folder, "train", "--solver=solver.prototxt")
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
