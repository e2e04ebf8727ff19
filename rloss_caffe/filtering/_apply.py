"""Kernels: splat values onto the lattice, blur along its axes, slice the result (Adams et al. 2010, sections 3.2, 3.3).

On the lattice the channels of a point lie together, padded to a whole number of SIMD vectors, and their number is
known to the compiler: the kernels are made once for every such width. The values outside are planar, as in Caffe's
blobs; they are transposed eight pixels at a time, in registers, on their way in and out: memory is touched once.
"""

from functools import lru_cache

import numpy as np

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import (
    TILE,
    blur_row,
    load_tile,
    slice_pixel,
    splat_pixel,
    store_tile,
)
from rloss_caffe.numerics.compiling import jit

WIDTHS = (1, 4, 8, 16, 24, 32)  # channels on the lattice; more are filtered in groups of the largest


def apply_kernels(n_vertices, width):
    """The kernels ``(splat, blur, slice_)`` for a lattice of `n_vertices` a simplex and rows of `width` channels."""
    splat, slice_ = _choice.kernels(make_point_kernels, n_vertices, width)
    (blur,) = _choice.kernels(make_blur_kernel, width)
    return splat, blur, slice_


@lru_cache(maxsize=None)
def make_point_kernels(loops, n_vertices, width):
    """What goes between points and lattice, from one set of inner loops, the generated or the plain one."""

    @jit(special=(loops.NAME, n_vertices, width), inner=loops)
    def splat(values, roi, vertices, weights, start, end, tile, lattice):
        """Add the pixels ``start .. end`` of ``values`` (channels, n), times ``roi`` if not empty, to ``lattice``.

        ``tile`` (8, width) is 0, and room to work in: a kernel that makes it itself takes longer to compile.
        """
        masked = roi.shape[0] > 0
        amount = np.float32(1.0)
        for first in range(start, end, TILE):
            count = min(TILE, end - first)
            if count == TILE:
                load_tile(width, values, first, tile, 0)
            else:
                for channel in range(values.shape[0]):
                    for offset in range(count):
                        tile[offset, channel] = values[channel, first + offset]
            for offset in range(count):
                if masked:
                    amount = roi[first + offset]
                    if amount == 0:
                        continue
                splat_pixel(width, n_vertices, tile, offset, vertices, weights, first + offset, amount, lattice)

    @jit(special=(loops.NAME, n_vertices, width), inner=loops)
    def slice_(lattice, vertices, weights, alpha, start, end, tile, out):
        """Interpolate the pixels ``start .. end`` of ``out`` (channels, n) from the lattice."""
        for first in range(start, end, TILE):
            count = min(TILE, end - first)
            for offset in range(count):
                slice_pixel(width, n_vertices, lattice, vertices, weights, first + offset, alpha, tile, offset)
            if count == TILE:
                store_tile(width, tile, 0, out, first)
            else:
                for channel in range(out.shape[0]):
                    for offset in range(count):
                        out[channel, first + offset] = tile[offset, channel]

    return splat, slice_


@lru_cache(maxsize=None)
def make_blur_kernel(loops, width):
    """The blur of rows of `width` channels, in any number of dimensions."""

    @jit(special=(loops.NAME, width), inner=loops)
    def blur(source, target, before, after, axes, start, end):
        """Along each of the axes in turn: every point of ``start .. end`` plus half the sum of its two neighbours.

        The arrays change places after every axis, and the caller keeps count. Several axes in one call need all
        points in that call: a point's neighbours must have been blurred along the axis before.
        """
        for position in range(len(axes)):
            axis = axes[position]
            for point in range(start, end):
                low, high = np.int64(before[axis, point]), np.int64(after[axis, point])
                if position % 2 == 0:
                    blur_row(width, source, target, point, low, high)
                else:
                    blur_row(width, target, source, point, low, high)

    return (blur,)


def add_bands(lattices, start, end):
    """Sum the points ``start .. end`` of the bands' lattices (bands, points, width) into the first."""
    for other in lattices[1:]:
        lattices[0, start:end] += other[start:end]
