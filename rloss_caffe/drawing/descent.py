"""Free scores go down the gradients of losses: the steps of Adam, and the cross entropy of the labelled pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Adam", "cross_entropy_gradient", "descend", "softmax"]


class Adam:
    """The steps of Adam (Kingma and Ba, 2015), as Caffe's AdamSolver makes them; `step` says where to go.

    Parameters
    ----------
    beta1, beta2 : float
        Of the running means of the gradient and of its square: `momentum` and `momentum2` of a solver.
    epsilon : float
        `delta` of a solver.
    """

    def __init__(self, beta1: float = 0.9, beta2: float = 0.99, epsilon: float = 1e-8) -> None:
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._mean: Any = 0.0
        self._square: Any = 0.0
        self._count = 0

    def step(self, gradient: NDArray[Any], rate: float) -> NDArray[Any]:
        """What to add to the variables, an array like the gradient."""
        self._count += 1
        self._mean = self._mean + (1 - self._beta1) * (gradient - self._mean)
        self._square = self._square + (1 - self._beta2) * (gradient**2 - self._square)
        rate = rate * np.sqrt(1 - self._beta2**self._count) / (1 - self._beta1**self._count)
        result: NDArray[Any] = -rate * self._mean / (np.sqrt(self._square) + self._epsilon)
        return result


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the first axis."""
    result = np.exp(scores - scores.max(axis=0, keepdims=True))
    result /= result.sum(axis=0, keepdims=True)
    return result


def cross_entropy_gradient(
    scores: NDArray[np.float32], labels: NDArray[Any], ignore_label: int = 255
) -> NDArray[np.float32]:
    """With respect to the scores (K, H, W); the cross entropy is a mean over the labelled pixels of `labels` (H, W)."""
    labels = labels.ravel()
    labelled = np.flatnonzero(labels != ignore_label)
    gradient = np.zeros((len(scores), labels.size), np.float32)
    if len(labelled):
        error = softmax(scores.reshape(len(scores), -1)[:, labelled])
        error[labels[labelled], np.arange(len(labelled))] -= 1
        gradient[:, labelled] = error / len(labelled)
    return gradient.reshape(scores.shape)


def descend(
    scores: NDArray[np.float32],
    labels: NDArray[Any],
    add_gradient: Callable[[NDArray[np.float32], NDArray[np.float32]], None],
    steps: int,
    rate: float,
    ignore_label: int = 255,
) -> Iterator[NDArray[np.float32]]:
    """Yield the scores after each step down the cross entropy of the labels and of other losses.

    Parameters
    ----------
    scores : array (K, H, W)
        Where the descent begins.
    labels : array (H, W)
        Classes, or `ignore_label`.
    add_gradient : callable
        From scores and an array like them, to which it adds the gradient of all other losses, times their weights.
    steps : int
    rate : float
        Of the first step; it falls linearly to 0 behind the last one.
    ignore_label : int
    """
    adam = Adam()
    for step in range(steps):
        gradient = cross_entropy_gradient(scores, labels, ignore_label)
        add_gradient(scores, gradient)
        scores = (scores + adam.step(gradient, rate * (1 - step / steps))).astype(np.float32)
        yield scores
