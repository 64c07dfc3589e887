"""What loops cannot say: sums that stay in the registers of the processor."""

from __future__ import annotations

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

STRIP = 64  # genes whose sums are in registers at one time

_INDEX, _LANE = ir.IntType(64), ir.IntType(32)


def _register_bytes() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@intrinsic
def sum_of_rows(typing_context, total, weight, row, table, begin, end):
    """total[u] = sum over e in begin:end of weight[e] table[row[e], u], for STRIP columns u; arrays are contiguous.

    A compiler keeps the sums in memory and loads and stores them for every entry or few; here each entry costs the loads of
    its row and nothing else. Where registers are wide, four entries have sums of their own, so that none waits for another.
    """
    signature = types.void(total, weight, row, table, begin, end)

    def generate(context, builder, signature, values):
        arrays = signature.args[:4]
        total, weight, row, table = (
            context.make_array(kind)(context, builder, value).data for kind, value in zip(arrays, values[:4], strict=True)
        )
        begin, end = (
            context.cast(builder, value, kind, types.int64)
            for value, kind in zip(values[4:], signature.args[4:], strict=True)
        )
        width = _register_bytes()
        lanes = width // (arrays[3].dtype.bitwidth // 8)
        vector = ir.VectorType(context.get_value_type(arrays[3].dtype), lanes)
        n = STRIP // lanes
        at_once = max(1, (16 if width == 64 else 8) // n)
        contract = ("contract",)  # multiply and add as one instruction

        def number(k):
            return ir.Constant(_INDEX, k)

        def lanes_from(array, first, k):
            place = builder.gep(array, [builder.add(first, number(k * lanes))])
            return builder.bitcast(place, vector.as_pointer())

        def spread(value):
            nothing = ir.Constant(vector, ir.Undefined)
            one = builder.insert_element(nothing, value, ir.Constant(_LANE, 0))
            return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_LANE, lanes), [0] * lanes))

        def loop(first, last, step, sums):
            before = builder.basic_block
            head, body, after = (builder.append_basic_block(name) for name in ("entries", "entry", "summed"))
            builder.branch(head)
            builder.position_at_end(head)
            e = builder.phi(_INDEX)
            e.add_incoming(first, before)
            current = [builder.phi(vector) for _ in sums]
            for phi, value in zip(current, sums, strict=True):
                phi.add_incoming(value, before)
            builder.cbranch(builder.icmp_signed("<", e, last), body, after)
            builder.position_at_end(body)
            for s in range(step):
                entry = builder.add(e, number(s))
                w = spread(builder.load(builder.gep(weight, [entry])))
                i = builder.sext(builder.load(builder.gep(row, [entry])), _INDEX)
                start = builder.mul(i, number(STRIP))
                for k in range(n):
                    x = builder.load(lanes_from(table, start, k), align=arrays[3].dtype.bitwidth // 8)
                    phi = current[s * n + k]
                    phi.add_incoming(builder.fadd(phi, builder.fmul(w, x, flags=contract), flags=contract), body)
            e.add_incoming(builder.add(e, number(step)), body)
            builder.branch(head)
            builder.position_at_end(after)
            return current

        zero = ir.Constant(vector, [0.0] * lanes)
        rest = builder.srem(builder.sub(end, begin), number(at_once))
        many = loop(begin, builder.sub(end, rest), at_once, [zero] * (at_once * n))
        sums = many[:n]
        for s in range(1, at_once):
            sums = [builder.fadd(a, b) for a, b in zip(sums, many[s * n :][:n], strict=True)]
        if at_once > 1:
            sums = loop(builder.sub(end, rest), end, 1, sums)
        for k, value in enumerate(sums):
            builder.store(value, lanes_from(total, number(0), k), align=arrays[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return signature, generate
