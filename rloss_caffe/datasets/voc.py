"""PASCAL VOC's classes and its palette for label maps."""

import re

from rloss_caffe.data.palette import voc_palette as palette

__all__ = ["CLASSES", "IGNORE", "class_name", "is_voc_id", "palette"]

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
IGNORE = 255


def class_name(label, n_classes=21):
    """``dog`` for 12 of VOC's 21 classes; ``class 12`` where there is another number of classes."""
    return CLASSES[label] if n_classes == len(CLASSES) else f"class {label}"


def is_voc_id(name):
    """Whether an image's name is of VOC's form: ``2007_000032``."""
    return bool(re.fullmatch(r"20[01][0-9]_[0-9]{6}", name))
