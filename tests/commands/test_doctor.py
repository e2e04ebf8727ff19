"""``rloss-caffe doctor`` tells the truth about an environment with Caffe, and about one without."""

import importlib.metadata
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import rloss_caffe
from rloss_caffe.commands.doctor import _tensorflow, _torch


def doctor(**environment):
    command = [sys.executable, "-m", "rloss_caffe", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, **environment))
    assert not done.stderr
    lines = {line[6:21].strip(): line for line in done.stdout.splitlines() if len(line) > 21}
    return done.returncode, lines, done.stdout


def before_path(folder):
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def no_caffe(tmp_path):
    """The environment of a process without Caffe: a module that fails to import stands in the way of any real one."""
    folder = tmp_path / "no_caffe"
    folder.mkdir()
    (folder / "caffe.py").write_text("raise ImportError('not here')")
    return {"PYTHONPATH": before_path(folder)}


@pytest.fixture(scope="module")
def here():
    return doctor()


def test_with_caffe(here):
    pytest.importorskip("caffe", reason="needs pycaffe")
    pytest.importorskip("cv2", reason="ImageSegData needs it")
    status, lines, text = here
    assert status == 0 and text.endswith("The DenseCRFLoss layer runs here.\n")
    assert "forward and backward" in lines["Python layers"]
    assert lines["ImageSegData"].startswith("ok") and "read an image" in lines["ImageSegData"]
    assert sys.executable in lines["Python"]
    for name in (
        "numpy",
        "numba",
        "threads",
        "protobuf",
        "kernel cache",
        "caffe",
        "GPU",
        "cv2",
        "Pillow",
        "matplotlib",
    ):
        assert name in lines
    assert len(text.splitlines()) <= 25


def test_without_caffe(no_caffe):
    status, lines, text = doctor(**no_caffe)
    assert status == 1
    assert lines["caffe"].startswith("FAIL") and "ImportError: not here" in lines["caffe"]
    assert sys.executable in lines["caffe"]
    assert "cannot run here: see caffe" in text and lines["ImageSegData"].startswith("warn")


@pytest.mark.parametrize("module, line", [("cv2", "cv2"), ("PIL", "Pillow")])
def test_without_a_reader_of_images(tmp_path, module, line):
    """The loss runs, but ImageSegData does not: the command that brings what is missing keeps this Caffe's numpy."""
    pytest.importorskip("caffe", reason="needs pycaffe")
    numpy = pytest.importorskip("numpy")
    (tmp_path / f"{module}.py").write_text("raise ImportError('not here')")
    status, lines, text = doctor(PYTHONPATH=before_path(tmp_path))
    command = shlex.split(lines[line].partition("this brings it: ")[2])
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert f"numpy=={numpy.__version__}" in command or "-c" in command  # or the constraints of a Caffe of one's own
    assert lines["ImageSegData"].startswith("warn") and line in lines["ImageSegData"]
    assert ("ImageSegData, which reads images, does not run here" in text) == (status == 0)


def test_a_caffe_for_an_older_numpy(tmp_path):
    """What numpy 2 and protobuf 4 say of a Caffe that is older than they are leads to the command that mends it."""
    numpy = pytest.importorskip("numpy")
    (tmp_path / "caffe.py").write_text("raise AttributeError('_ARRAY_API not found')")
    _, lines, text = doctor(PYTHONPATH=before_path(tmp_path))
    if int(numpy.__version__.split(".")[0]) < 2:
        assert lines["numpy"].startswith("ok")
    else:
        assert lines["numpy"].startswith("FAIL") and "-m pip install 'numpy<2'" in lines["numpy"]
        assert "see numpy" in text


def test_a_program_that_runs_no_layers_is_told(tmp_path, no_caffe):
    program = tmp_path / "caffe"
    program.write_text("#!/bin/sh\necho 'F1126 10:00:00 1 x.cpp:1] Unknown layer type: Python' >&2\nexit 134\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    _, lines, _ = doctor(CAFFE_BIN=str(program), **no_caffe)
    assert lines["caffe program"].startswith("warn") and "Unknown layer type: Python" in lines["caffe program"]


def test_bad_thread_setting(no_caffe):
    _, lines, text = doctor(RLOSS_NUM_THREADS="many", **no_caffe)
    assert "cannot run here: see threads" in text
    assert lines["threads"].startswith("FAIL") and "'many'" in lines["threads"]


# Small kernels of two rooms.
COMPILES = """
import numpy as np
from rloss_caffe.filtering._apply import point_products
from rloss_caffe.numerics.products import dot
ones = np.ones((2, 5), np.float32)
dot(ones, ones[0], ones)
point_products(ones, ones, ones[:, 0], 2, 0, 1, np.zeros((1, 2, 5)))
"""


def test_the_kernel_cache_is_where_kernels_are(tmp_path, no_caffe):
    """The folders that are named get the kernels' files."""
    place = tmp_path / "kernels"
    _, lines, _ = doctor(NUMBA_CACHE_DIR=str(place), **no_caffe)
    assert str(place) in lines["kernel cache"]
    subprocess.run([sys.executable, "-c", COMPILES], env=dict(os.environ, NUMBA_CACHE_DIR=str(place)), check=True)
    count = len(list(place.rglob("*.nbc")))
    assert count > 0
    _, lines, _ = doctor(NUMBA_CACHE_DIR=str(place), **no_caffe)
    named = lines["kernel cache"][22:].partition(", ")
    assert count <= int(lines["kernel cache"].split(", ")[-1].split()[0]), named


def test_torch_and_its_devices_are_told(here, tmp_path, monkeypatch):
    """What is here; what is there where it is missing, too old, or has two GPUs."""
    _, lines, _ = here
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        assert lines["torch"].startswith("warn") and "-m pip install" in lines["torch"]
    else:
        assert lines["torch"].startswith(f"ok    torch           {version}")
        assert "tensors on the CPU use the Numba lattice" in lines["torch"]
    stand_in = """
from types import SimpleNamespace
__version__ = "2.{minor}"
library = SimpleNamespace({known})
cuda = SimpleNamespace(device_count=lambda: 2, get_device_name=lambda index: f"card {{index}}")
backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))
"""
    monkeypatch.setenv("PYTHONPATH", before_path(tmp_path))
    for text, words in (
        ("raise ImportError('not here')", ["warn", "ImportError: not here", "-m pip install"]),
        (stand_in.format(minor=1, known=""), ["warn", "2.1", "2.4 or newer"]),
        (
            stand_in.format(minor=9, known="custom_op=1"),
            ["ok", "2.9", "on cuda:0 (card 0), cuda:1 (card 1) the lattice"],
        ),
    ):
        (tmp_path / "torch.py").write_text(text)
        found = str(_torch([]))
        assert all(word in found for word in words), found


def test_tensorflow_and_keras_are_told(here, tmp_path, monkeypatch):
    """What is here; what is there where they are missing, too old, or have a GPU."""
    _, lines, _ = here
    is_here = importlib.util.find_spec("tensorflow")
    assert lines["tensorflow"].startswith("ok" if is_here else "warn")
    assert ("the losses are computed on the CPU" if is_here else "-m pip install") in lines["tensorflow"]
    stand_in = """
from types import SimpleNamespace
__version__ = "2.{minor}"
config = SimpleNamespace(list_physical_devices=lambda kind: ["one"])
"""
    monkeypatch.setenv("PYTHONPATH", before_path(tmp_path))
    for tensorflow, keras, words in (
        ("raise ImportError('not here')", "", ["warn", "ImportError: not here", "-m pip install"]),
        (
            stand_in.format(minor=15),
            "__version__ = '2.15.0'",
            ["warn", "2.15 with Keras 2.15.0; rloss"],
        ),
        (stand_in.format(minor=16), "__version__ = '3.9'", ["ok", "2.16, Keras 3.9: the losses", "on a GPU go there"]),
    ):
        (tmp_path / "tensorflow.py").write_text(tensorflow)
        (tmp_path / "keras.py").write_text(keras)
        found = str(_tensorflow([]))
        assert all(word in found for word in words), found


def test_the_package_that_is_imported_is_named(here):
    _, lines, _ = here
    assert str(Path(rloss_caffe.__file__).resolve().parent) in lines["rloss_caffe"]
