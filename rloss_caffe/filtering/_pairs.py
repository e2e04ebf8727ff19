"""Kernels for pairs of pixels inside a window: their weights, and weighted sums over a pixel's neighbours.

Images and regions have margins left and right of the window's reach, where the region is 0, and so is the weight of a
pair that leaves the image. The channels of a pixel lie together, in as many rows of the image as the window has: they
are made from planes on their way, and stay in the cache. So do the weights, those of a strip of a row at a time:
nothing of the size (pairs, H, W) is ever in memory, nor a second copy of the values.
"""

import importlib
from functools import lru_cache

import numpy as np

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import TILE, load_tile, store_tile
from rloss_caffe.filtering._plain_pairs import (
    LANES,
    STRIP,
    TOGETHER,
    add_products,
    square_lanes,
    sum_window,
    weigh_lanes,
)
from rloss_caffe.numerics.compiling import jit

CHUNK = 128  # pairs of a pixel whose weights are held at a time, if a row of the window has no more
RUN = 32  # times sixteen terms summed in single precision before they go into a double


def sum_squared_differences_kernel():
    """The kernel ``sum_squared_differences``."""
    return _choice.kernels(_make_sum_squared_differences)[0]


def sum_strips_kernel(width, form):
    """The kernel ``sum_strips`` for rows of `width` channels and a form of `_plain_pairs.sum_window`."""
    return _choice.kernels(_make_sum_strips, width, form)[0]


def _inner(loops):
    pairs = importlib.import_module(f"rloss_caffe.filtering._{loops.NAME}_pairs")
    return {name: getattr(module, name) for module in (loops, pairs) for name in module.__all__}


@lru_cache(maxsize=None)
def _make_sum_squared_differences(loops):
    @jit(special=(loops.NAME,), inner=_inner(loops))
    def sum_squared_differences(image, region, stride, margin, width, steps, first, last, room, sums):
        """For rows, sums over the pairs of their pixels: ``m_i m_j |c_i - c_j|^2`` and ``m_i m_j``.

        Parameters
        ----------
        image, region : arrays (C, rows * stride) and (rows * stride,), float32
            At most 1; with `margin` columns left and right of `width`, in which the region is 0.
        steps : array (pairs,), int64
            How far behind i the pixel j is.
        room : array (2, LANES), float64
            Room to work in.
        sums : array (rows, 2), float64
            Receives both.
        """
        blocks = -(-width // LANES)
        for y in range(first, last):
            own = y * stride + margin
            room[:] = 0
            for pair in range(steps.shape[0]):
                if own + steps[pair] >= region.shape[0]:
                    continue  # below the image
                for block in range(0, blocks, RUN):
                    count = min(RUN, blocks - block)
                    square_lanes(image, region, own + block * LANES, steps[pair], count, room)
            for kind in range(2):
                total = 0.0
                for lane in range(LANES):
                    total += room[kind, lane]
                sums[y, kind] = total

    return (sum_squared_differences,)


@lru_cache(maxsize=None)
def _make_sum_strips(loops, width, form):
    @jit(special=(loops.NAME, width, form), inner=_inner(loops))
    def sum_strips(
        values,
        image,
        region,
        margin,
        size,
        reach,
        steps,
        logarithms,
        factor,
        first,
        last,
        rows,
        starts,
        weights,
        tile,
        total,
        products,
        with_degree,
        degree,
        out,
        sums,
    ):
        """The weighted sums of the image rows ``first .. last``.

        Parameters
        ----------
        values, out : arrays (channels, H * W), float32
        image, region : arrays (C, H * stride) and (H * stride,), float32
            With a margin of so many columns left and right, in which the region is 0.
        size, reach : (int, int)
            Rows and columns of the image, and those that the window reaches to each side; at least 1 column.
        steps, logarithms : arrays (pairs,), int64 and float32
            Of all pairs of the window in order, the pixel itself, with the logarithm -infinity, among them.
        factor : float32
        rows : array ((2 reach + 1) * columns, width), float32
            0; room for the image rows that the window touches.
        starts, weights, tile, total, products : arrays
            Room to work in: (2 reach + 1,) int64, (pairs held, APART), (STRIP, width), (APART,), and (width,) float64.
        degree : array (H * W,), float32
            Receives the sums of the weights, if wanted.
        sums : array (H, 2), float64
            Receives of every row the sum of ``region_i (values_i . out_i)`` and that of ``region_i degree_i``.
        """
        height, image_width = size
        columns, stride = rows.shape[0] // starts.shape[0], region.shape[0] // height
        across = 2 * reach[1] + 1
        held = max(1, weights.shape[0] // across)
        whole = image_width // TILE * TILE
        for y in range(first, last):
            top, bottom = max(0, y - reach[0]), min(height, y + reach[0] + 1)
            for row in range(top if y == first else y + reach[0], bottom):
                place, pixel = row % starts.shape[0] * columns + reach[1], row * image_width
                for x in range(0, whole, TILE):
                    load_tile(width, values, pixel + x, rows, place + x)
                for channel in range(values.shape[0]):
                    for x in range(whole, image_width):
                        rows[place + x, channel] = values[channel, pixel + x]
            for row in range(top, bottom):
                starts[row - top] = row % starts.shape[0] * columns
            before = (top - y + reach[0]) * across  # pairs above the image
            own = y % starts.shape[0] * columns + reach[1]
            products[:] = 0
            weighted = 0.0
            for x in range(0, image_width, STRIP):
                count = min(STRIP, image_width - x)
                pixel = y * stride + margin + x
                tile[:] = 0
                total[:] = 0
                for start in range(0, bottom - top, held):
                    end = min(start + held, bottom - top)
                    here = slice(before + start * across, before + end * across)
                    for i in range(0, count, LANES):
                        weigh_lanes(image, region, pixel + i, steps[here], logarithms[here], factor, weights, i, total)
                    for i in range(0, count, TOGETHER):
                        sum_window(width, form, tile, i, rows, x + i, own + x + i, starts[start:end], across, weights)
                add_products(width, tile, rows, own + x, region, pixel, count, products)
                place = y * image_width + x
                for i in range(count):
                    weighted += np.float64(region[pixel + i] * total[i])
                    if with_degree:
                        degree[place + i] = total[i]
                end = count // TILE * TILE
                for i in range(0, end, TILE):
                    store_tile(width, tile, i, out, place + i)
                for channel in range(out.shape[0]):
                    for i in range(end, count):
                        out[channel, place + i] = tile[i, channel]
            product = 0.0
            for channel in range(out.shape[0]):
                product += products[channel]
            sums[y, 0], sums[y, 1] = product, weighted

    return (sum_strips,)
