"""Trainings that are killed, run by exper/run_pascal_scribble.sh: what they leave, and how the next run goes on."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.files import write_pair
from helpers.paths import ROOT

caffe = pytest.importorskip("caffe", reason="the script trains in Caffe")

from caffe.proto import caffe_pb2  # noqa: E402

KILLS = 20
ITERATIONS, INTERVAL = 12, 2
SOLVER = f"""
net: "${{EXP}}/config/${{NET_ID}}/train_${{TRAIN_SET}}.prototxt"
base_lr: 0.01 lr_policy: "step" gamma: 0.5 stepsize: 5 momentum: 0.9 weight_decay: 0.001 type: "TYPE"
display: 1
max_iter: {ITERATIONS}
snapshot: {INTERVAL}
snapshot_prefix: "${{EXP}}/model/${{NET_ID}}/train"
solver_mode: CPU
random_seed: 1
"""
# Many weights for little work: most of the time snapshots are being written. Two examples of different batches make
# an iteration, so that a resumed run has to find its place in the shuffled list.
NET = """
layer { name: "data" type: "ImageSegData" top: "data" top: "label"
  image_data_param { root_folder: "${DATA_ROOT}" source: "${EXP}/list/${TRAIN_SET}.txt" batch_size: 2 shuffle: true
    label_type: PIXEL }
  transform_param { mirror: true crop_size: 20 mean_value: 100 } }
layer { name: "wide" type: "InnerProduct" bottom: "data" top: "wide"
  inner_product_param { num_output: 800 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "sum" type: "Reduction" bottom: "wide" top: "sum" loss_weight: 1e-7
  reduction_param { operation: SUMSQ } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: ${NUM_LABELS} kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the script with a network of its own beside it, and its data."""
    root = tmp_path_factory.mktemp("killed")
    templates = root / "exper/pascal_scribble/config/tiny"
    templates.mkdir(parents=True)
    (templates / "train.prototxt").write_text(NET)
    (templates / "solver.prototxt").write_text(SOLVER.replace("TYPE", "SGD"))
    shutil.copy(ROOT / "exper" / "run_pascal_scribble.sh", root / "exper")
    data = root / "data"
    (data / "list").mkdir(parents=True)
    lines = []
    for index in range(7):
        entry = write_pair(data, str(index), 24, 28, index)
        lines.append(f"{os.path.basename(entry.image)} {os.path.basename(entry.label)}\n")
    for name in ("train", "val"):
        (data / "list" / f"{name}.txt").write_text("".join(lines))
    program = root / "bin" / "rloss-caffe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rloss_caffe "$@"\n')
    program.chmod(0o755)
    return root


def start(project, output, *arguments):
    kept = {name: os.environ[name] for name in ("HOME", "NUMBA_CACHE_DIR") if name in os.environ}
    path = f"{project}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin"
    environment = dict(kept, PATH=path, PYTHONPATH=str(ROOT), DATA_ROOT=str(project / "data"), OUTPUT=str(output))
    environment.update(NET_ID="tiny", WEIGHTS="none", RUN_TRAINWITHDENSECRFLOSS="0", RUN_TEST="0", DEV_ID="cpu")
    return subprocess.Popen(
        [str(project / "exper" / "run_pascal_scribble.sh"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(project, output, *arguments, status=0):
    process = start(project, output, *arguments)
    log = process.communicate(timeout=120)[0]
    assert process.returncode == status, log[-3000:]
    return log


def send(project, output, number, line, pause=0.0, group=True):
    """Send a signal some time after a line of the training's log; what was shown, and the exit status."""
    process = start(project, output)
    shown, count = [], 0
    for text in process.stdout:
        shown.append(text)
        count += bool(re.search(r"Snapshotting|Iteration \d+", text))
        if count >= line:
            time.sleep(pause)
            (os.killpg if group else os.kill)(process.pid, number)
            break
    shown += process.stdout.readlines()
    return "".join(shown), process.wait()


def models(output):
    return Path(output) / "model" / "tiny"


def final(output):
    """Weights and history at the end, bit for bit."""
    path = models(output) / f"train_iter_{ITERATIONS}"
    state = caffe_pb2.SolverState.FromString(path.with_suffix(".solverstate").read_bytes())
    assert state.iter == ITERATIONS and state.learned_net == str(path.with_suffix(".caffemodel"))
    history = [blob.SerializeToString() for blob in state.history]
    return path.with_suffix(".caffemodel").read_bytes(), history


@pytest.fixture(scope="module")
def undisturbed(project):
    run(project, project / "undisturbed")
    return project / "undisturbed"


def test_killed_at_random_and_resumed(project, undisturbed):
    """However often a training is killed, and whenever: it ends with the weights of one that never was."""
    expected, random_number = final(undisturbed), random.Random(0)
    lines, left_over = 3 * ITERATIONS, []
    moments = [(random_number.randint(1, lines), random_number.uniform(0, 0.05)) for _ in range(KILLS)]

    def kill_and_resume(trial):
        output = project / f"killed{trial}"
        line, pause = moments[trial]
        log, status = send(project, output, signal.SIGKILL, line, pause)
        assert status in (-signal.SIGKILL, 0), log[-2000:]
        left_over.append(list(models(output).glob(".train_unfinished/train_iter_*")))
        log = run(project, output)
        assert not list(models(output).glob(".*"))
        result = final(output), "train goes on from" in log, "train is done" in log
        shutil.rmtree(output)
        return result

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(kill_and_resume, range(KILLS)))
    assert [weights == expected for weights, _, _ in results] == [True] * KILLS
    assert sum(is_resumed for _, is_resumed, _ in results) > KILLS // 3  # these had something to go on from
    assert any(left_over)  # and some were killed while they wrote


def test_terminated(project, undisturbed):
    """SIGTERM for the script alone does what Ctrl-C does: a snapshot, and a tidy end."""
    output = project / "terminated"
    log, status = send(project, output, signal.SIGTERM, 5, group=False)
    assert status == 143, log[-2000:]
    assert "Optimization stopped early." in log
    assert "train was stopped before its end; the same command goes on" in log
    assert "train goes on from" in run(project, output)
    assert final(output) == final(undisturbed)


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def test_files_that_are_not_whole_are_passed_over(project, undisturbed):
    """As Caffe itself leaves them, killed or on a full disk: empty, cut anywhere, weights without a state."""
    expected, output = final(undisturbed), project / "cut"
    shutil.copytree(undisturbed, output)
    for path in models(output).glob("*.solverstate"):  # they name their weights
        state = caffe_pb2.SolverState.FromString(path.read_bytes())
        state.learned_net = str(path.with_suffix(".caffemodel"))
        path.write_bytes(state.SerializeToString())
    assert "train is done" in run(project, output)
    names = [f"train_iter_{ITERATIONS - index * INTERVAL}" for index in range(4)]
    (models(output) / f"{names[0]}.caffemodel").write_bytes(b"")
    cut(models(output) / f"{names[1]}.solverstate")
    cut(models(output) / f"{names[2]}.caffemodel", 0.999)
    log = run(project, output)
    assert re.search(rf"passed over: .*{names[0]}.caffemodel is empty", log)
    assert re.search(rf"passed over: .*{names[1]}.solverstate .*not written to its end", log)
    assert re.search(rf"passed over: .*{names[2]}.caffemodel .*not written to its end", log)
    assert f"train goes on from {models(output)}/{names[3]}.solverstate" in log
    assert final(output) == expected
    (models(output) / f"{names[0]}.solverstate").unlink()
    assert "train is done" in run(project, output)  # weights are enough
    cut(models(output) / f"{names[0]}.caffemodel")
    assert "train goes on from" in run(project, output)
    assert final(output) == expected


def test_two_at_a_time(project):
    """A second training of the same name would write over the first one's snapshots."""
    output = project / "two"
    process = start(project, output, "MAX_ITER=100000", "SNAPSHOT=0")
    for text in process.stdout:
        if "Iteration 1 " in text:
            break
    assert "another training writes snapshots as" in run(project, output, status=1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_program_called_caffe(project, undisturbed):
    program = project / "bin" / "caffe"
    shutil.copy(project / "bin" / "rloss-caffe", program)
    output = project / "program"
    run(project, output, "CAFFE_BIN=caffe")
    assert final(output) == final(undisturbed)
    program.unlink()
