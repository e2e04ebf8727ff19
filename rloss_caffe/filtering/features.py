"""Feature vectors for the lattice: positions and colours over their bandwidths."""

import numpy as np

from rloss_caffe.numerics.arrays import bandwidth, image_array

__all__ = ["bilateral_features", "positional_features"]


def bilateral_features(image, bi_xy_std, bi_rgb_std):
    """Positions and colours of an image's pixels, each over its bandwidth.

    The kernel between two pixels is then ``exp(-|f_i - f_j|^2 / 2)`` (Tang et al., ECCV 2018, section 3).

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        C >= 1 channels (1 grey, 3 colour), any real numbers, used as they are (float32).
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
        Wrong shape, an empty image, a bandwidth that is not a finite number > 0.
    """
    image = image_array(image)
    xy, rgb = bandwidth("bi_xy_std", bi_xy_std), bandwidth("bi_rgb_std", bi_rgb_std)
    channels, height, width = image.shape
    features = np.empty((2 + channels, height, width), np.float32)
    _write_positions(features, xy)
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which the lattice reports
        np.divide(image, rgb, out=features[2:])
    return features


def positional_features(height, width, pos_xy_std):
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
    """
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be >= 1, found {height} x {width}")
    features = np.empty((2, height, width), np.float32)
    _write_positions(features, bandwidth("pos_xy_std", pos_xy_std))
    return features


def _write_positions(features, std):
    height, width = features.shape[1:]
    with np.errstate(over="ignore"):
        features[0] = np.arange(width, dtype=np.float32) / std
        features[1] = (np.arange(height, dtype=np.float32) / std)[:, np.newaxis]
