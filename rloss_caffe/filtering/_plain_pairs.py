"""The inner loops over the pairs of a window in plain Numba: the twins of `_generated_pairs`, as `_plain` is `_rows`'.

Sums and products are contracted where the machine can, in both, and not reordered: the results are the same.
"""

import numpy as np
from numba import njit

__all__ = [
    "DIFFERENCE",
    "LANES",
    "SIGN",
    "SUM",
    "TOGETHER",
    "add_products",
    "square_lanes",
    "sum_window",
    "weigh_lanes",
]

LANES = 16  # pixels weighed together
CHANNELS = 3  # of the image, taken together: it has a multiple
STRIP = 32  # neighbouring pixels whose weights are made together
APART = STRIP + LANES  # between the weights of two pairs; a power of 2 would put all pairs into a few sets of the cache
TOGETHER = 4  # pixels summed together: a row that is loaded serves all of them
SUM, DIFFERENCE, SIGN = 0, 1, 2  # what is summed of a pair of pixels

# 2^x for -1/2 <= x <= 1/2, minimax, to 3e-9: the factors of x, x^2, ...
SERIES = tuple(
    np.float32(factor)
    for factor in (0.693147214967885, 0.24022652782876178, 0.05550310551206981, 0.009617692976143188,
                   0.0013406643847480061, 0.0001559467701510541)
)  # fmt: skip
LEAST_POWER = np.float32(-127)  # of two: 0 from here on, as single precision ends
TO_INTEGER = np.float32(1.5 * 2**23)  # added, it leaves a number's nearest integer in the last bits

_CONTRACTED = {"contract"}


@njit(fastmath=_CONTRACTED, forceinline=True)
def exp2_of_negative(power):
    """``2^power`` for ``power <= 0``, to 1e-7; 0 from -127 on."""
    bounded = max(power, LEAST_POWER)
    shifted = bounded + TO_INTEGER
    rest = bounded - (shifted - TO_INTEGER)
    value = SERIES[5]
    value = value * rest + SERIES[4]
    value = value * rest + SERIES[3]
    value = value * rest + SERIES[2]
    value = value * rest + SERIES[1]
    value = value * rest + SERIES[0]
    value = value * rest + np.float32(1)
    # The integer times 2^23, added to the bits of a float, is added to its exponent.
    exponent = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
    return np.int32(np.float32(value).view(np.int32) + exponent).view(np.float32)


@njit(fastmath=_CONTRACTED, forceinline=True)
def _squared_difference(image, one, other):
    total = np.float32(0)
    for channel in range(image.shape[0]):
        difference = image[channel, one] - image[channel, other]
        total += difference * difference
    return total


@njit(fastmath=_CONTRACTED, forceinline=True)
def weigh_lanes(image, region, pixel, steps, logarithms, factor, weights, column, total):
    """The weights of the pairs of sixteen neighbouring pixels i, from `pixel` on, times the other pixel's region.

    ``weights[pair, column + i] = region[j] 2^(logarithms[pair] - factor |image[:, i] - image[:, j]|^2)`` with j the
    pixel ``steps[pair]`` behind i; they are added to ``total[column + i]``.
    """
    for i in range(LANES):
        for pair in range(steps.shape[0]):
            other = pixel + i + steps[pair]
            power = logarithms[pair] - factor * _squared_difference(image, pixel + i, other)
            weight = exp2_of_negative(power) * region[other]
            weights[pair, column + i] = weight
            total[column + i] += weight


@njit(fastmath=_CONTRACTED, forceinline=True)
def square_lanes(image, region, pixel, step, count, sums):
    """Of `count` times sixteen neighbouring pixels i, from `pixel` on, and the pixels j that lie `step` behind them:

    sums over each sixteenth pair, in the two rows of ``sums``, added to what was there: of
    ``region[i] region[j] |image[:, i] - image[:, j]|^2`` and of ``region[i] region[j]``.
    """
    for lane in range(LANES):
        total, amount = np.float32(0), np.float32(0)
        for i in range(pixel + lane, pixel + lane + count * LANES, LANES):
            both = region[i] * region[i + step]
            total += both * _squared_difference(image, i, i + step)
            amount += both
        sums[0, lane] += np.float64(total)
        sums[1, lane] += np.float64(amount)


@njit(fastmath=_CONTRACTED, forceinline=True)
def sum_window(width, form, target, first, rows, column, centre, starts, across, weights):
    """For four neighbouring pixels i: ``target[first + i]`` plus the sums over the window, of the rows of channels.

    The window's rows begin at ``rows[starts[k] + column + i]`` and are `across` long; their weights stand one below the
    other in ``weights[:, first + i]``. A term is ``other`` (SUM), ``own - other`` (DIFFERENCE) or the sign of that
    (SIGN), with ``own`` the row ``rows[centre + i]``, times the weight.
    """
    for i in range(TOGETHER):
        for k in range(starts.shape[0]):
            for x in range(across):
                weight = weights[k * across + x, first + i]
                for channel in range(width):
                    own, other = rows[centre + i, channel], rows[starts[k] + column + i + x, channel]
                    if form == SUM:
                        target[first + i, channel] += weight * other
                    elif form == DIFFERENCE:
                        target[first + i, channel] += weight * (own - other)
                    elif own > other:
                        target[first + i, channel] += weight
                    elif own < other:
                        target[first + i, channel] -= weight


@njit(fastmath=_CONTRACTED, forceinline=True)
def add_products(width, tile, rows, centre, region, pixel, count, products):
    """``products += (region[pixel + i] rows[centre + i]) tile[i]`` for `count` pixels i, channel by channel."""
    for channel in range(width):
        total = np.float32(0)
        for i in range(count):
            total += (region[pixel + i] * rows[centre + i, channel]) * tile[i, channel]
        products[channel] += np.float64(total)
