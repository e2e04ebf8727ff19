"""PASCAL VOC's classes and its palette for label maps."""

from rloss_caffe.data.palette import voc_palette as palette

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


def class_name(label, n_classes=21):
    """``dog`` for 12 of VOC's 21 classes; ``class 12`` where there is another number of classes."""
    return CLASSES[label] if n_classes == len(CLASSES) else f"class {label}"
