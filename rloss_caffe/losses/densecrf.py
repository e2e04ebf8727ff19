"""The DenseCRF loss (Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, ECCV 2018, equations 5 to 9).

With S_k the probabilities of class k, A the bilateral filter and m the region of interest:

    S'_k = m S_k        loss = -(1/N) sum_n sum_k S'_k . (A S'_k)        dloss/dS_k = -(2/N) m (A S'_k)

The gradient is the original's: exact for a symmetric A. The lattice's A is not quite symmetric (its blur visits the
axes in order), so the exact gradient of the computed value, -(1/N) m (A + A^T) S'_k, is offered beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from rloss_caffe.filtering import PermutohedralLattice
from rloss_caffe.losses._pairwise import (
    BI_RGB_STD,
    BI_XY_STD,
    CLASSES,
    EXACT_GRADIENT,
    IGNORE_LABEL,
    KERNEL_NORMALIZATION,
    FilteredImage,
    PairwiseResult,
    Workspace,
    apply_affinity,
)
from rloss_caffe.numerics.arrays import flag
from rloss_caffe.numerics.parameters import documented
from rloss_caffe.numerics.products import dot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "densecrf_loss"]

PARAMETERS = (BI_XY_STD, BI_RGB_STD, EXACT_GRADIENT, KERNEL_NORMALIZATION, CLASSES, IGNORE_LABEL)


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
    kernel_normalization: str = KERNEL_NORMALIZATION.default,
    classes: str = CLASSES.default,
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
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.
    work : Workspace or ndarray, optional
        Memory for the filtered segmentations, so that it need not be fresh: a `rloss_caffe.losses.Workspace` that
        the caller keeps, or the ``filtered`` of an earlier result of this shape that is no longer needed.
    lattice : callable, optional
        What filters: from features (d, H, W) and a number of threads to an object with the ``filter`` of
        `rloss_caffe.PermutohedralLattice`, the default.
    labels : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Whole numbers: classes, or `ignore_label`. Needed for the labelled classes.

    Returns
    -------
    PairwiseResult
        ``value`` (float) and ``gradient(scale=1.0, out=None)``, an array (N, K, H, W). Unpacks as
        ``loss, gradient = densecrf_loss(...)``.

    Raises
    ------
    ValueError
        Shapes or types do not fit; NaN or infinity in an image or a segmentation (the message says which of the
        batch); `work` shares memory with an input.

    Notes
    -----
    The value is negative: the constant of the Potts model is dropped. It is divided by the batch size only, so it
    grows with the square of the number of pixels that look alike; the published loss weights are about 1e-8.
    """
    exact_gradient = flag("exact_gradient", exact_gradient)

    def formula(image: FilteredImage) -> tuple[float, float]:
        value = -dot(image.segmentation, image.roi, image.filtered, image.threads)
        if exact_gradient:
            image.symmetrise()
        return value, -2.0

    batch = apply_affinity(
        formula,
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
    )
    return PairwiseResult(batch)
