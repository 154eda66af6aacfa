"""How every kernel of memhier is compiled, in one place, so that the switch that decides speed is never left out."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numba import njit, typeof, types
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys

_ALL_BUT_SIGN = (1 << 63) - 1
_KERNEL = {"error_model": "numpy", "_nrt": False, "nogil": True, "no_cfunc_wrapper": True}
_SUBROUTINE = {**_KERNEL, "no_cpython_wrapper": True}
INLINED = {**_SUBROUTINE, "forceinline": True}


def kernel(function: Callable) -> Callable:
    """Compile `function`, which Python calls, on first use, and keep the machine code on disk.

    Reference counting is off (`_nrt=False`): a helper or hook called in a hot loop would otherwise take and drop a
    count on every array of its state at every call, which costs a factor of five to ten. A kernel can therefore
    not allocate: its arrays are made before the call. A function that has no file of its own (typed at a prompt) or
    closes over values is compiled anew in each process. Of a subroutine it makes a kernel.
    """
    return _compile(function, _KERNEL)


def subroutine(function: Callable) -> Callable:
    """As `kernel`, for what only compiled code calls; called from Python, it runs as plain Python.

    Most of the time that a small function takes to compile would go into turning Python's objects into its arguments.
    """
    return _as_subroutine(_compile(function, _SUBROUTINE))


def inlined(function: Callable) -> Callable:
    """As `subroutine`, and put into its callers' code: for what a hot loop calls with a large state.

    A state travels as one argument for each field of each array, hundreds of them; a call would spend longer on passing
    them than on its work.
    """
    return _as_subroutine(_compile(function, INLINED))


def outlined(function: Callable) -> Callable:
    """As `subroutine`, for what is large and called at several places: the optimiser decides where it is copied.

    Numba hands `forceinline` down from a hook to all that it calls, and what these call, unless they say otherwise:
    of a large one each place would get a copy, with copies of what that calls in it.
    """
    return _as_subroutine(_compile(function, {**_SUBROUTINE, "forceinline": False}))


def _compile(function: Callable, options: Mapping[str, object]) -> Callable:
    function = getattr(function, "py_func", function)
    try:
        compiled = njit(cache=function.__closure__ is None, **options)(function)
    except RuntimeError:  # numba: "no locator available", there is no file to keep a cache beside
        return njit(**options)(function)
    if isinstance(getattr(compiled, "_cache", None), FunctionCache):
        compiled._cache.__class__ = _Cache
        compiled._cache.options = repr(sorted(options.items()))
    return compiled


class _Subroutine(CPUDispatcher):
    """Machine code without an entry from Python."""

    def __call__(self, *arguments, **named):
        with np.errstate(over="ignore"):  # machine words wrap around
            return self.py_func(*arguments, **named)

    def get_call_template(self, args, kws):
        """As Numba's, but not compiled anew for each constant that it is called with."""
        return super().get_call_template(tuple(map(types.unliteral, args)), kws)


def _as_subroutine(compiled: Callable) -> Callable:
    if isinstance(compiled, CPUDispatcher):  # not where compilation is off
        compiled.__class__ = _Subroutine
    return compiled


class _Cache(FunctionCache):
    """Machine code on disk, found by the spelling of the argument types and the sources of all of `sim.kernels`, of the
    function's own folder of `sim`, and of the folders that its module uses (`folders_used`).

    Numba's own index holds the types themselves, and with them references to every class of state that anyone ever
    passed: reading it imports all their modules, and fails for everybody once one of them is gone. And it knows a
    function's own file only, though the code of what the function calls is part of its machine code; nor does it know
    with which options a function was compiled.
    """

    def load_overload(self, sig, target_context):
        """As Numba's, but for the tables that only a compilation needs, which take most of a second to fill."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def _index_key(self, sig, codegen):
        _, *rest = super()._index_key(sig, codegen)
        beside = _sources_digest(Path(self._py_func.__code__.co_filename).parent)
        used = used_digest(self._py_func.__module__)
        return (_spelled(sig), self.options, kernels_digest(), beside, used, *rest)


@cache
def kernels_digest() -> bytes:
    """Of the sources of this package, whose functions are put into the code of all others."""
    return _sources_digest(Path(__file__).parent)


@cache
def _sources_digest(folder: Path) -> bytes:
    """Of the modules of one folder of `sim`, which may call each other; nothing of any other folder."""
    sim = Path(__file__).parent.parent
    files = sorted(folder.glob("*.py")) if folder.is_relative_to(sim) else []
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).digest()


@cache
def used_digest(module: str) -> bytes:
    """Of the sources of the folders that a module uses (`folders_used`)."""
    return b"".join(_sources_digest(folder) for folder in folders_used(module))


def folders_used(module: str) -> list[Path]:
    """Folders of `sim` whose functions, classes or modules a module of one of them has names for, and those in turn.

    What they hold may be part of its machine code, be it a constant. Modules that lie in `sim` itself are not followed:
    they have no kernels for others.
    """
    sim, todo, seen, folders = Path(__file__).parent.parent, [module], set(), set()
    while todo:
        name = todo.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in seen or not file or not Path(file).is_relative_to(sim) or Path(file).parent == sim:
            continue
        seen.add(name)
        folders.add(Path(file).parent)
        for value in list(vars(sys.modules[name]).values()):
            todo.append(value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", "")))
    return sorted(folders)


def _spelled(typ) -> str:
    """A type as text, the same in every process, and different for different types."""
    if isinstance(typ, types.BaseNamedTuple):
        of = typ.instance_class
        fields = ", ".join(f"{name}: {_spelled(one)}" for name, one in zip(typ.fields, typ.types, strict=True))
        return f"{of.__module__}.{of.__qualname__}({fields})"
    if hasattr(typ, "of"):  # a reference
        return f"&{_spelled(typ.of)}"
    if isinstance(typ, tuple | list | types.BaseTuple):
        return f"({', '.join(map(_spelled, typ))})"
    return str(typ)


def specialised(function: Callable, *arguments: object) -> Callable:
    """`function` compiled for the types of these arguments, to be called again and again with such.

    A compiled function finds out the types of its arguments at each call, which for a nested state of a hundred arrays
    takes longer than much of the work; what this returns does not.
    """
    if not isinstance(function, Dispatcher):  # compilation is off
        return function
    return function.compile(tuple(typeof(argument) for argument in arguments))


def plain(function: Callable) -> Callable:
    """`function` as Python, with the hooks that it calls."""
    return getattr(function, "py_func", function)


@inlined
def known_natural(number):
    """The same number, which is not negative, and which the compiler now knows of.

    As an index it needs no look whether it counts from the end.
    """
    return np.int64(number) & _ALL_BUT_SIGN
