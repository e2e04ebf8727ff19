"""The kernel cut loss (Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, ECCV 2018; the objective is that of "Kernel
Cuts", Tang, Marin, Ben Ayed, Boykov, IJCV 2019): normalised cut and DenseCRF on one lattice.

    loss = normalized_cut_weight * normalised cut + densecrf_weight * DenseCRF

Both read A S' and d = A m of one pass of the filter. The formulas are in `normalized_cut` and `densecrf`. The symmetric
kernel is the dense part's alone: A is then applied once more, on the same lattice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice
from rloss_caffe.losses._pairwise import (
    BI_RGB_STD,
    BI_XY_STD,
    EXACT_GRADIENT,
    IGNORE_LABEL,
    KERNEL_NORMALIZATION,
    LABELLED_CLASSES,
    SCALE_FACTOR,
    ClassFactors,
    FilteredImage,
    PairwiseResult,
    TooLargeError,
    Workspace,
    apply_affinity,
)
from rloss_caffe.losses.densecrf import GATE, NON_NEGATIVE, NORMALIZATION, RELAXATION, DenseTerm
from rloss_caffe.losses.normalized_cut import normalized_cut
from rloss_caffe.numerics.parameters import Parameter, documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "kernel_cut_loss"]

NORMALIZED_CUT_WEIGHT = Parameter("normalized_cut_weight", "float", 1.0, doc="Weight of the normalised cut.")
DENSECRF_WEIGHT = Parameter(
    "densecrf_weight",
    "float",
    1.0,
    doc="Weight of the dense part: about 1e-8 times loss_weight's inverse, or with normalization AFFINITY about 1.",
)

PARAMETERS = (
    BI_XY_STD,
    BI_RGB_STD,
    NORMALIZED_CUT_WEIGHT,
    DENSECRF_WEIGHT,
    LABELLED_CLASSES,
    EXACT_GRADIENT,
    RELAXATION,
    NORMALIZATION,
    replace(KERNEL_NORMALIZATION, doc=f"Of the dense part alone. {KERNEL_NORMALIZATION.doc}"),
    NON_NEGATIVE,
    GATE,
    SCALE_FACTOR,
    IGNORE_LABEL,
)


@documented(PARAMETERS)
def kernel_cut_loss(
    images: ArrayLike,
    segmentations: ArrayLike,
    bi_xy_std: float = BI_XY_STD.default,
    bi_rgb_std: float = BI_RGB_STD.default,
    normalized_cut_weight: float = NORMALIZED_CUT_WEIGHT.default,
    densecrf_weight: float = DENSECRF_WEIGHT.default,
    classes: str | None = LABELLED_CLASSES.default,
    exact_gradient: bool = EXACT_GRADIENT.default,
    *,
    relaxation: str = RELAXATION.default,
    normalization: str = NORMALIZATION.default,
    kernel_normalization: str = KERNEL_NORMALIZATION.default,
    non_negative: bool = NON_NEGATIVE.default,
    gate: bool = GATE.default,
    scale_factor: float = SCALE_FACTOR.default,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
    num_threads: int | None = None,
    work: Workspace | NDArray[np.float32] | None = None,
    lattice: Callable[..., Any] = PermutohedralLattice,
) -> PairwiseResult:
    """Value and gradient of the kernel cut loss, a weighted sum of `normalized_cut_loss` and `densecrf_loss`.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        C >= 1 channels, mean-subtracted, as the network sees them.
    segmentations : array_like, shape (N, K, H, W)
        Class probabilities, usually softmax outputs.
    {parameters}
    labels : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Whole numbers: classes, or `ignore_label`.
    roi : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Region of interest, >= 0; default `region_of_interest` of the images.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.
    work : Workspace or ndarray, optional
        Memory for the filtered segmentations, as in `densecrf_loss`; an array has shape (N, K + 1, H, W).
    lattice : callable, optional
        What filters, as in `densecrf_loss`.

    Returns
    -------
    PairwiseResult
        ``value`` (float) and ``gradient(scale=1.0, out=None)``, an array (N, K, H, W).

    Raises
    ------
    ValueError
        As `densecrf_loss` and `normalized_cut_loss`.

    Notes
    -----
    With the defaults the dense part outweighs the other by far: its value is of the order of the squared number of
    pixels. ``normalization="AFFINITY"`` puts both on one scale. The symmetric kernel takes a second pass of the filter.
    """
    normalized_cut_weight = NORMALIZED_CUT_WEIGHT.checked(normalized_cut_weight)
    densecrf_weight = DENSECRF_WEIGHT.checked(densecrf_weight)
    symmetric = KERNEL_NORMALIZATION.checked(kernel_normalization) == "symmetric"
    term = DenseTerm.checked(exact_gradient, relaxation, normalization, non_negative, gate)

    def formula(image: FilteredImage) -> tuple[float, float | ClassFactors]:
        try:
            return value_and_factors(image)
        except TooLargeError:
            weights = "normalized_cut_weight, densecrf_weight or segmentations"
            raise ValueError(f"{weights} are too large: the gradient exceeds single precision") from None

    def value_and_factors(image: FilteredImage) -> tuple[float, float | ClassFactors]:
        sums = image.products()
        cut, factors = normalized_cut(sums[:, :-1])
        own, added = normalized_cut_weight * factors.own, normalized_cut_weight * factors.added
        if symmetric:
            if term.exact_gradient:
                image.symmetrise()
            image.write(own, added)
            root = image.inverse_root_of_degree()
            other = image.again(image.roi * root, term.needs_degree)
            dense = term.add(other, other.products(), densecrf_weight * root, keep=True)
        elif term.gate or term.quadratic:
            dense = term.add(image, sums, densecrf_weight, own, added)
        else:
            if term.exact_gradient:
                image.symmetrise()
            image.write()
            dense, factor = term.value_and_factor(image, sums)
            own = own + densecrf_weight * factor
        value = normalized_cut_weight * cut + densecrf_weight * dense
        return value, 1.0 if symmetric or term.gate or term.quadratic else ClassFactors(own, added)

    batch = apply_affinity(
        formula,
        images,
        segmentations,
        bi_xy_std,
        bi_rgb_std,
        labels=labels,
        roi=roi,
        ignore_label=ignore_label,
        classes=classes,
        scale_factor=scale_factor,
        with_degree=True,
        num_threads=num_threads,
        work=work,
        lattice=lattice,
    )
    return PairwiseResult(batch)
