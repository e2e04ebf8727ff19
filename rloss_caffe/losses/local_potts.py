"""The local Potts loss: pairs of pixels inside a window.

Gated CRF (Obukhov, Georgoulis, Dai, Van Gool 2019) and grid Potts (Marin, Tang, Ben Ayed, Boykov, CVPR 2019; Marin and
Boykov, CVPR 2021) are settings of it. With S the probabilities of the classes that take part, m the region of interest,
and pairs j != i, |x_i - x_j|_inf <= radius, both in the image:

    w_ij = space(|x_i - x_j|) exp(-|c_i - c_j|^2 / (2 rgb_std^2))
    space: gaussian exp(-d^2 / (2 xy_std^2)); inverse_distance 1 / d
    loss = (1/N) sum_n (1/z_n) sum_ij m_i m_j w_ij rel(S_i, S_j)          every pair counts twice: as ij and as ji
    z: VALID sum_i m_i; WEIGHTS sum_ij m_i m_j w_ij; BATCH_SIZE 1

    rel          value                 dloss/dS_i, times N z_n
    bilinear     1 - S_i . S_j         -2 m_i sum_j w_ij m_j S_j
    quadratic    |S_i - S_j|^2 / 2      2 m_i sum_j w_ij m_j (S_i - S_j)
    absolute     |S_i - S_j|_1 / 2        m_i sum_j w_ij m_j sign(S_i - S_j)

The weights are symmetric, so these gradients are exact; absolute has the gradient 0 where two probabilities are equal.
With contrast image, rgb_std^2 is the image's own mean of |c_i - c_j|^2 over the pairs, weighted by m_i m_j.

The settings of others:

    Gated CRF: radius 5, xy_std 6, rgb_std 0.1, bilinear, VALID, loss_weight 0.1. The image has its colours whitened
        (standard deviation 1) and is reduced by area to the scores' size: the loss stands on the scores' resolution.
    grid Potts: radius 1, space inverse_distance, contrast image, quadratic (or bilinear, absolute), BATCH_SIZE.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rloss_caffe.filtering.window import CONTRAST, RADIUS, RGB_STD, SPACE, XY_STD, PairWindow
from rloss_caffe.losses._pairwise import (
    CLASSES,
    IGNORE_LABEL,
    FilteredBatch,
    PairwiseResult,
    Workspace,
    choose_labelled,
    filtered_memory,
    label_array,
    regions,
    takes_labelled,
)
from rloss_caffe.numerics.arrays import real_array
from rloss_caffe.numerics.parameters import Parameter, documented
from rloss_caffe.numerics.threads import for_each_image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "local_potts_loss"]

RELAXATION = Parameter(
    "relaxation",
    "string",
    "bilinear",
    choices=("bilinear", "quadratic", "absolute"),
    doc="What a pair with probabilities p and q costs: 1 - p.q, |p - q|^2 / 2, or the sum of |p_k - q_k| / 2.",
)
NORMALIZATION = Parameter(
    "normalization",
    "string",
    "VALID",
    choices=("VALID", "WEIGHTS", "BATCH_SIZE"),
    doc="What each image's sum is divided by, besides the batch size: VALID its region's pixels, WEIGHTS the sum of "
    "its pairs' weights, BATCH_SIZE nothing.",
)
PARAMETERS = (RADIUS, XY_STD, RGB_STD, RELAXATION, NORMALIZATION, CONTRAST, CLASSES, SPACE, IGNORE_LABEL)

_SMALLEST = 1e-37  # of what an image's sum is divided by: below, single precision has no room for the quotient
_TOO_LARGE = "segmentations must not be so large that their sums, times roi, exceed single precision"
# What is summed over a pixel's neighbours, and the factor that makes the gradient of it.
_FORMS = {"bilinear": ("sum", -2.0), "quadratic": ("difference", 2.0), "absolute": ("sign", 1.0)}


@documented(PARAMETERS)
def local_potts_loss(
    images: ArrayLike,
    segmentations: ArrayLike,
    radius: int = RADIUS.default,
    xy_std: float = XY_STD.default,
    rgb_std: float = RGB_STD.default,
    relaxation: str = RELAXATION.default,
    normalization: str = NORMALIZATION.default,
    contrast: str = CONTRAST.default,
    classes: str = CLASSES.default,
    *,
    space: str = SPACE.default,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
    num_threads: int | None = None,
    work: Workspace | NDArray[np.float32] | None = None,
) -> PairwiseResult:
    """Value and gradient of the local Potts loss.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        C >= 1 channels, mean-subtracted, as the network sees them.
    segmentations : array_like, shape (N, K, H, W)
        Class probabilities, usually softmax outputs.
    {parameters}
    labels : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Classes, or `ignore_label`; must be given where `classes` is labelled.
    roi : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Region of interest, >= 0; default `region_of_interest` of the images. All ones takes every pixel.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`. The result does not depend on it.
    work : Workspace or ndarray, optional
        Memory for the sums, so that it need not be fresh: a `rloss_caffe.losses.Workspace` that the caller keeps, or
        the ``filtered`` of an earlier result of this shape that is no longer needed.

    Returns
    -------
    PairwiseResult
        ``value`` (float, >= 0 for probabilities) and ``gradient(scale=1.0, out=None)``, an array (N, K, H, W).
        Unpacks as ``loss, gradient = local_potts_loss(...)``.

    Raises
    ------
    ValueError
        Shapes, types or values do not fit; NaN or infinity in an image or a segmentation (the message says which of
        the batch).

    Notes
    -----
    An image without a pair inside the region, or without a class that takes part, has the value 0 and no gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from rloss_caffe import local_potts_loss
    >>> images, segmentations = np.full((1, 3, 4, 5), 50.0), np.full((1, 2, 4, 5), 0.5)
    >>> gated_crf = local_potts_loss(images, segmentations, radius=5, xy_std=6, rgb_std=0.1)
    >>> grid = local_potts_loss(images, segmentations, radius=1, space="inverse_distance", contrast="image",
    ...                         relaxation="quadratic", normalization="BATCH_SIZE")
    >>> grid.value
    0.0
    """
    radius, xy_std, rgb_std = RADIUS.checked(radius), XY_STD.checked(xy_std), RGB_STD.checked(rgb_std)
    form, factor = _FORMS[RELAXATION.checked(relaxation)]
    normalization, space = NORMALIZATION.checked(normalization), SPACE.checked(space)
    contrast = CONTRAST.checked(contrast)
    ignore_label = IGNORE_LABEL.checked(ignore_label)
    only_labelled = takes_labelled(CLASSES.checked(classes), labels)
    images = real_array("images", images, ("batch", "channels", "height", "width"))
    batch, _, height, width = images.shape
    segmentations = real_array("segmentations", segmentations, (batch, "classes", height, width))
    count = segmentations.shape[1]
    label_maps: Any = None if labels is None else label_array(labels, segmentations.shape, ignore_label)
    rois = regions(roi, images)
    memory = filtered_memory(work, segmentations.shape, {"images": images, "segmentations": segmentations, "roi": rois})
    rows = np.empty((batch, count), np.int64)
    rows[...] = np.arange(count)

    def sum_pairs(index: int, threads: int) -> tuple[float, float]:
        segmentation, mask = segmentations[index], rois[index]
        if only_labelled:
            chosen = choose_labelled(rows[index], label_maps[index], mask, ignore_label)
            segmentation = segmentation[chosen]
            if len(chosen) < count:  # what takes no part must be finite, too
                real_array("segmentations", segmentations[index], finite=True)
            if not len(chosen):
                real_array("images", images[index], finite=True)
                return 0.0, 0.0
        try:
            window = PairWindow(images[index], radius, xy_std, rgb_std, contrast, space, mask, threads)
            value, weights = window.products(segmentation, form, memory[index, : len(segmentation)])
        except ValueError as error:  # shapes were checked, so a value is not finite, or a sum
            real_array("images", images[index], finite=True)
            real_array("segmentations", segmentations[index], finite=True)
            raise ValueError(_TOO_LARGE) from error
        if form == "sum":
            value = weights - value
        size = {"VALID": float(mask.sum(dtype=float)), "WEIGHTS": weights, "BATCH_SIZE": 1.0}[normalization]
        if size < _SMALLEST:
            return 0.0, 0.0
        if not math.isfinite(value / size):
            raise ValueError(_TOO_LARGE)
        return value / size, factor / size

    values, factors = zip(*for_each_image(sum_pairs, batch, num_threads))
    workspace = work if isinstance(work, Workspace) else None
    return PairwiseResult(FilteredBatch(list(values), list(factors), memory, rows, rois, workspace, num_threads))
