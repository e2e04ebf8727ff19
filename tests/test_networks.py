"""The experiments' networks: written by their script, and the original's layer by layer."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT, shared_path

CONFIG = ROOT / "exper" / "pascal_scribble" / "config"
NETS = ["deeplab_largeFOV", "deeplab_msc_largeFOV", "deeplab_vgg16", "resnet-101"]
FILES = ["train", "trainwithdensecrfloss", "test"]


def test_prototxts_are_up_to_date():
    pytest.importorskip("caffe", reason="the networks are written with Caffe's schema")
    command = [sys.executable, str(ROOT / "exper" / "generate_networks.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def read_net(name, file):
    """The layers of a template as (name, type, bottoms, tops); a Python layer has the type of its class."""
    pytest.importorskip("caffe", reason="the networks are read with Caffe's schema")
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    text = (CONFIG / name / f"{file}.prototxt").read_text()
    text = text.replace("num_output: ${NUM_LABELS}", "num_output: 21")
    text = text.replace("loss_weight: ${DENSECRF_LOSS_WEIGHT}", "loss_weight: 1e-8")
    message = text_format.Parse(text, caffe_pb2.NetParameter())
    return [
        (
            layer.name,
            layer.python_param.layer if layer.type == "Python" else layer.type,
            tuple(layer.bottom),
            tuple(layer.top),
        )
        for layer in message.layer
    ]


def read_table(name, file):
    lines = shared_path(f"facts/nets/{name}__{file}.txt").read_text().splitlines()
    layers = []
    for line in lines:
        fields = [field.strip() for field in line.split(" | ")]
        if len(fields) >= 3 and "->" in fields[2]:
            bottoms, tops = (
                tuple(re.split(r"[,\s]+", side.strip())) if side.strip() else () for side in fields[2].split("->")
            )
            layers.append((fields[0], fields[1], bottoms, tops))
    return layers


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", NETS)
def test_layers_are_the_originals(name, file):
    expected = read_table(name, file)
    found = read_net(name, file)
    assert len(expected) > 40 and len(found) == len(expected)
    for ours, original in zip(found, expected):
        if not original[3] and original[1] == "SoftmaxWithLoss":  # the one difference: a loss without a top gets one
            assert len(ours[3]) == 1
            ours = (*ours[:3], ())
        assert ours == original
