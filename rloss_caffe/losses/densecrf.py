"""The DenseCRF loss (Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, ECCV 2018, equations 5 to 9).

With S_k the probabilities of class k, A the bilateral filter and m the region of interest:

    S'_k = m S_k        loss = -(1/N) sum_n sum_k S'_k . (A S'_k)        dloss/dS_k = -(2/N) m (A S'_k)

The gradient is the original's: exact for a symmetric A. The lattice's A is not quite symmetric (its blur visits the
axes in order), so the exact gradient of the computed value, -(1/N) m (A + A^T) S'_k, is offered beside it.
"""

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice, bilateral_features
from rloss_caffe.numerics.products import dot, scale_rows
from rloss_caffe.numerics.threads import for_each_image

__all__ = ["DenseCRFResult", "densecrf_loss", "region_of_interest"]


def region_of_interest(images):
    """Where the loss looks: everywhere but where all channels truncate to integer zero.

    The experiments' data layer pads with the mean colour, so padding is exactly 0. Genuine pixels with |c| < 1 in
    every channel are left out as well, as in the original.

    Parameters
    ----------
    images : ndarray, shape (N, C, H, W)
        As the network sees them, mean-subtracted.

    Returns
    -------
    ndarray, shape (N, H, W), float32
        1 inside, 0 outside.
    """
    return (np.abs(images) >= 1).any(axis=1).astype(np.float32)


def densecrf_loss(
    images, segmentations, bi_xy_std=15.0, bi_rgb_std=40.0, roi=None, exact_gradient=False, num_threads=None, work=None
):
    """Value and gradient of the DenseCRF loss.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        C >= 1 channels, mean-subtracted, as the network sees them.
    segmentations : array_like, shape (N, K, H, W)
        Class probabilities, usually softmax outputs.
    bi_xy_std, bi_rgb_std : float
        Bandwidths of the kernel in pixels and in the image's units, > 0. The experiments use 100 / 15 and 80 / 13.
    roi : array_like, shape (N, H, W), optional
        Region of interest, >= 0; default `region_of_interest` of the images. All ones takes every pixel.
    exact_gradient : bool
        False: the original's -2 A S; True: -(A + A^T) S, the exact derivative of the value (twice the time).
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.
    work : ndarray, float32, optional
        Memory for the filtered segmentations, reused if it has their shape: the ``filtered`` of an earlier result
        that is no longer needed. Fresh memory of this size is slow to get.

    Returns
    -------
    DenseCRFResult
        ``value`` (float) and ``gradient(scale=1.0, out=None)``, an array (N, K, H, W). Unpacks as
        ``loss, gradient = densecrf_loss(...)``.

    Raises
    ------
    ValueError
        Shapes do not fit; NaN or infinity in an image or a segmentation (the message says which of the batch).

    Notes
    -----
    The value is negative: the constant of the Potts model is dropped. It is divided by the batch size only, so it
    grows with the square of the number of pixels that look alike; the published loss weights are about 1e-8.
    """
    images = _batch("images", images)
    segmentations = _batch("segmentations", segmentations)
    if (len(images), *images.shape[2:]) != (len(segmentations), *segmentations.shape[2:]):
        raise ValueError(
            "images (N, C, H, W) and segmentations (N, K, H, W) must agree in batch, height and width, "
            f"found {images.shape} and {segmentations.shape}"
        )
    given_roi, roi = roi, np.empty((len(images), *images.shape[2:]), np.float32)
    if given_roi is not None:
        if np.shape(given_roi) != roi.shape:
            raise ValueError(f"roi must have shape {roi.shape}, found {np.shape(given_roi)}")
        roi[...] = given_roi
        if not (np.isfinite(roi).all() and (roi >= 0).all()):
            raise ValueError("roi must hold finite values >= 0")

    # A S', or half of (A + A^T) S'
    filtered = work if work is not None and work.shape == segmentations.shape else np.empty_like(segmentations)

    def filter_one(index, threads):
        segmentation, mask, result = segmentations[index], roi[index], filtered[index]
        if given_roi is None:
            mask[...] = region_of_interest(images[index : index + 1])[0]
        lattice = PermutohedralLattice(_features(images[index], bi_xy_std, bi_rgb_std), threads)
        try:
            lattice.filter(segmentation, roi=mask, out=result)
        except ValueError as error:  # shapes were checked, so a value is not finite, or a sum
            raise ValueError(_why_not_finite(segmentation)) from error
        value = dot(segmentation, mask, result, threads)
        if not np.isfinite(value):
            raise ValueError(_why_not_finite(segmentation))
        if exact_gradient:
            result += lattice.filter(segmentation, roi=mask, reverse=True)
            result *= np.float32(0.5)
        return value

    values = for_each_image(filter_one, len(images), num_threads)
    return DenseCRFResult(-sum(values) / len(images), filtered, roi, num_threads)


class DenseCRFResult:
    """The loss's value, and its gradient on demand.

    Attributes
    ----------
    value : float
        The loss.
    filtered : ndarray, shape (N, K, H, W)
        A S', or with the exact gradient the mean of A S' and A^T S'.
    roi : ndarray, shape (N, H, W)
    """

    def __init__(self, value, filtered, roi, num_threads=None):
        self.value = value
        self.filtered = filtered
        self.roi = roi
        self._num_threads = num_threads

    def gradient(self, scale=1.0, out=None):
        """The derivative with respect to the segmentations, times `scale` (Caffe's top diff).

        Parameters
        ----------
        scale : float
        out : ndarray, shape (N, K, H, W), float32, C-contiguous, optional

        Returns
        -------
        ndarray, shape (N, K, H, W), float32
        """
        out = np.empty_like(self.filtered) if out is None else out
        scale_rows(self.filtered, self.roi, -2.0 * scale / len(self.filtered), out, self._num_threads)
        return out

    def __iter__(self):
        return iter((self.value, self.gradient()))


def _batch(name, array):
    array = np.asarray(array)
    if array.ndim != 4 or array.size == 0:
        raise ValueError(f"{name} must have shape (batch, channels, height, width), none of it 0, found {array.shape}")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers, found dtype {array.dtype}")
    return np.ascontiguousarray(array, np.float32)


def _features(image, bi_xy_std, bi_rgb_std):
    if not np.isfinite(image).all():
        raise ValueError("the image holds NaN or infinity")
    return bilateral_features(image, bi_xy_std, bi_rgb_std)


def _why_not_finite(segmentation):
    if np.isfinite(segmentation).all():
        return "the filtered segmentation is too large for single precision"
    return "the segmentation holds NaN or infinity"
