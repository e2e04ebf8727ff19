"""exper/run_pascal_scribble.sh, run as a user runs it, on tiny data."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.children import heed_interrupts
from helpers.files import write_pair
from helpers.paths import ROOT

caffe = pytest.importorskip("caffe", reason="the script trains in Caffe")

from caffe.proto import caffe_pb2  # noqa: E402

SCRIPT = str(ROOT / "exper" / "run_pascal_scribble.sh")
TINY = {
    "NET_ID": "deeplab_squeezenet",
    "WEIGHTS": "none",
    "CROP_SIZE": "65",
    "TEST_CROP_SIZE": "65",
    "BATCH_SIZE": "1",
    "MAX_ITER": "2",
    "SEED": "1",
}
# As at a terminal: a process group of its own, which Ctrl-C interrupts whoever started the tests.
TERMINAL = {
    "start_new_session": True,
    "preexec_fn": heed_interrupts,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("VOC 2012, & more")  # a name that a careless sed trips over
    (root / "list").mkdir()
    lines = []
    for index in range(3):
        entry = write_pair(root, str(index), 60 + index, 70, index)
        lines.append(f"{os.path.basename(entry.image)} {os.path.basename(entry.label)}\n")
    for name in ("train", "train_full", "val"):
        (root / "list" / f"{name}.txt").write_text("".join(lines))
    return root


@pytest.fixture
def environment(data, tmp_path):
    """The tests' own interpreter as the Caffe that the script finds."""
    program = tmp_path / "bin" / "rloss-caffe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rloss_caffe "$@"\n')
    program.chmod(0o755)
    kept = {name: os.environ[name] for name in ("HOME", "NUMBA_CACHE_DIR") if name in os.environ}
    path = f"{program.parent}:{os.path.dirname(sys.executable)}:/usr/bin:/bin"
    output = str(tmp_path / "out put")
    return dict(kept, PATH=path, DATA_ROOT=str(data), OUTPUT=output, **TINY)


def run(environment, *arguments, status=0):
    command = [SCRIPT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, **TERMINAL)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_both_phases_and_the_test(environment):
    log = run(environment, "DENSECRF_LOSS_WEIGHT=3e-9", "BI_XY_STD=40")
    output = environment["OUTPUT"]
    assert log.count("mean IoU over the 16 classes that occur") == 2
    assert len(re.findall(r"^background +\d", log, re.MULTILINE)) == 2
    for phase in ("train", "trainwithdensecrfloss"):
        assert os.path.exists(f"{output}/model/deeplab_squeezenet/{phase}_iter_2.caffemodel")
        figures = json.loads(Path(f"{output}/log/deeplab_squeezenet/{phase}_val.json").read_text())
        assert len(figures["accuracy"]["classes"]) == 16
    config = Path(f"{output}/config/deeplab_squeezenet/trainwithdensecrfloss_train.prototxt").read_text()
    assert "${" not in config and "loss_weight: 3e-9" in config and "num_output: 21" in config
    assert "bi_xy_std: 40\\nbi_rgb_std: 15" in config
    assert "densecrf_loss = -" in log
    logs = [name for name in os.listdir(f"{output}/log/deeplab_squeezenet") if name.endswith(".log")]
    assert len(logs) == 4 and all(re.search(r"_\d{8}-\d{6}\.log$", name) for name in logs)
    again = run(environment, "RUN_TEST=0")
    assert "train is done" in again and "trainwithdensecrfloss is done" in again and "Iteration" not in again


def phase_two(environment, loss, *arguments, status=0):
    """Run phase two alone, from nothing; its log, and what it was filled in with."""
    name = f"trainwith{'no' if loss == 'none' else loss.replace('_', '')}loss"
    log = run(environment, "RUN_TRAIN=0", "WEIGHTS2=none", "RUN_TEST=0", f"LOSS={loss}", *arguments, status=status)
    folder = Path(environment["OUTPUT"])
    return log, (folder / "config" / "deeplab_squeezenet" / f"{name}_train.prototxt").read_text()


def weights(environment, name):
    path = Path(environment["OUTPUT"]) / "model" / "deeplab_squeezenet" / f"{name}_iter_2.caffemodel"
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    return {layer.name: [list(blob.data) for blob in layer.blobs] for layer in net.layer if layer.blobs}


def test_the_control_is_phase_two_with_a_weight_of_zero(environment):
    log, net = phase_two(environment, "none")
    assert "densecrf" not in net and "drop6" not in net and "loss = " in log
    _, net = phase_two(environment, "densecrf", "LOSS_WEIGHT=0")
    assert "loss_weight: 0" in net
    assert weights(environment, "trainwithnoloss") == weights(environment, "trainwithdensecrfloss")
    logs = Path(environment["OUTPUT"]) / "log" / "deeplab_squeezenet"
    assert sorted(path.name.split("_")[0] for path in logs.iterdir()) == ["trainwithdensecrfloss", "trainwithnoloss"]


def test_parameters_of_the_loss(environment):
    arguments = ["BI_XY_STD=7.5", "LOSS_PARAMS=exact_gradient: true,bi_rgb_std: 11", "MAX_ITER=1"]
    log, net = phase_two(environment, "densecrf", "LOSS_WEIGHT=3e-9", "DENSECRF_LOSS_WEIGHT=1", *arguments)
    assert 'param_str: "bi_xy_std: 7.5\\nbi_rgb_std: 11\\nexact_gradient: true"' in net and "loss_weight: 3e-9" in net
    _, net = phase_two(environment, "densecrf", "LOSS_PARAMS=classes: labelled", "MAX_ITER=2")
    assert 'bottom: "fc8_interp_softmax" bottom: "label"\n' in net
    assert "propagate_down: true propagate_down: false\n" in net
    log, _ = phase_two(environment, "densecrf", "LOSS_PARAMS=bi_xy_sdt: 3", "MAX_ITER=3", status=1)
    assert "unknown parameter 'bi_xy_sdt', did you mean 'bi_xy_std'?" in log


@pytest.mark.parametrize(
    "loss, parameters", [("normalized_cut", "bi_xy_std: 9"), ("local_potts", "radius: 2"), ("self_label", "steps: 5")]
)
def test_another_loss(environment, loss, parameters):
    log, net = phase_two(environment, loss, "LOSS_WEIGHT=0.125", f"LOSS_PARAMS={parameters}")
    assert f'name: "{loss}_loss"' in net and "loss_weight: 0.125" in net
    assert re.search(rf'param_str: ".*{parameters}(\\n|")', net)
    assert re.search(rf"{loss}_loss = \d\S* \(\* 0.125 = ", log)


def interrupt(environment, arguments, pattern):
    """Run, press Ctrl-C half a second after a line with the pattern; the log, and the exit status."""
    process = subprocess.Popen(
        [SCRIPT, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **TERMINAL,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
            break
    lines += process.stdout.readlines()
    return "".join(lines), process.wait()


def test_interrupted_and_resumed(environment):
    arguments = ["MAX_ITER=200", "RUN_TRAINWITHDENSECRFLOSS=0", "RUN_TEST=0"]
    log, status = interrupt(environment, arguments, "Iteration 0.*loss")
    assert status == 130, log[-2000:]
    assert "stopped before its end; the same command goes on" in log
    models = f"{environment['OUTPUT']}/model/deeplab_squeezenet"
    (state,) = [name for name in os.listdir(models) if name.endswith(".solverstate")]
    done = int(re.search(r"_(\d+)\.", state).group(1))
    assert 1 <= done < 200  # at least the iteration that ran is finished
    log = run(environment, *arguments, f"MAX_ITER={done + 2}")
    assert f"train goes on from {models}/{state}" in log
    assert os.path.exists(f"{models}/train_iter_{done + 2}.caffemodel")
    log = run(environment, *arguments, "MAX_ITER=1")  # less than before: no snapshot is of use
    assert "goes on from" not in log and os.path.exists(f"{models}/train_iter_1.caffemodel")


def test_an_interrupt_is_no_failure_whenever_it_comes(environment):
    arguments = ["MAX_ITER=1", "RUN_TRAINWITHDENSECRFLOSS=0"]
    long = {"log: .*train_2": ("train", "MAX_ITER=2000"), "Batch 0": ("the test", "TEST_ITER=100000")}
    for pattern, (phase, longer) in long.items():
        log, status = interrupt(environment, [*arguments, longer], pattern)
        assert status == 130, log[-2000:]
        assert f"{phase} was stopped before its end" in log and "failed" not in log
        run(environment, *arguments, "RUN_TEST=0")


def test_an_interrupt_between_the_steps(environment, tmp_path):
    """Ctrl-C when a program has just done its work: nothing more is begun, and the script says so.

    The program is about to end, and takes no notice of the signal that the script may still send it.
    """
    program = tmp_path / "caffe"
    program.write_text(f'#!/bin/sh\ntrap : INT TERM\n"{sys.executable}" -m rloss_caffe "$@" && kill -INT 0\n')
    program.chmod(0o755)
    arguments = [f"CAFFE_BIN={program}", "RUN_TRAINWITHDENSECRFLOSS=0", "MAX_ITER=1"]
    log = run(environment, *arguments, status=130)
    assert "stopped after train, which is done; the same command goes on" in log and "scoring" not in log
    log = run(environment, *arguments, status=130)
    assert "train is done" in log and "stopped after the test of train; the same command goes on" in log


def test_the_original_network(environment):
    phase_two = ["RUN_TRAIN=0", "WEIGHTS2=none", "MAX_ITER2=1"]  # its net is that of phase one, and the loss
    log = run(environment, "NET_ID=deeplab_largeFOV", "RUN_TEST=0", "SNAPSHOT=0", *phase_two)
    assert "using the CPU" in log or "Use GPU" in log
    assert "softmax_loss = " in log and "densecrf_loss = -" in log


def test_full_masks(environment):
    log = run(environment, "TRAIN_SET_SUFFIX=_full", "RUN_TRAINWITHDENSECRFLOSS=0", "MAX_ITER=1", "TEST_ITER=2")
    config = Path(f"{environment['OUTPUT']}/config/deeplab_squeezenet/train_train_full.prototxt").read_text()
    assert "list/train_full.txt" in config
    assert "2 images were scored, the list has 3" in log


def test_errors(environment, tmp_path):
    assert "usage: " in run(environment, "--help")
    assert "unknown argument: NET=x" in run(environment, "NET=x", status=1)
    assert "unknown argument: train" in run(environment, "train", status=1)
    assert "DATA_ROOT is not set" in run(environment, "DATA_ROOT=", status=1)
    assert "no folder /nowhere" in run(environment, "DATA_ROOT=/nowhere", status=1)
    assert "there are: deeplab_largeFOV deeplab_msc_largeFOV" in run(environment, "NET_ID=vgg", status=1)
    assert "no list" in run(environment, "TEST_SET=test", status=1)
    assert "no such file: x.caffemodel" in run(environment, "WEIGHTS=x.caffemodel", status=1)
    for network, words in {
        "deeplab_largeFOV": "VGG-16 of DeepLab-LargeFOV",
        "resnet-101": "ImageNet initialisation of DeepLab v2",
        "deeplab_squeezenet": "SqueezeNet v1.0, from its authors",
    }.items():
        log = run(environment, "WEIGHTS=", f"NET_ID={network}", status=1)
        assert "weights are missing" in log and words in log and ". WEIGHTS=none" in log
        config = Path(environment["OUTPUT"]) / "config" / network / "train_train.prototxt"
        assert "${" not in config.read_text()  # resnet-101's template is not committed: it has been written
    log = run(environment, "NET_ID=deeplab_msc_largeFOV", "WEIGHTS=", status=1)
    assert "deeplab_largeFOV/trainwithdensecrfloss_iter_9000.caffemodel; they are the result of the phase" in log
    assert ". WEIGHTS2=none" in log
    assert "no loss crf; there are: densecrf " in run(environment, "LOSS=crf", status=1)
    for wrong in ("radius=3", "radius", 'contrast: "image"', "radius: 3; contrast: image\\n"):
        assert f"'NAME: VALUE, NAME: VALUE', found '{wrong}'" in run(environment, f"LOSS_PARAMS={wrong}", status=1)
    for variable in ("LOSS_WEIGHT=1", "LOSS_PARAMS=radius: 1", "BI_XY_STD=3"):
        assert "LOSS=none has no loss" in run(environment, "LOSS=none", variable, status=1)
    assert "is for LOSS=densecrf; LOSS_WEIGHT" in run(environment, "LOSS=none", "DENSECRF_LOSS_WEIGHT=1", status=1)
    assert "no program /nowhere/caffe (CAFFE_BIN)" in run(environment, "CAFFE_BIN=/nowhere/caffe", status=1)


def test_a_caffe_program(environment, tmp_path):
    """CAFFE_BIN gets the caffe program's own flags, and PYTHONPATH for the layers."""
    program = tmp_path / "caffe"
    program.write_text(
        f'#!/bin/sh\necho "PYTHONPATH=$PYTHONPATH $*" >&2\nexec "{sys.executable}" -m rloss_caffe "$@"\n'
    )
    program.chmod(0o755)
    relative = os.path.relpath(program)  # seen from where the script is called
    log = run(environment, f"CAFFE_BIN={relative}", "RUN_TRAINWITHDENSECRFLOSS=0", "MAX_ITER=1")
    calls = re.findall(rf"PYTHONPATH={re.escape(str(ROOT))}\S* (\w+) --(\w+)", log)
    assert calls == [("train", "solver"), ("test", "model")] and "--json" not in log
