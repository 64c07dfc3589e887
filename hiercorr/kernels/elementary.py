"""Logarithm, exponential, atanh and asinh as plain arithmetic.

Unlike calls of libm, compilers vectorise such loops. Exponents are read and set through the bits of
the numbers. The logarithm is a polynomial in s = f / (2 + f) with the coefficients of Sun's fdlibm,
the exponential a Taylor polynomial over half an octave.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_ROOT_HALF, _ONE = 0x3FE6A09E667F3BCD, 0x3FF0000000000000  # bits of sqrt(1/2) and 1


@intrinsic
def _bits(typing_context, x):
    def generate(context, builder, signature, values):
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def _from_bits(typing_context, x):
    def generate(context, builder, signature, values):
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), generate


@njit(inline="always", error_model="numpy")
def log(x):
    """Compute the natural logarithm of a finite normal x > 0, to the last digit.

    NaN gives NaN, 0 gives -709.
    """
    k = (_bits(x) - _ROOT_HALF) >> 52
    octave = np.float64(np.int32(k))
    f = _from_bits(_bits(x) - (k << 52)) - 1.0  # x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)
    s = f / (2.0 + f)
    z = s * s
    r = 1.531383769920937332e-01 + z * 1.479819860511658591e-01
    r = 2.222219843214978396e-01 + z * (1.818357216161805012e-01 + z * r)
    r = z * (
        6.666666666666735130e-01
        + z * (3.999999999940941908e-01 + z * (2.857142874366239149e-01 + z * r))
    )
    half = 0.5 * f * f
    return octave * _LN2_HIGH - ((half - (s * (half + r) + octave * _LN2_LOW)) - f) + (x - x)


@njit(inline="always", error_model="numpy")
def exp(x):
    """Compute the exponential of x < 700, to the last digit but one; NaN gives NaN.

    Results underflow gradually to 0.
    """
    x = -800.0 if x < -800.0 else x
    k = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1.0 / 39916800.0 + r * (1.0 / 479001600.0 + r / 6227020800.0)
    p = 1.0 / 40320.0 + r * (1.0 / 362880.0 + r * (1.0 / 3628800.0 + r * p))
    p = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0 + r * p))
    p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * p))))
    octave = np.int64(np.int32(k))
    first = octave >> 1  # scales in two steps, neither of which underflows
    return p * _from_bits(_ONE + (first << 52)) * _from_bits(_ONE + ((octave - first) << 52))


@njit(inline="always", error_model="numpy")
def atanh(x):
    """Compute the inverse hyperbolic tangent to a relative error of 2e-14; NaN outside (-1, 1)."""
    y = x * x
    small = x * (1.0 + y * (1.0 / 3.0 + y * (0.2 + y / 7.0)))
    inside = abs(x) < 1.0
    other = 0.5 * log((1.0 + x) / (1.0 - x) if inside else np.nan)
    return small if abs(x) < 0.01 else other


@njit(inline="always", error_model="numpy")
def asinh(x):
    """Compute the inverse hyperbolic sine of x >= 0 to an absolute error of 1e-15."""
    x = 1e150 if x > 1e150 else x  # larger squares overflow
    return log(x + np.sqrt(x * x + 1.0))
