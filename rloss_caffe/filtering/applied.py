"""Values that a lattice has filtered, as the losses need them: products first, then gradients.

`OnLattice` keeps them on the lattice, where there are fewer points than pixels. Slicing is the transpose of splatting
up to the factor alpha, so a product of pixels is one of points: ``S' . A T' = alpha (splat S') . (blur splat T')``.
Both directions of the blur start from one splat. What is sliced then goes through registers once, with the gradient's
other terms. `Filtered` does the same with planes, for a lattice of which only ``filter`` is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rloss_caffe.filtering import _apply, _passes
from rloss_caffe.filtering.lattice import PermutohedralLattice

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Combination", "Filtered", "OnLattice", "apply_to"]


@dataclass(frozen=True)
class Combination:
    """What is made of filtered values y_k, of the degree d and of the values S_k before they were filtered.

    ``own_k y_k + added_k d + factor (y_k + slope S_k d)``

    Attributes
    ----------
    own, added : ndarray, shape (K,)
    factor : ndarray, shape (n,)
    slope : float
    """

    own: NDArray[np.float32]
    added: NDArray[np.float32]
    factor: NDArray[np.float32]
    slope: float = 0.0


def apply_to(
    lattice: Any,
    values: NDArray[np.float32],
    roi: NDArray[np.float32],
    with_degree: bool = False,
    reverse: bool = False,
) -> OnLattice | Filtered:
    """Apply a lattice's A, or with `reverse` A^T, to values (K, n) times a region of interest (n,).

    With the degree, the region itself is filtered as one channel more.

    Raises
    ------
    ValueError
        NaN or infinity in the values, or sums beyond single precision.
    """
    kind = OnLattice if isinstance(lattice, PermutohedralLattice) else Filtered
    return kind(lattice, values, roi, with_degree, reverse)


class OnLattice:
    """Values splat on a lattice, and what the blur made of them. All planes are (K, H, W) or (H, W)."""

    def __init__(
        self,
        lattice: PermutohedralLattice,
        values: NDArray[np.float32],
        roi: NDArray[np.float32],
        with_degree: bool,
        reverse: bool,
    ) -> None:
        values, roi = _flat(values), roi.reshape(-1)
        self._lattice, self._values, self._roi = lattice, values, roi
        self._count, self._total = len(values), len(values) + with_degree
        self._memory = []  # of the groups: it is theirs as long as this is there
        self._groups = []  # what was splat, what the blur made of it, and which channels they are
        largest = _apply.WIDTHS[-1]
        for first in range(0, self._total, largest):
            last = min(first + largest, self._total)
            planes = values[first:last]
            if first == len(values):  # the degree alone: all channels that no value has hold 1
                planes = np.ones((1, values.shape[1]), np.float32)
            memory = _passes.memory_for(lattice, last - first, 2)
            self._memory.append(memory)
            splat, is_finite = _passes.splat(lattice, memory, planes, roi, last - first)
            if not is_finite:
                raise ValueError(_passes.why_not_finite(planes, ()))
            blurred = _passes.blur(lattice, splat, memory, reverse, keep=True)
            _passes.check_finite(blurred, last - first, planes, roi)
            self._groups.append((splat, blurred, slice(first, last)))

    def products(self) -> NDArray[np.float64]:
        """``S'_k . A S'_k`` and ``S'_k . d`` as an array (2, K); with the degree (2, K + 1): the last is ``m . d``."""
        result = np.empty((2, self._total))
        _, degrees, channels = self._groups[-1]
        degree = degrees[:, self._count - channels.start if self._total > self._count else 0]
        for splat, blurred, channels in self._groups:
            products = _passes.point_products(self._lattice, splat, blurred, degree)
            result[:, channels] = products[:, : channels.stop - channels.start]
        return result

    def symmetrise(self) -> None:
        """Make A S' the mean of A S' and A^T S'. The degree stays. Products must have been taken before."""
        for splat, blurred, channels in self._groups:
            count = min(channels.stop, self._count) - channels.start
            memory = _passes.memory_for(self._lattice, channels.stop - channels.start, 0)
            reverse = _passes.blur(self._lattice, splat, memory, True)
            blurred[:, :count] += reverse[:, :count]
            blurred[:, :count] *= np.float32(0.5)

    def scale(self, own: NDArray[np.float32], added: NDArray[np.float32]) -> None:
        """Make A S'_k ``own_k A S'_k + added_k d``, (K,) each; the degree stays."""
        _, degrees, channels = self._groups[-1]
        degree = degrees[:, self._count - channels.start, np.newaxis].copy()
        for _, blurred, channels in self._groups:
            part = slice(channels.start, min(channels.stop, self._count))
            planes = blurred[:, : part.stop - part.start]
            planes *= own[part]
            planes += added[part] * degree

    def slice(self, out: NDArray[np.float32]) -> None:
        """Write A S', and the degree behind it, to as many planes as there are."""
        out = _flat(out)
        for _, blurred, channels in self._groups:
            _passes.slice_to(self._lattice, blurred, out[channels])

    def combine(
        self,
        terms: Combination,
        inside: NDArray[np.float32] | None,
        out: NDArray[np.float32],
        degree: NDArray[np.float32] | None,
        keep: bool = False,
    ) -> tuple[float, float]:
        """Write a combination to planes, or with `keep` add it; and the degree, if it was filtered, to its plane.

        Returns ``sum inside S_k y_k`` and ``sum roi d S_k^2``, the first without `inside` for the region itself. The
        sums mean nothing where S is not needed: without `inside` and with the slope 0.
        """
        degree = np.zeros(len(self._roi), np.float32) if degree is None else degree.reshape(-1)
        out, factor = _flat(out), terms.factor.reshape(-1)
        values = out if keep and inside is None and terms.slope == 0 else self._values  # is read anyway
        inside = self._roi if inside is None else inside.reshape(-1)
        sums = np.zeros(2)
        for _, blurred, channels in reversed(self._groups):
            column = self._count - channels.start if channels.stop > self._count else -1
            part = slice(channels.start, min(channels.stop, self._count))
            sums += _passes.slice_combination(
                self._lattice,
                blurred,
                column,
                values[part],
                (self._roi, inside, factor, degree),
                (terms.own[part], terms.added[part], terms.slope),
                keep,
                out[part],
            )
        return float(sums[0]), float(sums[1])


class Filtered:
    """The same by a lattice's ``filter``."""

    def __init__(
        self,
        lattice: Any,
        values: NDArray[np.float32],
        roi: NDArray[np.float32],
        with_degree: bool,
        reverse: bool,
    ) -> None:
        self._lattice, self._values, self._roi = lattice, values, roi
        ones = np.ones((int(with_degree), *roi.shape), np.float32)
        self._filtered = lattice.filter(np.concatenate([values, ones]), roi=roi, reverse=reverse)
        self._degree = self._filtered[-1] if with_degree else np.zeros_like(roi)

    def products(self) -> NDArray[np.float64]:
        count = len(self._filtered)
        inside = np.concatenate([self._values, np.ones((1, *self._roi.shape))])[:count] * self._roi
        return np.array([(inside * other).sum(axis=(1, 2), dtype=float) for other in (self._filtered, self._degree)])

    def symmetrise(self) -> None:
        planes = self._filtered[: len(self._values)]
        planes += self._lattice.filter(self._values, roi=self._roi, reverse=True)
        planes *= np.float32(0.5)

    def scale(self, own: NDArray[np.float32], added: NDArray[np.float32]) -> None:
        planes = self._filtered[: len(self._values)]
        planes *= own[:, np.newaxis, np.newaxis]
        planes += added[:, np.newaxis, np.newaxis] * self._degree

    def slice(self, out: NDArray[np.float32]) -> None:
        out[...] = self._filtered

    def combine(
        self,
        terms: Combination,
        inside: NDArray[np.float32] | None,
        out: NDArray[np.float32],
        degree: NDArray[np.float32] | None,
        keep: bool = False,
    ) -> tuple[float, float]:
        inside = self._roi if inside is None else inside
        if degree is not None:
            degree[...] = self._degree
        own, added = (each[:, np.newaxis, np.newaxis] for each in (terms.own, terms.added))
        values, filtered = self._values, self._filtered[: len(self._values)]
        result = own * filtered + added * self._degree
        result += terms.factor * (filtered + np.float32(terms.slope) * values * self._degree)
        out[...] = out + result if keep else result
        products = (inside * values * filtered).sum(dtype=float)
        return float(products), float((self._roi * self._degree * values**2).sum(dtype=float))


def _flat(planes):
    return planes.reshape(len(planes), -1)
