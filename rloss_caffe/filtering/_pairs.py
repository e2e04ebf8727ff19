"""Kernels for pairs of pixels inside a window: their weights, and weighted sums over a pixel's neighbours.

Each pair is met once, by the pixel above or to the left, and serves both: the weights are symmetric. The channels of a
pixel lie together, in a ring of as many rows of the image as such a half window has. They are made from planes on their
way, and stay in the cache. So do the weights, those of a strip of a row at a time: nothing of the size (pairs, H, W) is
ever in memory, nor a second copy of the values.

Images and regions have margins to the left and the right, where the region is 0, and so is the weight of a pair that
leaves the image.
"""

import importlib
from functools import lru_cache

import numpy as np

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import TILE, load_tile, store_tile
from rloss_caffe.filtering._plain_pairs import (
    LANES,
    MORE,
    NEXT,
    NONE,
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
        sums,
        starts,
        weights,
        total,
        products,
        out,
        totals,
    ):
        """The weighted sums of the image rows ``first .. last``.

        A row meets those below it, and gets what the rows above have left for it in ``sums``; so this begins with the
        rows above the first.

        Parameters
        ----------
        values, out : arrays (channels, H * W), float32
        image, region : arrays (C, H * stride) and (H * stride,), float32
            With a margin of so many columns left and right, in which the region is 0.
        size, reach : (int, int)
            Rows and columns of the image, and those that the window reaches to each side; at least 1 column.
        steps, logarithms : arrays (pairs,), int64 and float32
            Of the pairs of a pixel with the next in its row, one or at least two, and then with those in rows below.
        factor : float32
        rows, sums : arrays ((reach + 1) * columns, width), float32
            Room for the image rows that the window touches; rows hold 0.
        starts, weights, total, products : arrays
            Room to work in: (reach + 1,) int64, (pairs held, APART), (STRIP,), and (width,) float64.
        totals : array (H, 2), float64
            Receives of every row the sum of ``region_i (values_i . out_i)`` and half of that of its pairs' weights.
        """
        height, image_width = size
        slots, across = starts.shape[0], 2 * reach[1] + 1
        columns, stride = rows.shape[0] // slots, region.shape[0] // height
        beside = steps.shape[0] - reach[0] * across
        held = (weights.shape[0] - beside) // across
        whole = image_width // TILE * TILE
        begin = max(0, first - reach[0])
        for y in range(begin, last):
            bottom = min(height, y + reach[0] + 1)
            for row in range(y if y == begin else y + reach[0], bottom):
                start = row % slots * columns
                place, pixel = start + reach[1], row * image_width
                for x in range(0, whole, TILE):
                    load_tile(width, values, pixel + x, rows, place + x)
                for channel in range(values.shape[0]):
                    for x in range(whole, image_width):
                        rows[place + x, channel] = values[channel, pixel + x]
                sums[start : start + columns] = 0
            nearest = max(1, first - y)  # row below: others above the first are not asked for
            for row in range(y + nearest, bottom):
                starts[row - y - nearest] = row % slots * columns
            rows_below = max(0, bottom - y - nearest)
            below = beside + (nearest - 1) * across
            own = y % slots * columns + reach[1]
            weighted = 0.0
            for x in range(0, image_width, STRIP):
                count = -(-min(STRIP, image_width - x) // TOGETHER) * TOGETHER  # those behind the image weigh nothing
                pixel = y * stride + margin + x
                total[:] = 0
                for start in range(0, max(1, rows_below), held):
                    end = min(start + held, rows_below)
                    with_own = y >= first and start == 0
                    here = slice(0 if with_own else below + start * across, below + end * across)
                    window = starts[start:end]
                    for i in range(0, count, LANES):
                        weigh_lanes(image, region, pixel + i, steps[here], logarithms[here], factor, weights, i, total)
                    for i in range(0, count, TOGETHER):
                        pixels = own + x + i
                        # Written out: with a variable in its place the number would be no constant.
                        if not with_own:
                            sum_window(width, form, NONE, rows, sums, pixels, 0, window, x + i, across, weights, i)
                        elif beside == 1:
                            sum_window(width, form, NEXT, rows, sums, pixels, 1, window, x + i, across, weights, i)
                        else:
                            sum_window(width, form, MORE, rows, sums, pixels, beside, window, x + i, across, weights, i)
                for i in range(count):
                    weighted += np.float64(region[pixel + i] * total[i])
            if y < first:
                continue
            products[:] = 0
            add_products(width, rows, sums, own, region, y * stride + margin, image_width, products)
            product = 0.0
            for channel in range(out.shape[0]):
                product += products[channel]
            totals[y, 0], totals[y, 1] = product, weighted
            for x in range(0, whole, TILE):
                store_tile(width, sums, own + x, out, y * image_width + x)
            for channel in range(out.shape[0]):
                for x in range(whole, image_width):
                    out[channel, y * image_width + x] = sums[own + x, channel]

    return (sum_strips,)
