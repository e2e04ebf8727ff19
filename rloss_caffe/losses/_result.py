"""What every loss returns: its value, and its gradient on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Mapping

import numpy as np

from rloss_caffe.numerics.arrays import finite_number, output_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Result"]

_LARGE_SCALE = 1e6  # a loss whose value is finite has a gradient far below 1e32; the look at each number takes time


class Result:
    """A loss's value, and its gradient with respect to the segmentations.

    Unpacks as ``value, gradient = loss(...)``. A loss's own class writes the gradient: it defines ``_write_gradient``.

    Attributes
    ----------
    value : float
        The loss.
    shape : tuple of int
        (N, K, H, W), the segmentations' and the gradient's.
    """

    def __init__(self, value: float, shape: tuple[int, ...], memory: Mapping[str, NDArray[Any]]) -> None:
        self.value = value
        self.shape = shape
        self._memory = memory  # what the gradient is computed from, by name

    def gradient(self, scale: float = 1.0, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The derivative with respect to the segmentations, times `scale` (Caffe's top diff).

        Parameters
        ----------
        scale : float
            Finite in single precision.
        out : ndarray, shape (N, K, H, W), float32, C-contiguous, optional
            Where to write it; must share no memory with what it is computed from.

        Returns
        -------
        ndarray, shape (N, K, H, W), float32

        Raises
        ------
        ValueError
            `out` cannot take the gradient, `scale` is no finite number, or the memory behind this result serves a
            later call.
        """
        finite_number("scale", scale)
        out = output_array("out", out, self.shape, apart_from=self._memory)
        self._write_gradient(float(scale), out)
        if abs(scale) > _LARGE_SCALE and not np.isfinite(out).all():
            raise ValueError(f"scale must not be so large that the gradient exceeds single precision, found {scale:g}")
        return out

    def _write_gradient(self, scale: float, out: NDArray[np.float32]) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.gradient()))
