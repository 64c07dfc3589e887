"""Intrinsics for numba: sums in vector registers."""

from __future__ import annotations

import platform

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _registers() -> tuple[int, int]:
    """Return the size of a vector register in bytes, and their number, on numba's target CPU."""
    features = numba.config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    if "+avx512f" in features.split(","):
        return 64, 32
    if "+avx" in features.split(","):
        return 32, 16
    return 16, 32 if platform.machine().lower() in ("arm64", "aarch64") else 16


STRIP = 48  # adjacent genes of a cell: fills registers of any size, and whole cache lines
REGISTER, _COUNT = _registers()
TILE_ROWS, TILE_REGISTERS = (8 if _COUNT == 32 else 4), 3  # leaves registers for the operands

_INDEX, _LANE = ir.IntType(64), ir.IntType(32)
_CONTRACT = ("contract",)  # fused multiply-add


class _Vectors:
    """Generator of LLVM code for vectors of one number type."""

    def __init__(self, context, builder, number) -> None:
        self.builder, self.size = builder, number.bitwidth // 8
        self.lanes = REGISTER // self.size
        self.type = ir.VectorType(context.get_value_type(number), self.lanes)

    def number(self, k):
        return ir.Constant(_INDEX, k)

    def zero(self):
        return ir.Constant(self.type, [0.0] * self.lanes)

    def place(self, array, first, k):
        """Return a pointer to the k-th vector from element `first`."""
        at = self.builder.gep(array, [self.builder.add(first, self.number(k * self.lanes))])
        return self.builder.bitcast(at, self.type.as_pointer())

    def load(self, place):
        return self.builder.load(place, align=self.size)

    def store(self, value, place):
        self.builder.store(value, place, align=self.size)

    def spread(self, array, at):
        """Fill a vector with one element of an array."""
        nothing = ir.Constant(self.type, ir.Undefined)
        value = self.builder.load(self.builder.gep(array, [at]))
        one = self.builder.insert_element(nothing, value, ir.Constant(_LANE, 0))
        return self.builder.shuffle_vector(
            one, nothing, ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        )

    def add_product(self, a, b, c):
        return self.builder.fadd(c, self.builder.fmul(a, b, flags=_CONTRACT), flags=_CONTRACT)

    def loop(self, first, last, step, sums, body):
        """Run ``sums = body(k, sums)`` for k = first, first + step, ... below last."""
        b = self.builder
        before = b.basic_block
        head, inside, after = (b.append_basic_block(name) for name in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        k = b.phi(_INDEX)
        k.add_incoming(first, before)
        current = [b.phi(self.type) for _ in sums]
        for phi, value in zip(current, sums, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(b.icmp_signed("<", k, last), inside, after)
        b.position_at_end(inside)
        for phi, value in zip(current, body(k, current), strict=True):
            phi.add_incoming(value, inside)
        k.add_incoming(b.add(k, self.number(step)), inside)
        b.branch(head)
        b.position_at_end(after)
        return current


def _pointers(context, builder, kinds, values):
    return [
        context.make_array(k)(context, builder, v).data for k, v in zip(kinds, values, strict=True)
    ]


def _indices(context, builder, kinds, values):
    return [context.cast(builder, v, k, types.int64) for k, v in zip(kinds, values, strict=True)]


@intrinsic
def sum_of_rows(typing_context, total, weight, row, table, begin, end):
    """Set total[u] to the sum over e in begin:end of weight[e] table[row[e], u], u < STRIP.

    Arrays must be contiguous. The sums stay in registers, so that an entry only costs the loads of
    its row; compilers would load and store them repeatedly. If there are enough registers, several
    entries have separate sums, so that none waits for another.
    """

    def generate(context, builder, signature, values):
        kinds = signature.args
        total, weight, row, table = _pointers(context, builder, kinds[:4], values[:4])
        begin, end = _indices(context, builder, kinds[4:], values[4:])
        v = _Vectors(context, builder, kinds[3].dtype)
        n = STRIP // v.lanes
        at_once = max(1, _COUNT // 2 // n)

        def entries(count):
            def body(e, sums):
                new = []
                for s in range(count):
                    entry = builder.add(e, v.number(s))
                    w = v.spread(weight, entry)
                    index = builder.sext(builder.load(builder.gep(row, [entry])), _INDEX)
                    start = builder.mul(index, v.number(STRIP))
                    for k in range(n):
                        new.append(
                            v.add_product(w, v.load(v.place(table, start, k)), sums[s * n + k])
                        )
                return new

            return body

        rest = builder.srem(builder.sub(end, begin), v.number(at_once))
        whole = builder.sub(end, rest)
        many = v.loop(begin, whole, at_once, [v.zero()] * (at_once * n), entries(at_once))
        sums = many[:n]
        for s in range(1, at_once):
            sums = [builder.fadd(a, b) for a, b in zip(sums, many[s * n :][:n], strict=True)]
        if at_once > 1:
            sums = v.loop(whole, end, 1, sums, entries(1))
        for k, value in enumerate(sums):
            v.store(value, v.place(total, v.number(0), k))
        return context.get_dummy_value()

    return types.void(total, weight, row, table, begin, end), generate


@intrinsic
def add_tile(typing_context, out, at, x, first, y, second, cells):
    """Add sums over cells i of products of two strips to a tile.

    out[at + STRIP t + u] += sum of x[first + STRIP i + t] y[second + STRIP i + u] for t < TILE_ROWS
    and u in the elements of TILE_REGISTERS registers; arrays are indexed as flat.
    """

    def generate(context, builder, signature, values):
        kinds = signature.args
        out, x, y = _pointers(context, builder, kinds[0:6:2], values[0:6:2])
        at, first, second, cells = _indices(
            context, builder, (*kinds[1:6:2], kinds[6]), (*values[1:6:2], values[6])
        )
        v = _Vectors(context, builder, kinds[0].dtype)

        def body(i, sums):
            start = builder.mul(i, v.number(STRIP))
            left, right = builder.add(first, start), builder.add(second, start)
            row = [v.load(v.place(y, right, k)) for k in range(TILE_REGISTERS)]
            new = []
            for t in range(TILE_ROWS):
                one = v.spread(x, builder.add(left, v.number(t)))
                new += [
                    v.add_product(one, row[k], sums[t * TILE_REGISTERS + k])
                    for k in range(TILE_REGISTERS)
                ]
            return new

        sums = v.loop(v.number(0), cells, 1, [v.zero()] * (TILE_ROWS * TILE_REGISTERS), body)
        for t in range(TILE_ROWS):
            for k in range(TILE_REGISTERS):
                place = v.place(out, builder.add(at, v.number(t * STRIP)), k)
                v.store(builder.fadd(v.load(place), sums[t * TILE_REGISTERS + k]), place)
        return context.get_dummy_value()

    return types.void(out, at, x, first, y, second, cells), generate


DOUBLES = REGISTER // 8  # double-precision numbers of a register


@intrinsic
def add_weighted(typing_context, sums, at, width, x, v, third, extra, begin, end):
    """Add sums over rows c in begin:end with weights w = 1 / (v[c] + extra[c]) to `sums`.

    The columns are at:at + DOUBLES of contiguous arrays of doubles with `width` columns. The rows
    of `sums` are the product of w v, which is multiplied, and the sums of w, w x, w x^2 and
    w^3 third. All stay in registers.
    """

    def generate(context, builder, signature, values):
        kinds = signature.args
        sums, x, v, third, extra = _pointers(
            context, builder, (kinds[0], *kinds[3:7]), (values[0], *values[3:7])
        )
        at, width, begin, end = _indices(
            context, builder, (*kinds[1:3], *kinds[7:]), (*values[1:3], *values[7:])
        )
        vectors = _Vectors(context, builder, kinds[0].dtype)
        one = ir.Constant(vectors.type, [1.0] * vectors.lanes)

        def row(array, c):
            return vectors.place(array, builder.add(builder.mul(c, width), at), 0)

        def body(c, found):
            product, total, moment, squares, cubes = found
            variance, effect, skew = (vectors.load(row(a, c)) for a in (v, x, third))
            w = builder.fdiv(one, builder.fadd(variance, vectors.spread(extra, c)))
            weighted = builder.fmul(w, effect)
            return [
                builder.fmul(product, builder.fmul(w, variance)),
                builder.fadd(total, w),
                builder.fadd(moment, weighted),
                vectors.add_product(weighted, effect, squares),
                vectors.add_product(builder.fmul(builder.fmul(w, w), w), skew, cubes),
            ]

        places = [row(sums, vectors.number(k)) for k in range(5)]
        found = vectors.loop(begin, end, 1, [vectors.load(place) for place in places], body)
        for value, place in zip(found, places, strict=True):
            vectors.store(value, place)
        return context.get_dummy_value()

    return types.void(sums, at, width, x, v, third, extra, begin, end), generate
