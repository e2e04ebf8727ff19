"""Previews that start from the scores of a real net in Caffe."""

import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.browser import COMPILED, Page, chromium, serving
from helpers.segmentations import write_list, write_net

pytest.importorskip("caffe", reason="nets run in Caffe")
for module in ("bottle", "waitress", "cv2"):
    pytest.importorskip(module, reason=f"rloss-caffe draw needs {module}")

from rloss_caffe.data.reading import read_image  # noqa: E402
from rloss_caffe.drawing.previews import coarse_scale  # noqa: E402
from rloss_caffe.drawing.segment import segment_from_scribbles  # noqa: E402

CLASSES = tuple(f"class {number}" for number in range(13))


@pytest.mark.parametrize("dialect", ["seg_data", "fork"])
def test_a_preview_starts_from_the_net(tmp_path, dialect):
    root = write_list(tmp_path)
    (root / "images").rename(root / "JPEGImages")
    net, weights = write_net(root, dialect)
    options = ("--net", str(net), "--weights", str(weights))
    with serving(root, CLASSES, *options) as (_, address), chromium() as driver:
        page = Page(driver, address)
        assert page.run("return document.getElementById('start').value") == "net"
        page.wait_full()  # without a stroke: the net alone says something
        page.keys("5")
        page.stroke([(2, 2), (9, 3)])
        page.wait(lambda: page.text("saved") == "Saved", "the save")
        page.wait_full()
        from rloss_caffe.nets.segmenter import Segmenter

        name = page.text("name")
        image = read_image(str(root / "JPEGImages" / f"{name}.png"))
        scores = Segmenter(net, weights).scores(image)
        settings = {"classes": "all", "push": 0.6, "options": {"bi_xy_std": 30.0, "bi_rgb_std": 15.0}}
        labels, pixels = page.labels(), image[:, :, ::-1]
        scale = coarse_scale(labels.shape)
        coarse = segment_from_scribbles(pixels, labels, 13, scores=scores, scale=scale, **settings)
        expected = segment_from_scribbles(pixels, labels, 13, scores=coarse, **settings).labels
        page.wait(lambda: np.array_equal(page.result(), expected), "the preview from the net", COMPILED)
        assert not page.problems()


def test_a_net_with_too_few_classes_is_refused(tmp_path):
    root = write_list(tmp_path)
    (root / "images").rename(root / "JPEGImages")
    net, weights = write_net(root, "seg_data")
    command = [sys.executable, "-m", "rloss_caffe", "draw", str(root), "--net", str(net), "--weights", str(weights)]
    names = ",".join([*CLASSES, "one more"])
    done = subprocess.run([*command, "--classes", names], capture_output=True, text=True, timeout=COMPILED)
    assert done.returncode == 1 and re.search(r"has 13 classes, but 14 are named", done.stderr)
