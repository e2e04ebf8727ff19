"""The inner loops of the lattice in plain Numba: what the generated code does, said simply, and its slower stand-in.

Every function is the twin of one in `_embed` or `_rows`, with the same arguments and, as each operation rounds once and
in the same order, the same results bit for bit. The tests compare them; `_choice` says when the package uses these.
"""

import numpy as np
from numba import njit

__all__ = [
    "LANES",
    "NAME",
    "TILE",
    "blur_row",
    "combine_tile",
    "copy_lanes",
    "divide_lanes",
    "embed_lanes",
    "fill_lanes",
    "load_tile",
    "mark_lanes",
    "slice_pixel",
    "splat_pixel",
    "store_tile",
]

NAME = "plain"
LANES = 16  # pixels embedded together
TILE = 8  # pixels transposed together


@njit
def embed_lanes(dimension, words, tile, block, scale, low, shift, limit, keys, orders, place, weights, extreme):
    """Embed the sixteen pixels of one block: see `_embed.embed_lanes` for the arrays."""
    bad = False
    d = dimension
    one, size = np.float32(1), np.float32(d + 1)
    reciprocal = one / size
    per_word = -(-d // words)
    elevated, nearest = np.empty(d + 1, np.float32), np.empty(d + 1, np.float32)
    by_rank = np.empty(d + 1, np.float32)
    rank = np.empty(d + 1, np.int32)
    for lane in range(LANES):
        # Elevate: E f, in the triangular form of the paper's equation for E.
        partial = np.float32(0)
        for j in range(d, 0, -1):
            scaled = tile[j - 1, lane] * scale[j - 1]
            elevated[j] = partial - np.float32(j) * scaled
            partial = partial + scaled
        elevated[0] = partial
        largest = np.abs(elevated).max()
        if not np.isfinite(partial) or largest > 1e6:  # a feature was no number, or ranks would be anything
            extreme[lane] = max(extreme[lane], largest)
            return True

        # The nearest point whose coordinates are all multiples of d + 1.
        total = np.float32(0)
        for i in range(d + 1):
            rounded = np.rint(elevated[i] * reciprocal)  # half to even
            nearest[i] = rounded * size
            total += rounded
        steps = np.int32(total)

        # Rank the differences; a tie goes to the later coordinate.
        rank[:] = 0
        for i in range(d + 1):
            for j in range(i + 1, d + 1):
                if elevated[i] - nearest[i] < elevated[j] - nearest[j]:
                    rank[i] += 1
                else:
                    rank[j] += 1

        # Where rounding left the plane, step back along the coordinates with the extreme ranks.
        for i in range(d + 1):
            rank[i] += steps
            if rank[i] < 0:
                rank[i] += d + 1
                nearest[i] += size
            elif rank[i] > d:
                rank[i] -= d + 1
                nearest[i] -= size

        # Barycentric weights: consecutive differences of the offsets over d + 1, sorted by rank.
        for i in range(d + 1):
            by_rank[rank[i]] = (elevated[i] - nearest[i]) * reciprocal
        weights[block, 0, lane] = by_rank[d] + (one - by_rank[0])
        for r in range(1, d + 1):
            weights[block, r, lane] = by_rank[d - r] - by_rank[d + 1 - r]

        # Pack the key and the order of the ranks, remember the largest coordinate.
        for word in range(words):
            keys[word, place + lane] = 0
        for i in range(d):
            field = np.int64(np.int32(nearest[i])) - np.int64(low[i])
            keys[i // per_word, place + lane] += field << shift[i]
            extreme[lane] = max(extreme[lane], abs(nearest[i]))
        if extreme[lane] > limit:
            bad = True
        order = np.int64(0)
        for i in range(d + 1):
            order |= np.int64(i) << np.int64(4 * (d - rank[i]))
        orders[place + lane] = order
    return bad


@njit
def copy_lanes(target, row, source, first):
    """``target[row] = source[first:first + 16]``."""
    for lane in range(LANES):
        target[row, lane] = source[first + lane]


@njit
def divide_lanes(target, row, source, first, divisor):
    """``target[row] = source[first:first + 16] / divisor``."""
    for lane in range(LANES):
        target[row, lane] = source[first + lane] / divisor


@njit
def fill_lanes(target, row, value):
    """``target[row] = value``."""
    for lane in range(LANES):
        target[row, lane] = value


@njit
def mark_lanes(marks, first, source, place, is_new):
    """1 in ``marks[first:first + 16]`` where ``|source[place:place + 16]| >= 1``, and elsewhere 0 if they are new."""
    for lane in range(LANES):
        if abs(source[place + lane]) >= 1:
            marks[first + lane] = 1
        elif is_new:
            marks[first + lane] = 0


@njit
def splat_pixel(width, n_vertices, tile, row, vertices, weights, pixel, amount, lattice):
    """``lattice[vertex] += (weight * amount) * tile[row]`` for the pixel's vertices, each operation rounded."""
    for r in range(n_vertices):
        weight = weights[pixel // LANES, r, pixel % LANES] * amount
        for channel in range(width):
            lattice[vertices[pixel, r], channel] += weight * tile[row, channel]


@njit
def slice_pixel(width, n_vertices, lattice, vertices, weights, pixel, amount, tile, row):
    """``tile[row]`` = the sum of ``(weight * amount) * lattice[vertex]`` over the pixel's vertices, in their order."""
    for channel in range(width):
        tile[row, channel] = 0
    for r in range(n_vertices):
        weight = weights[pixel // LANES, r, pixel % LANES] * amount
        for channel in range(width):
            tile[row, channel] += weight * lattice[vertices[pixel, r], channel]


@njit
def blur_row(width, source, target, row, before, after):
    """``target[row] = source[row] + 0.5 * (source[before] + source[after])``."""
    half = np.float32(0.5)
    for channel in range(width):
        neighbours = source[before, channel] + source[after, channel]
        target[row, channel] = source[row, channel] + half * neighbours


@njit
def load_tile(width, values, first, tile, row):
    """``tile[row:row + 8, channel] = values[channel, first:first + 8]``; surplus channels hold 1."""
    for channel in range(width):
        for pixel in range(TILE):
            tile[row + pixel, channel] = values[channel, first + pixel] if channel < values.shape[0] else 1


@njit
def store_tile(width, tile, row, out, first):
    """``out[channel, first:first + 8] = tile[row:row + 8, channel]`` for the channels that ``out`` has."""
    for channel in range(min(width, out.shape[0])):
        for pixel in range(TILE):
            out[channel, first + pixel] = tile[row + pixel, channel]


@njit
def combine_pixels(count, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums):
    """For `count` pixels from `first`, with filtered values y in ``tile``, values S, and planes roi, inside, factor, d:

    ``out_k = own_k y_k + added_k d + factor (y_k + (slope S_k) d)``, with `keep` added to what was there; and to the
    two rows of ``sums``, a pixel's to its lane: ``sum_k (inside S_k) y_k`` and ``sum_k ((roi d) S_k) S_k``.
    """
    for lane in range(count):
        pixel = first + lane
        products, squares = np.float32(0), np.float32(0)
        for channel in range(out.shape[0]):
            y, value = tile[lane, channel], values[channel, pixel]
            result = (own[channel] * y + added[channel] * degree[pixel]) + factor[pixel] * (
                y + (slope * value) * degree[pixel]
            )
            out[channel, pixel] = out[channel, pixel] + result if keep else result
            products += (inside[pixel] * value) * y
            squares += ((roi[pixel] * degree[pixel]) * value) * value
        sums[0, lane] += np.float64(products)
        sums[1, lane] += np.float64(squares)


@njit
def combine_tile(width, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums):
    """`combine_pixels` for eight."""
    combine_pixels(TILE, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums)
