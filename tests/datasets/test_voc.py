"""VOC's palette and class names."""

import numpy as np
import pytest
from helpers.paths import shared_path

from rloss_caffe.data.reading import read_label
from rloss_caffe.datasets import examples, voc


def test_palette_has_the_well_known_colours():
    colours = voc.palette()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(colours[label]) == colour
    assert len(np.unique(colours, axis=0)) == 256


def test_class_names():
    assert len(voc.CLASSES) == 21
    assert voc.class_name(12) == "dog" and voc.class_name(3, 5) == "class 3"


def test_the_names_belong_to_the_ids_of_real_lists():
    text = shared_path("voc_mini/README.md").read_text()
    for label in (8, 10, 12, 13, 15, 17):
        assert f"| {label} | {voc.CLASSES[label]} |" in text


def test_labels_of_the_examples_read_the_same_everywhere():
    Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
    for kind in ("scribbles", "masks"):
        for name in examples.PHOTOS:
            path = examples.LABELS / kind / f"{name}.png"
            label = examples.load_label(name, kind)
            np.testing.assert_array_equal(read_label(path), label)
            assert Image.open(path).mode == "P" and set(np.unique(label)) <= {*range(len(examples.CLASSES)), 255}
