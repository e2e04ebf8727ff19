"""Generated code for the pairs of a window: weights of sixteen pixels at a time, sums of three at a time.

Every function has a twin of the same name in `_plain_pairs`, which says in plain loops what it does. What this code
relies on in Numba and llvmlite is written down in `_choice`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rloss_caffe.filtering._plain_pairs import (
    APART,
    CHANNELS,
    DIFFERENCE,
    LANES,
    LEAST_POWER,
    MORE,
    NONE,
    SERIES,
    STRIP,
    SUM,
    TO_INTEGER,
    TOGETHER,
)
from rloss_caffe.filtering._rows import _Rows, add_doubles, spread

__all__ = ["add_products", "square_lanes", "sum_window", "weigh_lanes"]

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS, _INTEGERS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_I32, LANES)


def _integer(number):
    return ir.Constant(_I64, number)


def _all_lanes(number):
    return ir.Constant(_FLOATS, [float(number)] * LANES)


def _loop(builder, count, start, body):
    """Run ``body(index, values)``, which returns the values for the next time, `count` times; the last values."""
    before = builder.block
    inside, after = builder.append_basic_block("loop"), builder.append_basic_block("after_loop")
    builder.cbranch(builder.icmp_signed(">", count, _integer(0)), inside, after)
    builder.position_at_end(inside)
    index = builder.phi(_I64)
    running = [builder.phi(value.type) for value in start]
    found = body(index, running)
    following, end = builder.add(index, _integer(1)), builder.block
    builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
    index.add_incoming(_integer(0), before)
    index.add_incoming(following, end)
    builder.position_at_end(after)
    results = []
    for phi, first, last in zip(running, start, found):
        phi.add_incoming(first, before)
        phi.add_incoming(last, end)
        result = builder.phi(first.type)
        result.add_incoming(first, before)
        result.add_incoming(last, end)
        results.append(result)
    return results


def _add_product(builder, total, one, other):
    """``total + one * other``, rounded once where the machine can: as the twins have it."""
    return builder.fadd(total, builder.fmul(one, other, flags=["contract"]), flags=["contract"])


def _sign(builder, value):
    """1 with the sign of the value; 0 for 0."""
    count = value.type.count
    integers = ir.VectorType(_I32, count)
    sign = builder.and_(builder.bitcast(value, integers), ir.Constant(integers, [-(2**31)] * count))
    one = builder.bitcast(ir.Constant(value.type, [1.0] * count), integers)
    zero = ir.Constant(value.type, [0.0] * count)
    signed = builder.bitcast(builder.or_(sign, one), value.type)
    return builder.select(builder.fcmp_ordered("!=", value, zero), signed, zero)


class _Lanes:
    """The numbers of a C-contiguous float32 array inside generated code, sixteen at a time."""

    def __init__(self, context, builder, numba_type, value):
        self._builder = builder
        array = context.make_array(numba_type)(context, builder, value)
        self.data = array.data
        self.shape = [builder.extract_value(array.shape, axis) for axis in range(numba_type.ndim)]

    def at(self, index):
        return self._builder.gep(self.data, [index])

    def item(self, index):
        return self._builder.load(self.at(index))


def _load(builder, pointer):
    return builder.load(builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)


def _store(builder, vector, pointer):
    builder.store(vector, builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)


class _Colours:
    """Sixteen pixels' colours: those of the first three channels in registers, others where they are."""

    def __init__(self, builder, image, pixel):
        self._builder = builder
        self._plane = image.shape[1]
        self._bases = [image.at(builder.add(builder.mul(_integer(c), self._plane), pixel)) for c in range(CHANNELS)]
        self._own = [_load(builder, base) for base in self._bases]
        self._more = builder.sub(builder.udiv(image.shape[0], _integer(CHANNELS)), _integer(1))

    def for_any_image(self, write):
        """Write the code for images of three channels and for others: ``write(squared_difference)``."""
        with self._builder.if_else(self._builder.icmp_signed(">", self._more, _integer(0))) as (others, three):
            with others:
                write(self._of_all)
            with three:
                write(self._of_three)

    def _differences(self, bases, own, step):
        builder = self._builder
        return [builder.fsub(colour, _load(builder, builder.gep(base, [step]))) for base, colour in zip(bases, own)]

    def _of_three(self, step):
        """From those of the pixels that lie `step` behind."""
        first, second, third = self._differences(self._bases, self._own, step)
        total = self._builder.fadd(self._builder.fmul(first, first), self._builder.fmul(second, second))
        return _add_product(self._builder, total, third, third)

    def _of_all(self, step):
        builder = self._builder

        def add(group, totals):
            behind = builder.mul(builder.mul(builder.add(group, _integer(1)), _integer(CHANNELS)), self._plane)
            bases = [builder.gep(base, [behind]) for base in self._bases]
            (total,) = totals
            for difference in self._differences(bases, [_load(builder, base) for base in bases], step):
                total = _add_product(builder, total, difference, difference)
            return [total]

        return _loop(builder, self._more, [self._of_three(step)], add)[0]


def _exp2_of_negative(builder, power):
    least, shift = _all_lanes(LEAST_POWER), _all_lanes(TO_INTEGER)
    bounded = builder.select(builder.fcmp_ordered(">", power, least), power, least)
    shifted = builder.fadd(bounded, shift)
    rest = builder.fsub(bounded, builder.fsub(shifted, shift))
    value = _all_lanes(SERIES[-1])
    for factor in (*SERIES[-2::-1], 1):
        value = _add_product(builder, _all_lanes(factor), value, rest)
    exponents = builder.shl(builder.bitcast(shifted, _INTEGERS), ir.Constant(_INTEGERS, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(value, _INTEGERS), exponents), _FLOATS)


@intrinsic(prefer_literal=True)
def weigh_lanes(typing_context, image, region, pixel, steps, logarithms, factor, weights, column, total):
    """Sixteen pixels' weights, as `_plain_pairs.weigh_lanes` says."""

    def generate(context, builder, signature, arguments):
        image, region, steps, logarithms, weights, total = (
            _Lanes(context, builder, signature.args[place], arguments[place]) for place in (0, 1, 3, 4, 6, 8)
        )
        pixel, factor, column = arguments[2], spread(builder, arguments[5], _FLOATS), arguments[7]
        regions, results, sums = region.at(pixel), weights.at(column), total.at(column)
        own = _load(builder, regions)

        def write(squared_difference):
            def weigh(pair, totals):
                step = steps.item(pair)
                exponent = builder.fmul(factor, squared_difference(step), flags=["contract"])
                power = builder.fsub(spread(builder, logarithms.item(pair), _FLOATS), exponent, flags=["contract"])
                both = _exp2_of_negative(builder, power)
                weight = builder.fmul(both, _load(builder, builder.gep(regions, [step])))
                place = builder.gep(results, [builder.mul(pair, _integer(APART))])
                _store(builder, weight, place)
                _store(builder, builder.fmul(both, own), builder.gep(place, [_integer(STRIP)]))
                return [builder.fadd(totals[0], weight)]

            _store(builder, _loop(builder, steps.shape[0], [_load(builder, sums)], weigh)[0], sums)

        _Colours(builder, image, pixel).for_any_image(write)
        return context.get_dummy_value()

    integer = types.int64
    arrays = image, region, integer, steps, logarithms, types.float32, weights, integer, total
    return types.void(*arrays), generate


@intrinsic(prefer_literal=True)
def square_lanes(typing_context, image, region, pixel, step, count, sums):
    """The squared differences of a few times sixteen pairs, as `_plain_pairs.square_lanes` says."""

    def generate(context, builder, signature, arguments):
        image, region, sums = (_Lanes(context, builder, signature.args[place], arguments[place]) for place in (0, 1, 5))
        pixel, step, count = arguments[2:5]

        def write(more):
            def add(block, totals):
                first = builder.add(pixel, builder.mul(block, _integer(LANES)))
                own = region.at(first)
                both = builder.fmul(_load(builder, own), _load(builder, builder.gep(own, [step])))
                colours = _Colours(builder, image, first)
                squares = colours._of_all(step) if more else colours._of_three(step)
                return [_add_product(builder, totals[0], both, squares), builder.fadd(totals[1], both)]

            for row, total in enumerate(_loop(builder, count, [_all_lanes(0)] * 2, add)):
                add_doubles(builder, total, sums.at(_integer(row * LANES)))

        with builder.if_else(builder.icmp_signed(">", image.shape[0], _integer(CHANNELS))) as (others, three):
            with others:
                write(True)
            with three:
                write(False)
        return context.get_dummy_value()

    return types.void(image, region, types.int64, types.int64, types.int64, sums), generate


@intrinsic(prefer_literal=True)
def sum_window(typing_context, width, form, near, rows, sums, own, beside, starts, column, across, weights, first):
    """Three pixels' sums, and what they add to others, as `_plain_pairs.sum_window` says.

    The three stay in registers. The window's row is walked once for all of them: what is x behind the first pixel is
    x - 1 behind the second.
    """
    size, kind, nearest = width.literal_value, form.literal_value, near.literal_value

    def generate(context, builder, signature, arguments):
        _, _, _, rows, sums, own, beside, starts, column, across, weights, first = arguments
        rows = _Rows(context, builder, signature.args[3], rows, size)
        sums = _Rows(context, builder, signature.args[4], sums, size)
        starts = _Lanes(context, builder, signature.args[7], starts)
        weights = _Lanes(context, builder, signature.args[10], weights)

        def next_to(index, steps):
            return builder.add(index, _integer(steps))

        parts = len(rows.parts)
        values = [rows.load(next_to(own, pixel)) for pixel in range(TOGETHER)]

        def add_pair(mine, its, value, other, weight, back):
            """The sums of one pixel and another, after what their pair adds to them."""
            if kind == SUM:
                return _add_product(builder, mine, weight, other), _add_product(builder, its, back, value)
            term = builder.fsub(value, other)
            if kind != DIFFERENCE:
                term = _sign(builder, term)
            less = builder.fsub(its, builder.fmul(back, term, flags=["contract"]), flags=["contract"])
            return _add_product(builder, mine, weight, term), less

        def add_column(top, x, totals, pixels, other, its):
            """What is x behind the window row's begin and these pixels: each joins the other's sums."""
            totals, its = [list(vectors) for vectors in totals], list(its)
            held = weights.at(builder.add(builder.mul(builder.add(top, x), _integer(APART)), first))
            for pixel in pixels:
                weight, back = (
                    rows.spread(builder.load(builder.gep(held, [_integer(pixel - pixel * APART + behind)])))
                    for behind in (0, STRIP)
                )
                for part in range(parts):
                    totals[pixel][part], its[part] = add_pair(
                        totals[pixel][part], its[part], values[pixel][part], other[part], weight[part], back[part]
                    )
            return totals, its

        def add_and_store(row, top, x, totals, pixels):
            place = builder.add(row, x)
            totals, its = add_column(top, x, totals, pixels, rows.load(place), sums.load(place))
            sums.store(place, its)
            return totals

        def chain(totals):
            return [vector for vectors in totals for vector in vectors]

        def as_rows(vectors):
            return [vectors[pixel * parts : (pixel + 1) * parts] for pixel in range(TOGETHER)]

        def add_range(row, top, count, totals):
            """What all of them meet, then what only the last ones meet."""
            inside = TOGETHER - 1

            def add_all(x, running):
                return chain(add_and_store(row, top, next_to(x, inside), as_rows(running), range(TOGETHER)))

            totals = as_rows(_loop(builder, builder.sub(count, _integer(inside)), chain(totals), add_all))
            for x in range(inside):
                totals = add_and_store(row, top, next_to(count, x), totals, range(x + 1, TOGETHER))
            return totals

        def add_beside(totals):
            """In their own row the first ones meet the others."""
            top, row = _integer(0), next_to(own, 1)
            for x in range(TOGETHER - 1):
                pixels = range(x + 1) if nearest == MORE else (x,)
                totals, its = add_column(top, _integer(x), totals, pixels, values[x + 1], totals[x + 1])
                totals[x + 1] = its
            if nearest == MORE:
                return add_range(row, top, beside, totals)
            return add_and_store(row, top, _integer(TOGETHER - 1), totals, (TOGETHER - 1,))

        def add_row(k, vectors):
            row, top = builder.add(starts.item(k), column), builder.add(beside, builder.mul(k, across))
            totals = as_rows(vectors)
            for x in range(TOGETHER - 1):
                totals = add_and_store(row, top, _integer(x), totals, range(x + 1))
            return chain(add_range(row, top, across, totals))

        totals = [sums.load(next_to(own, pixel)) for pixel in range(TOGETHER)]
        if nearest != NONE:
            totals = add_beside(totals)
        totals = as_rows(_loop(builder, starts.shape[0], chain(totals), add_row))
        for pixel, vectors in enumerate(totals):
            sums.store(next_to(own, pixel), vectors)
        return context.get_dummy_value()

    integer = types.int64
    arrays = rows, sums, integer, integer, starts, integer, integer, weights, integer
    return types.void(width, form, near, *arrays), generate


@intrinsic(prefer_literal=True)
def add_products(typing_context, width, rows, sums, place, region, pixel, count, products):
    """Products of rows, as `_plain_pairs.add_products` says."""
    size = width.literal_value

    def generate(context, builder, signature, arguments):
        _, rows, sums, place, region, pixel, count, products = arguments
        rows = _Rows(context, builder, signature.args[1], rows, size)
        sums = _Rows(context, builder, signature.args[2], sums, size)
        region = _Lanes(context, builder, signature.args[4], region)
        products = _Lanes(context, builder, signature.args[7], products)

        def add(i, totals):
            amounts = rows.spread(region.item(builder.add(pixel, i)))
            row = builder.add(place, i)
            terms = zip(totals, amounts, rows.load(row), sums.load(row))
            return [
                _add_product(builder, total, builder.fmul(amount, value), other)
                for total, amount, value, other in terms
            ]

        for part, total in zip(rows.parts, _loop(builder, count, rows.constant(0.0), add)):
            add_doubles(builder, total, products.at(_integer(part[0])))
        return context.get_dummy_value()

    integer = types.int64
    return types.void(width, rows, sums, integer, region, integer, integer, products), generate
