"""What the losses over pairs of pixels share: checks, the region of interest, and the bilateral kernel's affinity A.

A loss brings a formula. It sees one image at a time: the probabilities S, the region of interest m, and A applied once
to [S', m], with S' = m S. The batch loop, the lattice and the memory are here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice, bilateral_features
from rloss_caffe.losses._result import Result
from rloss_caffe.numerics.arrays import allocate, bandwidth, output_array, real_array
from rloss_caffe.numerics.parameters import Parameter
from rloss_caffe.numerics.threads import for_each_image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BI_RGB_STD",
    "BI_XY_STD",
    "EXACT_GRADIENT",
    "FilteredImage",
    "PairwiseResult",
    "Workspace",
    "apply_affinity",
    "label_array",
    "region_of_interest",
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
    doc="true: the exact derivative of the computed value, for twice the time; false: the original's, which takes the "
    "lattice's A for symmetric.",
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
    return (np.abs(images) >= 1).any(axis=1).astype(np.float32)


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


@dataclass(frozen=True)
class FilteredImage:
    """What a formula sees of one image.

    Attributes
    ----------
    segmentation : ndarray, shape (K, H, W)
        S.
    roi : ndarray, shape (H, W)
        m.
    filtered : ndarray, shape (K, H, W)
        A S'.
    degree : ndarray, shape (H, W), or None
        d = A m, where the loss asks for it. Outside the region it may be a little below 0.
    threads : int
        How many to use for this image.
    """

    segmentation: NDArray[np.float32]
    roi: NDArray[np.float32]
    filtered: NDArray[np.float32]
    degree: NDArray[np.float32] | None
    threads: int
    lattice: Any

    def symmetrise(self) -> None:
        """Make `filtered` the mean of A S' and A^T S': the lattice's blur is not quite symmetric."""
        filtered = self.filtered
        filtered += self.lattice.filter(self.segmentation, roi=self.roi, reverse=True)
        filtered *= np.float32(0.5)


@dataclass(frozen=True)
class FilteredBatch:
    """What is left of a batch: the formula's values, one an image, and the memory the gradient is made from."""

    values: list[float]
    filtered: NDArray[np.float32]
    degree: NDArray[np.float32] | None
    roi: NDArray[np.float32]
    workspace: Workspace | None
    num_threads: int | None


def apply_affinity(
    formula: Callable[[FilteredImage], float],
    images: ArrayLike,
    segmentations: ArrayLike,
    bi_xy_std: float,
    bi_rgb_std: float,
    *,
    roi: ArrayLike | None = None,
    with_degree: bool = False,
    num_threads: int | None = None,
    work: Workspace | NDArray[np.float32] | None = None,
    lattice: Callable[..., Any] = PermutohedralLattice,
) -> FilteredBatch:
    """Check a batch, filter each image's segmentation, and ask the formula for its value.

    Parameters
    ----------
    formula : callable
        From a FilteredImage to the image's value; called in several threads.
    images : array_like, shape (N, C, H, W)
    segmentations : array_like, shape (N, K, H, W)
    bi_xy_std, bi_rgb_std : float
        Bandwidths in pixels and in the images' units, > 0.
    roi : array_like, shape (N, H, W), optional
        >= 0; default `region_of_interest` of the images.
    with_degree : bool
        Filter m as well, as one channel more.
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
    bandwidth("bi_xy_std", bi_xy_std), bandwidth("bi_rgb_std", bi_rgb_std)
    classes = segmentations.shape[1]
    rois = allocate("roi", (batch, height, width))
    if roi is not None:
        rois[...] = real_array("roi", roi, rois.shape, finite=True)
        if rois.min() < 0:
            raise ValueError(f"roi must hold values >= 0, found {rois.min():g}")
    shape = (batch, classes + 1 if with_degree else classes, height, width)
    memory = _memory(work, shape, {"images": images, "segmentations": segmentations, "roi": rois})

    def filter_one(index: int, threads: int) -> float:
        segmentation, mask, out = segmentations[index], rois[index], memory[index]
        if roi is None:
            mask[...] = region_of_interest(images[index : index + 1])[0]
        try:
            features = bilateral_features(images[index], bi_xy_std, bi_rgb_std)
        except ValueError:
            real_array("images", images[index], finite=True)  # says where
            raise
        affinity = lattice(features, threads)
        values = segmentation
        if with_degree:  # in place
            values = out
            out[:classes], out[classes] = segmentation, 1
        try:
            affinity.filter(values, roi=mask, out=out)
        except ValueError as error:  # shapes were checked, so a value is not finite, or a sum
            raise ValueError(_why_not_finite(segmentation)) from error
        degree = out[classes] if with_degree else None
        value = formula(FilteredImage(segmentation, mask, out[:classes], degree, threads, affinity))
        if not math.isfinite(value):
            raise ValueError(_why_not_finite(segmentation))
        return value

    values = for_each_image(filter_one, batch, num_threads)
    degrees = memory[:, classes] if with_degree else None
    workspace = work if isinstance(work, Workspace) else None
    return FilteredBatch(values, memory[:, :classes], degrees, rois, workspace, num_threads)


def _memory(work, shape, inputs):
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
    """The result of a loss that filters.

    Attributes
    ----------
    value : float
        The loss.
    filtered : ndarray, shape (N, K, H, W)
        A S', or with the exact gradient the mean of A S' and A^T S'.
    roi : ndarray, shape (N, H, W)
    """

    def __init__(self, value: float, batch: FilteredBatch) -> None:
        super().__init__(value, batch.filtered.shape, {"filtered": batch.filtered, "roi": batch.roi})
        self.filtered = batch.filtered
        self.roi = batch.roi
        self._batch = batch
        self._use = batch.workspace.uses if batch.workspace else 0

    def gradient(self, scale: float = 1.0, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        if self._batch.workspace and self._batch.workspace.uses != self._use:
            raise ValueError("a later call took this result's workspace: ask for the gradient before that call")
        return super().gradient(scale, out)

    gradient.__doc__ = Result.gradient.__doc__
