"""Pickles of plain containers, numbers and text, and of nothing else: what is in the file cannot run anything.

Of the operations of a pickle (Python's pickletools), those that build lists, tuples, dicts, numbers, text and bytes are
done; one that names a class or function, or calls, or asks for an object from outside, is refused before it is. Nothing
is put in proportion to a number that the file states, so that a short file takes little memory. This is the
interpreter of pickle in Python, not in C: a million objects take a few seconds.
"""

from __future__ import annotations

import functools
import io
import pickle
import pickletools
from typing import Any

_PLAIN = """PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES
SHORT_BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM
SETITEMS GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE"""
_NAMING = "GLOBAL STACK_GLOBAL INST"  # their handlers call find_class first


class NotPlain(ValueError):
    """What was found that is no plain value, or no pickle."""


def _operations() -> dict[int, Any]:
    allowed = set(_PLAIN.split()) | set(_NAMING.split())
    codes = {ord(operation.code): operation.name for operation in pickletools.opcodes}
    handlers = pickle._Unpickler.dispatch
    return {code: handlers[code] if name in allowed else _refuse(name) for code, name in codes.items()}


def _refuse(name: str):
    def refuse(_unpickler) -> None:
        raise NotPlain(f"it has the operation {name}, which plain values do not need")

    return refuse


@functools.cache
def _plain_unpickler() -> type:
    class PlainUnpickler(pickle._Unpickler):
        dispatch = _operations()

        def find_class(self, module: str, name: str) -> None:
            raise NotPlain(f"it asks for {module}.{name}, and only plain containers, numbers and text are read")

    return PlainUnpickler


def load_plain(data: bytes) -> Any:
    """The value that the bytes are a pickle of. Raises NotPlain, for whatever reason they are none."""
    try:
        return _plain_unpickler()(io.BytesIO(data)).load()
    except NotPlain:
        raise
    except Exception as error:  # a pickle with an operation that does not fit can raise anything
        raise NotPlain(f"it is corrupt or truncated: {error or type(error).__name__}") from error
