"""Sums over the pairs of pixels inside a window, weighted by distance and colour.

    w_ij = space(x_i - x_j) exp(-|c_i - c_j|^2 / (2 rgb_std^2))     for j != i, |x_i - x_j|_inf <= radius, both inside
    space: gaussian exp(-d^2 / (2 xy_std^2)) or inverse_distance 1 / d, with d = |x_i - x_j|

W is symmetric, has no self term, and is not normalised. With m the region of interest, the operator is W times m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rloss_caffe.filtering import _pairs
from rloss_caffe.filtering._apply import WIDTHS
from rloss_caffe.filtering._plain import DIFFERENCE, SIGN, SUM, TILE
from rloss_caffe.numerics.arrays import image_array, output_array, real_array
from rloss_caffe.numerics.memory import Memory
from rloss_caffe.numerics.parameters import Parameter, documented
from rloss_caffe.numerics.threads import bounds, resolve_num_threads, run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CONTRAST", "FORM", "RADIUS", "RGB_STD", "SPACE", "XY_STD", "PairWindow", "pair_offsets"]

RADIUS = Parameter(
    "radius", "int", 5, minimum=1, doc="Rows and columns that a pixel's window reaches to each side. 1: 8 neighbours."
)
XY_STD = Parameter("xy_std", "float", 6.0, above=0, doc="Spatial bandwidth in pixels, for space gaussian.")
RGB_STD = Parameter("rgb_std", "float", 15.0, above=0, doc="Colour bandwidth in the image's units, for contrast fixed.")
CONTRAST = Parameter(
    "contrast",
    "string",
    "fixed",
    choices=("fixed", "image"),
    doc="image: in the place of rgb_std the root of the image's own mean squared colour difference over its pairs.",
)
SPACE = Parameter(
    "space",
    "string",
    "gaussian",
    choices=("gaussian", "inverse_distance"),
    doc="How a distance d counts: exp(-d^2 / (2 xy_std^2)), or 1 / d as in grid Potts.",
)
FORM = Parameter(
    "form",
    "string",
    "sum",
    choices=("sum", "difference", "sign"),
    doc="What is summed: w_ij m_j times v_j, (v_i - v_j) or sign(v_i - v_j).",
)
_FORMS = {"sum": SUM, "difference": DIFFERENCE, "sign": SIGN}

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Offsets:
    """The pairs of a pixel: for each, how many rows and columns away the other one is, and the distance's part.

    Attributes
    ----------
    rows, columns : ndarray, shape (pairs,), int64
    logarithms : ndarray, shape (pairs,), float32
        Of the weight's spatial part.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    logarithms: NDArray[np.float32]


def pair_offsets(reach: tuple[int, int], xy_std: float, space: str = "gaussian") -> Offsets:
    """All pairs of a pixel within `reach` (rows, columns), without the pixel itself."""
    rows, columns = (axis.ravel() for axis in np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1])
    others = (rows != 0) | (columns != 0)
    rows, columns = rows[others].astype(np.int64), columns[others].astype(np.int64)
    squares = (rows**2 + columns**2).astype(float)
    logarithms = -0.5 * np.log(squares) if space == "inverse_distance" else -squares / (2 * float(xy_std) ** 2)
    return Offsets(rows, columns, np.maximum(logarithms, -_LARGEST).astype(np.float32))


@documented((RADIUS, XY_STD, RGB_STD, CONTRAST, SPACE))
class PairWindow:
    """The pairs of neighbouring pixels of one image, and their weights.

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        C >= 1 channels, finite.
    {parameters}
    roi : array_like, shape (H, W), optional
        Region of interest m >= 0, by which each pixel's weight is multiplied; default 1 everywhere.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.

    Attributes
    ----------
    rgb_std : float
        As given, or with contrast image the root of the mean of |c_i - c_j|^2 over the window's pairs, weighted by
        m_i m_j. 0 where all colours are the same, or where there is no pair: then only space counts.

    Raises
    ------
    ValueError
        Something does not fit, is out of bounds, or not finite.
    """

    def __init__(
        self,
        image: ArrayLike,
        radius: int = RADIUS.default,
        xy_std: float = XY_STD.default,
        rgb_std: float = RGB_STD.default,
        contrast: str = CONTRAST.default,
        space: str = SPACE.default,
        roi: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> None:
        image = image_array(image)
        self.shape = height, width = image.shape[1:]
        radius, xy_std, rgb_std = RADIUS.checked(radius), XY_STD.checked(xy_std), RGB_STD.checked(rgb_std)
        contrast, space = CONTRAST.checked(contrast), SPACE.checked(space)
        region = real_array("roi", np.ones(self.shape) if roi is None else roi, self.shape, finite=True)
        if region.min() < 0:
            raise ValueError(f"roi must hold values >= 0, found {region.min():g}")
        self._threads = resolve_num_threads(num_threads)
        self._reach = min(radius, height - 1), min(radius, width - 1)
        self.offsets = pair_offsets(self._reach, xy_std, space)
        margin = [(side, side) for side in self._reach]
        self._image = np.pad(image, [(0, 0), *margin])
        self._region = np.pad(region, margin)
        self._bands = bounds(height, self._threads)
        self.rgb_std = self._own_contrast() if contrast == "image" else rgb_std
        # Not infinite: times a difference of 0 that would be NaN.
        factor = min(1 / (math.sqrt(2) * self.rgb_std), _LARGEST) if self.rgb_std > 0 else 0.0
        self._contrast = np.float32(factor)

    def _own_contrast(self) -> float:
        """The root of the mean squared difference over the window's pairs, weighted by the region; 0 where none is."""
        offsets = self.offsets
        half = (offsets.rows > 0) | ((offsets.rows == 0) & (offsets.columns > 0))  # each pair once
        steps = offsets.rows[half], offsets.columns[half]
        image, scale = _at_most_one(self._image)  # no square overflows or vanishes
        region, _ = _at_most_one(self._region)
        sums = np.empty((self.shape[0], 2))
        run(
            _pairs.sum_squared_differences,
            [(image, region, *steps, self._reach, *band, sums) for band in self._bands],
        )
        total, amount = sums.sum(axis=0)
        return scale * math.sqrt(total / amount) if total > 0 else 0.0

    def apply(
        self,
        values: ArrayLike,
        form: str = FORM.default,
        out: NDArray[np.float32] | None = None,
        degree: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Weighted sums over each pixel's neighbours, of every channel.

        Parameters
        ----------
        values : array_like, shape (K, H, W)
            Finite.
        form : {"sum", "difference", "sign"}
            ``sum_j w_ij m_j v_j``, ``sum_j w_ij m_j (v_i - v_j)`` or ``sum_j w_ij m_j sign(v_i - v_j)``.
        out : ndarray, shape (K, H, W), float32, C-contiguous, optional
            Where to write the result; may be `values` itself.
        degree : ndarray, shape (H, W), float32, C-contiguous, optional
            Receives ``sum_j w_ij m_j``.

        Returns
        -------
        ndarray, shape (K, H, W), float32

        Raises
        ------
        ValueError
            Shapes or types do not fit, NaN or infinity, or sums beyond single precision.
        """
        values = real_array("values", values, ("channels", *self.shape), finite=True)
        kind = _FORMS[FORM.checked(form)]
        out = output_array("out", out, values.shape, may_be={"values": values})
        if degree is not None:
            degree = output_array("degree", degree, self.shape, apart_from={"values": values, "out": out})
        for first in range(0, len(values), WIDTHS[-1]):
            group = slice(first, first + WIDTHS[-1])
            self._apply_group(values[group], kind, out[group], degree if first == 0 else None)
        if not (math.isfinite(out.min()) and math.isfinite(out.max())):
            raise ValueError("values must not be so large that their sums, times roi, exceed single precision")
        return out

    def _apply_group(self, values, form, out, degree):
        channels, height, width = values.shape
        size = next(size for size in WIDTHS if size >= channels)
        to_rows, sum_strips = _pairs.to_rows_kernel(size), _pairs.sum_strips_kernel(size, form)
        memory = Memory(4 * self._region.size * size)
        rows = memory.array((self._region.size, size), np.float32)
        self._clear_margin(rows.reshape(*self._region.shape, size))
        planes, sums = values.reshape(channels, -1), out.reshape(channels, -1)
        run(to_rows, [(planes, width, self._reach, *band, rows) for band in self._bands])
        offsets = self.offsets
        with_degree = degree is not None
        weights = degree.reshape(-1) if with_degree else np.empty(0, np.float32)
        pairs = self._image, self._region, offsets.rows, offsets.columns, offsets.logarithms, self._contrast
        run(
            sum_strips,
            [(*pairs, rows, self._reach, *band, sums, with_degree, weights) for band in self._bands],
        )

    def _clear_margin(self, rows):
        """Zero where the image is padded; `to_rows` writes the rest, whole tiles with all channels that rows have."""
        (top, left), (height, width) = self._reach, self.shape
        rows[:top] = rows[top + height :] = 0
        rows[:, :left] = rows[:, left + width // TILE * TILE :] = 0


def _at_most_one(array: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """The array over a power of two not below its largest magnitude, and that power: nothing is rounded."""
    largest = float(np.abs(array).max())
    if largest == 0:
        return array, 1.0
    _, exponent = math.frexp(largest)
    return np.ldexp(array, -exponent), math.ldexp(1.0, exponent)
