"""Kernels: from features to numbered lattice points and their neighbours, by hashing (Adams et al. 2010, 3.1).

A key holds the first d coordinates of a lattice point in bit fields of one or more 64-bit words. The fields never
overflow into each other, so that a step along lattice axis j is the addition of one constant, ``steps[:, j]``, to the
key. The d + 1 vertices of a simplex are such steps, taken in the order of the ranks.
"""

from functools import lru_cache

import numpy as np
from numba import njit

from rloss_caffe.filtering import _choice
from rloss_caffe.filtering._plain import LANES, embed_lanes
from rloss_caffe.numerics.compiling import jit

EMPTY = -1  # no key: the fields leave the sign bit of the first word unused

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing
_MIXER = np.uint64(0xD6E8FEB86659FD93)


@njit
def _slot_of(key, table, words):
    """The slot that holds `key`, or the empty one where it belongs (linear probing)."""
    mixed = np.uint64(key[0])
    for word in range(1, words):
        mixed = (mixed * _MIXER) ^ (mixed >> np.uint64(29)) ^ np.uint64(key[word])
    mask = np.int64(table.shape[0] - 1)
    hashed = mixed * _MULTIPLIER
    slot = np.int64((hashed >> np.uint64(20)) ^ (hashed >> np.uint64(42))) & mask
    while table[slot, 0] != EMPTY:
        same = table[slot, 0] == key[0]
        for word in range(1, words):
            same = same and table[slot, word] == key[word]
        if same:
            break
        slot = (slot + 1) & mask
    return slot


@njit
def _grow(points, count, table, numbers, words):
    """A table and a list of points of twice the size."""
    bigger_table = np.full((2 * table.shape[0], words), EMPTY, np.int64)
    bigger_numbers = np.empty(2 * table.shape[0], np.int32)
    bigger_points = np.empty((2 * points.shape[0], words), np.int64)
    bigger_points[:count] = points[:count]
    key = np.empty(words, np.int64)
    for number in range(count):
        for word in range(words):
            key[word] = points[number, word]
        slot = _slot_of(key, bigger_table, words)
        for word in range(words):
            bigger_table[slot, word] = key[word]
        bigger_numbers[slot] = number
    return bigger_points, bigger_table, bigger_numbers


def index_kernels(dimension, words):
    """The kernels ``(index_simplices, insert_points, find_neighbours)`` for keys of that shape."""
    return _choice.kernels(make_index_kernels, dimension, words)


@lru_cache(maxsize=None)
def make_index_kernels(loops, dimension, words):
    """The kernels from one set of inner loops, the generated or the plain one."""
    n_vertices = dimension + 1

    @jit(special=(loops.NAME, dimension, words), inner=loops)
    def index_simplices(features, scale, low, shift, steps, first, last, total, capacity, weights, vertices, extreme):
        """Embed the blocks ``first .. last`` of sixteen pixels and number their vertices in the order they are met.

        Writes ``weights`` (blocks, d + 1, 16), ``vertices`` (total, d + 1) and ``extreme`` (16,), and returns the
        points' keys (count, words), their table and its numbers. Neighbouring pixels often share a simplex: one that
        was met before is copied, not looked up vertex by vertex.
        """
        table = np.full((capacity, words), EMPTY, np.int64)
        numbers = np.empty(capacity, np.int32)
        points = np.empty((capacity // 2, words), np.int64)
        count = 0
        # More slots would find little more, and cost the lattice its place in the cache.
        remembered = 1024  # direct-mapped memory of simplices: the last pixel seen in each slot, its key and ranks
        while remembered < (last - first) * LANES // 4 and remembered < 16384:
            remembered *= 2
        memory = np.full(remembered, -1, np.int32)
        memory_keys = np.empty((remembered, words), np.int64)
        memory_ranks = np.empty(remembered, np.int64)
        keys = np.empty((words, LANES), np.int64)
        ranks = np.empty(LANES, np.int64)
        key = np.empty(words, np.int64)
        axis_of_rank = np.empty(n_vertices, np.int64)

        for block in range(first, last):
            embed_lanes(dimension, words, features, block, scale, low, shift, keys, ranks, weights, extreme)
            for lane in range(min(LANES, total - block * LANES)):
                pixel = block * LANES + lane
                code = ranks[lane]
                mixed = np.uint64(code) * _MIXER
                for word in range(words):
                    mixed = (mixed ^ np.uint64(keys[word, lane])) * _MULTIPLIER
                slot = np.int64(mixed >> np.uint64(32)) & np.int64(remembered - 1)
                seen = np.int64(memory[slot])
                if seen >= 0:
                    same = memory_ranks[slot] == code
                    for word in range(words):
                        same = same and memory_keys[slot, word] == keys[word, lane]
                    if same:
                        for r in range(n_vertices):
                            vertices[pixel, r] = vertices[seen, r]
                        continue
                memory[slot] = pixel
                memory_ranks[slot] = code
                for word in range(words):
                    memory_keys[slot, word] = keys[word, lane]

                if 2 * (count + n_vertices) > table.shape[0]:
                    points, table, numbers = _grow(points, count, table, numbers, words)
                for i in range(n_vertices):
                    axis_of_rank[(code >> (4 * i)) & 15] = i
                for word in range(words):
                    key[word] = keys[word, lane]
                for r in range(n_vertices):
                    if r > 0:  # vertex r: one more step along the axis with the r-th largest rank
                        axis = axis_of_rank[n_vertices - r]
                        for word in range(words):
                            key[word] += steps[word, axis]
                    slot = _slot_of(key, table, words)
                    if table[slot, 0] == EMPTY:
                        for word in range(words):
                            table[slot, word] = key[word]
                            points[count, word] = key[word]
                        numbers[slot] = count
                        count += 1
                    vertices[pixel, r] = numbers[slot]
        return points[:count], table, numbers

    @jit(special=(loops.NAME, dimension, words))
    def insert_points(more, points, table, numbers):
        """Add the keys ``more`` to a lattice; returns their numbers there and the lattice's grown arrays."""
        count = points.shape[0]
        capacity = max(count + more.shape[0], 1)
        all_points = np.empty((capacity, words), np.int64)
        all_points[:count] = points
        renumbered = np.empty(more.shape[0], np.int32)
        key = np.empty(words, np.int64)
        for number in range(more.shape[0]):
            if 2 * (count + 1) > table.shape[0]:
                all_points, table, numbers = _grow(all_points, count, table, numbers, words)
            for word in range(words):
                key[word] = more[number, word]
            slot = _slot_of(key, table, words)
            if table[slot, 0] == EMPTY:
                for word in range(words):
                    table[slot, word] = key[word]
                    all_points[count, word] = key[word]
                numbers[slot] = count
                count += 1
            renumbered[number] = numbers[slot]
        return renumbered, all_points[:count], table, numbers

    @jit(special=(loops.NAME, dimension, words))
    def find_neighbours(points, table, numbers, steps, first_axis, last_axis, before, after):
        """Along each axis, the numbers of the points one step before and after; the count where there is none."""
        count = points.shape[0]
        key = np.empty(words, np.int64)
        for axis in range(first_axis, last_axis):
            before[axis] = count
            for number in range(count):
                for word in range(words):
                    key[word] = points[number, word] + steps[word, axis]
                slot = _slot_of(key, table, words)
                if table[slot, 0] == EMPTY:
                    after[axis, number] = count
                else:
                    after[axis, number] = numbers[slot]
                    before[axis, numbers[slot]] = number

    return index_simplices, insert_points, find_neighbours


@jit
def renumber(vertices, start, end, renumbered):
    """Replace a band's own point numbers by the lattice's."""
    for pixel in range(start, end):
        for r in range(vertices.shape[1]):
            vertices[pixel, r] = renumbered[vertices[pixel, r]]
