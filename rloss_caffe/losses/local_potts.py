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
from typing import TYPE_CHECKING

import numpy as np

from rloss_caffe.filtering.window import CONTRAST, RADIUS, RGB_STD, SPACE, XY_STD, PairWindow
from rloss_caffe.losses._pairwise import Workspace, label_array, region_of_interest
from rloss_caffe.losses._result import Result
from rloss_caffe.numerics.arrays import allocate, real_array
from rloss_caffe.numerics.parameters import Parameter, documented
from rloss_caffe.numerics.products import dot, scale_rows
from rloss_caffe.numerics.threads import for_each_image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "LocalPottsResult", "local_potts_loss"]

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
CLASSES = Parameter(
    "classes",
    "string",
    "all",
    choices=("all", "labelled"),
    doc="labelled: only classes that the image's own labels name inside the region; the others get no gradient.",
)
IGNORE_LABEL = Parameter("ignore_label", "int", 255, doc="The label of pixels without one.")

PARAMETERS = (RADIUS, XY_STD, RGB_STD, RELAXATION, NORMALIZATION, CONTRAST, CLASSES, SPACE, IGNORE_LABEL)

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
    work: Workspace | None = None,
) -> LocalPottsResult:
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
    work : rloss_caffe.losses.Workspace, optional
        Memory that the caller keeps, so that it need not be fresh.

    Returns
    -------
    LocalPottsResult
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
    only_labelled = CLASSES.checked(classes) == "labelled"
    images = real_array("images", images, ("batch", "channels", "height", "width"))
    batch, _, height, width = images.shape
    segmentations = real_array("segmentations", segmentations, (batch, "classes", height, width))
    count = segmentations.shape[1]
    if only_labelled and labels is None:
        raise ValueError("labels must be given where classes is labelled")
    maps = None if labels is None else label_array(labels, segmentations.shape, ignore_label)
    rois = _regions(roi, images)
    sums = work.take(segmentations.shape) if work is not None else allocate("the sums", segmentations.shape)

    def one(index: int, threads: int) -> tuple[float, float]:
        image, segmentation, mask, out = images[index], segmentations[index], rois[index], sums[index]
        chosen = np.arange(count)
        if only_labelled:
            named = maps[index][(maps[index] != ignore_label) & (mask > 0)]
            chosen = np.flatnonzero(np.bincount(named, minlength=count))
            segmentation = segmentation[chosen]
        if not len(chosen):
            real_array("images", image, finite=True), real_array("segmentations", segmentation, finite=True)
            out[...] = 0
            return 0.0, 0.0
        degree = allocate("the degrees", mask.shape)
        try:
            window = PairWindow(image, radius, xy_std, rgb_std, contrast, space, mask, threads)
            result = window.apply(segmentation, form, out if len(chosen) == count else None, degree)
        except ValueError:
            real_array("images", image, finite=True), real_array("segmentations", segmentation, finite=True)
            raise
        value = dot(segmentation, mask, result, threads)
        weights = float(np.vdot(mask.astype(float), degree))
        if form == "sum":
            value = weights - value
        if len(chosen) < count:
            out[...] = 0
            out[chosen] = result
        size = {"VALID": float(mask.sum(dtype=float)), "WEIGHTS": weights, "BATCH_SIZE": 1.0}[normalization]
        if size == 0:
            out[...] = 0
            return 0.0, 0.0
        if not math.isfinite(value / size):
            raise ValueError("segmentations must not be so large that their sums, times roi, exceed single precision")
        return value / size, factor / size

    values, factors = zip(*for_each_image(one, batch, num_threads))
    return LocalPottsResult(sum(values) / batch, sums, rois, factors, work, num_threads)


def _regions(roi, images):
    """The regions of interest (N, H, W), as given or as the images have them."""
    if roi is None:
        return region_of_interest(images)
    roi = real_array("roi", roi, finite=True)
    batch, _, height, width = images.shape
    if roi.shape not in ((batch, height, width), (batch, 1, height, width)):
        raise ValueError(
            f"roi must have shape {(batch, height, width)} or {(batch, 1, height, width)}, found shape {roi.shape}"
        )
    if roi.min() < 0:
        raise ValueError(f"roi must hold values >= 0, found {roi.min():g}")
    return roi.reshape(batch, height, width)


class LocalPottsResult(Result):
    """The local Potts loss's value, and its exact gradient on demand."""

    def __init__(self, value, sums, rois, factors, workspace, num_threads):
        super().__init__(value, sums.shape, {"the sums": sums, "roi": rois})
        self._sums, self._rois, self._factors = sums, rois, factors
        self._num_threads, self._workspace = num_threads, workspace
        self._use = workspace.uses if workspace else 0

    def _write_gradient(self, scale: float, out: NDArray[np.float32]) -> None:
        if self._workspace and self._workspace.uses != self._use:
            raise ValueError("a later call took this result's workspace: ask for the gradient before that call")
        factors = [scale * factor / len(self._factors) for factor in self._factors]
        scale_rows(self._sums, self._rois, factors, out, num_threads=self._num_threads)
