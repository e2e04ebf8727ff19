"""The file that mypy checks strictly uses every public name, and does what it says."""

import re

import numpy as np
import public_names
import pytest
from helpers.paths import ROOT

import rloss_caffe


def test_every_public_name_is_used():
    text = (ROOT / "tests" / "public_names.py").read_text()
    used = set(re.findall(r"rloss_caffe\.(\w+)", text))
    assert used == set(rloss_caffe.__all__) and "bilateralfilter.bilateralfilter_batch(" in text


def test_the_uses_run():
    assert np.isfinite(public_names.filters()).all() and np.isfinite(public_names.losses())
    assert (public_names.swig_module() > 0).all()
    assert public_names.threads() == 1
    assert public_names.version() == rloss_caffe.__version__


def test_nets(tmp_path):
    pytest.importorskip("caffe", reason="needs pycaffe")
    net = tmp_path / "net.prototxt"
    net.write_text('layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }')
    public_names.nets(str(net))
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{net}" base_lr: 1 lr_policy: "fixed" snapshot_after_train: false')
    public_names.solvers(str(solver))
