"""The steps of Adam (Kingma and Ba, 2015), as Caffe's AdamSolver makes them."""

import numpy as np

__all__ = ["Adam"]


class Adam:
    """Means of the gradients so far; `step` says where to go.

    Parameters
    ----------
    beta1, beta2 : float
        Of the running means of the gradient and of its square: `momentum` and `momentum2` of a solver.
    epsilon : float
        `delta` of a solver.
    """

    def __init__(self, beta1=0.9, beta2=0.99, epsilon=1e-8):
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._mean = self._square = 0.0
        self._count = 0

    def step(self, gradient, rate):
        """What to add to the variables, an array like the gradient."""
        self._count += 1
        self._mean = self._mean + (1 - self._beta1) * (gradient - self._mean)
        self._square = self._square + (1 - self._beta2) * (gradient**2 - self._square)
        rate = rate * np.sqrt(1 - self._beta2**self._count) / (1 - self._beta1**self._count)
        return -rate * self._mean / (np.sqrt(self._square) + self._epsilon)
