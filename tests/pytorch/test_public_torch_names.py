"""The file that uses every public name for PyTorch is complete, and does what it says."""

import math
import pathlib
import re

import pytest

pytest.importorskip("torch", reason="needs PyTorch")

import public_torch_names

import rloss_caffe.torch as rloss_torch


def test_every_public_name_is_used_and_explained():
    text = pathlib.Path(public_torch_names.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"rloss_torch\.(\w+)", text)) == set(rloss_torch.__all__)
    for name in rloss_torch.__all__:
        thing = getattr(rloss_torch, name)
        explained = [
            thing.__doc__,
            *(getattr(getattr(thing, call, None), "__doc__", "") for call in ("forward", "apply")),
        ]
        assert "Parameters\n" in "".join(filter(None, explained)) and "{parameters}" not in thing.__doc__, name


def test_the_uses_run():
    assert math.isfinite(public_torch_names.own_losses()) and math.isfinite(public_torch_names.losses_of_others())
