"""Places of bits in a word of 64: what a processor finds in one instruction, and Numba has no name for."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from sim.kernels.compile import INLINED


def lowest_bit(word):
    """Place, 0 to 63, of the lowest bit set in a uint64 that is not 0."""
    return (int(word) & -int(word)).bit_length() - 1


def highest_bit(word):
    """Place, 0 to 63, of the highest bit set in a uint64 that is not 0."""
    return int(word).bit_length() - 1


@overload(lowest_bit, jit_options=INLINED)
def _lowest_bit(word):
    return lambda word: _trailing_zeros(word)


@overload(highest_bit, jit_options=INLINED)
def _highest_bit(word):
    return lambda word: 63 - _leading_zeros(word)


@intrinsic
def _trailing_zeros(typing_context, word):
    return _counting(ir.IRBuilder.cttz)


@intrinsic
def _leading_zeros(typing_context, word):
    return _counting(ir.IRBuilder.ctlz)


def _counting(instruction):
    """Signature and code of an instruction from a uint64 to an int64, whose result for 0 is left open."""

    def code(context, builder, signature, arguments):
        return instruction(builder, arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code
