"""Checks of what users hand to the filters; the messages say what was expected and what was found."""

import math
import numbers

import numpy as np

__all__ = ["bandwidth", "image_array", "real_array"]


def bandwidth(name, value):
    """`value` as float32; it must be a finite number > 0 there."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.ndarray)) or np.ndim(value) != 0:
        raise ValueError(f"{name} must be a number > 0, found {value!r}")
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if not (math.isfinite(single) and single > 0):
        raise ValueError(f"{name} must be a finite number > 0, found {value!r}")
    return single


def real_array(name, value, shape_text, ndim):
    """`value` as a C-contiguous float32 array of `ndim` axes; a copy only where it is not one already."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, found dtype {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have shape {shape_text}, found shape {array.shape}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def image_array(image, name="image"):
    """One image (C, H, W), float32, with at least one channel and one pixel."""
    image = real_array(name, image, "(channels, height, width)", 3)
    if image.size == 0:
        raise ValueError(f"{name} is empty: its shape is {image.shape}")
    return image
