"""Feature vectors for the lattice: positions and colours over their bandwidths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rloss_caffe.numerics.arrays import allocate, bandwidth, image_array, whole_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["bilateral_features", "positional_features", "positions"]


def bilateral_features(image: ArrayLike, bi_xy_std: float, bi_rgb_std: float) -> NDArray[np.float32]:
    """Positions and colours of an image's pixels, each over its bandwidth.

    The kernel between two pixels is then ``exp(-|f_i - f_j|^2 / 2)`` (Tang et al., ECCV 2018, section 3).

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        C >= 1 channels (1 grey, 3 colour), any finite real numbers, used as they are (float32).
    bi_xy_std : float
        Spatial bandwidth in pixels, > 0.
    bi_rgb_std : float
        Colour bandwidth in the image's units, > 0.

    Returns
    -------
    ndarray, shape (2 + C, H, W), float32
        x (the column), y (the row), then the channels.

    Raises
    ------
    ValueError
        Wrong shape, an empty image, NaN or infinity in it, a bandwidth that is not a finite number > 0, or one so
        small that a feature exceeds single precision.
    """
    image = image_array(image)
    xy, rgb = bandwidth("bi_xy_std", bi_xy_std), bandwidth("bi_rgb_std", bi_rgb_std)
    channels, height, width = image.shape
    features = np.empty((2 + channels, height, width), np.float32)
    _write_positions(features, xy, "bi_xy_std")
    with np.errstate(over="ignore"):
        np.divide(image, rgb, out=features[2:])
    _check_quotients(features[2:], "bi_rgb_std", rgb)
    return features


def positional_features(height: int, width: int, pos_xy_std: float) -> NDArray[np.float32]:
    """Positions of the pixels of a grid over their bandwidth: the features of a spatial Gaussian.

    Parameters
    ----------
    height, width : int
        Size in pixels, >= 1.
    pos_xy_std : float
        Bandwidth in pixels, > 0.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        x (the column), y (the row).

    Raises
    ------
    ValueError
        A size is not a whole number >= 1, the bandwidth not a finite number > 0, or one so small that a feature
        exceeds single precision.
    """
    height, width = whole_number("height", height, 1), whole_number("width", width, 1)
    features = allocate("height and width: the result", (2, height, width))
    _write_positions(features, bandwidth("pos_xy_std", pos_xy_std), "pos_xy_std")
    return features


def positions(length: int, std: float) -> NDArray[np.float32]:
    """0 to length - 1 over a bandwidth, (length,) float32; infinite where that is beyond single precision."""
    with np.errstate(over="ignore"):
        return np.arange(length, dtype=np.float32) / np.float32(std)


def _write_positions(features, std, name):
    height, width = features.shape[1:]
    features[0] = positions(width, std)
    features[1] = positions(height, std)[:, np.newaxis]
    _check_quotients(features[:2, -1, -1], name, std)


def _check_quotients(quotients, name, std):
    """Values that were finite are still finite over their bandwidth, unless that is tiny."""
    if not (np.isfinite(quotients.min()) and np.isfinite(quotients.max())):
        raise ValueError(f"{name} is too small for these values: over {std} they exceed single precision")
