"""The normalised cut loss (Tang, Djelouah, Perazzi, Boykov, Schroers, "Normalized Cut Loss for Weakly-supervised CNN
Segmentation", CVPR 2018; the objective is Shi and Malik's, PAMI 2000).

With S_k the probabilities of class k, A the bilateral filter, m the region of interest, S'_k = m S_k and the degrees
d = A m, of one image and the C classes that take part:

    r_k = (S'_k . A S'_k) / (d . S'_k)        loss = (1/N) sum_n [ C - sum_k r_k ]
    dloss/dS_k = (1/N) m [ r_k d - 2 A S'_k ] / (d . S'_k)

The ratio is taken for each image and each class. The value, between 0 and C, adds up over the classes what share of a
class's affinity is to the others. The gradient is exact for a symmetric A; for the lattice's A the exact one has
(A + A^T) S'_k in the place of 2 A S'_k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice
from rloss_caffe.losses._pairwise import (
    BI_RGB_STD,
    BI_XY_STD,
    EXACT_GRADIENT,
    IGNORE_LABEL,
    LABELLED_CLASSES,
    SCALE_FACTOR,
    ClassFactors,
    FilteredImage,
    PairwiseResult,
    Workspace,
    apply_affinity,
)
from rloss_caffe.numerics.parameters import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "normalized_cut", "normalized_cut_loss"]

PARAMETERS = (BI_XY_STD, BI_RGB_STD, LABELLED_CLASSES, EXACT_GRADIENT, SCALE_FACTOR, IGNORE_LABEL)
_SMALLEST = 1e-30  # of a class's d . S'_k: below, single precision has no room for the quotient


@documented(PARAMETERS)
def normalized_cut_loss(
    images: ArrayLike,
    segmentations: ArrayLike,
    bi_xy_std: float = BI_XY_STD.default,
    bi_rgb_std: float = BI_RGB_STD.default,
    classes: str | None = LABELLED_CLASSES.default,
    exact_gradient: bool = EXACT_GRADIENT.default,
    scale_factor: float = SCALE_FACTOR.default,
    *,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
    num_threads: int | None = None,
    work: Workspace | NDArray[np.float32] | None = None,
    lattice: Callable[..., Any] = PermutohedralLattice,
) -> PairwiseResult:
    """Value and gradient of the normalised cut loss.

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
        Shapes or types do not fit; a label is no class; the labelled classes are asked for without labels; NaN or
        infinity in an image or a segmentation (the message says which of the batch); `work` shares memory with an
        input.

    Notes
    -----
    The value lies between 0 and the number of classes that take part, whatever the size of the image: loss weights are
    of the order of 0.1 to 1. A class with d . S'_k = 0 takes no part, nor does any class of an image without labels
    where only labelled classes do: it has value 0 and no gradient.

    The gradient does not change with the size of S_k: a class that is absent, with probability 1e-4 everywhere, is
    pushed as hard as one that covers half the image. So give labels where there are any.
    """
    exact_gradient = EXACT_GRADIENT.checked(exact_gradient)

    def formula(image: FilteredImage) -> tuple[float, ClassFactors]:
        value, factors = normalized_cut(image.products()[:, :-1])
        if exact_gradient:
            image.symmetrise()
        image.write()
        return value, factors

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


def normalized_cut(sums: NDArray[np.float64]) -> tuple[float, ClassFactors]:
    """One image's value, and the gradient's factors of A S' and d, from ``S'_k . A S'_k`` and ``d . S'_k``, (2, K)."""
    association, volume = sums
    takes_part = volume > _SMALLEST
    inverse = np.divide(1.0, volume, out=np.zeros_like(volume), where=takes_part)
    ratio = association * inverse
    return float(takes_part.sum() - ratio.sum()), ClassFactors(-2 * inverse, ratio * inverse)
