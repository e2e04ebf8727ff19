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
STRIP = 48  # neighbouring pixels whose weights are made together
APART = 2 * STRIP + LANES  # between the weights of two pairs; a power of 2 would put all into a few sets of the cache
TOGETHER = 3  # pixels summed together: a row that is loaded serves all of them
SUM, DIFFERENCE, SIGN = 0, 1, 2  # what is summed of a pair of pixels
NONE, NEXT, MORE = 0, 1, 2  # pixels of the own row: none, the next one, or at least as many as meet each other

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


@njit(fastmath=False, forceinline=True)  # without a word it would have the caller's
def _sum_of_squares(one, other):
    """Each rounded: either product could be the one that is not, and compilers differ in their choice."""
    return one * one + other * other


@njit(fastmath=_CONTRACTED, forceinline=True)
def _squared_difference(image, one, other):
    total = _sum_of_squares(image[0, one] - image[0, other], image[1, one] - image[1, other])
    for channel in range(2, image.shape[0]):
        difference = image[channel, one] - image[channel, other]
        total += difference * difference
    return total


@njit(fastmath=_CONTRACTED, forceinline=True)
def weigh_lanes(image, region, pixel, steps, logarithms, factor, weights, column, total):
    """The weights of the pairs of sixteen neighbouring pixels i, from `pixel` on, and j, `steps` behind them.

    With ``w = 2^(logarithms[pair] - factor |image[:, i] - image[:, j]|^2)``, ``weights[pair, column + i]`` receives
    ``w region[j]``, which is added to ``total[column + i]``, and ``weights[pair, STRIP + column + i]`` ``w region[i]``.
    """
    for i in range(LANES):
        for pair in range(steps.shape[0]):
            other = pixel + i + steps[pair]
            power = logarithms[pair] - factor * _squared_difference(image, pixel + i, other)
            both = exp2_of_negative(power)
            weight = both * region[other]
            weights[pair, column + i] = weight
            weights[pair, STRIP + column + i] = both * region[pixel + i]
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
def sum_window(width, form, near, rows, sums, own, beside, starts, column, across, weights, first):
    """For three neighbouring pixels i and the pixels j of their windows: add to both of them what the other one is.

    The pixels i are the ``rows[own + i]``. The j are the next `beside` pixels, of which `near` says how many they are
    at least, and `across` pixels of each row of the window, from ``rows[starts[k] + column + i]`` on. Their weights
    stand one below the other. To ``sums[i]`` is added the first weight times ``j`` (SUM), ``i - j`` (DIFFERENCE) or
    the sign of that (SIGN), to ``sums[j]`` the second times the same of ``j - i``.
    """
    for i in range(TOGETHER):
        for x in range(beside):
            _add_pair(width, form, rows, sums, own + i, own + i + 1 + x, weights, x, first + i)
        for k in range(starts.shape[0]):
            for x in range(across):
                j = starts[k] + column + i + x
                _add_pair(width, form, rows, sums, own + i, j, weights, beside + k * across + x, first + i)


@njit(fastmath=_CONTRACTED, forceinline=True)
def _add_pair(width, form, rows, sums, i, j, weights, pair, place):
    weight, its = weights[pair, place], weights[pair, STRIP + place]
    for channel in range(width):
        if form == SUM:
            sums[i, channel] += weight * rows[j, channel]
            sums[j, channel] += its * rows[i, channel]
        elif form == DIFFERENCE:
            difference = rows[i, channel] - rows[j, channel]
            sums[i, channel] += weight * difference
            sums[j, channel] -= its * difference
        elif rows[i, channel] > rows[j, channel]:
            sums[i, channel] += weight
            sums[j, channel] -= its
        elif rows[i, channel] < rows[j, channel]:
            sums[i, channel] -= weight
            sums[j, channel] += its


@njit(fastmath=_CONTRACTED, forceinline=True)
def add_products(width, rows, sums, place, region, pixel, count, products):
    """``products += (region[pixel + i] rows[place + i]) sums[place + i]``, channel by channel, for `count` pixels i."""
    for channel in range(width):
        total = np.float32(0)
        for i in range(count):
            total += (region[pixel + i] * rows[place + i, channel]) * sums[place + i, channel]
        products[channel] += np.float64(total)
