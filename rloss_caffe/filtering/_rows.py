"""Generated code: rows of the lattice as SIMD vectors, and tiles of eight pixels transposed in registers.

The number of channels in a row is known to the compiler, so that a row is a few vectors and a loop over channels none.
Every function here has a twin of the same name in `_plain`, which says in plain loops what it does. What this code
relies on in Numba and llvmlite is written down in `_choice`.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rloss_caffe.filtering._plain import LANES, TILE

__all__ = ["blur_row", "combine_tile", "load_tile", "slice_pixel", "splat_pixel", "store_tile"]

# Pixels: memory is asked for as long before it is needed as it takes to answer, and not much earlier.
SIMPLICES_AHEAD, PLANES_AHEAD = 64, 32

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


def spread(builder, scalar, vector):
    """A vector of that type, every lane of which is the scalar."""
    undefined = ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count))


def add_doubles(builder, vector, pointer):
    """Add a vector of single to one of double precision in memory."""
    doubles = ir.VectorType(ir.DoubleType(), vector.type.count)
    pointer = builder.bitcast(pointer, doubles.as_pointer())
    builder.store(builder.fadd(builder.load(pointer, align=8), builder.fpext(vector, doubles)), pointer, align=8)


class _Rows:
    """The rows of a C-contiguous float32 array (rows, width) inside generated code, as a few short vectors each."""

    def __init__(self, context, builder, numba_type, value, width):
        self._builder, self._width = builder, width
        self._data = context.make_array(numba_type)(context, builder, value).data
        sizes = []
        while sum(sizes) < width:
            left = width - sum(sizes)
            sizes.append(8 if left >= 8 else left)
        self.parts = [(sum(sizes[:position]), size) for position, size in enumerate(sizes)]

    def _pointer(self, row, start, size):
        builder = self._builder
        flat = builder.add(builder.mul(row, ir.Constant(_I64, self._width)), ir.Constant(_I64, start))
        pointer = builder.gep(self._data, [flat])
        return builder.bitcast(pointer, ir.VectorType(ir.FloatType(), size).as_pointer())

    def load(self, row):
        return [self._builder.load(self._pointer(row, *part), align=4) for part in self.parts]

    def store(self, row, vectors):
        for part, vector in zip(self.parts, vectors):
            self._builder.store(vector, self._pointer(row, *part), align=4)

    def constant(self, value):
        return [ir.Constant(ir.VectorType(ir.FloatType(), size), [value] * size) for _, size in self.parts]

    def spread(self, scalar):
        vectors = {size: ir.VectorType(ir.FloatType(), size) for _, size in self.parts}
        found = {size: spread(self._builder, scalar, vector) for size, vector in vectors.items()}
        return [found[size] for _, size in self.parts]


class _Simplex:
    """One pixel's vertices and weights inside generated code: arrays (n, vertices) and (blocks, vertices, LANES)."""

    def __init__(self, context, builder, numba_types, values, count, pixel):
        self._builder = builder
        vertices, weights = (
            context.make_array(numba_type)(context, builder, value).data
            for numba_type, value in zip(numba_types, values)
        )
        lane = builder.and_(pixel, ir.Constant(_I64, LANES - 1))
        first = builder.mul(pixel, ir.Constant(_I64, count))
        block = builder.mul(builder.sub(pixel, lane), ir.Constant(_I64, count))
        self._vertices = builder.gep(vertices, [first])
        self._weights = builder.gep(weights, [builder.add(block, lane)])
        for pointer in (self._vertices, builder.gep(weights, [first])):
            _prefetch(builder, builder.gep(pointer, [ir.Constant(_I64, count * SIMPLICES_AHEAD)]))

    def vertex(self, r):
        pointer = self._builder.gep(self._vertices, [ir.Constant(_I64, r)])
        return self._builder.sext(self._builder.load(pointer), _I64)

    def weight(self, r, factor):
        pointer = self._builder.gep(self._weights, [ir.Constant(_I64, r * LANES)])
        return self._builder.fmul(self._builder.load(pointer), factor)


def _prefetch(builder, pointer, is_written=False):
    """Have a cache line on its way to the second cache: the first has no room. It may lie beyond the memory."""
    pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    signature = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
    function = builder.module.declare_intrinsic("llvm.prefetch", (pointer.type,), signature)
    builder.call(function, [pointer, *(ir.Constant(_I32, number) for number in (int(is_written), 2, 1))])


@intrinsic(prefer_literal=True)
def splat_pixel(typing_context, width, n_vertices, tile, row, vertices, weights, pixel, amount, lattice):
    """``lattice[vertex] += (weight * amount) * tile[row]`` for the pixel's vertices, each operation rounded."""
    size, count = width.literal_value, n_vertices.literal_value

    def generate(context, builder, signature, arguments):
        _, _, tile, row, vertices, weights, pixel, amount, lattice = arguments
        values = _Rows(context, builder, signature.args[2], tile, size).load(row)
        lattice = _Rows(context, builder, signature.args[8], lattice, size)
        simplex = _Simplex(context, builder, signature.args[4:6], (vertices, weights), count, pixel)
        for r in range(count):
            vertex = simplex.vertex(r)
            terms = zip(lattice.load(vertex), values, lattice.spread(simplex.weight(r, amount)))
            lattice.store(vertex, [builder.fadd(old, builder.fmul(factor, value)) for old, value, factor in terms])
        return context.get_dummy_value()

    return types.void(width, n_vertices, tile, types.int64, vertices, weights, types.int64, types.float32, lattice), (
        generate
    )


@intrinsic(prefer_literal=True)
def slice_pixel(typing_context, width, n_vertices, lattice, vertices, weights, pixel, amount, tile, row):
    """``tile[row]`` = the sum of ``(weight * amount) * lattice[vertex]`` over the pixel's vertices, in their order."""
    size, count = width.literal_value, n_vertices.literal_value

    def generate(context, builder, signature, arguments):
        _, _, lattice, vertices, weights, pixel, amount, tile, row = arguments
        tile = _Rows(context, builder, signature.args[7], tile, size)
        lattice = _Rows(context, builder, signature.args[2], lattice, size)
        simplex = _Simplex(context, builder, signature.args[3:5], (vertices, weights), count, pixel)
        sums = tile.constant(0.0)
        for r in range(count):
            terms = zip(sums, lattice.load(simplex.vertex(r)), lattice.spread(simplex.weight(r, amount)))
            sums = [builder.fadd(old, builder.fmul(factor, value)) for old, value, factor in terms]
        tile.store(row, sums)
        return context.get_dummy_value()

    return types.void(width, n_vertices, lattice, vertices, weights, types.int64, types.float32, tile, types.int64), (
        generate
    )


@intrinsic(prefer_literal=True)
def blur_row(typing_context, width, source, target, row, before, after):
    """``target[row] = source[row] + 0.5 * (source[before] + source[after])``."""
    size = width.literal_value

    def generate(context, builder, signature, arguments):
        _, source, target, row, before, after = arguments
        source = _Rows(context, builder, signature.args[1], source, size)
        target = _Rows(context, builder, signature.args[2], target, size)
        terms = zip(source.load(row), source.load(before), source.load(after), source.constant(0.5))
        target.store(row, [builder.fadd(old, builder.fmul(half, builder.fadd(a, b))) for old, a, b, half in terms])
        return context.get_dummy_value()

    return types.void(width, source, target, types.int64, types.int64, types.int64), generate


def _plane_pointer(context, builder, numba_type, value, channel, first):
    """Where a planar array (channels, n) holds a tile's pixels of one channel or the last, and whether it has that."""
    array = context.make_array(numba_type)(context, builder, value)
    channels, length = (builder.extract_value(array.shape, axis) for axis in (0, 1))
    last = builder.sub(channels, ir.Constant(_I64, 1))
    channel = ir.Constant(_I64, channel)
    is_there = builder.icmp_signed("<", channel, channels)
    channel = builder.select(is_there, channel, last)
    return builder.gep(array.data, [builder.add(builder.mul(channel, length), first)]), is_there


def _ahead(builder, pointer):
    return builder.gep(pointer, [ir.Constant(_I64, PLANES_AHEAD)])


def _as_vector(builder, pointer):
    return builder.bitcast(pointer, ir.VectorType(ir.FloatType(), TILE).as_pointer())


def _tile_pointer(context, builder, numba_type, value, row, width, start):
    data = context.make_array(numba_type)(context, builder, value).data
    flat = builder.add(builder.mul(row, ir.Constant(_I64, width)), ir.Constant(_I64, start))
    return _as_vector(builder, builder.gep(data, [flat]))


def _rotate(builder, vectors, rounds):
    """Rotate the bits of the index (vector, lane) to the left: perfect shuffles, which together transpose."""
    low, high = (
        ir.Constant(ir.VectorType(_I32, TILE), [half + i // 2 + (i % 2) * TILE for i in range(TILE)])
        for half in (0, TILE // 2)
    )
    middle = len(vectors) // 2
    for _ in range(rounds):
        pairs = zip(vectors[:middle], vectors[middle:])
        vectors = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in (low, high)]
    return vectors


def _tile_groups(width):
    """For every group of up to eight channels: its channels, and where its vectors stand in a tile."""
    size = min(width, TILE)
    for start in range(0, width, size):
        places = [start + pixel * width for pixel in range(TILE)] if width >= TILE else range(0, size * TILE, TILE)
        yield list(range(start, start + size)), list(places)


@intrinsic(prefer_literal=True)
def load_tile(typing_context, width, values, first, tile, row):
    """``tile[row:row + 8, channel] = values[channel, first:first + 8]``; surplus channels hold 1."""
    size = width.literal_value

    def generate(context, builder, signature, arguments):
        _, values, first, tile, row = arguments
        for channels, places in _tile_groups(size):
            vectors = []
            for channel in channels:
                pointer, is_there = _plane_pointer(context, builder, signature.args[1], values, channel, first)
                vector = builder.load(_as_vector(builder, pointer), align=4)
                vectors.append(builder.select(is_there, vector, ir.Constant(vector.type, [1.0] * TILE)))
                _prefetch(builder, _ahead(builder, pointer))
            vectors = _rotate(builder, vectors, len(channels).bit_length() - 1)
            for place, vector in zip(places, vectors):
                pointer = _tile_pointer(context, builder, signature.args[3], tile, row, size, place)
                builder.store(vector, pointer, align=4)
        return context.get_dummy_value()

    return types.void(width, values, types.int64, tile, types.int64), generate


@intrinsic(prefer_literal=True)
def store_tile(typing_context, width, tile, row, out, first):
    """``out[channel, first:first + 8] = tile[row:row + 8, channel]`` for the channels that ``out`` has."""
    size = width.literal_value

    def generate(context, builder, signature, arguments):
        _, tile, row, out, first = arguments
        for channels, places in _tile_groups(size):
            pointers = [_tile_pointer(context, builder, signature.args[1], tile, row, size, p) for p in places]
            vectors = [builder.load(pointer, align=4) for pointer in pointers]
            for channel, vector in zip(channels, _rotate(builder, vectors, 3 if len(channels) > 1 else 0)):
                pointer, is_there = _plane_pointer(context, builder, signature.args[3], out, channel, first)
                with builder.if_then(is_there):
                    builder.store(vector, _as_vector(builder, pointer), align=4)
                    _prefetch(builder, _ahead(builder, pointer), is_written=True)
        return context.get_dummy_value()

    return types.void(width, tile, types.int64, out, types.int64), generate


@intrinsic(prefer_literal=True)
def combine_tile(
    typing_context, width, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums
):
    """What `_plain.combine_tile` says, for the channels that ``out`` has."""
    size = width.literal_value
    names = "width, tile, values, roi, inside, factor, degree, own, added, slope, keep, first, out, sums"

    def generate(context, builder, signature, arguments):
        given = dict(zip(names.split(", "), zip(signature.args, arguments)))
        floats = ir.VectorType(ir.FloatType(), TILE)
        first = given["first"][1]

        def load(name):
            pointer = builder.gep(context.make_array(given[name][0])(context, builder, given[name][1]).data, [first])
            return builder.load(_as_vector(builder, pointer), align=4)

        def of_channel(name, position):
            data = context.make_array(given[name][0])(context, builder, given[name][1]).data
            return spread(builder, builder.load(builder.gep(data, [ir.Constant(_I64, position)])), floats)

        roi, inside, factor, degree = (load(name) for name in ("roi", "inside", "factor", "degree"))
        slope = spread(builder, given["slope"][1], floats)
        kept = builder.trunc(given["keep"][1], ir.IntType(1)) if given["keep"][1].type.width > 1 else given["keep"][1]
        weighted = builder.fmul(roi, degree)
        totals = [ir.Constant(floats, [0.0] * TILE)] * 2
        for channels, starts in _tile_groups(size):
            pointers = [
                _tile_pointer(context, builder, given["tile"][0], given["tile"][1], ir.Constant(_I64, 0), size, start)
                for start in starts
            ]
            vectors = [builder.load(pointer, align=4) for pointer in pointers]
            for channel, y in zip(channels, _rotate(builder, vectors, 3 if len(channels) > 1 else 0)):
                pointer, is_there = _plane_pointer(context, builder, *given["out"], channel, first)
                before = builder.block
                with builder.if_then(is_there):
                    source, _ = _plane_pointer(context, builder, *given["values"], channel, first)
                    value = builder.load(_as_vector(builder, source), align=4)
                    _prefetch(builder, _ahead(builder, source))
                    linear = builder.fadd(y, builder.fmul(builder.fmul(slope, value), degree))
                    own = builder.fmul(of_channel("own", channel), y)
                    own = builder.fadd(own, builder.fmul(of_channel("added", channel), degree))
                    result = builder.fadd(own, builder.fmul(factor, linear))
                    old = builder.load(_as_vector(builder, pointer), align=4)
                    result = builder.select(kept, builder.fadd(old, result), result)
                    builder.store(result, _as_vector(builder, pointer), align=4)
                    _prefetch(builder, _ahead(builder, pointer), is_written=True)
                    terms = (
                        builder.fmul(builder.fmul(inside, value), y),
                        builder.fmul(builder.fmul(weighted, value), value),
                    )
                    more = [builder.fadd(total, term) for total, term in zip(totals, terms)]
                    within = builder.block
                for position, total in enumerate(more):
                    merged = builder.phi(floats)
                    merged.add_incoming(totals[position], before)
                    merged.add_incoming(total, within)
                    totals[position] = merged
        sums = context.make_array(given["sums"][0])(context, builder, given["sums"][1]).data
        for row, vector in enumerate(totals):
            add_doubles(builder, vector, builder.gep(sums, [ir.Constant(_I64, row * TILE)]))
        return context.get_dummy_value()

    arrays = tile, values, roi, inside, factor, degree, own, added
    return types.void(width, *arrays, types.float32, types.boolean, types.int64, out, sums), generate
