"""The passes of the filter over a built lattice, in threads: splat, blur, slice, and products on the lattice.

Values and regions are flat here, (K, n) and (n,), and checked. Values on the lattice are (M + 1, width): row M stays
zero, the neighbour that is absent. What threads add up is split the same way in every call with as many threads.
"""

import numpy as np

from rloss_caffe.filtering import _apply
from rloss_caffe.filtering._plain import LANES, TILE
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
    arrays = len(_bands(lattice)) + targets
    return Memory(4 * arrays * (lattice.num_vertices + 1) * _width(channels), 1 + targets)


def splat(lattice, memory, values, roi, channels):
    """Values on the lattice, and whether those that the region leaves out are finite.

    Surplus channels of the values are 1, so that on the lattice they are the region's.
    """
    width = _width(channels)
    kernel, _, _ = _apply.apply_kernels(lattice.dimension + 1, width)
    bands = _bands(lattice)
    size = lattice.num_vertices
    # One lattice a band, so that threads never write the same point.
    lattices = memory.array((len(bands), size + 1, width), np.float32)
    lattices[:] = 0
    tasks = [
        (values, roi, lattice._vertices, lattice._weights, start, end, np.ones((TILE, width), np.float32), own)
        for (start, end), own in zip(bands, lattices)
    ]
    is_finite = all(run(kernel, tasks))
    if len(bands) > 1:
        run(_apply.add_bands, [(lattices, start, end) for start, end in _pieces(lattice, width)])
    return lattices[0], is_finite


def blur(lattice, source, memory, reverse=False, keep=False):
    """What the blur makes of values on the lattice; their memory is used for it unless they are to be kept.

    It takes one array of the memory, to keep them two.
    """
    width = source.shape[1]
    _, kernel, _ = _apply.apply_kernels(lattice.dimension + 1, width)
    axes = np.arange(lattice.dimension + 1)
    if reverse:
        axes = axes[::-1].copy()
    pieces = _pieces(lattice, width)
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
    if not np.isfinite(blurred[:, :channels]).all():
        raise ValueError(why_not_finite(values, roi))


def slice_to(lattice, blurred, out):
    """Interpolate the values at the pixels, (channels, n)."""
    _, _, kernel = _apply.apply_kernels(lattice.dimension + 1, blurred.shape[1])
    arrays = blurred, lattice._vertices, lattice._weights, _alpha(lattice)
    width = blurred.shape[1]
    run(kernel, [(*arrays, start, end, np.empty((TILE, width), np.float32), out) for start, end in _bands(lattice)])


def slice_combination(lattice, blurred, column, values, planes, terms, keep, out):
    """See `applied.Combination`; `column` is the degree's in ``blurred``, -1 where it is not there."""
    kernel = _apply.combine_kernel(lattice.dimension + 1, blurred.shape[1])
    roi, inside, factor, degree = planes
    own, added, slope = terms
    arrays = blurred, lattice._vertices, lattice._weights, _alpha(lattice), column, values, roi, inside, factor
    arrays += degree, own, added, np.float32(slope), keep
    tasks = [
        (*arrays, start, end, np.empty((TILE, blurred.shape[1]), np.float32), np.zeros((2, TILE)), out)
        for start, end in _bands(lattice)
    ]
    run(kernel, tasks)
    return sum(task[-2].sum(axis=1) for task in tasks)


def point_products(lattice, one, other, degree):
    """For values on the lattice ``one`` before slicing and ``other`` after: ``one_k . other_k`` and ``one_k . degree``.

    An array (2, width); the products of what would be sliced.
    """
    blocks = -(-lattice.num_vertices // _BLOCK)
    partial = np.zeros((blocks, 2, one.shape[1]))
    pieces = bounds(blocks, len(_pieces(lattice, one.shape[1])))
    run(_apply.point_products, [(one, other, degree, _BLOCK, start, end, partial) for start, end in pieces])
    return float(_alpha(lattice)) * partial.sum(axis=0)


def _width(channels):
    return next(width for width in _apply.WIDTHS if width >= channels)


def _alpha(lattice):
    return np.float32(1 / (1 + 2.0**-lattice.dimension))


def _bands(lattice):
    return bounds(lattice.num_points, lattice._threads(), LANES)


def _pieces(lattice, width):
    size = lattice.num_vertices
    return bounds(size, lattice._threads() if size * width > _SMALL_BLUR else 1)


def why_not_finite(values, roi):
    counted = np.isfinite(values) if len(roi) == 0 else np.isfinite(values) | (roi == 0)
    if counted.all():
        return "values (times roi) are too large: their sums exceed single precision (3.4e38)"
    return f"values must be finite, found {values[~counted][0]}"
