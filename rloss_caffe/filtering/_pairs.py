"""Kernels for pairs of pixels inside a window: their weights, and weighted sums over a pixel's neighbours.

Images and regions are padded by the window's reach, so that no pixel is a special case; the padding's region is 0, and
so is the weight of a pair that leaves the image. Weights are made for a strip of a row at a time and stay in the cache
while all channels use them: nothing of the size (pairs, H, W) is ever in memory.
"""

from functools import lru_cache

import numpy as np

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import TILE, load_tile, store_tile, sum_pairs
from rloss_caffe.numerics.compiling import jit

STRIP = 64  # neighbouring pixels whose weights are made together
CHUNK = 128  # pairs of a pixel whose weights are held at a time
TOGETHER = 4  # pixels summed at once: one alone waits for its own additions
_APART = STRIP + 16  # between the weights of two pairs; a power of 2 would put all pairs into a few sets of the cache
_RUN = 128  # terms summed in single precision before they go into a double

# Contracted, not reordered: the exponential below needs its order.
_FAST = {"contract"}


@jit(fastmath=_FAST, forceinline=True, entry=False)
def exp_of_negative(power):
    """``exp(power)`` for ``power <= 0``, to 1e-7; 0 below -87, where single precision ends. A loop over it is SIMD."""
    bounded = max(power, np.float32(-87))
    steps = np.floor(bounded * np.float32(1.44269504) + np.float32(0.5))
    rest = bounded - steps * np.float32(0.693359375)
    rest = rest - steps * np.float32(-2.12194440e-4)  # ln 2 in two parts
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    value = series * rest * rest + rest + np.float32(1)
    value = value * np.int32((np.int32(steps) + np.int32(127)) << np.int32(23)).view(np.float32)  # times 2^steps
    return value if power >= np.float32(-87) else np.float32(0)


@jit(fastmath=_FAST, forceinline=True, entry=False)
def strip_weights(image, region, row, column, count, row_steps, column_steps, logarithms, contrast, weights):
    """The weights of the pairs of `count` neighbouring pixels of a row, times the other pixel's region.

    ``weights[pair, i] = region[j] exp(logarithms[pair] - sum_c (contrast (image[c, i] - image[c, j]))^2)``, with i the
    pixel ``(row, column + i)`` and j the one ``(row_steps[pair], column_steps[pair])`` away.

    Parameters
    ----------
    image, region : arrays (C, H, W) and (H, W), float32
        Padded, so that every j is inside; region is 0 in the padding.
    row_steps, column_steps : arrays (pairs,), int64
    logarithms : array (pairs,), float32
        Of the spatial part of the weight.
    contrast : float32
        1 / (sqrt(2) standard deviation) of the colours.
    weights : array (>= pairs, >= count), float32
        Receives them.
    """
    for pair in range(row_steps.shape[0]):
        powers = weights[pair]
        other_row, other_column = row + row_steps[pair], column + column_steps[pair]
        for i in range(count):
            powers[i] = logarithms[pair]
        for channel in range(image.shape[0]):
            own = image[channel, row, column : column + count]
            other = image[channel, other_row, other_column : other_column + count]
            for i in range(count):
                difference = contrast * (own[i] - other[i])
                powers[i] -= difference * difference
        inside = region[other_row, other_column : other_column + count]
        for i in range(count):
            powers[i] = inside[i] * exp_of_negative(powers[i])


# Sums may be reordered; see `numerics.products`.
@jit(fastmath={"reassoc", "contract", "nsz"}, forceinline=True, entry=False)
def _short_sum(region, other_region, colours, other_colours):
    total = np.float32(0)
    for x in range(region.shape[0]):
        difference = colours[x] - other_colours[x]
        total += region[x] * other_region[x] * difference * difference
    return total


@jit(fastmath={"reassoc", "contract", "nsz"}, forceinline=True, entry=False)
def _short_amount(region, other_region):
    total = np.float32(0)
    for x in range(region.shape[0]):
        total += region[x] * other_region[x]
    return total


@jit
def sum_squared_differences(image, region, row_steps, column_steps, reach, first, last, sums):
    """For every row: ``sum_pairs m_i m_j |c_i - c_j|^2`` and ``sum_pairs m_i m_j`` of its pixels i.

    `image` and `region` are padded by `reach` (rows, columns), and at most 1; `sums` (rows, 2) is double.
    """
    width = region.shape[1] - 2 * reach[1]
    for row in range(first, last):
        total, amount = 0.0, 0.0
        for pair in range(row_steps.shape[0]):
            own_row, own_column = row + reach[0], reach[1]
            other_row, other_column = own_row + row_steps[pair], own_column + column_steps[pair]
            for x in range(0, width, _RUN):
                count = min(_RUN, width - x)
                here = slice(own_column + x, own_column + x + count)
                there = slice(other_column + x, other_column + x + count)
                inside, other_inside = region[own_row, here], region[other_row, there]
                amount += np.float64(_short_amount(inside, other_inside))
                for channel in range(image.shape[0]):
                    colours, other_colours = image[channel, own_row, here], image[channel, other_row, there]
                    total += np.float64(_short_sum(inside, other_inside, colours, other_colours))
        sums[row, 0], sums[row, 1] = total, amount


def to_rows_kernel(width):
    """The kernel ``to_rows`` for rows of `width` channels."""
    return _choice.kernels(_make_to_rows, width)[0]


def sum_strips_kernel(width, form):
    """The kernel ``sum_strips`` for rows of `width` channels and a form of `_plain.sum_pairs`."""
    return _choice.kernels(_make_sum_strips, width, form)[0]


@lru_cache(maxsize=None)
def _make_to_rows(loops, width):
    @jit(special=(loops.NAME, width), inner=loops)
    def to_rows(values, image_width, reach, first, last, rows):
        """Planar values (channels, H * W) of the image rows ``first .. last`` as padded rows of channels."""
        stride = image_width + 2 * reach[1]
        for y in range(first, last):
            source, target = y * image_width, (y + reach[0]) * stride + reach[1]
            whole = image_width // TILE * TILE
            for x in range(0, whole, TILE):
                load_tile(width, values, source + x, rows, target + x)
            for channel in range(values.shape[0]):
                for x in range(whole, image_width):
                    rows[target + x, channel] = values[channel, source + x]

    return (to_rows,)


@lru_cache(maxsize=None)
def _make_sum_strips(loops, width, form):
    @jit(special=(loops.NAME, width, form), inner=loops)
    def sum_strips(
        image, region, row_steps, column_steps, logarithms, contrast, rows, reach, first, last, out, with_degree, degree
    ):
        """The sums of the image rows ``first .. last`` into ``out`` (channels, H * W), and those of the weights."""
        stride = region.shape[1]
        image_width = stride - 2 * reach[1]
        pairs = row_steps.shape[0]
        steps = row_steps * stride + column_steps
        weights = np.empty((min(pairs, CHUNK), _APART), np.float32)
        tile = np.empty((STRIP, width), np.float32)
        for y in range(first, last):
            for x in range(0, image_width, STRIP):
                count = min(STRIP, image_width - x)
                pixel = y * image_width + x
                centre = (y + reach[0]) * stride + reach[1] + x
                tile[:] = 0
                if with_degree:
                    degree[pixel : pixel + count] = 0
                for start in range(0, pairs, CHUNK):
                    end = min(start + CHUNK, pairs)
                    strip_weights(
                        image,
                        region,
                        y + reach[0],
                        x + reach[1],
                        count,
                        row_steps[start:end],
                        column_steps[start:end],
                        logarithms[start:end],
                        contrast,
                        weights,
                    )
                    if with_degree:
                        total = degree[pixel : pixel + count]
                        for pair in range(end - start):
                            terms = weights[pair]  # slices: with two indices to add, the loop is no SIMD
                            for i in range(count):
                                total[i] += terms[i]
                    even = count // TOGETHER * TOGETHER
                    for i in range(0, even, TOGETHER):
                        sum_pairs(
                            width, form, TOGETHER, tile, i, rows, centre + i, steps[start:end], weights, i, end - start
                        )
                    for i in range(even, count):
                        sum_pairs(width, form, 1, tile, i, rows, centre + i, steps[start:end], weights, i, end - start)
                whole = count // TILE * TILE
                for i in range(0, whole, TILE):
                    store_tile(width, tile, i, out, pixel + i)
                for channel in range(out.shape[0]):
                    for i in range(whole, count):
                        out[channel, pixel + i] = tile[i, channel]

    return (sum_strips,)
