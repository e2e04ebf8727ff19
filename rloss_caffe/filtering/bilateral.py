"""One-call bilateral filters for an image and for a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rloss_caffe.filtering.lattice import PermutohedralLattice
from rloss_caffe.numerics.arrays import bandwidth, image_array, output_array, real_array
from rloss_caffe.numerics.threads import for_each_image, resolve_num_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "bilateral_filter",
    "bilateral_filter_batch",
]


def bilateral_filter(
    image: ArrayLike,
    values: ArrayLike,
    bi_xy_std: float,
    bi_rgb_std: float,
    roi: ArrayLike | None = None,
    out: NDArray[np.float32] | None = None,
    num_threads: int | None = None,
) -> NDArray[np.float32]:
    """Filter values by the bilateral kernel of an image, not normalised.

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        The guide: C >= 1 channels, as they are, finite.
    values : array_like, shape (K, H, W) or (H, W)
        What is filtered; finite where `roi` is not 0.
    bi_xy_std, bi_rgb_std : float
        Bandwidths in pixels and in the image's units, > 0.
    roi : array_like, shape (H, W), optional
        Region of interest, multiplied with the values before they are filtered.
    out : ndarray, same shape as `values`, float32, C-contiguous, optional
        Where to write the result; may be `values` or `image` itself.
    num_threads : int >= 1, optional
        Default `rloss_caffe.get_num_threads()`.

    Returns
    -------
    ndarray, same shape as `values`, float32

    Raises
    ------
    ValueError
        Shapes, types or bandwidths do not fit, NaN or infinity, or `out` overlaps an input otherwise.

    Examples
    --------
    >>> import numpy as np
    >>> image, values = np.zeros((3, 4, 5)), np.ones((2, 4, 5))
    >>> bilateral_filter(image, values, bi_xy_std=3, bi_rgb_std=10).shape
    (2, 4, 5)
    """
    image = image_array(image, finite=False)
    stds = float(bandwidth("bi_xy_std", bi_xy_std)), float(bandwidth("bi_rgb_std", bi_rgb_std))
    if num_threads is not None:
        resolve_num_threads(num_threads)
    lattice = PermutohedralLattice.of_image(image, *stds, num_threads)
    return lattice.filter(values, roi=roi, out=out)


def bilateral_filter_batch(
    images: ArrayLike,
    values: ArrayLike,
    bi_xy_std: float,
    bi_rgb_std: float,
    roi: ArrayLike | None = None,
    out: NDArray[np.float32] | None = None,
    num_threads: int | None = None,
) -> NDArray[np.float32]:
    """`bilateral_filter` for a batch: the images in parallel, the last ones each by several threads.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
    values : array_like, shape (N, K, H, W)
    bi_xy_std, bi_rgb_std : float
        As in `bilateral_filter`.
    roi : array_like, shape (N, H, W), optional
    out : ndarray, same shape as `values`, float32, C-contiguous, optional
        Where to write the result; may be `values` or `images` itself.
    num_threads : int >= 1, optional

    Returns
    -------
    ndarray, shape (N, K, H, W), float32

    Raises
    ------
    ValueError
        As `bilateral_filter`; the message says which image of the batch.
    """
    images = real_array("images", images, ("batch", "channels", "height", "width"))
    values = real_array("values", values, ("batch", "channels", *images.shape[2:]), allow_empty=True)
    if len(images) != len(values):
        raise ValueError(f"images and values must have the same batch size, found {len(images)} and {len(values)}")
    if roi is not None:
        roi = real_array("roi", roi, (len(images), *images.shape[2:]))
    out = output_array("out", out, values.shape, apart_from={"roi": roi}, may_be={"values": values, "images": images})
    stds = float(bandwidth("bi_xy_std", bi_xy_std)), float(bandwidth("bi_rgb_std", bi_rgb_std))

    def filter_one(index, threads):
        plane = None if roi is None else roi[index]
        try:
            lattice = PermutohedralLattice.of_image(images[index], *stds, threads)
        except ValueError:
            real_array("images", images, finite=True)  # says where
            raise
        lattice.filter(values[index], roi=plane, out=out[index])

    for_each_image(filter_one, len(images), num_threads)
    return out
