"""What the losses over pairs of pixels share: checks, the region of interest, and the bilateral kernel's affinity A.

A loss brings a formula. It sees one image at a time: the probabilities S of the classes that take part, the region of
interest m, and A applied once to [S', m], with S' = m S: first products with them, then what it writes of them, the
gradient's numbers. The batch loop, the choice of classes, the lattice and the memory are here.

With the symmetric kernel D^-1/2 A D^-1/2, where D has d = A m on its diagonal, all formulas are those of A itself with
m D^-1/2 in the place of m: S . m D^-1/2 (A (m D^-1/2 S)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice, bilateral_features
from rloss_caffe.filtering.applied import Combination, Filtered, OnLattice, apply_to
from rloss_caffe.losses._result import Result
from rloss_caffe.numerics.arrays import allocate, bandwidth, output_array, real_array
from rloss_caffe.numerics.interpolation import rescale, rescale_adjoint
from rloss_caffe.numerics.parameters import Parameter
from rloss_caffe.numerics.products import scale_rows
from rloss_caffe.numerics.threads import for_each_image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BI_RGB_STD",
    "BI_XY_STD",
    "CLASSES",
    "EXACT_GRADIENT",
    "IGNORE_LABEL",
    "KERNEL_NORMALIZATION",
    "LABELLED_CLASSES",
    "SCALE_FACTOR",
    "FilteredImage",
    "PairwiseResult",
    "TooLargeError",
    "Workspace",
    "apply_affinity",
    "choose_labelled",
    "filtered_memory",
    "image_lattice",
    "label_array",
    "labelled_classes",
    "region_of_interest",
    "regions",
    "roi_array",
    "takes_labelled",
]

BI_XY_STD = Parameter(
    "bi_xy_std", "float", 15.0, above=0, doc="Spatial bandwidth in pixels. The experiments use 100 (resnet-101: 80)."
)
BI_RGB_STD = Parameter(
    "bi_rgb_std",
    "float",
    40.0,
    above=0,
    doc="Colour bandwidth in the image's units. The experiments use 15 (resnet-101: 13).",
)
EXACT_GRADIENT = Parameter(
    "exact_gradient",
    "bool",
    False,
    doc="true: the exact derivative of the computed value, for a tenth more time; false: the original's, which takes "
    "the lattice's A for symmetric.",
)
CLASSES = Parameter(
    "classes",
    "string",
    "all",
    choices=("all", "labelled"),
    doc="labelled: only those that the image's own labels name inside the region of interest; the others get no "
    "gradient.",
)
LABELLED_CLASSES = replace(
    CLASSES, default=None, doc=f"{CLASSES.doc} Where nothing is given: labelled where there are labels, else all."
)
IGNORE_LABEL = Parameter("ignore_label", "int", 255, doc="The label of pixels without one.")
KERNEL_NORMALIZATION = Parameter(
    "kernel_normalization",
    "string",
    "none",
    choices=("none", "symmetric"),
    doc="symmetric: D^-1/2 A D^-1/2, with the degrees d = A m on the diagonal of D, so that dense parts of the image "
    "count no more than sparse ones.",
)
SCALE_FACTOR = Parameter(
    "scale_factor",
    "float",
    1.0,
    above=0,
    maximum=1,
    doc="Resolution at which the loss is computed, as a share of the image's; bi_xy_std shrinks with it. The "
    "authors' version for PyTorch has 0.5.",
)


def region_of_interest(images: ArrayLike) -> NDArray[np.float32]:
    """Where the loss looks: everywhere but where all channels truncate to integer zero.

    The experiments' data layer pads with the mean colour, so padding is exactly 0. Genuine pixels with |c| < 1 in
    every channel are left out as well, as in the original.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        As the network sees them, mean-subtracted.

    Returns
    -------
    ndarray, shape (N, H, W), float32
        1 inside, 0 outside.

    Raises
    ------
    ValueError
        `images` is no array of real numbers of this shape.
    """
    images = real_array("images", images, ("batch", "channels", "height", "width"))
    return np.asarray((np.abs(images) >= 1).any(axis=1), np.float32)


def label_array(labels: ArrayLike, shape: tuple[int, ...], ignore_label: int = 255) -> NDArray[np.int32]:
    """Label maps beside segmentations, checked.

    Parameters
    ----------
    labels : array_like, shape (N, H, W) or (N, 1, H, W)
        Whole numbers: classes, or `ignore_label`.
    shape : (N, K, H, W)
        The segmentations'.
    ignore_label : int

    Returns
    -------
    ndarray, shape (N, H, W), int32

    Raises
    ------
    ValueError
        Shape or type do not fit, or a label is neither a class nor `ignore_label`; the message says where.
    """
    batch, classes, height, width = shape
    given = real_array("labels", labels)
    if given.shape not in ((batch, height, width), (batch, 1, height, width)):
        raise ValueError(
            f"labels must have shape {(batch, height, width)} or {(batch, 1, height, width)}, found shape {given.shape}"
        )
    given = given.reshape(batch, height, width)
    known = (given == ignore_label) | ((given >= 0) & (given < classes) & (given == np.floor(given)))
    if not known.all():
        image, row, column = np.unravel_index(int((~known).argmax()), known.shape)
        raise ValueError(
            f"image {image} of the batch: labels must be whole numbers from 0 to {classes - 1}, or ignore_label "
            f"{ignore_label}, found {given[image, row, column]:g} in row {row}, column {column}"
        )
    return given.astype(np.int32)


def takes_labelled(classes: str | None, labels: Any) -> bool:
    """Whether only labelled classes take part, from a parameter `classes` and labels, which may be None."""
    if classes is None:
        return labels is not None
    if CLASSES.checked(classes) == "labelled" and labels is None:
        raise ValueError("labels must be given where classes is labelled")
    return classes == "labelled"


def labelled_classes(
    labels: NDArray[np.int32], roi: NDArray[np.float32], classes: int, ignore_label: int
) -> NDArray[np.int64]:
    """The classes that one image's labels name inside its region of interest, in order.

    Parameters
    ----------
    labels : ndarray, shape (H, W)
        As `label_array` gives them.
    roi : ndarray, shape (H, W)
        0 outside.
    classes : int
        How many there are.
    ignore_label : int

    Returns
    -------
    ndarray of int
    """
    inside = labels[(labels != ignore_label) & (roi > 0)]
    return np.flatnonzero(np.bincount(inside, minlength=classes))


def choose_labelled(
    rows: NDArray[np.int64], labels: NDArray[np.int32], roi: NDArray[np.float32], ignore_label: int
) -> NDArray[np.int64]:
    """The `labelled_classes` of one image; `rows` (K,) receives each class's place among them, or -1."""
    chosen = labelled_classes(labels, roi, len(rows), ignore_label)
    rows[:] = -1
    rows[chosen] = np.arange(len(chosen))
    return chosen


class Workspace:
    """Memory for the filtered segmentations that a caller keeps from call to call; fresh memory is slow to get.

    A layer owns one. Each call that gets it writes over what the call before left there, and earlier results then
    refuse to give their gradients.
    """

    def __init__(self) -> None:
        self.uses = 0
        self._memory: NDArray[np.float32] | None = None

    def take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Memory of this shape, whatever it holds."""
        if self._memory is None or self._memory.shape != shape:
            self._memory = None  # before the new one is there: not both at once
            self._memory = allocate("the filtered segmentations", shape)
        self.uses += 1
        return self._memory


class TooLargeError(ValueError):
    """What was asked for exceeds single precision."""


@dataclass(frozen=True)
class FilteredImage:
    """What a formula sees of one image. It takes products first, then writes what its gradient is made of, once.

    Attributes
    ----------
    segmentation : ndarray, shape (K, H, W)
        S, of the K classes that take part.
    region : ndarray, shape (H, W)
        m, the region of interest.
    roi : ndarray, shape (H, W)
        What S is multiplied by before and after A: m, or m D^-1/2 with the symmetric kernel.
    applied : OnLattice or Filtered
        A (roi S), and where the loss asks for it A roi, not yet in pixels.
    planes : ndarray, shape (K, H, W) or (K + 1, H, W)
        The formula's to write: `write` makes the first K of them, `filtered`, A (roi S), and `combine` something else.
    degree : ndarray, shape (H, W), or None
        Both make it A roi, where the loss asks for it; the last of the planes. Outside the region it may be a little
        below 0.
    lattice : object
        What filters.
    every_class : ndarray, shape (K', H, W)
        The probabilities of all classes.
    unlabelled : ndarray, shape (H, W), bool, or None
        Where the label is `ignore_label`; None without labels.
    """

    segmentation: NDArray[np.float32]
    region: NDArray[np.float32]
    roi: NDArray[np.float32]
    applied: OnLattice | Filtered
    planes: NDArray[np.float32]
    degree: NDArray[np.float32] | None
    lattice: Any
    every_class: NDArray[np.float32]
    unlabelled: NDArray[np.bool_] | None

    @property
    def filtered(self) -> NDArray[np.float32]:
        return self.planes[: len(self.segmentation)]

    def products(self) -> NDArray[np.float64]:
        """``S'_k . A S'_k`` and ``S'_k . d``, shape (2, K), with the degree (2, K + 1): the last is ``roi . d``."""
        return self.applied.products()

    def symmetrise(self) -> None:
        """Take the mean of A S' and A^T S' from now on: the lattice's blur is not quite symmetric."""
        self.applied.symmetrise()

    def write(self, own: NDArray[np.float64] | None = None, added: NDArray[np.float64] | None = None) -> None:
        """Make `filtered` A S', or with both factors (K,) ``own_k A S'_k + added_k d``."""
        if own is None or added is None:
            self.applied.slice(self.planes)
            return
        factors = _single(own), _single(added)
        self.applied.scale(*factors)
        self.applied.slice(self.planes)
        self._require_finite(*factors)

    def combine(
        self,
        own: NDArray[np.float64] | None = None,
        added: NDArray[np.float64] | None = None,
        factor: float | NDArray[np.float32] = 1.0,
        slope: float = 0.0,
        inside: NDArray[np.float32] | None = None,
        keep: bool = False,
    ) -> tuple[float, float]:
        """Make `filtered`, or with `keep` add to it, ``own_k y_k + added_k d + factor (y_k + slope S_k d)``, y = A S'.

        Returns ``sum inside S_k y_k``, for a plane `inside` (H, W), and ``sum roi d S_k^2``; the first without one, and
        both where the slope is 0, too, mean nothing: `products` has them.
        """
        nothing = np.zeros(len(self.segmentation), np.float32)
        of_own, of_degree = (nothing if each is None else _single(each) for each in (own, added))
        plane = np.broadcast_to(_single(factor), self.roi.shape).copy()
        terms = Combination(of_own, of_degree, plane, slope)
        sums = self.applied.combine(terms, inside, self.filtered, self.degree, keep)
        self._require_finite(of_own, of_degree, plane)
        return sums

    def _require_finite(self, *factors: NDArray[np.float32]) -> None:
        """What was written by these factors is finite; only large ones can make it otherwise."""
        largest = max(float(np.abs(each).max(initial=0)) for each in factors)
        if largest > _UNCHECKED and not np.isfinite(self.filtered).all():
            raise TooLargeError("segmentations are too large: the gradient exceeds single precision")

    def inverse_root_of_degree(self) -> NDArray[np.float32]:
        """D^-1/2, shape (H, W), and 0 where the degree is not above 0."""
        return _inverse_root(self.degree)

    def again(self, roi: NDArray[np.float32], with_degree: bool = False, reverse: bool = False) -> FilteredImage:
        """The same image, in the same memory, with A or A^T applied to S times another `roi`."""
        applied = apply_to(self.lattice, self.segmentation, roi, with_degree, reverse)
        degree = np.empty_like(roi) if with_degree else None
        return replace(self, roi=roi, applied=applied, planes=self.filtered, degree=degree)


@dataclass(frozen=True)
class ClassFactors:
    """A gradient that is made of A S' and the degree: ``roi (own_k filtered_k + added_k degree)``; both (K,)."""

    own: NDArray[np.float64]
    added: NDArray[np.float64]

    def largest(self) -> float:
        return float(max(np.abs(self.own).max(), np.abs(self.added).max()))


@dataclass(frozen=True)
class FilteredBatch:
    """What is left of a batch: the formula's values, one an image, and what the gradient is made from.

    The gradient of image n and the class whose plane is ``rows[n, k]`` is ``factors[n] roi[n] memory[n, rows[n, k]]``,
    or with ClassFactors what those say, the degree being the plane behind the classes';
    a row of -1 is a class without gradient. With a `scale_factor` below 1 it is that of the segmentations at this
    share of their rows and columns, `full_size`.
    """

    values: list[float]
    factors: list[float | ClassFactors]
    memory: NDArray[np.float32]
    rows: NDArray[np.int64]
    roi: NDArray[np.float32]
    workspace: Workspace | None
    num_threads: int | None
    scale_factor: float = 1.0
    full_size: tuple[int, ...] | None = None


def apply_affinity(
    formula: Callable[[FilteredImage], tuple[float, float | ClassFactors]],
    images: ArrayLike,
    segmentations: ArrayLike,
    bi_xy_std: float,
    bi_rgb_std: float,
    *,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
    classes: str | None = CLASSES.default,
    kernel_normalization: str = KERNEL_NORMALIZATION.default,
    scale_factor: float = SCALE_FACTOR.default,
    with_degree: bool = False,
    num_threads: int | None = None,
    work: Workspace | NDArray[np.float32] | None = None,
    lattice: Callable[..., Any] = PermutohedralLattice,
) -> FilteredBatch:
    """Check a batch, filter each image's segmentation, and ask the formula for its value.

    Parameters
    ----------
    formula : callable
        From a FilteredImage to the image's value and a factor; called in several threads. It leaves in ``filtered``
        what times the factor and ``roi`` is the value's gradient; ClassFactors in the factor's place add the degree.
        It is not called where no class takes part.
    images : array_like, shape (N, C, H, W)
    segmentations : array_like, shape (N, K, H, W)
    bi_xy_std, bi_rgb_std : float
        Bandwidths in pixels and in the images' units, > 0.
    labels : array_like, shape (N, H, W) or (N, 1, H, W), optional
        As `label_array` takes them.
    roi : array_like, shape (N, H, W) or (N, 1, H, W), optional
        >= 0; default `region_of_interest` of the images.
    ignore_label, classes, kernel_normalization, scale_factor
        As declared.
    with_degree : bool
        Filter the region as well, as one channel more.
    num_threads : int, optional
    work : Workspace or ndarray, optional
        Memory for the filtered segmentations. An ndarray of another shape is left alone.
    lattice : callable
        From features (d, H, W) and a number of threads to an object with ``filter(values, reverse, roi, out)``.

    Returns
    -------
    FilteredBatch

    Raises
    ------
    ValueError
        Something does not fit or is not finite; the message names the argument, or the image of the batch.
    """
    images = real_array("images", images, ("batch", "channels", "height", "width"))
    batch, _, height, width = images.shape
    segmentations = real_array("segmentations", segmentations, (batch, "classes", height, width))
    xy_std, rgb_std = float(bandwidth("bi_xy_std", bi_xy_std)), float(bandwidth("bi_rgb_std", bi_rgb_std))
    ignore_label = IGNORE_LABEL.checked(ignore_label)
    symmetric = KERNEL_NORMALIZATION.checked(kernel_normalization) == "symmetric"
    only_labelled = takes_labelled(classes, labels)
    label_maps = None if labels is None else label_array(labels, segmentations.shape, ignore_label)
    count = segmentations.shape[1]
    scale_factor = SCALE_FACTOR.checked(scale_factor)
    given_rois = None if roi is None else roi_array(roi, (batch, height, width))
    full_size = height, width
    if scale_factor < 1:
        height, width = rescale(images[0, 0], scale_factor, "nearest", 1).shape
        xy_std = bi_xy_std * scale_factor
    rois = allocate("roi", (batch, height, width))
    shape = (batch, count + 1 if with_degree else count, height, width)
    memory = filtered_memory(work, shape, {"images": images, "segmentations": segmentations, "roi": rois})
    rows = np.empty((batch, count), np.int64)
    rows[...] = np.arange(count)

    def filter_one(index: int, threads: int) -> tuple[float, float | ClassFactors]:
        image, segmentation, mask = images[index], segmentations[index], rois[index]
        label_map: Any = None if label_maps is None else label_maps[index]
        region = mask
        is_found = given_rois is None and not (only_labelled or scale_factor < 1)  # with the features
        if given_rois is not None:
            region = given_rois[index]
        elif not is_found:
            region = region_of_interest(image[np.newaxis])[0]
        if only_labelled or scale_factor < 1:  # not all numbers are filtered
            real_array("segmentations", segmentation, finite=True)
        if only_labelled:
            chosen = choose_labelled(rows[index], label_map, region, ignore_label)
        unlabelled = None if label_map is None else label_map == ignore_label
        if scale_factor < 1:
            real_array("images", image, finite=True)
            image, region = (rescale(each, scale_factor, "nearest", threads) for each in (image, region))
            segmentation = rescale(segmentation, scale_factor, "bilinear", threads)
            if unlabelled is not None:
                unlabelled = rescale(unlabelled.astype(np.float32), scale_factor, "nearest", threads) > 0
        if not is_found:
            mask[...] = region
        every_class = segmentation
        if only_labelled:
            segmentation = segmentation[chosen]
            if not len(chosen):
                real_array("images", image, finite=True)
                return 0.0, 0.0
        try:
            affinity = image_lattice(lattice, image, xy_std, rgb_std, threads, mask if is_found else None)
        except ValueError:
            real_array("images", image, finite=True)  # says where
            raise
        taking_part = len(segmentation)
        if symmetric:
            region = mask.copy() if is_found else region
            mask *= _inverse_root(affinity.filter(np.ones((1, height, width), np.float32), roi=region)[0])
        planes = memory[index, : taking_part + with_degree]
        try:
            applied = apply_to(affinity, segmentation, mask, with_degree)
        except ValueError as error:  # shapes were checked, so a value is not finite, or a sum
            raise ValueError(_why_not_finite(segmentations[index])) from error
        degree = planes[taking_part] if with_degree else None
        own = segmentation, region, mask, applied, planes, degree, affinity, every_class, unlabelled
        value, factor = formula(FilteredImage(*own))
        largest = factor.largest() if isinstance(factor, ClassFactors) else abs(factor)
        if not (math.isfinite(value) and largest <= _LARGEST):
            raise ValueError(_why_not_finite(segmentations[index]))
        return value, factor

    values, factors = zip(*for_each_image(filter_one, batch, num_threads))
    workspace = work if isinstance(work, Workspace) else None
    return FilteredBatch(
        list(values), list(factors), memory, rows, rois, workspace, num_threads, scale_factor, full_size
    )


def image_lattice(
    lattice: Callable[..., Any],
    image: NDArray[np.float32],
    bi_xy_std: float,
    bi_rgb_std: float,
    threads: int,
    region: NDArray[np.float32] | None = None,
) -> Any:
    """What filters by an image (C, H, W), from what a loss takes as `lattice`; `region` (H, W) receives its region."""
    if hasattr(lattice, "of_image"):
        return lattice.of_image(image, bi_xy_std, bi_rgb_std, threads, region)
    if region is not None:
        region[...] = region_of_interest(image[np.newaxis])[0]
    return lattice(bilateral_features(image, bi_xy_std, bi_rgb_std), threads)


_LARGEST = 3e38  # of single precision
_UNCHECKED = 1e6  # factors up to here leave finite what sums of probabilities are multiplied by


def regions(roi: ArrayLike | None, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The regions of interest (N, H, W) as given, checked; for None those of the images."""
    return region_of_interest(images) if roi is None else roi_array(roi, (len(images), *images.shape[2:]))


def roi_array(roi: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A copy of the regions of interest, checked.

    Parameters
    ----------
    roi : array_like, shape (N, H, W) or (N, 1, H, W)
        Finite, >= 0.
    shape : (N, H, W)

    Returns
    -------
    ndarray, shape (N, H, W), float32

    Raises
    ------
    ValueError
        Shape, type or values do not fit.
    """
    rois = allocate("roi", shape)
    batch, height, width = shape
    given = real_array("roi", roi, finite=True)
    if given.shape not in (shape, (batch, 1, height, width)):
        raise ValueError(f"roi must have shape {shape} or {(batch, 1, height, width)}, found shape {given.shape}")
    if given.min() < 0:
        raise ValueError(f"roi must hold values >= 0, found {given.min():g}")
    rois[...] = given.reshape(shape)
    return rois


def _single(values):
    """In single precision, infinite where they exceed it."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def _inverse_root(degree):
    """degree^-1/2, and 0 where the degree is not above 0: outside the region it can be a little below."""
    return 1 / np.sqrt(np.where(degree > 0, degree, np.float32(np.inf)))


def filtered_memory(
    work: Workspace | NDArray[np.float32] | None, shape: tuple[int, ...], inputs: dict[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Memory for what is filtered: the caller's where it fits, else fresh. It must not be that of the inputs."""
    if isinstance(work, Workspace):
        return work.take(shape)
    if work is None or (isinstance(work, np.ndarray) and work.shape != shape):
        return allocate("the filtered segmentations", shape)
    return output_array("work", work, shape, apart_from=inputs)


def _why_not_finite(segmentation):
    try:
        real_array("segmentations", segmentation, finite=True)
    except ValueError as error:
        return str(error)
    return "segmentations must not be so large that their filtered sums, times roi, exceed single precision"


class PairwiseResult(Result):
    """The result of a loss that filters: its value, and its gradient on demand.

    Attributes
    ----------
    value : float
        The loss.
    filtered : ndarray, shape (N, K, H, W)
        What the gradient is made from: for DenseCRF A S', or with the exact gradient the mean of A S' and A^T S'.
    roi : ndarray, shape (N, H, W)
        The region of interest, with the symmetric kernel times D^-1/2.
    """

    def __init__(self, batch: FilteredBatch) -> None:
        shape = (*batch.rows.shape, *(batch.full_size or batch.roi.shape[1:]))
        self.filtered = batch.memory[:, : shape[1]]
        self.roi = batch.roi
        super().__init__(sum(batch.values) / len(batch.values), shape, {"filtered": batch.memory, "roi": batch.roi})
        self._batch = batch
        self._use = batch.workspace.uses if batch.workspace else 0

    def gradient(self, scale: float = 1.0, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        if self._batch.workspace and self._batch.workspace.uses != self._use:
            raise ValueError("a later call took this result's workspace: ask for the gradient before that call")
        return super().gradient(scale, out)

    gradient.__doc__ = Result.gradient.__doc__

    def _write_gradient(self, scale: float, out: NDArray[np.float32]) -> None:
        batch = self._batch
        count = len(batch.values)
        added = None
        plain = [factor for factor in batch.factors if not isinstance(factor, ClassFactors)]
        if len(plain) < count:
            factors, added = np.zeros((2, *self.shape[:2]), np.float32)
            for index, factor in enumerate(batch.factors):
                if isinstance(factor, ClassFactors):
                    takes_part = batch.rows[index] >= 0
                    factors[index, takes_part] = factor.own * scale / count
                    added[index, takes_part] = factor.added * scale / count
        else:
            factors = np.array([factor * scale / count for factor in plain], np.float32)
        reduced = out
        if batch.scale_factor < 1:
            reduced = allocate("the gradient", (*self.shape[:2], *batch.roi.shape[1:]))
        scale_rows(batch.memory, batch.roi, factors, reduced, batch.rows, batch.num_threads, added)
        if batch.scale_factor < 1:
            rescale_adjoint(reduced, batch.scale_factor, out, batch.num_threads)
