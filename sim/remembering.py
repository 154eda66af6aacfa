"""Files are read once, for as long as a task takes that runs many scenarios of the same few files.

Within `files_stay`, a function marked `remembered` gives again what it gave before for the same arguments: its files
are taken to stay as they are, and nobody changes what it gives. Elsewhere it is called each time, since files may
change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

_memory: ContextVar[dict[tuple, Any] | None] = ContextVar("memory", default=None)
F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def files_stay(memory: dict[tuple, Any] | None = None) -> Iterator[None]:
    """A context in which no file that is read changes; within another such one, that one goes on.

    memory: what an earlier such context of the same files remembers, and this one adds to.
    """
    if _memory.get() is not None:
        yield
        return
    token = _memory.set({} if memory is None else memory)
    try:
        yield
    finally:
        _memory.reset(token)


def remembered(function: F) -> F:
    """What it gives within `files_stay` for arguments whose `repr` is the same; an error is raised each time anew."""

    @functools.wraps(function)
    def found(*arguments: Any, **named: Any) -> Any:
        memory = _memory.get()
        if memory is None:
            return function(*arguments, **named)
        key = (function, repr(arguments), repr(sorted(named.items())))
        if key not in memory:
            memory[key] = function(*arguments, **named)
        return memory[key]

    return found
