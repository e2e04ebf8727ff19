"""Call-compatible with the C++/SWIG module ``bilateralfilter`` of the PyTorch ports of the loss.

Replace ``from bilateralfilter import bilateralfilter, bilateralfilter_batch`` by
``from rloss_caffe.bilateralfilter import bilateralfilter, bilateralfilter_batch``; nothing has to be built.
"""

import numpy as np

from rloss_caffe.filtering import bilateral_filter, bilateral_filter_batch

__all__ = ["bilateralfilter", "bilateralfilter_batch"]


def bilateralfilter(image, values, out, H, W, sigma_rgb, sigma_xy):
    """Filter the channels of one image; the result is written into `out`.

    Parameters
    ----------
    image : ndarray, 3 H W values, flat or shaped
        The image's planes, one after the other.
    values : ndarray, K H W values
        What is filtered, plane by plane; K follows from the size.
    out : ndarray, float32, as many values, C-contiguous
        Receives the result.
    H, W : int
        Height and width in pixels.
    sigma_rgb, sigma_xy : float
        Bandwidths in the image's units and in pixels, > 0.

    Raises
    ------
    ValueError
        Sizes or types do not fit.
    """
    values = np.asarray(values)
    channels = _channels("values", values.size, H, W)
    planes = _planes("image", image, (3, H, W)), _planes("values", values, (channels, H, W))
    bilateral_filter(*planes, sigma_xy, sigma_rgb, out=_output("out", out, (channels, H, W)))


def bilateralfilter_batch(images, values, outs, N, K, H, W, sigma_rgb, sigma_xy):
    """`bilateralfilter` for `N` images with `K` channels each; the result is written into `outs`.

    Parameters
    ----------
    images : ndarray, N 3 H W values, flat or shaped
    values, outs : ndarray, N K H W values; `outs` float32 and C-contiguous
    N, K, H, W : int
        Batch size, channels, height and width.
    sigma_rgb, sigma_xy : float
        Bandwidths in the image's units and in pixels, > 0.

    Raises
    ------
    ValueError
        Sizes or types do not fit.
    """
    planes = _planes("images", images, (N, 3, H, W)), _planes("values", values, (N, K, H, W))
    bilateral_filter_batch(*planes, sigma_xy, sigma_rgb, out=_output("outs", outs, (N, K, H, W)))


def _channels(name, size, height, width):
    if height < 1 or width < 1 or size % (height * width):
        raise ValueError(f"{name} must hold K * H * W values for H = {height}, W = {width}, found {size}")
    return size // (height * width)


def _planes(name, array, shape):
    array = np.asarray(array)
    if array.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{name} must hold {' * '.join(map(str, shape))} values, found {array.size}")
    return array.reshape(shape)


def _output(name, array, shape):
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
        found = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} must be a C-contiguous float32 array that receives the result, found {found}")
    return _planes(name, array, shape)
