"""The passes of the filter over a built lattice, in threads: splat, blur, slice, and products on the lattice.

Values and regions are flat here, (K, n) and (n,), and checked. Values on the lattice are (M + 1, width): row M stays
zero, the neighbour that is absent. What threads add up is split the same way in every call with as many threads.
"""

import numpy as np

from rloss_caffe.filtering import _apply
from rloss_caffe.filtering._plain import TILE
from rloss_caffe.numerics.memory import Memory
from rloss_caffe.numerics.threads import bounds, run

__all__ = [
    "blur",
    "check_finite",
    "memory_for",
    "point_products",
    "slice_combination",
    "slice_to",
    "splat",
    "why_not_finite",
]

_SMALL_BLUR = 1 << 21  # floats on the lattice below which a step of the blur takes less time than waking threads
_BLOCK = 512  # points of one partial sum


def memory_for(lattice, channels, targets):
    """Memory for one `splat` and so many targets of a `blur`."""
    rows = (1 + targets) * (lattice.num_vertices + 1) + sum(len(numbers) for _, _, numbers in lattice._bands[1:])
    return Memory(4 * rows * _width(channels), targets + len(lattice._bands))


def splat(lattice, memory, values, roi, channels):
    """Values on the lattice, and whether those that the region leaves out are finite.

    Surplus channels of the values are 1, so that on the lattice they are the region's.
    """
    width = _width(channels)
    kernel, _, _ = _apply.apply_kernels(lattice.dimension + 1, width)
    tasks = []
    for start, end, numbers in lattice._bands:
        # One lattice a band, so that threads never write the same point.
        own = memory.array((lattice.num_vertices + 1 if numbers is None else len(numbers), width), np.float32)
        tile = np.ones((TILE, width), np.float32)
        tasks.append((kernel, (values, roi, lattice._vertices, lattice._weights, start, end, tile, own)))
    is_finite = all(run(_splat_band, tasks))
    (_, (*_, total)), *others = tasks
    for (_, _, numbers), (_, (*_, own)) in zip(lattice._bands[1:], others):
        pieces = [slice(*piece) for piece in _pieces(lattice, len(own), width)]
        run(_add_band, [(own[piece], numbers[piece], total) for piece in pieces])
    return total, is_finite


def _splat_band(kernel, arguments):
    arguments[-1][:] = 0
    return kernel(*arguments)


def _add_band(own, numbers, total):
    """In NumPy, which takes 50 us longer than a kernel, and 0.2 s less to be compiled."""
    memory = Memory(own.nbytes)
    own += _points_of(total, numbers, memory)
    total[numbers] = own


def _points_of(values, numbers, memory):
    """Those points of values on the lattice."""
    shape = len(numbers), values.shape[1]
    return np.take(values, numbers, 0, memory.array(shape, np.float32), "clip")


def blur(lattice, source, memory, reverse=False, keep=False):
    """What the blur makes of values on the lattice; their memory is used for it unless they are to be kept.

    It takes one array of the memory, to keep them two.
    """
    width = source.shape[1]
    _, kernel, _ = _apply.apply_kernels(lattice.dimension + 1, width)
    axes = np.arange(lattice.dimension + 1)
    if reverse:
        axes = axes[::-1].copy()
    pieces = _pieces(lattice, lattice.num_vertices, width)
    target = memory.array(source.shape, np.float32)
    target[-1] = 0
    # With several threads, each axis waits for the one before; alone, one call does all but the first.
    for step in [axes[:1], axes[1:]] if len(pieces) == 1 else axes.reshape(-1, 1):
        run(kernel, [(source, target, lattice._before, lattice._after, step, start, end) for start, end in pieces])
        if keep:
            source, target, keep = target, memory.array(source.shape, np.float32), False
            target[-1] = 0
        elif len(step) % 2:
            source, target = target, source
    return source


def check_finite(blurred, channels, values, roi):
    """Few points, so this is cheap; slicing finite points gives finite values."""
    # All at once takes a quarter of the time; channels that nobody asked for may hold anything.
    if not np.isfinite(blurred).all() and not np.isfinite(blurred[:, :channels]).all():
        raise ValueError(why_not_finite(values, roi))


def slice_to(lattice, blurred, out):
    """Interpolate the values at the pixels, (channels, n)."""
    _, _, kernel = _apply.apply_kernels(lattice.dimension + 1, blurred.shape[1])
    _slice(kernel, lattice, blurred, (), [(out,)] * len(lattice._bands))


def slice_combination(lattice, blurred, column, values, planes, terms, keep, out):
    """See `applied.Combination`; `column` is the degree's in ``blurred``, -1 where it is not there."""
    kernel = _apply.combine_kernel(lattice.dimension + 1, blurred.shape[1])
    roi, inside, factor, degree = planes
    own, added, slope = terms
    arrays = column, values, roi, inside, factor, degree, own, added, np.float32(slope), keep
    sums = np.zeros((len(lattice._bands), 2, TILE))
    _slice(kernel, lattice, blurred, arrays, [(part, out) for part in sums])
    return sum(part.sum(axis=1) for part in sums)


def _slice(kernel, lattice, blurred, arrays, targets):
    """Call a kernel for each band, with what it writes to there."""
    tasks = []
    for (start, end, numbers), target in zip(lattice._bands, targets):
        tile = np.empty((TILE, blurred.shape[1]), np.float32)
        simplices = lattice._vertices, lattice._weights, _alpha(lattice)
        tasks.append((kernel, blurred, numbers, (*simplices, *arrays, start, end, tile, *target)))
    run(_slice_band, tasks)


def _slice_band(kernel, blurred, numbers, arguments):
    """With a band's own numbers of its points."""
    if numbers is not None:
        memory = Memory(4 * len(numbers) * blurred.shape[1])
        blurred = _points_of(blurred, numbers, memory)
    kernel(blurred, *arguments)


def point_products(lattice, one, other, degree):
    """For values on the lattice ``one`` before slicing and ``other`` after: ``one_k . other_k`` and ``one_k . degree``.

    An array (2, width); the products of what would be sliced.
    """
    blocks = -(-lattice.num_vertices // _BLOCK)
    partial = np.zeros((blocks, 2, one.shape[1]))
    pieces = bounds(blocks, len(_pieces(lattice, lattice.num_vertices, one.shape[1])))
    run(_apply.point_products, [(one, other, degree, _BLOCK, start, end, partial) for start, end in pieces])
    return float(_alpha(lattice)) * partial.sum(axis=0)


def _width(channels):
    return next(width for width in _apply.WIDTHS if width >= channels)


def _alpha(lattice):
    return np.float32(1 / (1 + 2.0**-lattice.dimension))


def _pieces(lattice, size, width):
    return bounds(size, lattice._threads() if size * width > _SMALL_BLUR else 1)


def why_not_finite(values, roi):
    counted = np.isfinite(values) if len(roi) == 0 else np.isfinite(values) | (roi == 0)
    if counted.all():
        return "values (times roi) are too large: their sums exceed single precision (3.4e38)"
    return f"values must be finite, found {values[~counted][0]}"
