"""Arrays that may be absent: None, which the compiler knows of, or empty, which it does not."""

from __future__ import annotations

from numba import types
from numba.extending import overload

from sim.kernels.compile import INLINED


def value_at(array, index, default):
    """array[index], or `default` where the array is None or empty."""
    return default if array is None or array.size == 0 else array[index]


def set_value(array, index, value):
    """array[index] = value, if there is an array."""
    if array is not None and array.size:
        array[index] = value


@overload(value_at, jit_options=INLINED)
def _value_at(array, index, default):
    if isinstance(array, types.NoneType):
        return lambda array, index, default: default
    return lambda array, index, default: array[index] if array.size else default


@overload(set_value, jit_options=INLINED)
def _set_value(array, index, value):
    def set_present(array, index, value):
        if array.size:
            array[index] = value

    if isinstance(array, types.NoneType):
        return lambda array, index, value: None
    return set_present
