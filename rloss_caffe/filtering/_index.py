"""Kernels: from features to numbered lattice points and their neighbours, by hashing (Adams et al. 2010, 3.1).

A key holds the first d coordinates of a lattice point in bit fields of one or more 64-bit words. The fields never
overflow into each other, so that a step along lattice axis j is the addition of one constant, ``steps[:, j]``, to the
key. The d + 1 vertices of a simplex are such steps, taken in the order of the ranks, and one step more leads back to
the first. Every step that was taken once is remembered, ``edges[j]`` of the point where it starts: a pixel looks up
one vertex by its key and walks to the others, and most of what the blur needs to know is found on the way.
"""

from functools import lru_cache

import numpy as np

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import LANES, copy_lanes, divide_lanes, embed_lanes, fill_lanes, mark_lanes
from rloss_caffe.numerics.compiling import jit

DONE, FULL, OUT_OF_RANGE = 0, 1, 2  # what became of a band: indexed, or the table needs to grow, or the keys do
GROUP = 16  # blocks that are embedded together before their points are looked up
EMPTY = -1  # no key: the fields leave the sign bit of the first word unused

load_features = None  # what `index_simplices` calls: one for every set of inner loops and every dimension

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_MIXER = np.uint64(0xD6E8FEB86659FD93)


@jit(entry=False)
def _first_slot(keys, column, table, words):
    """Where the table holds the key in a column of `keys`, if no other key lies there."""
    mixed = np.uint64(keys[0, column])
    for word in range(1, words):
        mixed = (mixed * _MIXER) ^ (mixed >> np.uint64(29)) ^ np.uint64(keys[word, column])
    size = np.uint64(words + 1)
    mask = np.uint64(table.shape[0]) // size - np.uint64(1)
    hashed = mixed * _MULTIPLIER
    return (((hashed >> np.uint64(20)) ^ (hashed >> np.uint64(42))) & mask) * size


@jit(entry=False)
def _slot_of(keys, column, table, words):
    """Where the table holds the key in a column of `keys`, or the empty place where it belongs (linear probing).

    A slot of the flat table is a key and, behind it, the point's number.
    """
    size = np.uint64(words + 1)
    place = _first_slot(keys, column, table, words)
    while table[place] != EMPTY:
        same = table[place] == keys[0, column]
        for word in range(1, words):
            same = same and table[place + np.uint64(word)] == keys[word, column]
        if same:
            break
        place += size
        if place == np.uint64(table.shape[0]):
            place = np.uint64(0)
    return place


@jit(entry=False)
def _insert(keys, column, place, count, table, points, edges, words, n_vertices):
    """Give a key that is not in the table the number `count`; no step from there is known."""
    for word in range(words):
        table[place + np.uint64(word)] = keys[word, column]
        points[count, word] = keys[word, column]
    table[place + np.uint64(words)] = count
    for axis in range(n_vertices):
        edges[np.uint64((count + 1) * n_vertices + axis)] = EMPTY


def make_scratch(dimension, words):
    """What `index_simplices` writes on the way; a kernel that makes arrays itself takes longer to compile."""
    keys = np.empty((words, GROUP * LANES), np.int64)
    return np.empty((dimension, LANES), np.float32), keys, np.empty(GROUP * LANES, np.int64), one_key(words)


def one_key(words):
    """Room for the key that a kernel looks up."""
    return np.empty((words, 1), np.int64)


def index_kernels(dimension, words):
    """The kernels ``(index_simplices, merge, find_neighbours)`` for keys of that shape."""
    return _choice.kernels(make_index_kernels, dimension, words)


@lru_cache(maxsize=None)
def make_index_kernels(loops, dimension, words):
    """The kernels from one set of inner loops, the generated or the plain one."""
    n_vertices = dimension + 1

    @jit(special=(loops.NAME, dimension), inner=loops, error_model="numpy", forceinline=True, entry=False)
    def load(values, n, columns, rows, divisor, region, first, tile):
        """Write the features of sixteen pixels into ``tile`` (d, 16), and where asked for, the region of interest.

        They are ``values`` (channels n,) themselves, channel by channel; of an image, where ``columns`` and
        ``rows`` hold the positions' features, those two and the channels over ``divisor``. Behind the last pixel they
        are 0. A local name for an array would be counted for every block.
        """
        width = columns.shape[0]
        channels = dimension - 2 if width > 0 else dimension
        count = min(LANES, n - first)
        row = first // max(width, 1)
        column = first - row * width
        if count == LANES and width == 0:
            for channel in range(dimension):
                copy_lanes(tile, channel, values, channel * n + first)
        elif count == LANES and column + LANES <= width:
            copy_lanes(tile, 0, columns, column)
            fill_lanes(tile, 1, rows[row])
            for channel in range(dimension - 2):
                divide_lanes(tile, 2 + channel, values, channel * n + first, divisor)
        else:
            for lane in range(LANES):
                is_pixel = lane < count
                if width > 0:
                    tile[0, lane] = columns[column] if is_pixel else 0
                    tile[1, lane] = rows[row] if is_pixel else 0
                    column += 1
                    if column == width:
                        column = 0
                        row += 1
                for axis in range(dimension):
                    channel = axis - dimension + channels
                    if channel >= 0:
                        tile[axis, lane] = values[channel * n + first + lane] / divisor if is_pixel else np.float32(0)
        if region.shape[0] == 0:
            return
        if count == LANES:
            for channel in range(dimension - 2):
                mark_lanes(region, first, values, channel * n + first, channel == 0)
        else:
            for pixel in range(first, first + count):
                region[pixel] = 0
                for channel in range(dimension - 2):
                    if abs(values[channel * n + pixel]) >= 1:
                        region[pixel] = 1

    inner = {"load_features": load, "embed_lanes": loops.embed_lanes}

    @jit(special=(loops.NAME, dimension, words), inner=inner, error_model="numpy")
    def index_simplices(
        source,
        scale,
        low,
        shift,
        limit,
        steps,
        last,
        total,
        state,
        table,
        points,
        edges,
        weights,
        vertices,
        extreme,
        scratch,
    ):
        """Embed blocks of sixteen pixels and number their vertices in the order they are met.

        ``state`` is the next block and the number of points, before and after. Writes ``weights`` (blocks, d + 1, 16),
        ``vertices`` (total, d + 1) and ``extreme`` (16,), and adds to the points' keys (capacity, words), their
        ``table`` (slots (words + 1),) and the ``edges`` between them, d + 1 a point, where the first d + 1 are no
        point's, so that a walk may go on from -1. Returns before `last` where the table is half full, or a coordinate
        beyond `limit` or no number. ``scratch`` is as `make_scratch` gives it.
        """
        values, length, columns, rows, divisor, region = source
        tile, keys, orders, key = scratch
        column = np.int64(0)  # a literal 0 would be another type
        n = np.int64(n_vertices)
        count = state[1]
        for group in range(state[0], last, GROUP):
            if count + GROUP * LANES * n_vertices > points.shape[0]:
                state[0], state[1] = group, count
                return FULL
            end = min(group + GROUP, last)
            for block in range(group, end):
                load_features(values, length, columns, rows, divisor, region, block * LANES, tile)
                place = (block - group) * LANES
                if embed_lanes(
                    dimension, words, tile, block, scale, low, shift, limit, keys, orders, place, weights, extreme
                ):
                    return OUT_OF_RANGE
            first = group * LANES
            for lane in range(min(end * LANES, total) - first):
                pixel = np.uint64(first + lane)
                place = _slot_of(keys, lane, table, words)
                if table[place] == EMPTY:
                    _insert(keys, lane, place, count, table, points, edges, words, n_vertices)
                    count += 1
                number = table[place + np.uint64(words)]
                order = orders[lane]
                vertices[pixel, np.uint64(0)] = number
                reached = number
                for r in range(1, n_vertices):
                    reached = np.int64(edges[np.uint64(reached * n + (order & 15) + n)])
                    order >>= 4
                    vertices[pixel, np.uint64(r)] = reached
                if reached >= 0:
                    continue
                order = orders[lane]
                reached = number
                for r in range(1, vertices.shape[1]):  # seldom, so not written out for every step
                    axis = order & 15
                    order >>= 4
                    following = np.int64(edges[(reached + 1) * n + axis])
                    if following < 0:
                        for word in range(words):
                            key[word, 0] = points[reached, word] + steps[word, axis]
                        place = _slot_of(key, column, table, words)
                        if table[place] == EMPTY:
                            _insert(key, column, place, count, table, points, edges, words, n_vertices)
                            count += 1
                        following = table[place + np.uint64(words)]
                        edges[(reached + 1) * n + axis] = following
                    reached = following
                    vertices[pixel, np.uint64(r)] = reached
                edges[(reached + 1) * n + (order & 15)] = number  # one step more leads back
        state[0], state[1] = last, count
        return DONE

    @jit(special=(loops.NAME, dimension, words))
    def merge(more, table, points, edges, count, renumbered, key):
        """Add the keys ``more`` to a lattice that has room for them; ``renumbered`` are their numbers there."""
        column = np.int64(0)
        for number in range(more.shape[0]):
            for word in range(words):
                key[word, 0] = more[number, word]
            place = _slot_of(key, column, table, words)
            if table[place] == EMPTY:
                _insert(key, column, place, count, table, points, edges, words, n_vertices)
                count += 1
            renumbered[number] = table[place + np.uint64(words)]
        return count

    @jit(special=(loops.NAME, dimension, words))
    def find_neighbours(table, points, edges, steps, first_axis, last_axis, before, after, key, scratch):
        """Along each axis, the numbers of the points one step before and after; the count where there is none.

        Whether a step is known, and where it leads, nobody can foretell: lists are written without a branch, first of
        the points whose step is not known, then of those whose slot in the table is another key's. ``scratch`` is
        (3, count + 2).
        """
        count = np.int64(before.shape[1])
        column, one = np.int64(0), np.uint64(1)
        row, unknown, others = np.uint64(0), one, np.uint64(2)  # row[1 + i]: the point before i; row[0]: of no point
        for axis in range(first_axis, last_axis):
            for number in range(count + 2):
                scratch[row, np.uint64(number)] = count
            length = 0
            for number in range(count):
                following = np.int64(edges[np.uint64((number + 1) * n_vertices + axis)])
                after[np.uint64(axis), np.uint64(number)] = following
                scratch[row, np.uint64(following + 1)] = number
                scratch[unknown, np.uint64(length)] = number
                length += np.int64(following < 0)
            left = 0
            for position in range(length):
                number = np.int64(scratch[unknown, np.uint64(position)])
                for word in range(words):
                    key[word, 0] = points[np.uint64(number), np.uint64(word)] + steps[word, axis]
                place = _first_slot(key, column, table, words)
                is_same = table[place] == key[0, 0]
                for word in range(1, words):
                    is_same &= table[place + np.uint64(word)] == key[word, 0]
                following = table[place + np.uint64(words)] if is_same else count
                after[np.uint64(axis), np.uint64(number)] = following
                scratch[row, np.uint64(following + 1)] = number  # the last one is no point's, either
                scratch[others, np.uint64(left)] = number
                left += np.int64(not is_same) & np.int64(table[place] != EMPTY)
            for position in range(left):
                number = np.int64(scratch[others, np.uint64(position)])
                for word in range(words):
                    key[word, 0] = points[np.uint64(number), np.uint64(word)] + steps[word, axis]
                place = _slot_of(key, column, table, words)
                if table[place] != EMPTY:
                    following = table[place + np.uint64(words)]
                    after[np.uint64(axis), np.uint64(number)] = following
                    scratch[row, np.uint64(following + 1)] = number
            for number in range(count):
                before[np.uint64(axis), np.uint64(number)] = scratch[row, np.uint64(number + 1)]

    return index_simplices, merge, find_neighbours
