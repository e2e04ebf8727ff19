"""The DenseCRF loss (Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, ECCV 2018, equations 5 to 9).

With S_k the probabilities of class k, A the bilateral filter and m the region of interest:

    S'_k = m S_k        loss = -(1/N) sum_n sum_k S'_k . (A S'_k)        dloss/dS_k = -(2/N) m (A S'_k)

The gradient is the original's: exact for a symmetric A. The lattice's A is not quite symmetric (its blur visits the
axes in order), so the exact gradient of the computed value, -(1/N) m (A + A^T) S'_k, is offered beside it.

The options, all from the same pass of the filter, with the degrees d = A m of the region as one channel more:

    relaxation quadratic    sum_k d . (m S_k^2) - S'_k . A S'_k         gradient 2 m (d S_k - A S'_k)
                            half the sum of m_i m_j A_ij |S_i - S_j|^2, for a symmetric A; 0 where S is constant
    non_negative            d . m - sum_k S'_k . A S'_k: the affinity that is cut, for probabilities; same gradient
    normalization           VALID divides each image's value by the pixels of its region, AFFINITY by d . m
    kernel_normalization    symmetric: D^-1/2 A D^-1/2 in the place of A, with D's diagonal d; the degrees and d . m in
                            the other options are then those of this kernel
    classes labelled        the sums run over the classes that the image's labels name
    gate                    (Zhang, Xiao, Wei, Sun, Huang, "Reliability Does Matter", AAAI 2020) with
                            G = max(m - max_k S_k, 0), and 1 where there are labels but none at the pixel:
                            -sum_k S'_k . G (A S'_k), gradient -2 m G (A S'_k), as published. G counts as a constant;
                            the exact gradient is -m (G A + A^T G) S'_k. The constant of non_negative is d . (G m).
    scale_factor            the image by its nearest pixels, the segmentation bilinearly, bi_xy_std by the factor: as in
                            the authors' version for PyTorch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice
from rloss_caffe.losses._pairwise import (
    BI_RGB_STD,
    BI_XY_STD,
    CLASSES,
    EXACT_GRADIENT,
    IGNORE_LABEL,
    KERNEL_NORMALIZATION,
    SCALE_FACTOR,
    FilteredImage,
    PairwiseResult,
    Workspace,
    apply_affinity,
)
from rloss_caffe.numerics.parameters import Parameter, documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "DenseTerm", "densecrf_loss"]

RELAXATION = Parameter(
    "relaxation",
    "string",
    "bilinear",
    choices=("bilinear", "quadratic"),
    doc="What a pair of pixels costs: bilinear 1 - S_i . S_j without the 1, as in the original; quadratic "
    "|S_i - S_j|^2 / 2, which is 0 where similar pixels agree, however sure they are.",
)
NORMALIZATION = Parameter(
    "normalization",
    "string",
    "BATCH_SIZE",
    choices=("BATCH_SIZE", "VALID", "AFFINITY"),
    doc="What each image's value is divided by, besides the batch size: BATCH_SIZE nothing, as in the original; VALID "
    "the region's pixels; AFFINITY the affinity of all its pairs, so that a loss weight fits every size and bandwidth.",
)
NON_NEGATIVE = Parameter(
    "non_negative",
    "bool",
    False,
    doc="true: the bilinear value with the constant that the original drops, so that it is the affinity that is cut; "
    "the gradient stays.",
)
GATE = Parameter(
    "gate",
    "bool",
    False,
    doc="true: pixels count by their doubt, 1 - max_k S_k, and by 1 where labels are given and the pixel has none; for "
    "the bilinear relaxation.",
)

PARAMETERS = (
    BI_XY_STD,
    BI_RGB_STD,
    EXACT_GRADIENT,
    RELAXATION,
    NORMALIZATION,
    KERNEL_NORMALIZATION,
    NON_NEGATIVE,
    CLASSES,
    GATE,
    SCALE_FACTOR,
    IGNORE_LABEL,
)
_SMALLEST = 1e-30  # of what a value is divided by: below, single precision has no room for the quotient


@documented(PARAMETERS)
def densecrf_loss(
    images: ArrayLike,
    segmentations: ArrayLike,
    bi_xy_std: float = BI_XY_STD.default,
    bi_rgb_std: float = BI_RGB_STD.default,
    roi: ArrayLike | None = None,
    exact_gradient: bool = EXACT_GRADIENT.default,
    num_threads: int | None = None,
    work: Workspace | NDArray[np.float32] | None = None,
    lattice: Callable[..., Any] = PermutohedralLattice,
    *,
    relaxation: str = RELAXATION.default,
    normalization: str = NORMALIZATION.default,
    kernel_normalization: str = KERNEL_NORMALIZATION.default,
    non_negative: bool = NON_NEGATIVE.default,
    classes: str = CLASSES.default,
    gate: bool = GATE.default,
    scale_factor: float = SCALE_FACTOR.default,
    labels: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
) -> PairwiseResult:
    """Value and gradient of the DenseCRF loss.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        C >= 1 channels, mean-subtracted, as the network sees them.
    segmentations : array_like, shape (N, K, H, W)
        Class probabilities, usually softmax outputs.
    {parameters}
    roi : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Region of interest, >= 0; default `region_of_interest` of the images. All ones takes every pixel.
    labels : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Whole numbers: classes, or `ignore_label`. Needed for the labelled classes; the gate looks at them.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.
    work : Workspace or ndarray, optional
        Memory for the filtered segmentations, so that it need not be fresh: a `rloss_caffe.losses.Workspace` that
        the caller keeps, or the ``filtered`` of an earlier result of this shape that is no longer needed.
    lattice : callable, optional
        What filters: from features (d, H, W) and a number of threads to an object with the ``filter`` of
        `rloss_caffe.PermutohedralLattice`, the default.

    Returns
    -------
    PairwiseResult
        ``value`` (float) and ``gradient(scale=1.0, out=None)``, an array (N, K, H, W). Unpacks as
        ``loss, gradient = densecrf_loss(...)``.

    Raises
    ------
    ValueError
        Shapes or types do not fit; a label is no class; options that do not go together; NaN or infinity in an image
        or a segmentation (the message says which of the batch); `work` shares memory with an input.

    Notes
    -----
    The value is negative: the constant of the Potts model is dropped. It is divided by the batch size only, so it
    grows with the square of the number of pixels that look alike; the published loss weights are about 1e-8. With
    AFFINITY the value is a share of the affinity: from -1 to 0, or with non_negative or quadratic from 0 to 1 (for
    probabilities), and so are the weights.

    An image without labels, where only labelled classes take part, has value 0 and no gradient; so has one without
    pixels in its region, where its value would be divided by them.
    """
    term = DenseTerm.checked(exact_gradient, relaxation, normalization, non_negative, gate)
    batch = apply_affinity(
        term.evaluate,
        images,
        segmentations,
        bi_xy_std,
        bi_rgb_std,
        roi=roi,
        num_threads=num_threads,
        work=work,
        lattice=lattice,
        labels=labels,
        ignore_label=ignore_label,
        classes=CLASSES.checked(classes),
        kernel_normalization=kernel_normalization,
        scale_factor=scale_factor,
        with_degree=term.needs_degree,
    )
    return PairwiseResult(batch)


@dataclass(frozen=True)
class DenseTerm:
    """The formula with its options, for one image at a time."""

    exact_gradient: bool
    quadratic: bool
    normalization: str
    non_negative: bool
    gate: bool

    @classmethod
    def checked(
        cls, exact_gradient: Any, relaxation: Any, normalization: Any, non_negative: Any, gate: Any
    ) -> DenseTerm:
        quadratic, gate = RELAXATION.checked(relaxation) == "quadratic", GATE.checked(gate)
        if quadratic and gate:
            raise ValueError("gate must be False where relaxation is quadratic: it is defined for the bilinear one")
        exact_gradient, non_negative = EXACT_GRADIENT.checked(exact_gradient), NON_NEGATIVE.checked(non_negative)
        return cls(exact_gradient, quadratic, NORMALIZATION.checked(normalization), non_negative, gate)

    @property
    def needs_degree(self) -> bool:
        return self.quadratic or self.non_negative or self.normalization == "AFFINITY"

    def evaluate(self, image: FilteredImage) -> tuple[float, float]:
        """The image's value and the factor of its gradient, whose numbers are left in ``image.filtered``."""
        sums = image.products()
        if self.gate or self.quadratic:
            gate = self._gate(image)
            return self.value_and_factor(image, sums, self._write(image, gate, 1.0), gate)
        if self.exact_gradient:
            image.symmetrise()
        image.write()
        return self.value_and_factor(image, sums)

    def add(
        self,
        image: FilteredImage,
        sums: NDArray[np.float64],
        weight: float | NDArray[np.float32],
        own: NDArray[np.float64] | None = None,
        added: NDArray[np.float64] | None = None,
        keep: bool = False,
    ) -> float:
        """The image's value; its gradient times a weight, or a plane (H, W) of them, joins ``own_k y_k + added_k d``.

        `sums` are the image's products. That goes to ``image.filtered``, or with `keep` is added to it.
        """
        gate = self._gate(image)
        size = self._size(image, sums)
        terms = self._write(image, gate, -2.0 / size * weight if size else 0.0, own, added, keep)
        return self.value_and_factor(image, sums, terms, gate)[0]

    def _write(self, image, gate, factor, own=None, added=None, keep=False):
        """Write the terms; return sum_k S'_k . A S'_k through the gate, if there is one, and sum_k d . (m S_k^2)."""
        if gate is None:
            if self.exact_gradient:
                image.symmetrise()
            return image.combine(own, added, factor, -1.0 if self.quadratic else 0.0, keep=keep)
        inside = image.roi * gate
        if not self.exact_gradient:
            return image.combine(own, added, factor * gate, inside=inside, keep=keep)
        association = image.combine(factor=0.5 * factor * gate, inside=inside, keep=keep)
        image.again(inside, reverse=True).combine(factor=0.5 * factor, keep=True)
        if own is not None:
            image.symmetrise()
            image.combine(own, added, 0.0, keep=True)
        return association

    def value_and_factor(
        self,
        image: FilteredImage,
        sums: NDArray[np.float64],
        written: tuple[float, float] = (0.0, 0.0),
        gate: NDArray[np.float32] | None = None,
    ) -> tuple[float, float]:
        """The value, and the gradient's factor of A S', from the image's products and what writing it returned."""
        association, squares = written
        if gate is None:  # not the same to the last bit where the gradient is exact
            association = float(sums[0, : len(image.segmentation)].sum())
        value = squares - association if self.quadratic else -association
        if self.non_negative and not self.quadratic:
            value += float(sums[1, -1]) if gate is None else _total(image.roi * gate, image.degree)
        size = self._size(image, sums)
        return (value / size, -2.0 / size) if size else (0.0, 0.0)

    def _size(self, image, sums):
        """What the value is divided by; 0 where that is too small."""
        if self.normalization == "BATCH_SIZE":
            return 1.0
        size = _total(image.region) if self.normalization == "VALID" else float(sums[1, -1])
        return size if size > _SMALLEST else 0.0

    def _gate(self, image):
        """G, shape (H, W), or None."""
        if not self.gate:
            return None
        gate = np.maximum(image.region - image.every_class.max(axis=0), 0)
        if image.unlabelled is not None:
            gate[image.unlabelled] = 1
        return gate


def _total(mask, degree=None):
    return float(np.sum(mask if degree is None else mask * degree, dtype=float))
