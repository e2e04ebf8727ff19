"""The permutohedral lattice (Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
Eurographics 2010), built once from features and applied to any number of value arrays."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from rloss_caffe.filtering import _apply, _index, _passes
from rloss_caffe.filtering._plain import LANES
from rloss_caffe.filtering.features import bilateral_features, positions
from rloss_caffe.numerics.arrays import flag, output_array, real_array
from rloss_caffe.numerics.memory import Memory
from rloss_caffe.numerics.threads import bounds, resolve_num_threads, run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PermutohedralLattice", "check_range", "elevation_scales"]

MAX_DIMENSION = 15  # ranks are packed into four bits each
MAX_COORDINATE = 32767  # the original's keys are 16-bit and overflow silently beyond
_WIDE_FIELD = 20  # bits a coordinate in keys of several words
_FIRST_POINTS = 1 << 13  # that there is room for at first
_NOTHING = np.empty(0, np.float32)
_SMALL_BAND = 1 << 13  # points below which a band is not worth a thread, nor a second order of summation


class PermutohedralLattice:
    """Gaussian filtering of values at points of a feature space, in time linear in the number of points.

    The filter is ``A``: splat onto the lattice, blur along its axes, slice. It approximates
    ``sum_j exp(-|f_i - f_j|^2 / 2) v_j`` up to a factor (about 0.6 on photographs) and is not normalised.

    Parameters
    ----------
    features : array_like, shape (d, n) or (d, H, W)
        Feature vectors, 1 <= d <= 15, already over their bandwidths; float32 inside.
    num_threads : int, optional
        Threads for this lattice; default `rloss_caffe.get_num_threads()`. Results differ by float rounding at most.
    compatible : bool
        Add the vertices around the zero feature when n is no multiple of 4, as the original does, which embeds
        points four at a time (default). They change what blurring passes on nearby by up to 1e-2 relative.

    Attributes
    ----------
    dimension : int
        d.
    num_points : int
        n.
    shape : tuple of int
        (n,) or (H, W), as the features came.
    num_vertices : int
        M, the lattice points in use.
    nbytes : int
        Memory that the object holds: ``8 n (d + 1) + 8 M (d + 1)`` and a little padding.

    Raises
    ------
    ValueError
        Wrong shape, no points, non-finite features, or coordinates beyond +-32767 on the lattice.

    Notes
    -----
    Up to 64 MB of what lattices no longer need are kept for the next ones. Building needs up to 200 bytes a point of
    the lattice more for a moment, and filtering ``8 (M + 1) W`` bytes, with W the channels
    padded to 1, 4, 8, 16, 24 or 32 (more channels are filtered in groups of 32), plus ``4 (M + 1) W`` for each thread
    beyond the first. A lattice may be used by several Python threads at once.
    """

    def __init__(self, features: ArrayLike, num_threads: int | None = None, compatible: bool = True) -> None:
        array = real_array("features", features, allow_empty=True)
        if array.ndim not in (2, 3):
            raise ValueError(f"features must have shape (d, n) or (d, height, width), found shape {array.shape}")
        self.shape: tuple[int, ...] = array.shape[1:]
        self.dimension: int = len(array)
        self.num_points: int = math.prod(self.shape)
        if not 1 <= self.dimension <= MAX_DIMENSION:
            raise ValueError(f"features must have 1 to {MAX_DIMENSION} dimensions, found {self.dimension}")
        if self.num_points == 0:
            raise ValueError(f"features are empty: there is no point to filter (shape {array.shape})")
        if num_threads is not None:
            resolve_num_threads(num_threads)
        self._num_threads = num_threads
        flat = array.reshape(self.dimension, self.num_points)
        if not self._build(_feature_source(flat), flag("compatible", compatible)):
            self._build_wide(flat)

    @classmethod
    def of_image(
        cls,
        image: NDArray[np.float32],
        bi_xy_std: float,
        bi_rgb_std: float,
        num_threads: int | None = None,
        region: NDArray[np.float32] | None = None,
    ) -> PermutohedralLattice:
        """The lattice of an image's `bilateral_features`, which are never in memory.

        Parameters
        ----------
        image : ndarray, shape (C, H, W), float32, C-contiguous
            C >= 1 channels.
        bi_xy_std, bi_rgb_std : float
            Bandwidths in pixels and in the image's units, > 0.
        num_threads : int, optional
        region : ndarray, shape (H, W), float32, C-contiguous, optional
            Receives the image's region of interest: 1 where a channel's size is at least 1, else 0.

        Raises
        ------
        ValueError
            As `bilateral_features` and the lattice do.
        """
        lattice = cls.__new__(cls)
        lattice.shape = image.shape[1:]
        lattice.dimension = 2 + len(image)
        lattice.num_points = math.prod(lattice.shape)
        lattice._num_threads = num_threads
        is_known = 1 <= lattice.dimension <= MAX_DIMENSION
        height, width = lattice.shape
        flat_region = _NOTHING if region is None else region.reshape(lattice.num_points)
        grid = positions(width, bi_xy_std), positions(height, bi_xy_std)
        source = (image.reshape(-1), lattice.num_points, *grid, np.float32(bi_rgb_std), flat_region)
        if is_known and lattice._build(source, True):
            return lattice
        lattice = cls(bilateral_features(image, bi_xy_std, bi_rgb_std), num_threads)  # or the reason why not
        if region is not None:
            region[...] = (np.abs(image) >= 1).any(axis=0)
        return lattice

    @property
    def num_vertices(self) -> int:
        return self._before.shape[1]

    @property
    def nbytes(self) -> int:
        numbers = sum(numbers.nbytes for _, _, numbers in self._bands[1:])
        return self._weights.nbytes + self._vertices.nbytes + self._before.nbytes + self._after.nbytes + numbers

    def filter(
        self,
        values: ArrayLike,
        reverse: bool = False,
        roi: ArrayLike | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Apply the lattice: ``A v``, or ``A^T v`` with the blur's axes reversed.

        Parameters
        ----------
        values : array_like, shape (K, n), (K, H, W), (n,) or (H, W)
            K >= 0 channels at the points, float32 inside, finite where `roi` is not 0.
        reverse : bool
            Visit the blur's axes in reverse order, which gives the exact transpose.
        roi : array_like, shape (n,) or (H, W), optional
            Region of interest, finite: the values are multiplied by it before they are splat; 0 leaves a point out.
        out : ndarray, same shape as `values`, float32, C-contiguous, optional
            Where to write the result; may be `values` itself.

        Returns
        -------
        ndarray, same shape as `values`, float32

        Raises
        ------
        ValueError
            Shapes or types do not fit; NaN, infinity, or values so large that their sums exceed single precision;
            `out` overlaps `values` or `roi` otherwise. `out` may hold a part of the result then.
        """
        array = real_array("values", values, allow_empty=True)
        single = self._has_points(array.shape)
        if not single and not (array.ndim and self._has_points(array.shape[1:])):
            raise ValueError(
                f"values must have shape (channels, {', '.join(map(str, self.shape))}) like the features, "
                f"found shape {array.shape}"
            )
        reverse = flag("reverse", reverse)
        roi = self._roi(roi)
        out = output_array("out", out, array.shape, apart_from={"roi": roi}, may_be={"values": array})
        planes = array.reshape(1 if single else len(array), self.num_points)
        result = out.reshape(planes.shape)
        largest = _apply.WIDTHS[-1]
        for first in range(0, len(planes), largest):
            group = slice(first, first + largest)
            channels = len(planes[group])
            memory = _passes.memory_for(self, channels, 1)
            blurred = _passes.blur(self, _passes.splat(self, memory, planes[group], roi, channels)[0], memory, reverse)
            _passes.check_finite(blurred, channels, planes[group], roi)
            _passes.slice_to(self, blurred, result[group])
        return out

    def _has_points(self, shape: tuple[int, ...]) -> bool:
        return shape in (self.shape, (self.num_points,))

    def _roi(self, roi: Any) -> NDArray[np.float32]:
        """The region of interest, flat; empty where there is none."""
        if roi is None:
            return np.empty(0, np.float32)
        array = real_array("roi", roi, finite=True)
        if not self._has_points(array.shape):
            raise ValueError(f"roi must have shape {self.shape} like the features, found shape {array.shape}")
        return array.reshape(self.num_points)

    def _threads(self):
        return min(resolve_num_threads(self._num_threads), max(1, self.num_points // _SMALL_BAND))

    def _build(self, source, compatible):
        """Index the points in the narrow fields that nearly all features fit; whether they did."""
        dimension, count = self.dimension, self.num_points
        total = count + 1 if compatible and count % 4 else count
        blocks = -(-total // LANES)
        self._memory = Memory(4 * (blocks * LANES + total) * (dimension + 1), 2)
        self._weights = self._memory.array((blocks, dimension + 1, LANES), np.float32)
        self._vertices = self._memory.array((total, dimension + 1), np.int32)
        fields = _narrow_fields(dimension)
        return fields is not None and not self._index(source, fields, 1)

    def _build_wide(self, features):
        """Index the points in fields as wide as the features need."""
        dimension = self.dimension
        low, bits = _coordinate_fields(features, elevation_scales(dimension))
        words = 1
        if bits.sum() <= 62:
            shift = np.cumsum(bits) - bits
        else:  # wide range: fixed fields, three a word
            words = -(-dimension // 3)
            shift = np.arange(dimension) % -(-dimension // words) * _WIDE_FIELD
            low = np.full(dimension, -(1 << (_WIDE_FIELD - 1)))
        fields = _fields(dimension, low, shift, words, MAX_COORDINATE)
        largest = self._index(_feature_source(features), fields, words)
        if largest:
            check_range(largest, dimension)

    def _index(self, source, fields, words):
        """Number the lattice points; returns the largest coordinate where one is beyond the limit, else 0."""
        dimension, total = self.dimension, len(self._vertices)
        steps = fields[-1]
        index_simplices, merge, find_neighbours = _index.index_kernels(dimension, words)
        bands = bounds(len(self._weights), self._threads())

        def index(first, last):
            most = min(_FIRST_POINTS, (last - first) * LANES * (dimension + 1))
            band = _Points(dimension, words, max(most, _index.GROUP * LANES * (dimension + 1)))
            state, extreme = np.array([first, 0]), np.zeros(LANES, np.float32)
            scratch = _index.make_scratch(dimension, words)
            while True:
                arrays = (*band.arrays, self._weights, self._vertices, extreme, scratch)
                outcome = index_simplices(source, *fields, last, total, state, *arrays)
                band.count = state[1]
                if outcome != _index.FULL:
                    # What is no number is larger than none: where all were, the largest still is 0.
                    return band, (extreme.max() or math.inf) if outcome == _index.OUT_OF_RANGE else 0
                band.grow(merge)

        results = run(index, bands)
        beyond = max(largest for _, largest in results)
        if beyond:
            return beyond
        lattice, *others = (band for band, _ in results)
        numbers = [None]
        for band in others:
            while lattice.count + band.count > lattice.capacity:
                lattice.grow(merge)
            numbers.append(lattice.add(band.arrays[1][: band.count], merge))
        ends = [(first * LANES, min(last * LANES, self.num_points)) for first, last in bands]
        self._bands = [(*each, own) for each, own in zip(ends, numbers)]

        shape = dimension + 1, lattice.count
        self._neighbours = Memory(8 * math.prod(shape), 2)
        self._before, self._after = (self._neighbours.array(shape, np.int32) for _ in range(2))

        def find(first, last):
            scratch = _index.one_key(words), np.empty((3, lattice.count + 2), np.int32)
            find_neighbours(*lattice.arrays, steps, first, last, self._before, self._after, *scratch)

        run(find, bounds(dimension + 1, self._threads()))
        return 0


def _feature_source(features):
    """What `_index` loads features (d, n) from."""
    return features.reshape(-1), features.shape[1], _NOTHING, _NOTHING, np.float32(1), _NOTHING


def elevation_scales(dimension: int) -> NDArray[np.float32]:
    """The factor of every feature before elevation, (d,) float32; rounded to single where the original does."""
    inverse_std = np.float32(np.sqrt(2.0 / 3.0) * (dimension + 1))
    index = np.arange(dimension)
    return (float(inverse_std) / np.sqrt((index + 1.0) * (index + 2.0))).astype(np.float32)


def _coordinate_fields(features, scale):
    """Lower ends and sizes in bits of the fields that hold the first d lattice coordinates, by interval arithmetic."""
    lower, upper = features.min(axis=1).astype(float), features.max(axis=1).astype(float)
    for axis, (least, most) in enumerate(zip(lower, upper)):
        if not (math.isfinite(least) and math.isfinite(most)):
            raise ValueError(f"features must be finite: dimension {axis} holds NaN or infinity")
    dimension = len(features)
    # Some coordinate is at least as large as the largest feature, and what is far too large would overflow on the way.
    largest = max(-lower.min(), upper.max())
    if largest > 2 * MAX_COORDINATE:
        check_range(largest, dimension)
    lower, upper = lower * scale, upper * scale
    low, high = np.empty(dimension), np.empty(dimension)
    for i in range(dimension):  # e[i] = sum of the scaled features behind i, minus i times the one before
        own = i * np.array([lower[i - 1], upper[i - 1]]) if i else np.zeros(2)
        low[i] = lower[i:].sum() - own[1]
        high[i] = upper[i:].sum() - own[0]
    # Rounding to the lattice, the vertices of a simplex and their neighbours each add up to d + 1; float32 rounds too.
    margin = 4 * (dimension + 1) + 1e-5 * (np.abs(low) + np.abs(high))
    limit = float(1 << (_WIDE_FIELD - 2))
    low = np.floor(np.maximum(low, -limit) - margin).astype(np.int64)
    high = np.ceil(np.minimum(high, limit) + margin).astype(np.int64)
    return low, np.array([int(span).bit_length() for span in high - low])


def check_range(largest: float, dimension: int) -> None:
    """Refuse features whose largest lattice coordinate is beyond what keys hold."""
    if largest > MAX_COORDINATE - dimension - 1:
        raise ValueError(
            f"the features reach coordinate {largest:.0f} on the lattice, whose range is +-{MAX_COORDINATE}: "
            "larger bandwidths (bi_xy_std, bi_rgb_std, pos_xy_std) or images with a smaller range of values are needed"
        )


class _Points:
    """Lattice points while they are numbered: their ``arrays`` are table, keys and edges, as in `_index`."""

    def __init__(self, dimension, words, most):
        self._shape = dimension + 1, words
        self.count = 0
        self._allocate(1 << (most - 1).bit_length())

    def _allocate(self, capacity):
        n_vertices, words = self._shape
        self.capacity = capacity
        slots = 2 * capacity * (words + 1)
        self._memory = Memory(8 * slots + 8 * capacity * words + 4 * (capacity + 1) * n_vertices, 3)
        table, keys = self._memory.array((slots,), np.int64), self._memory.array((capacity, words), np.int64)
        self.arrays = table, keys, self._memory.array(((capacity + 1) * n_vertices,), np.int32)
        table[:] = _index.EMPTY
        self.arrays[2][:n_vertices] = _index.EMPTY

    def add(self, keys, merge):
        """Add points for which there is room; returns their numbers."""
        numbers = np.empty(len(keys), np.int32)
        self.count = merge(keys, *self.arrays, self.count, numbers, _index.one_key(keys.shape[1]))
        return numbers

    def grow(self, merge):
        """Make room for twice as many."""
        memory, (_, keys, edges), count = self._memory, self.arrays, self.count  # the memory lives until all is copied
        self._allocate(2 * self.capacity)
        self.count = 0
        self.add(keys[:count], merge)
        stored = (count + 1) * self._shape[0]
        self.arrays[2][:stored] = edges[:stored]
        del memory


@lru_cache(maxsize=None)
def _narrow_fields(dimension):
    """Fields of equal size in keys of one word, with room for neighbours; None where there are too many dimensions."""
    bits = min(62 // dimension, _WIDE_FIELD)
    limit = (1 << (bits - 1)) - 2 * (dimension + 2)
    if limit <= 0:
        return None
    return _fields(dimension, np.full(dimension, -(1 << (bits - 1))), np.arange(dimension) * bits, 1, limit)


def _fields(dimension, low, shift, words, limit):
    """What embedding and look-ups need to know of keys: the features' factors, the fields, the limit, the steps."""
    limit = np.float32(min(limit, MAX_COORDINATE - dimension - 1))
    steps = _lattice_steps(dimension, words, shift)
    return elevation_scales(dimension), low.astype(np.int32), shift.astype(np.int64), limit, steps


def _lattice_steps(dimension, words, shift):
    """The key's change for a step along each of the d + 1 axes: +1 in every coordinate, but -d in the axis' own."""
    per_word = -(-dimension // words)
    steps = np.zeros((words, dimension + 1), np.int64)
    for i in range(dimension):
        steps[i // per_word] += np.int64(1) << shift[i]
    for i in range(dimension):
        steps[i // per_word, i] -= np.int64(dimension + 1) << shift[i]
    return steps
