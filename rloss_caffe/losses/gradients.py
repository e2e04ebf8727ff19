"""What a loss asks of a network: its gradient for one image, before and behind the softmax, and how hard it pushes."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.losses import LOSSES
from rloss_caffe.losses._pairwise import BI_RGB_STD, BI_XY_STD, EXACT_GRADIENT, label_array
from rloss_caffe.losses.densecrf import densecrf_loss
from rloss_caffe.numerics.arrays import finite_number, real_array, whole_number
from rloss_caffe.numerics.parameters import documented, parameters_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Gradients",
    "Push",
    "compare_push",
    "densecrf_gradients",
    "find_loss",
    "loss_gradients",
    "push",
    "score_gradient",
    "takes_images",
]


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


@dataclass(frozen=True)
class Push:
    """How hard a loss pushes on the scores, beside the cross entropy of the labelled pixels.

    Attributes
    ----------
    loss, cross_entropy : float
        Sums of the gradient's sizes over all classes and pixels.
    labelled : int
        How many pixels have a label. The cross entropy is their mean.
    """

    loss: float
    cross_entropy: float
    labelled: int

    @property
    def share(self) -> float:
        """The loss's part of both, from 0 to 1; 0 where neither pushes."""
        both = self.loss + self.cross_entropy
        return self.loss / both if both else 0.0


def find_loss(loss: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function of a loss: of `rloss_caffe.losses.LOSSES` by its name, or the function itself.

    Raises
    ------
    ValueError
        There is no loss of that name.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, found {loss!r:.80}")
        return LOSSES[loss]
    if not any(loss is each for each in LOSSES.values()):
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or its function, found {loss!r:.80}")
    return loss


def takes_images(loss: str | Callable[..., Any]) -> bool:
    """Whether a loss looks at the image as well as at the segmentation."""
    return "images" in inspect.signature(find_loss(loss)).parameters


def loss_gradients(
    loss: str | Callable[..., Any],
    image: ArrayLike | None,
    probabilities: ArrayLike,
    *,
    loss_weight: float = 1.0,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    num_threads: int | None = None,
    **parameters: Any,
) -> Gradients:
    """A loss of one image and its gradients, as training in batches of one sees them.

    Parameters
    ----------
    loss : str or callable
        A name of `rloss_caffe.losses.LOSSES`, as ``"densecrf"``, or the function.
    image : array_like, shape (C, H, W), or None
        Mean-subtracted, as the network sees it. A loss that looks at no image, as the size constraint, needs none.
    probabilities : array_like, shape (K, H, W)
        Of the classes; in every pixel they add up to 1.
    loss_weight : float
        Both gradients are multiplied by it, the value is not.
    labels, roi : array_like, shape (H, W), optional
        As the loss's function takes them for a batch.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.
    **parameters
        Of the loss.

    Returns
    -------
    Gradients

    Raises
    ------
    ValueError
        There is no such loss or parameter, shapes do not fit, or something is not finite.
    """
    function = find_loss(loss)
    known = [each.name for each in parameters_of(function)]
    for name in parameters:
        if name not in known:
            raise ValueError(f"{function.__name__} has no parameter {name!r:.80}; it has {', '.join(known)}")
    probabilities = real_array("probabilities", probabilities, ("classes", "height", "width"), finite=True)
    arrays = [probabilities[None]]
    if takes_images(function):
        size = probabilities.shape[1:]
        arrays.insert(0, real_array("image", image, ("channels", *size), finite=True)[None])
    finite_number("loss_weight", loss_weight)
    maps = {"labels": labels, "roi": roi}
    batch = {name: real_array(name, each, ("height", "width"))[None] for name, each in maps.items() if each is not None}
    try:
        result = function(*arrays, **parameters, **batch, num_threads=num_threads)
        gradient = result.gradient(loss_weight)[0]
    except ValueError as error:  # in this function's words
        text = str(error).replace("image 0 of the batch: ", "")
        for theirs, ours in (("images", "image"), ("segmentations", "probabilities"), ("scale", "loss_weight")):
            text = re.sub(rf"\b{theirs} must\b", f"{ours} must", text)
        raise ValueError(text) from error
    return Gradients(result.value, gradient, score_gradient(probabilities, gradient))


@documented((BI_XY_STD, BI_RGB_STD, EXACT_GRADIENT))
def densecrf_gradients(
    image: ArrayLike,
    probabilities: ArrayLike,
    bi_xy_std: float = BI_XY_STD.default,
    bi_rgb_std: float = BI_RGB_STD.default,
    loss_weight: float = 1.0,
    exact_gradient: bool = EXACT_GRADIENT.default,
    num_threads: int | None = None,
) -> Gradients:
    """The DenseCRF loss of one image and its gradients: `loss_gradients` of that loss.

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
    return loss_gradients(
        densecrf_loss,
        image,
        probabilities,
        loss_weight=loss_weight,
        num_threads=num_threads,
        bi_xy_std=bi_xy_std,
        bi_rgb_std=bi_rgb_std,
        exact_gradient=exact_gradient,
    )


def score_gradient(probabilities: ArrayLike, gradient: ArrayLike) -> NDArray[np.float32]:
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


def push(gradient: ArrayLike) -> float:
    """How hard a gradient pushes: the sum of its sizes.

    Parameters
    ----------
    gradient : array_like
        With respect to scores, any shape.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        It is no array of finite real numbers.
    """
    return float(np.abs(real_array("gradient", gradient, finite=True)).sum(dtype=np.float64))


def compare_push(gradient: ArrayLike, probabilities: ArrayLike, labels: ArrayLike, ignore_label: int = 255) -> Push:
    """A loss's push on the scores beside that of the cross entropy of an image's labels.

    The cross entropy is the mean over the labelled pixels, as SoftmaxWithLoss with ``ignore_label`` computes it. Its
    gradient with respect to the scores is (p - y) / n there, with y one for the label's class and n labelled pixels.

    Parameters
    ----------
    gradient : array_like, shape (K, H, W)
        Of the loss, with respect to the scores, times its loss weight.
    probabilities : array_like, shape (K, H, W)
    labels : array_like, shape (H, W)
        Classes, or `ignore_label`.
    ignore_label : int

    Returns
    -------
    Push

    Raises
    ------
    ValueError
        Shapes or types do not fit, or a label is neither a class nor `ignore_label`.
    """
    probabilities = real_array("probabilities", probabilities, ("classes", "height", "width"), finite=True)
    gradient = real_array("gradient", gradient, probabilities.shape, finite=True)
    labels = real_array("labels", labels, probabilities.shape[1:])
    ignore_label = whole_number("ignore_label", ignore_label)
    known = label_array(labels[None], (1, *probabilities.shape), ignore_label)[0]
    rows, columns = np.nonzero(known != ignore_label)
    if not len(rows):
        return Push(push(gradient), 0.0, 0)
    right = probabilities[known[rows, columns], rows, columns].astype(np.float64)
    others = np.abs(probabilities[:, rows, columns]).sum(axis=0, dtype=np.float64) - np.abs(right)
    return Push(push(gradient), float((np.abs(1 - right) + others).mean()), len(rows))
