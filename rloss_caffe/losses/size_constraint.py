"""The size constraint (Kervadec, Dolz, Tang, Granger, Boykov, Ben Ayed, MIDL 2018): bounds on how large a class is.

The size of class k is V_k = sum_i m_i S_k(i), with S_k its probabilities and m the region of interest, P = sum_i m_i
pixels. What is beyond a bound is penalised, z = V_k - upper and z = lower - V_k:

    quadratic      max(z, 0)^2
    log_barrier    -log(-z) / t where z <= -1/t^2, else t z - log(1/t^2) / t + 1/t    (Kervadec et al. 2019)

    loss = (1/N) sum_n (1/C_n) sum_k penalty_k / P            dloss/dS_k = (1/N) (1/C_n) m penalty'_k / P

C_n counts the classes of image n that have a bound. Of the gradients -2 max(lower - V_k, 0) and 2 max(V_k - upper, 0)
every pixel of the region gets the same: the size says how many pixels there are to be, not which ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from rloss_caffe.losses._pairwise import IGNORE_LABEL, label_array, labelled_classes, roi_array
from rloss_caffe.losses._result import Result
from rloss_caffe.numerics.arrays import real_array
from rloss_caffe.numerics.parameters import Parameter, documented
from rloss_caffe.numerics.threads import for_each_image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "SizeConstraintResult", "size_constraint_loss"]

NO_BOUND = -1.0
NOTHING = "needs lower or upper, or labels with tags, found neither: no class has a bound"

LOWER = Parameter(
    "lower",
    "float",
    [],
    minimum=NO_BOUND,
    repeated=True,
    doc="The least size of each class, or one number for all; -1: no bound.",
)
UPPER = Parameter(
    "upper",
    "float",
    [],
    minimum=NO_BOUND,
    repeated=True,
    doc="The largest size of each class, or one number for all; -1: no bound.",
)
UNIT = Parameter(
    "unit",
    "string",
    "PIXEL",
    choices=("PIXEL", "FRACTION"),
    doc="Of lower and upper. PIXEL: pixels of the segmentation; FRACTION: shares of the region of interest, 0 to 1.",
)
TAGS = Parameter(
    "tags",
    "bool",
    True,
    doc="true: the bounds of a class that the image's label map does not name are 0 and 0, and one that it names has "
    "at least 1 pixel; false: the label map has no effect.",
)
PENALTY = Parameter(
    "penalty",
    "string",
    "quadratic",
    choices=("quadratic", "log_barrier"),
    doc="quadratic: the square of what is beyond a bound; log_barrier: linear there, and pushes within the bounds too.",
)
T = Parameter(
    "t",
    "float",
    5.0,
    minimum=1e-4,
    maximum=1e4,
    doc="Of the log_barrier: the larger, the steeper outside and the flatter inside. The authors start at 5 and "
    "multiply by 1.1 each epoch.",
)
NORMALIZATION = Parameter(
    "normalization",
    "string",
    "VALID",
    choices=("VALID", "FRACTION", "BATCH_SIZE"),
    doc="A mean over the images and over their classes with a bound, of: VALID: the penalty in pixels, divided by the "
    "region's pixels, the authors'; FRACTION: the penalty of sizes as shares of the region, so that one loss weight "
    "fits every image size; BATCH_SIZE: the penalty in pixels.",
)
PARAMETERS = (LOWER, UPPER, UNIT, TAGS, PENALTY, T, NORMALIZATION, IGNORE_LABEL)


@documented(PARAMETERS)
def size_constraint_loss(
    segmentations: ArrayLike,
    lower: float | Sequence[float] | None = (),
    upper: float | Sequence[float] | None = (),
    unit: str = UNIT.default,
    tags: bool = TAGS.default,
    penalty: str = PENALTY.default,
    t: float = T.default,
    normalization: str = NORMALIZATION.default,
    *,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
    num_threads: int | None = None,
) -> SizeConstraintResult:
    """Value and gradient of the size constraint: how far classes are above or below the sizes they may have.

    Parameters
    ----------
    segmentations : array_like, shape (N, K, H, W)
        Class probabilities, usually softmax outputs.
    {parameters}
    labels : array_like, shape (N, H', W') or (N, 1, H', W'), optional
        Whole numbers: classes, or `ignore_label`. Each image's tags are the classes that occur. An image without a
        label has no tags: its bounds are `lower` and `upper` alone. H' and W' may be any size.
    roi : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Region of interest, >= 0; default: all ones. Outside nothing is counted and nothing is pushed.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.

    Returns
    -------
    SizeConstraintResult
        ``value`` (float), ``gradient(scale=1.0, out=None)``, an array (N, K, H, W), and ``sizes``. Unpacks as
        ``loss, gradient = size_constraint_loss(...)``.

    Raises
    ------
    ValueError
        There is neither a bound nor a label map; shapes or types do not fit; a class has a lower bound above its upper
        one; NaN or infinity in a segmentation (the message says which of the batch).

    Notes
    -----
    Published loss weights: 1e-2 with the bounds of tags, 0.05 with bounds of 10 % around the true size. With
    normalization VALID the value grows with the number of pixels. An image whose region is empty counts as 0.
    """
    segmentations = real_array("segmentations", segmentations, ("batch", "classes", "height", "width"))
    batch, classes, height, width = segmentations.shape
    bounds = Bounds(lower, upper, unit, classes)
    penalty, normalization = PENALTY.checked(penalty), NORMALIZATION.checked(normalization)
    t, ignore_label = T.checked(t), IGNORE_LABEL.checked(ignore_label)
    present = None if labels is None else _present(labels, batch, classes, ignore_label)
    present = present if TAGS.checked(tags) else None
    if present is None and bounds.are_none:
        raise ValueError(NOTHING)
    rois = None if roi is None else roi_array(roi, (batch, height, width))
    sizes, slopes = np.zeros((batch, classes)), np.zeros((batch, classes))

    def one(index: int, _: int) -> float:
        segmentation, mask = segmentations[index], None if rois is None else rois[index]
        pixels = float(height * width if mask is None else mask.sum(dtype=np.float64))
        sizes[index] = _sizes(segmentation, mask)
        if not pixels:
            return 0.0
        low, high = bounds.of_image(pixels, None if present is None else present[index])
        length = pixels if normalization == "FRACTION" else 1.0  # that a size is measured in
        above, push_down = _penalise((sizes[index] - high) / length, penalty, t)
        below, push_up = _penalise((low - sizes[index]) / length, penalty, t)
        bounded = max(1, int(np.count_nonzero(np.isfinite(low) | np.isfinite(high))))
        factor = 1 / (bounded * (pixels if normalization == "VALID" else 1.0))
        slopes[index] = factor / length * (push_down - push_up)
        value = factor * float((above + below).sum())
        if not abs(value) < np.finfo(np.float32).max:
            raise ValueError(
                "segmentations, roi, lower and upper must not be so large that the penalty exceeds single precision"
            )
        return value

    values = for_each_image(one, batch, num_threads)
    return SizeConstraintResult(sum(values) / batch, segmentations.shape, sizes, slopes / batch, rois)


def _sizes(segmentation: NDArray[np.float32], mask: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """V_k: the sums of each class inside the region, in double precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        if mask is None:
            sizes = segmentation.sum(axis=(1, 2), dtype=np.float64)
        else:
            sizes = np.einsum("khw,hw->k", segmentation, mask, dtype=np.float64)
    if not np.isfinite(sizes).all():
        real_array("segmentations", segmentation, finite=True)  # says where
    return sizes


def _penalise(excess: NDArray[np.float64], penalty: str, t: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The penalty of what is beyond a bound (-inf: there is none) and its derivative."""
    if penalty == "quadratic":
        excess = np.maximum(excess, 0)
        return excess**2, 2 * excess
    value, slope = np.zeros_like(excess), np.zeros_like(excess)
    inside = np.isfinite(excess) & (excess <= -1 / t**2)
    value[inside], slope[inside] = -np.log(-excess[inside]) / t, -1 / (t * excess[inside])
    outside = excess > -1 / t**2
    value[outside], slope[outside] = t * excess[outside] + (2 * np.log(t) + 1) / t, t
    return value, slope


def _present(labels: ArrayLike, batch: int, classes: int, ignore_label: int) -> NDArray[np.bool_]:
    """Which classes each image's label map names: (N, K)."""
    given = real_array("labels", labels)
    if given.ndim not in (3, 4) or len(given) != batch or (given.ndim == 4 and given.shape[1] != 1):
        raise ValueError(
            f"labels must have shape ({batch}, height, width) or ({batch}, 1, height, width), found shape {given.shape}"
        )
    maps = label_array(given, (batch, classes, *given.shape[-2:]), ignore_label)
    present = np.zeros((batch, classes), bool)
    for index, each in enumerate(maps):
        present[index, labelled_classes(each, np.ones(each.shape, np.float32), classes, ignore_label)] = True
    return present


class Bounds:
    """The least and the largest sizes of all classes, checked.

    Parameters
    ----------
    lower, upper : float, sequence of float, or None
    unit : str
    classes : int

    Attributes
    ----------
    lower, upper : ndarray, shape (K,), float64
        In `unit`; infinite where there is no bound.
    is_fraction : bool
        Whether they are shares of the region.
    are_none : bool
        Whether no class has a bound.

    Raises
    ------
    ValueError
        A bound is no number >= 0 or -1, there is another number of them than of classes, or a lower one is above the
        upper one.
    """

    def __init__(
        self,
        lower: float | Sequence[float] | None,
        upper: float | Sequence[float] | None,
        unit: str,
        classes: int,
    ) -> None:
        self.is_fraction = UNIT.checked(unit) == "FRACTION"
        self.lower = self._read(LOWER, lower, classes, -np.inf)
        self.upper = self._read(UPPER, upper, classes, np.inf)
        self.are_none = bool(np.isneginf(self.lower).all() and np.isposinf(self.upper).all())
        crossed = np.flatnonzero(self.lower > self.upper)
        if len(crossed):
            low, high = self.lower[crossed[0]], self.upper[crossed[0]]
            raise ValueError(f"lower must not be above upper, found {low:g} above {high:g} for class {crossed[0]}")

    def _read(
        self, parameter: Parameter, given: float | Sequence[float] | None, classes: int, free: float
    ) -> NDArray[np.float64]:
        name, values = parameter.name, np.array([] if given is None else parameter.checked(given), np.float64)
        if len(values) not in (0, 1, classes):
            raise ValueError(f"{name} must have one number, or one for each of {classes} classes, found {len(values)}")
        strange = values[(values < 0) & (values != NO_BOUND)]
        if len(strange):
            raise ValueError(f"{name} must be >= 0, or -1 where there is no bound, found {strange[0]:g}")
        if self.is_fraction and (values > 1).any():
            raise ValueError(f"{name} must be from 0 to 1 with unit FRACTION, found {values.max():g}")
        bounds = np.full(classes, free)
        if len(values):
            bounds[...] = np.where(values == NO_BOUND, free, values)
        return bounds

    def of_image(
        self, pixels: float, present: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bounds in pixels; `present`: which classes the image has, where that is known."""
        scale = pixels if self.is_fraction else 1.0
        lower, upper = self.lower * scale, self.upper * scale
        if present is not None and present.any():
            lower = np.where(present, np.minimum(np.maximum(lower, 1.0), upper), 0.0)
            upper = np.where(present, upper, 0.0)
        return lower, upper


class SizeConstraintResult(Result):
    """The size constraint's value, and its gradient on demand.

    Attributes
    ----------
    value : float
        The loss.
    sizes : ndarray, shape (N, K), float64
        V_k in pixels.
    """

    def __init__(
        self,
        value: float,
        shape: tuple[int, ...],
        sizes: NDArray[np.float64],
        slopes: NDArray[np.float64],
        roi: NDArray[np.float32] | None,
    ) -> None:
        super().__init__(value, shape, {} if roi is None else {"roi": roi})
        self.sizes = sizes
        self._slopes, self._roi = slopes, roi

    def _write_gradient(self, scale: float, out: NDArray[np.float32]) -> None:
        with np.errstate(over="ignore"):
            slopes = (scale * self._slopes).astype(np.float32)[:, :, np.newaxis, np.newaxis]
        if self._roi is None:
            out[...] = slopes
        else:
            np.multiply(slopes, self._roi[:, np.newaxis], out=out)
