"""Every ready-to-paste definition loads in real Caffe, runs, and documents exactly the parameters its layer has."""

import re
import runpy
import subprocess
import sys

import pytest
from helpers.paths import ROOT

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

DEFINITIONS = sorted((ROOT / "prototxt").glob("*.prototxt"))


def test_pages_are_as_declared():
    command = [sys.executable, str(ROOT / "tools" / "make_pages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_comments_are_written_from_the_declarations():
    text = (ROOT / "prototxt" / "interp.prototxt").read_text()
    changed = text.replace("8 makes 321 of 41.", "9 makes 999.").replace("    # pad_end ", "    # pad_pad ")
    assert changed != text
    assert runpy.run_path(str(ROOT / "tools" / "make_pages.py"))["with_comments"](changed) == text


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_every_parameter_is_explained(path):
    import rloss_caffe.layers
    from rloss_caffe.nets.schema import LAYERS

    text = path.read_text()
    layer = getattr(rloss_caffe.layers, re.search(r'layer: "(\w+)"', text).group(1))
    for parameter in layer.PARAMETERS:
        assert re.search(rf"^ +# {parameter.name}  +\S", text, re.M), parameter.name
    if layer.__name__ in LAYERS:  # the fork has it, too: its dialect stands beside
        assert f'#     type: "{layer.__name__}"' in text


def test_there_are_definitions_for_all_layers():
    import rloss_caffe.layers

    defined = {re.search(r'layer: "(\w+)"', path.read_text()).group(1) for path in DEFINITIONS}
    assert defined == set(rloss_caffe.layers.__all__)


def fill_inputs(net):
    import numpy as np

    for name, blob in net.blobs.items():
        blob.data[...] = 30 * np.random.RandomState(0).randn(*blob.data.shape)
        if name == "label":
            blob.data[...] = 3
        if name == "data_dim":
            blob.data[...] = net.blobs["data"].data.shape[2]


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_definition_runs(path, tmp_path):
    text = path.read_text()
    if path.stem == "image_seg_data":
        text = with_images(text, tmp_path)
    path = tmp_path / path.name
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TRAIN)
    fill_inputs(net)
    net.forward()


def with_images(text, folder):
    """The definition's paths, on a list of one generated image."""
    cv2 = pytest.importorskip("cv2", reason="writes the image")
    import numpy as np

    cv2.imwrite(str(folder / "image.png"), np.full((30, 40, 3), 7, np.uint8))
    cv2.imwrite(str(folder / "label.png"), np.full((30, 40), 1, np.uint8))
    (folder / "train.txt").write_text("image.png label.png\n")
    return text.replace("list/train.txt", str(folder / "train.txt")).replace("/data/VOC2012/", f"{folder}/")
