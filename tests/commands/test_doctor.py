"""``rloss-caffe doctor`` tells the truth about an environment with Caffe, and about one without."""

import os
import subprocess
import sys

import pytest


def doctor(**environment):
    command = [sys.executable, "-m", "rloss_caffe", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, **environment))
    assert not done.stderr
    lines = {line[6:21].strip(): line for line in done.stdout.splitlines() if len(line) > 21}
    return done.returncode, lines, done.stdout


def test_with_caffe():
    pytest.importorskip("caffe", reason="needs pycaffe")
    status, lines, text = doctor()
    assert status == 0 and text.endswith("The DenseCRFLoss layer runs here.\n")
    assert "forward and backward" in lines["Python layers"]
    for name in ("Python", "numpy", "numba", "threads", "protobuf", "kernel cache", "caffe", "GPU"):
        assert name in lines
    assert len(text.splitlines()) <= 24


def test_without_caffe(tmp_path):
    """A module that fails to import stands in the way of any real one."""
    (tmp_path / "caffe.py").write_text("raise ImportError('not here')")
    status, lines, text = doctor(PYTHONPATH=str(tmp_path))
    assert status == 1
    assert lines["caffe"].startswith("FAIL") and "ImportError: not here" in lines["caffe"]
    assert "cannot run here: see caffe" in text


def test_bad_thread_setting():
    status, lines, _ = doctor(RLOSS_NUM_THREADS="many")
    assert status == 1
    assert lines["threads"].startswith("FAIL") and "'many'" in lines["threads"]


def test_cache_folder(tmp_path):
    _, lines, _ = doctor(NUMBA_CACHE_DIR=str(tmp_path / "kernels"))
    assert str(tmp_path / "kernels") in lines["kernel cache"]
