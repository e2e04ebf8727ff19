"""Generated code for the pairs of a window: weights of sixteen pixels at a time, sums for four pixels at a time.

Every function has a twin of the same name in `_plain_pairs`, which says in plain loops what it does. What this code
relies on in Numba and llvmlite is written down in `_choice`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rloss_caffe.filtering._plain_pairs import CHANNELS, DIFFERENCE, LANES, LEAST_POWER, SERIES, SUM, TO_INTEGER, TOGETHER
from rloss_caffe.filtering._rows import _Rows

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


def _add_with_sign(builder, total, weight, value):
    """``total`` plus or minus the weight, by the sign of the value; at 0 the total as it is."""
    integers = ir.VectorType(_I32, total.type.count)
    sign = builder.and_(builder.bitcast(value, integers), ir.Constant(integers, [-(2**31)] * total.type.count))
    signed = builder.bitcast(builder.xor(builder.bitcast(weight, integers), sign), total.type)
    zero = ir.Constant(total.type, [0.0] * total.type.count)
    return builder.select(builder.fcmp_ordered("!=", value, zero), builder.fadd(total, signed), total)


class _Lanes:
    """The numbers of a C-contiguous float32 array inside generated code, sixteen at a time."""

    def __init__(self, context, builder, numba_type, value):
        self._builder = builder
        array = context.make_array(numba_type)(context, builder, value)
        self.data = array.data
        self.shape = [builder.extract_value(array.shape, axis) for axis in range(numba_type.ndim)]

    def place(self, row, column):
        """The index of an item of a plane."""
        return self._builder.add(self._builder.mul(row, self.shape[1]), column)

    def _pointer(self, index):
        return self._builder.bitcast(self._builder.gep(self.data, [index]), _FLOATS.as_pointer())

    def load(self, index):
        return self._builder.load(self._pointer(index), align=4)

    def store(self, index, vector):
        self._builder.store(vector, self._pointer(index), align=4)

    def item(self, index):
        return self._builder.load(self._builder.gep(self.data, [index]))

    def spread(self, scalar):
        single = self._builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), scalar, ir.Constant(_I32, 0))
        return self._builder.shuffle_vector(single, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTEGERS, [0] * LANES))


class _Colours:
    """Sixteen pixels' colours: those of the first three channels in registers, others where they are."""

    def __init__(self, builder, image, pixel):
        self._builder, self._image, self._pixel = builder, image, pixel
        self._first = self._load(_integer(0), pixel)
        self._more = builder.sub(builder.udiv(image.shape[0], _integer(CHANNELS)), _integer(1))

    def _load(self, channel, pixel):
        builder, image = self._builder, self._image
        return [image.load(image.place(builder.add(channel, _integer(each)), pixel)) for each in range(CHANNELS)]

    def squared_difference(self, other):
        """From those of the pixels `other`, in the channels' order."""
        builder = self._builder

        def add(own, its, total):
            for one, two in zip(own, its):
                difference = builder.fsub(one, two)
                total = _add_product(builder, total, difference, difference)
            return total

        def add_more(group, totals):
            channel = builder.mul(builder.add(group, _integer(1)), _integer(CHANNELS))
            return [add(self._load(channel, self._pixel), self._load(channel, other), totals[0])]

        return _loop(builder, self._more, [add(self._first, self._load(_integer(0), other), _all_lanes(0))], add_more)[0]


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
        pixel, factor, column = arguments[2], image.spread(arguments[5]), arguments[7]
        colours = _Colours(builder, image, pixel)

        def weigh(pair, totals):
            other = builder.add(pixel, steps.item(pair))
            squares = colours.squared_difference(other)
            power = builder.fsub(
                image.spread(logarithms.item(pair)), builder.fmul(factor, squares, flags=["contract"]), flags=["contract"]
            )
            weight = builder.fmul(_exp2_of_negative(builder, power), region.load(other))
            weights.store(weights.place(pair, column), weight)
            return [builder.fadd(totals[0], weight)]

        total.store(column, _loop(builder, steps.shape[0], [total.load(column)], weigh)[0])
        return context.get_dummy_value()

    integer = types.int64
    return types.void(
        image, region, integer, steps, logarithms, types.float32, weights, integer, total
    ), generate


@intrinsic(prefer_literal=True)
def square_lanes(typing_context, image, region, pixel, step, total, amount):
    """Sixteen pairs' squared differences, as `_plain_pairs.square_lanes` says."""

    def generate(context, builder, signature, arguments):
        image, region, total, amount = (
            _Lanes(context, builder, signature.args[place], arguments[place]) for place in (0, 1, 4, 5)
        )
        pixel, other, zero = arguments[2], builder.add(arguments[2], arguments[3]), _integer(0)
        both = builder.fmul(region.load(pixel), region.load(other))
        squares = _Colours(builder, image, pixel).squared_difference(other)
        total.store(zero, _add_product(builder, total.load(zero), both, squares))
        amount.store(zero, builder.fadd(amount.load(zero), both))
        return context.get_dummy_value()

    return types.void(image, region, types.int64, types.int64, total, amount), generate


@intrinsic(prefer_literal=True)
def sum_window(typing_context, width, form, target, first, rows, column, centre, starts, across, weights):
    """Four pixels' sums, as `_plain_pairs.sum_window` says; they stay in registers meanwhile.

    The window's row is walked once for all four: what is x behind the first pixel is x - 1 behind the second.
    """
    size, kind = width.literal_value, form.literal_value

    def generate(context, builder, signature, arguments):
        _, _, target, first, rows, column, centre, starts, across, weights = arguments
        target = _Rows(context, builder, signature.args[2], target, size)
        rows = _Rows(context, builder, signature.args[4], rows, size)
        starts = _Lanes(context, builder, signature.args[7], starts)
        weights = _Lanes(context, builder, signature.args[9], weights)

        def next_to(index, steps):
            return builder.add(index, _integer(steps))

        parts = len(rows.parts)
        start = [vector for pixel in range(TOGETHER) for vector in target.load(next_to(first, pixel))]
        own = [rows.load(next_to(centre, pixel)) for pixel in range(TOGETHER)] if kind != SUM else []

        def add_column(row, top, x, totals, pixels):
            """What is x behind the window row's begin joins the sums of these pixels."""
            totals, other = list(totals), rows.load(builder.add(row, x))
            for pixel in pixels:
                place = weights.place(builder.add(top, next_to(x, -pixel)), next_to(first, pixel))
                weight = rows.spread(weights.item(place))
                for part in range(parts):
                    index = pixel * parts + part
                    if kind == SUM:
                        totals[index] = _add_product(builder, totals[index], weight[part], other[part])
                    else:
                        difference = builder.fsub(own[pixel][part], other[part])
                        add = _add_product if kind == DIFFERENCE else _add_with_sign
                        totals[index] = add(builder, totals[index], weight[part], difference)
            return totals

        def add_row(k, totals):
            row, top = builder.add(starts.item(k), column), builder.mul(k, across)
            for x in range(TOGETHER - 1):
                totals = add_column(row, top, _integer(x), totals, range(x + 1))
            inside = _integer(TOGETHER - 1)
            totals = _loop(
                builder,
                builder.sub(across, inside),
                totals,
                lambda x, sums: add_column(row, top, builder.add(x, inside), sums, range(TOGETHER)),
            )
            for x in range(TOGETHER - 1):
                totals = add_column(row, top, next_to(across, x), totals, range(x + 1, TOGETHER))
            return totals

        sums = _loop(builder, starts.shape[0], start, add_row)
        for pixel in range(TOGETHER):
            target.store(next_to(first, pixel), sums[pixel * parts : (pixel + 1) * parts])
        return context.get_dummy_value()

    integer = types.int64
    return types.void(width, form, target, integer, rows, integer, integer, starts, integer, weights), generate


@intrinsic(prefer_literal=True)
def add_products(typing_context, width, tile, rows, centre, region, pixel, count, products):
    """Products of rows, as `_plain_pairs.add_products` says."""
    size = width.literal_value

    def generate(context, builder, signature, arguments):
        _, tile, rows, centre, region, pixel, count, products = arguments
        tile = _Rows(context, builder, signature.args[1], tile, size)
        rows = _Rows(context, builder, signature.args[2], rows, size)
        region = _Lanes(context, builder, signature.args[4], region)
        products = _Rows(context, builder, signature.args[7], products, size)

        def add(i, totals):
            amounts = rows.spread(region.item(builder.add(pixel, i)))
            terms = zip(totals, amounts, rows.load(builder.add(centre, i)), tile.load(i))
            return [
                _add_product(builder, total, builder.fmul(amount, own), sums) for total, amount, own, sums in terms
            ]

        products.store(_integer(0), _loop(builder, count, products.load(_integer(0)), add))
        return context.get_dummy_value()

    integer = types.int64
    return types.void(width, tile, rows, integer, region, integer, integer, products), generate
