"""Kernels: splat values onto the lattice, blur along its axes, slice the result (Adams et al. 2010, sections 3.2, 3.3).

On the lattice the channels of a point lie together, padded to a whole number of SIMD vectors, and their number is
known to the compiler: the kernels are made once for every such width. The values outside are planar, as in Caffe's
blobs; they are transposed eight pixels at a time, in registers, on their way in and out: memory is touched once.
"""

from functools import lru_cache

import numpy as np

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import TILE, add_row, blur_row, clear_row, load_tile, store_tile
from rloss_caffe.numerics.compiling import jit

BURST = 64  # pixels whose values are read or written together, so that their cache lines are on the way at once
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
    def splat(values, roi, vertices, weights, start, end, lattice):
        """Add the pixels ``start .. end`` of ``values`` (channels, n), times ``roi`` if not empty, to ``lattice``."""
        masked = roi.shape[0] > 0
        tile = np.zeros((BURST, width), np.float32)
        for first in range(start, end, BURST):
            count = min(BURST, end - first)
            whole = count // TILE * TILE
            for offset in range(0, whole, TILE):
                load_tile(width, values, first + offset, tile, offset)
            for channel in range(values.shape[0]):
                for offset in range(whole, count):
                    tile[offset, channel] = values[channel, first + offset]
            for offset in range(count):
                pixel = first + offset
                amount = np.float32(1.0)
                if masked:
                    amount = roi[pixel]
                    if amount == 0:
                        continue
                for r in range(n_vertices):
                    weight = weights[pixel >> 4, r, pixel & 15] * amount
                    add_row(width, lattice, np.int64(vertices[pixel, r]), tile, offset, weight)

    @jit(special=(loops.NAME, n_vertices, width), inner=loops)
    def slice_(lattice, vertices, weights, alpha, start, end, out):
        """Interpolate the pixels ``start .. end`` of ``out`` (channels, n) from the lattice."""
        tile = np.empty((BURST, width), np.float32)
        for first in range(start, end, BURST):
            count = min(BURST, end - first)
            for offset in range(count):
                pixel = first + offset
                clear_row(width, tile, offset)
                for r in range(n_vertices):
                    weight = weights[pixel >> 4, r, pixel & 15] * alpha
                    add_row(width, tile, offset, lattice, np.int64(vertices[pixel, r]), weight)
            whole = count // TILE * TILE
            for offset in range(0, whole, TILE):
                store_tile(width, tile, offset, out, first + offset)
            for channel in range(out.shape[0]):
                for offset in range(whole, count):
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


@jit
def add_bands(lattices, start, end):
    """Sum the points ``start .. end`` of the bands' lattices (bands, points, width) into the first."""
    for band in range(1, lattices.shape[0]):
        for point in range(start, end):
            for channel in range(lattices.shape[2]):
                lattices[0, point, channel] += lattices[band, point, channel]
