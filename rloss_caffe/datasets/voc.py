"""PASCAL VOC's classes and its palette for label maps."""

import numpy as np

__all__ = ["CLASSES", "IGNORE", "class_name", "palette"]

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


def palette():
    """The colours of the labels 0 to 255, as in VOC's own label images: array (256, 3), uint8 RGB.

    The bits of a label are dealt out to red, green and blue in turn, highest bit of the colour first, so that labels
    close together get colours far apart (VOC 2012 development kit).
    """
    labels = np.arange(256, dtype=np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        colours[:, channel] |= (labels >> bit & 1) << place
    return colours


def class_name(label, n_classes=21):
    """``dog`` for 12 of VOC's 21 classes; ``class 12`` where there is another number of classes."""
    return CLASSES[label] if n_classes == len(CLASSES) else f"class {label}"
