"""Generated code: from features to simplices, sixteen pixels at a time (Adams et al. 2010, section 3.1).

Every pixel's feature vector is elevated into the hyperplane of d + 1 coordinates that sum to zero; the enclosing
simplex is found by rounding and ranking, and the barycentric weights follow from the ranks.

The arithmetic is single precision with one rounding an operation, in a fixed order, because a different rounding or
tie puts a pixel into another simplex and that changes the result visibly. So the vector code is generated explicitly,
with no fast-math flag anywhere; it is not left to a vectoriser that might reassociate or fuse. `_plain.embed_lanes`
says the same in plain loops. What this code relies on in Numba and llvmlite is written down in `_choice`.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rloss_caffe.filtering._plain import LANES
from rloss_caffe.filtering._rows import spread

__all__ = ["copy_lanes", "divide_lanes", "embed_lanes", "fill_lanes", "mark_lanes"]

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


@intrinsic(prefer_literal=True)
def embed_lanes(
    typing_context, dimension, words, tile, block, scale, low, shift, limit, keys, orders, place, weights, extreme
):
    """Embed the sixteen pixels of one block; whether a coordinate is beyond `limit`, or a feature no number.

    tile (d, 16) holds the features; sixteen columns of keys (words, m) and orders (m,), from `place`; weights
    (blocks, d + 1, 16), extreme (16,).
    A key packs the first d coordinates of the simplex's remainder-0 vertex, each minus ``low``, shifted by ``shift``;
    several words share them evenly. ``orders`` packs the coordinates in the order of falling ranks, four bits each.
    ``extreme``: the largest |coordinate|. Beyond the limit, keys and orders hold anything.
    """
    d, n_words = dimension.literal_value, words.literal_value

    def generate(context, builder, signature, arguments):
        types_ = signature.args
        _, _, tile, block, scale, low, shift, limit, keys, orders, place, weights, extreme = arguments
        tile, scale, low, shift, keys, orders, weights, extreme = (
            _Array(context, builder, types_[position], value)
            for position, value in zip(
                (2, 4, 5, 6, 8, 9, 11, 12), (tile, scale, low, shift, keys, orders, weights, extreme)
            )
        )
        floats = _FLOATS
        ints = ir.VectorType(_I32, LANES)
        longs = ir.VectorType(_I64, LANES)

        def constant(value):
            return ir.Constant(floats, [float(value)] * LANES)

        def integer(value):
            return ir.Constant(ints, [value] * LANES)

        def call(name, vector):
            return _call(builder, name, vector)

        # Elevate: E f, in the triangular form of the paper's equation for E.
        elevated = [None] * (d + 1)
        partial = constant(0)
        for j in range(d, 0, -1):
            scaled = builder.fmul(tile.load_vector([j - 1, 0], floats), spread(builder, scale.load([j - 1]), floats))
            elevated[j] = builder.fsub(partial, builder.fmul(constant(j), scaled))
            partial = builder.fadd(partial, scaled)
        elevated[0] = partial

        # The nearest point whose coordinates are all multiples of d + 1.
        reciprocal = constant(np.float32(1) / np.float32(d + 1))
        nearest, total = [], constant(0)
        for coordinate in elevated:
            rounded = call("rint", builder.fmul(coordinate, reciprocal))  # half to even
            nearest.append(builder.fmul(rounded, constant(d + 1)))
            total = builder.fadd(total, rounded)
        total = builder.fptosi(total, ints)

        # Rank the differences; a tie goes to the later coordinate.
        difference = [builder.fsub(a, b) for a, b in zip(elevated, nearest)]
        rank = [integer(i) for i in range(d + 1)]
        for i in range(d + 1):
            for j in range(i + 1, d + 1):
                smaller = builder.sext(builder.fcmp_ordered("<", difference[i], difference[j]), ints)
                rank[i] = builder.sub(rank[i], smaller)
                rank[j] = builder.add(rank[j], smaller)

        # Where rounding left the plane, step back along the coordinates with the extreme ranks.
        for i in range(d + 1):
            moved = builder.add(rank[i], total)
            below = builder.icmp_signed("<", moved, integer(0))
            above = builder.icmp_signed(">", moved, integer(d))
            step = builder.select(below, integer(d + 1), builder.select(above, integer(-(d + 1)), integer(0)))
            rank[i] = builder.add(moved, step)
            nearest[i] = builder.fadd(nearest[i], builder.sitofp(step, floats))

        # Barycentric weights: consecutive differences of the offsets over d + 1, sorted by rank.
        by_rank = [constant(0)] * (d + 1)
        for i in range(d + 1):
            value = builder.fmul(builder.fsub(elevated[i], nearest[i]), reciprocal)
            for r in range(d + 1):
                hit = builder.icmp_signed("==", rank[i], integer(r))
                by_rank[r] = builder.select(hit, value, by_rank[r])
        wrapped = builder.fsub(constant(1), by_rank[0])
        weights.store_vector([block, 0, 0], builder.fadd(by_rank[d], wrapped))
        for r in range(1, d + 1):
            weights.store_vector([block, r, 0], builder.fsub(by_rank[d - r], by_rank[d + 1 - r]))

        # Pack the key and the order of the ranks, remember the largest coordinate.
        packed = [ir.Constant(longs, [0] * LANES) for _ in range(n_words)]
        per_word = -(-d // n_words)
        largest = extreme.load_vector([0], floats)
        for i in range(d):
            field = builder.sub(builder.fptosi(nearest[i], ints), spread(builder, low.load([i]), ints))
            field = builder.shl(builder.zext(field, longs), spread(builder, shift.load([i]), longs))
            packed[i // per_word] = builder.add(packed[i // per_word], field)
            size = call("fabs", nearest[i])
            largest = builder.select(builder.fcmp_ordered(">", size, largest), size, largest)
        extreme.store_vector([0], largest)
        for word in range(n_words):
            keys.store_vector([word, place], packed[word])
        order = ir.Constant(longs, [0] * LANES)
        for i in range(d + 1):
            nibble = builder.mul(builder.zext(builder.sub(integer(d), rank[i]), longs), ir.Constant(longs, [4] * LANES))
            order = builder.or_(order, builder.shl(ir.Constant(longs, [i] * LANES), nibble))
        orders.store_vector([place], order)

        # A feature that is no number makes the sum of all no number, or infinite, whose difference is none.
        beyond = builder.fcmp_ordered(">", largest, spread(builder, limit, floats))
        bad = builder.fcmp_unordered("uno", builder.fsub(partial, partial), constant(0))
        bits = builder.bitcast(builder.or_(beyond, bad), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    arguments = (dimension, words, tile, block, scale, low, shift, limit, keys, orders, place, weights, extreme)
    return types.boolean(*arguments), generate


@intrinsic
def copy_lanes(typing_context, target, row, source, first):
    """``target[row] = source[first:first + 16]``."""

    def generate(context, builder, signature, arguments):
        target, source = _arrays(context, builder, signature, arguments, (0, 2))
        target.store_vector([arguments[1], 0], source.load_vector([arguments[3]], _FLOATS))
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate


@intrinsic
def divide_lanes(typing_context, target, row, source, first, divisor):
    """``target[row] = source[first:first + 16] / divisor``."""

    def generate(context, builder, signature, arguments):
        target, source = _arrays(context, builder, signature, arguments, (0, 2))
        divisors = spread(builder, arguments[4], _FLOATS)
        quotients = builder.fdiv(source.load_vector([arguments[3]], _FLOATS), divisors)
        target.store_vector([arguments[1], 0], quotients)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.float32), generate


@intrinsic
def fill_lanes(typing_context, target, row, value):
    """``target[row] = value``."""

    def generate(context, builder, signature, arguments):
        (target,) = _arrays(context, builder, signature, arguments, (0,))
        target.store_vector([arguments[1], 0], spread(builder, arguments[2], _FLOATS))
        return context.get_dummy_value()

    return types.void(target, types.int64, types.float32), generate


@intrinsic
def mark_lanes(typing_context, marks, first, source, place, is_new):
    """1 in ``marks[first:first + 16]`` where ``|source[place:place + 16]| >= 1``, and elsewhere 0 if they are new."""

    def generate(context, builder, signature, arguments):
        marks, source = _arrays(context, builder, signature, arguments, (0, 2))
        one, zero = (ir.Constant(_FLOATS, [value] * LANES) for value in (1.0, 0.0))
        sizes = _call(builder, "fabs", source.load_vector([arguments[3]], _FLOATS))
        old = builder.select(arguments[4], zero, marks.load_vector([arguments[1]], _FLOATS))
        hit = builder.fcmp_ordered(">=", sizes, one)
        marks.store_vector([arguments[1]], builder.select(hit, one, old))
        return context.get_dummy_value()

    return types.void(marks, types.int64, source, types.int64, types.boolean), generate


def _arrays(context, builder, signature, arguments, places):
    return [_Array(context, builder, signature.args[place], arguments[place]) for place in places]


def _call(builder, name, vector):
    """LLVM's own function of that name, of sixteen lanes."""
    name = f"llvm.{name}.v{LANES}f32"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(_FLOATS, [_FLOATS]), name)
    return builder.call(function, [vector])


class _Array:
    """A C-contiguous Numba array inside generated code: loads and stores at constant or computed indices."""

    def __init__(self, context, builder, numba_type, value):
        self._builder = builder
        self._rank = numba_type.ndim
        array = context.make_array(numba_type)(context, builder, value)
        self._data = array.data
        self._shape = [builder.extract_value(array.shape, axis) for axis in range(self._rank)]

    def _pointer(self, index):
        builder = self._builder
        flat = None
        for axis, position in enumerate(index):
            if isinstance(position, int):
                position = ir.Constant(_I64, position)
            flat = position if flat is None else builder.add(builder.mul(flat, self._shape[axis]), position)
        return builder.gep(self._data, [flat])

    def load(self, index):
        return self._builder.load(self._pointer(index))

    def load_vector(self, index, vector):
        pointer = self._builder.bitcast(self._pointer(index), vector.as_pointer())
        return self._builder.load(pointer, align=4)

    def store_vector(self, index, value):
        pointer = self._builder.bitcast(self._pointer(index), value.type.as_pointer())
        self._builder.store(value, pointer, align=4)
