"""One-call bilateral filters for an image and for a batch."""

import numpy as np

from rloss_caffe.filtering.features import bilateral_features
from rloss_caffe.filtering.lattice import PermutohedralLattice
from rloss_caffe.numerics.arrays import real_array
from rloss_caffe.numerics.threads import for_each_image

__all__ = [
    "bilateral_filter",
    "bilateral_filter_batch",
]


def bilateral_filter(image, values, bi_xy_std, bi_rgb_std, roi=None, out=None, num_threads=None):
    """Filter values by the bilateral kernel of an image, not normalised.

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        The guide: C >= 1 channels, as they are.
    values : array_like, shape (K, H, W) or (H, W)
        What is filtered.
    bi_xy_std, bi_rgb_std : float
        Bandwidths in pixels and in the image's units, > 0.
    roi : array_like, shape (H, W), optional
        Region of interest, multiplied with the values before they are filtered.
    out : ndarray, same shape as `values`, float32, optional
        Where to write the result.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.

    Returns
    -------
    ndarray, same shape as `values`, float32

    Raises
    ------
    ValueError
        Shapes, types or bandwidths do not fit, or the image holds NaN or infinity.

    Examples
    --------
    >>> import numpy as np
    >>> image, values = np.zeros((3, 4, 5)), np.ones((2, 4, 5))
    >>> bilateral_filter(image, values, bi_xy_std=3, bi_rgb_std=10).shape
    (2, 4, 5)
    """
    features = bilateral_features(image, bi_xy_std, bi_rgb_std)
    return PermutohedralLattice(features, num_threads).filter(values, roi=roi, out=out)


def bilateral_filter_batch(images, values, bi_xy_std, bi_rgb_std, roi=None, out=None, num_threads=None):
    """`bilateral_filter` for a batch: the images in parallel, the last ones each by several threads.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
    values : array_like, shape (N, K, H, W)
    bi_xy_std, bi_rgb_std : float
        As in `bilateral_filter`.
    roi : array_like, shape (N, H, W), optional
    out : ndarray, same shape as `values`, float32, optional
    num_threads : int, optional

    Returns
    -------
    ndarray, shape (N, K, H, W), float32

    Raises
    ------
    ValueError
        As `bilateral_filter`; the message says which image of the batch.
    """
    images = real_array("images", images, "(batch, channels, height, width)", 4)
    values = real_array("values", values, "(batch, channels, height, width)", 4)
    if len(images) != len(values):
        raise ValueError(f"images and values must have the same batch size, found {len(images)} and {len(values)}")
    if roi is not None and len(roi) != len(images):
        raise ValueError(f"roi must have one plane an image, found {len(roi)} for {len(images)} images")
    if out is None:
        out = np.empty(values.shape, np.float32)
    elif out.shape != values.shape:
        raise ValueError(f"out must have shape {values.shape} like the values, found {out.shape}")

    def filter_one(index, threads):
        plane = None if roi is None else roi[index]
        bilateral_filter(images[index], values[index], bi_xy_std, bi_rgb_std, plane, out[index], threads)

    for_each_image(filter_one, len(images), num_threads)
    return out
