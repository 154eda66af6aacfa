"""How every kernel of memhier is compiled, in one place, so that the switch that decides speed is never left out."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit, typeof
from numba.core.dispatcher import Dispatcher


def kernel(function: Callable) -> Callable:
    """Compile `function` on first use and keep the machine code on disk.

    Reference counting is off (`_nrt=False`): a helper or hook called in a hot loop would otherwise take and drop a
    count on every array of its state at every call, which costs a factor of five to ten. A kernel can therefore
    not allocate: its arrays are made before the call. A function that has no file of its own (typed at a prompt) or
    closes over values is compiled anew in each process.
    """
    try:
        return njit(cache=function.__closure__ is None, error_model="numpy", _nrt=False)(function)
    except RuntimeError:  # numba: "no locator available", there is no file to keep a cache beside
        return njit(error_model="numpy", _nrt=False)(function)


def inlined(function: Callable) -> Callable:
    """As `kernel`, and put into its callers' code: for what a hot loop calls with a large state.

    A state travels as one argument for each field of each array, hundreds of them; a call would spend longer on passing
    them than on its work.
    """
    return njit(forceinline=True, error_model="numpy", _nrt=False)(function)


def specialised(function: Callable, *arguments: object) -> Callable:
    """`function` compiled for the types of these arguments, to be called again and again with such.

    A compiled function finds out the types of its arguments at each call, which for a nested state of a hundred arrays
    takes longer than much of the work; what this returns does not.
    """
    if not isinstance(function, Dispatcher):  # compilation is off
        return function
    return function.compile(tuple(typeof(argument) for argument in arguments))
