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
from rloss_caffe.filtering._plain_pairs import APART, CHANNELS, DIFFERENCE, LANES, SIGN, STRIP, SUM, TOGETHER
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
    return Offsets(rows, columns, _logarithms(rows, columns, xy_std, space).astype(np.float32))


def _logarithms(rows, columns, xy_std, space):
    """Of the weights' spatial part, in double precision."""
    squares = (rows**2 + columns**2).astype(float)
    logarithms = -0.5 * np.log(squares) if space == "inverse_distance" else -squares / (2 * float(xy_std) ** 2)
    return np.maximum(logarithms, -_LARGEST)


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
        image = image_array(image, finite=False)
        self.shape = height, width = image.shape[1:]
        radius, xy_std, rgb_std = RADIUS.checked(radius), XY_STD.checked(xy_std), RGB_STD.checked(rgb_std)
        contrast, space = CONTRAST.checked(contrast), SPACE.checked(space)
        region = real_array("roi", np.ones(self.shape, np.float32) if roi is None else roi, self.shape, finite=True)
        if region.min() < 0:
            raise ValueError(f"roi must hold values >= 0, found {region.min():g}")
        largest = max(-float(image.min()), float(image.max()))
        if not math.isfinite(largest):
            image_array(image)  # says where
        self._threads = resolve_num_threads(num_threads)
        self._bands = bounds(height, self._threads)
        self._reach = min(radius, height - 1), min(radius, width - 1)
        self._space = xy_std, space
        # Each pair once. The kernels want neighbours to each side: a pair that leaves the image weighs nothing.
        self._across = max(1, self._reach[1])
        self._beside = 1 if self._across == 1 else max(TOGETHER - 1, self._across)
        rows, columns = (axis.ravel() for axis in np.mgrid[1 : self._reach[0] + 1, -self._across : self._across + 1])
        rows, columns = np.append(np.zeros(self._beside, int), rows), np.append(np.arange(self._beside) + 1, columns)
        logarithms = _logarithms(rows, columns, *self._space) / math.log(2)
        logarithms[self._reach[1] : self._beside] = -_LARGEST
        self._logarithms = np.maximum(logarithms, -_LARGEST).astype(np.float32)
        self._margin = _whole_lanes(max(self._across, self._beside))
        self._stride = 2 * self._margin + _whole_lanes(width + TOGETHER - 1)
        self._steps = (rows * self._stride + columns).astype(np.int64)
        channels = -(-len(image) // CHANNELS) * CHANNELS
        self._memory = Memory(4 * (channels + 1) * height * self._stride, 2)
        # Times a power of two, so that nothing is rounded: one with which no square overflows, and none that counts
        # vanishes, though one pixel be as large as single precision allows.
        exponent = -math.frexp(largest)[1]  # makes the largest at most 1
        if contrast == "fixed":
            exponent = min(exponent + 60, -math.frexp(rgb_std)[1])
        scale = 2.0 ** min(exponent, 126)
        self._image = self._with_margins(image, np.float32(scale), channels)
        self._region = self._with_margins(region[np.newaxis], np.float32(1), 1)[0]
        self.rgb_std = self._own_contrast() / scale if contrast == "image" else rgb_std
        # Of powers of two. Not infinite: times a difference of 0 that would be NaN.
        factor = 0.5 / (math.log(2) * (self.rgb_std * scale) ** 2) if self.rgb_std > 0 else 0.0
        self._factor = np.float32(min(factor, _LARGEST))

    @property
    def offsets(self) -> Offsets:
        """The pairs of a pixel: those that the window reaches in an image of this size."""
        return pair_offsets(self._reach, *self._space)

    def _with_margins(self, planes, scale, count):
        """Planes times a number, with columns of 0 to both sides, and planes of 0 up to `count`: (count, pixels)."""
        (height, width), left = self.shape, self._margin
        result = self._memory.array((count, height, self._stride), np.float32)
        result[..., :left] = result[..., left + width :] = 0
        result[len(planes) :] = 0
        np.multiply(planes, scale, out=result[: len(planes), :, left : left + width])
        return result.reshape(count, -1)

    def _own_contrast(self) -> float:
        """The root of the mean squared difference over the window's pairs, weighted by the region; 0 where none is."""
        steps = np.delete(self._steps, np.s_[self._reach[1] : self._beside])
        largest = float(self._region.max())
        region = self._region if 0.5 < largest <= 1 else np.ldexp(self._region, -math.frexp(largest)[1])
        sums = np.empty((self.shape[0], 2))
        arrays = self._image, region, self._stride, self._margin, self.shape[1], steps
        tasks = [(*arrays, *band, np.empty((2, LANES)), sums) for band in self._bands]
        run(_pairs.sum_squared_differences_kernel(), tasks)
        total, amount = sums.sum(axis=0)
        return math.sqrt(total / amount) if total > 0 else 0.0

    def apply(
        self, values: ArrayLike, form: str = FORM.default, out: NDArray[np.float32] | None = None
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

        Returns
        -------
        ndarray, shape (K, H, W), float32

        Raises
        ------
        ValueError
            Shapes or types do not fit, NaN or infinity, or sums beyond single precision.
        """
        values = real_array("values", values, ("channels", *self.shape))
        form = FORM.checked(form)
        out = output_array("out", out, values.shape, may_be={"values": values})
        self.products(values.copy() if np.may_share_memory(values, out) else values, form, out)
        return out

    def products(self, values: NDArray[np.float32], form: str, out: NDArray[np.float32]) -> tuple[float, float]:
        """`apply` for arrays that a loss has checked; then the products with what came in and with the region.

        Parameters
        ----------
        values, out : ndarray, shape (K, H, W), float32, C-contiguous
            Apart in memory.
        form : {"sum", "difference", "sign"}

        Returns
        -------
        (float, float)
            ``sum_i m_i (v_i . out_i)`` and ``sum_ij m_i m_j w_ij``.

        Raises
        ------
        ValueError
            NaN or infinity, or sums beyond single precision.
        """
        product, weights = 0.0, 0.0
        for first in range(0, len(values), WIDTHS[-1]):
            group = slice(first, first + WIDTHS[-1])
            found, weights = self._apply_group(values[group], _FORMS[form], out[group])
            product += found
        # Every value and every sum is in the product, which is no number where one of them is none.
        if not math.isfinite(product):
            real_array("values", values, finite=True)
            if not np.isfinite(out).all():
                raise ValueError("values must not be so large that their sums, times roi, exceed single precision")
        return product, weights

    def _apply_group(self, values, form, out):
        channels, height, width = values.shape
        size = next(size for size in WIDTHS if size >= channels)
        reach = self._reach[0], self._across
        across = 2 * reach[1] + 1
        columns = width + reach[1] + max(reach[1], self._beside) + TOGETHER
        pairs = self._beside + max(1, _pairs.CHUNK // across) * across
        ring = (reach[0] + 1) * columns, size
        totals = np.empty((height, 2))
        planes, result = values.reshape(channels, -1), out.reshape(channels, -1)
        given = planes, self._image, self._region, self._margin, self.shape, reach
        weighing = self._steps, self._logarithms, self._factor
        tasks, rooms = [], []
        for band in self._bands:
            shapes = ring, ring, (pairs, APART), (STRIP,)
            rooms.append(Memory(4 * sum(math.prod(shape) for shape in shapes), len(shapes)))
            rows, sums, weights, total = (rooms[-1].array(shape, np.float32) for shape in shapes)
            rows[:] = 0
            starts, products = np.empty(reach[0] + 1, np.int64), np.empty(size)
            tasks.append((*given, *weighing, *band, rows, sums, starts, weights, total, products, result, totals))
        run(_pairs.sum_strips_kernel(size, form), tasks)
        product, half = totals.sum(axis=0)
        return float(product), 2 * float(half)


def _whole_lanes(count):
    return -(-count // LANES) * LANES
