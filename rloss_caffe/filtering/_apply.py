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
    combine_pixels,
    combine_tile,
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

        ``tile`` (8, width) is 1, and room to work in: a kernel that makes it itself takes longer to compile. Surplus
        channels hold 1. Returns whether the values where ``roi`` is 0, which are left out, are finite.
        """
        masked = roi.shape[0] > 0
        amount = np.float32(1.0)
        is_finite = True
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
                        for channel in range(width):
                            is_finite &= np.isfinite(tile[offset, channel])
                        continue
                splat_pixel(width, n_vertices, tile, offset, vertices, weights, first + offset, amount, lattice)
        return is_finite

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


def combine_kernel(n_vertices, width):
    """The kernel ``slice_combination`` for a lattice of `n_vertices` a simplex and rows of `width` channels."""
    (kernel,) = _choice.kernels(make_combine_kernel, n_vertices, width)
    return kernel


@lru_cache(maxsize=None)
def make_combine_kernel(loops, n_vertices, width):
    """The slice that ends in a combination."""

    @jit(special=(loops.NAME, n_vertices, width), inner=loops)
    def slice_combination(
        lattice,
        vertices,
        weights,
        alpha,
        column,
        values,
        roi,
        inside,
        factor,
        degree,
        own,
        added,
        slope,
        keep,
        start,
        end,
        tile,
        sums,
        out,
    ):
        """Interpolate the pixels ``start .. end``, and leave in ``out`` what `_plain.combine_pixels` makes of them.

        ``degree`` receives the channel ``column`` unless that is -1, ``sums`` (2, 8) the two sums; ``tile`` (8, width)
        is room to work in.
        """
        for first in range(start, end, TILE):
            count = min(TILE, end - first)
            for offset in range(count):
                slice_pixel(width, n_vertices, lattice, vertices, weights, first + offset, alpha, tile, offset)
                if column >= 0:
                    degree[first + offset] = tile[offset, column]
            # Written out: with a tuple of them the width would be no constant.
            if count == TILE:
                combine_tile(
                    width, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums
                )
            else:
                combine_pixels(
                    count, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums
                )

    return (slice_combination,)


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
def point_products(one, other, degree, block, start, end, partial):
    """Sums over the points of each of the blocks ``start .. end``: ``one_k other_k`` and ``one_k degree``."""
    for part in range(start, end):
        products, volumes = partial[part, 0], partial[part, 1]
        for point in range(part * block, min((part + 1) * block, one.shape[0] - 1)):
            row, blurred, own = one[point], other[point], np.float64(degree[point])
            for channel in range(row.shape[0]):
                products[channel] += np.float64(row[channel]) * np.float64(blurred[channel])
                volumes[channel] += np.float64(row[channel]) * own
