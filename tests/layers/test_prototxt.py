"""Every ready-to-paste definition loads in real Caffe, runs, and documents exactly the parameters its layer has."""

import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

DEFINITIONS = sorted((ROOT / "prototxt").glob("*.prototxt"))


def write_parameters(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "write_parameters.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_pages_list_the_parameters_as_they_are_declared():
    done = write_parameters("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_pages_are_written_from_the_declarations(tmp_path):
    page, table = tmp_path / "interp.prototxt", tmp_path / "page.md"
    text = (ROOT / "prototxt" / "interp.prototxt").read_text()
    page.write_text(text.replace("8 makes 321 of 41.", "9 makes 999.").replace("    # pad_end ", "    # pad_pad "))
    table.write_text("a\n<!-- parameters: SegAccuracy -->\nold\n\n<!-- end -->\nb\n<!-- end -->\n")
    assert write_parameters("--check", page, table).returncode == 1
    assert "999" in page.read_text()
    assert write_parameters(page, table).returncode == 0
    assert page.read_text() == text
    lines = table.read_text().split("\n")
    assert lines[:3] == ["a", "<!-- parameters: SegAccuracy -->", "| parameter | value | default | meaning |"]
    assert "| `ignore_label` | list of int | none |" in lines[5] and lines[7:] == [
        "<!-- end -->",
        "b",
        "<!-- end -->",
        "",
    ]
    assert write_parameters("--check", page, table).returncode == 0


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_every_parameter_is_explained(path):
    import rloss_caffe.layers

    text = path.read_text()
    layer = getattr(rloss_caffe.layers, re.search(r'layer: "(\w+)"', text).group(1))
    for parameter in layer.PARAMETERS:
        assert re.search(rf"^ +# {parameter.name}  +\S", text, re.M), parameter.name
    assert f'#     type: "{layer.__name__}"' in text  # the fork's dialect stands beside


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
