"""Compiled kernels are kept on disk, and specialisations cached by different processes do not get mixed up."""

import os
import subprocess
import sys

import pytest
from helpers.processes import open_terminal

PROGRAM = """
import sys
import numpy as np
import rloss_caffe
for dimension in map(int, sys.argv[1:]):
    rng = np.random.RandomState(dimension)
    lattice = rloss_caffe.PermutohedralLattice(rng.randn(dimension, 50), num_threads=1)
    print(dimension, lattice.filter(rng.rand(3, 50)).sum())
"""


def run(folder, *dimensions):
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(folder))
    command = [sys.executable, "-c", PROGRAM, *map(str, dimensions)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def files(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*.nb?"))


def test_kernels_are_cached_and_stay_apart(tmp_path):
    alone = run(tmp_path, 2) + run(tmp_path, 3)
    cached = files(tmp_path)
    assert cached
    assert run(tmp_path, 2, 3) == alone
    assert run(tmp_path, 3, 2) == alone[::-1]
    assert files(tmp_path) == cached  # nothing was compiled again


def test_functions_in_a_closure_are_refused():
    """The cache's key has the closure in it, and a function is another one in every process: it would always miss."""
    from rloss_caffe.numerics.compiling import jit

    @jit(entry=False)
    def other(x):
        return x + 1

    with pytest.raises(TypeError, match="kernel must get the function other as inner"):

        @jit
        def kernel(x):
            return other(x)


COMPILES = """
import numpy as np
from rloss_caffe.numerics.products import dot
ones = np.ones((2, 50), np.float32)
print(dot(ones, ones[0], ones))
"""
LINE = "rloss_caffe: compiling the kernels, once"


def on_a_terminal(command, folder):
    """What a command writes to a terminal."""
    ours, theirs = open_terminal()
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(folder), GLOG_minloglevel="1")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # what Linux says when nobody has the terminal open any more
            chunk = b""
        if not chunk:
            break
        written += chunk
    os.close(ours)
    text = written.decode(errors="replace")
    assert process.wait() == 0, text
    return text


def test_one_word_on_a_terminal_when_kernels_are_compiled(tmp_path):
    command = [sys.executable, "-c", COMPILES]
    first = on_a_terminal(command, tmp_path / "cache")
    assert first.count(LINE) == 1 and "100.0" in first
    assert LINE not in on_a_terminal(command, tmp_path / "cache")  # all of them were found on disk


def test_no_word_elsewhere(tmp_path):
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", COMPILES], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "100.0\n" and not done.stderr


def test_no_word_about_the_kernels_of_others(tmp_path):
    code = "import numba; import rloss_caffe.numerics.compiling\n@numba.njit\ndef f(): return 3\nprint(f())"
    assert on_a_terminal([sys.executable, "-c", code], tmp_path).split() == ["3"]


NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } shape { dim: 1 dim: 1 dim: 7 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "interp" type: "Python" bottom: "conv" top: "interp"
  python_param { module: "rloss_caffe.layers" layer: "Interp" param_str: "zoom_factor: 2" } }
layer { name: "loss" type: "EuclideanLoss" bottom: "interp" bottom: "label" top: "loss" }
"""


def test_training_on_a_terminal_says_it_too(tmp_path):
    pytest.importorskip("caffe")
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 display: 1 '
        f'snapshot_prefix: "{tmp_path}/s" solver_mode: CPU snapshot_after_train: false'
    )
    command = [sys.executable, "-m", "rloss_caffe", "train", f"--solver={tmp_path}/solver.prototxt"]
    assert on_a_terminal(command, tmp_path / "cache").count(LINE) == 1
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path / "other"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and LINE not in done.stdout + done.stderr
