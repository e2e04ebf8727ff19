"""What the DenseCRF loss asks of a network: its gradient for one image, before and behind the softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rloss_caffe.losses._pairwise import BI_RGB_STD, BI_XY_STD, EXACT_GRADIENT
from rloss_caffe.losses.densecrf import PARAMETERS, densecrf_loss
from rloss_caffe.numerics.arrays import finite_number, real_array
from rloss_caffe.numerics.parameters import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Gradients", "densecrf_gradients", "score_gradient"]


@dataclass(frozen=True)
class Gradients:
    """A loss of one image and its gradients.

    Attributes
    ----------
    value : float
        The loss without its weight.
    probability, score : ndarray, shape (K, H, W), float32
        The gradients with respect to the probabilities and to the scores before the softmax, times the weight.
    """

    value: float
    probability: NDArray[np.float32]
    score: NDArray[np.float32]


@documented(PARAMETERS)
def densecrf_gradients(
    image: ArrayLike,
    probabilities: ArrayLike,
    bi_xy_std: float = BI_XY_STD.default,
    bi_rgb_std: float = BI_RGB_STD.default,
    loss_weight: float = 1.0,
    exact_gradient: bool = EXACT_GRADIENT.default,
    num_threads: int | None = None,
) -> Gradients:
    """The DenseCRF loss of one image and its gradients, as training in batches of one sees them.

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        Mean-subtracted, as the network sees it.
    probabilities : array_like, shape (K, H, W)
        Of the classes; in every pixel they add up to 1.
    {parameters}
    loss_weight : float
        Both gradients are multiplied by it, the value is not.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.

    Returns
    -------
    Gradients

    Raises
    ------
    ValueError
        Shapes do not fit, or something is not finite.
    """
    image = real_array("image", image, ("channels", "height", "width"), finite=True)
    probabilities = real_array("probabilities", probabilities, ("classes", *image.shape[1:]), finite=True)
    finite_number("loss_weight", loss_weight)
    try:
        result = densecrf_loss(
            image[None],
            probabilities[None],
            bi_xy_std,
            bi_rgb_std,
            exact_gradient=exact_gradient,
            num_threads=num_threads,
        )
        gradient = result.gradient(loss_weight)[0]
    except ValueError as error:  # in this function's words
        text = str(error).replace("image 0 of the batch: ", "")
        text = text.replace("segmentations must", "probabilities must").replace("scale must", "loss_weight must")
        raise ValueError(text) from error
    return Gradients(result.value, gradient, score_gradient(probabilities, gradient))


def score_gradient(probabilities: NDArray[np.float32], gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    """The gradient with respect to the scores s, where probabilities p = softmax(s) and dL/dp is known.

    dL/ds_k = p_k (dL/dp_k - sum_j p_j dL/dp_j); over the classes it adds up to 0 in every pixel.

    Parameters
    ----------
    probabilities, gradient : array_like, shape (K, H, W)

    Returns
    -------
    ndarray, shape (K, H, W), float32

    Raises
    ------
    ValueError
        Shapes or types do not fit.
    """
    probabilities = real_array("probabilities", probabilities, ("classes", "height", "width"), finite=True)
    gradient = real_array("gradient", gradient, probabilities.shape, finite=True)
    with np.errstate(over="ignore", invalid="ignore"):
        result = probabilities * (gradient - (probabilities * gradient).sum(axis=0))
    if not np.isfinite(result).all():
        raise ValueError("probabilities times gradient (or loss_weight) are too large for single precision")
    return result
