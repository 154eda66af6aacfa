"""Of which sources the machine code of a plugin is made, as one digest: where it changes, kernels are compiled anew."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from numba import config
from numba.core.dispatcher import Dispatcher

from sim.kernels.compile import used_digest


def python_of(function: Callable) -> Callable:
    """The function as it was written, compiled or not."""
    return getattr(function, "py_func", function)


def digest_of(functions: Sequence[Callable]) -> str:
    """Of all source that can reach a kernel through these functions, and of the functions themselves."""
    digest = hashlib.sha256(repr(bool(config.BOUNDSCHECK)).encode())
    for function in functions:
        code = function.__code__
        closure = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
        digest.update(repr((function.__qualname__, code.co_code, repr(code.co_consts), closure)).encode())
    for source in sorted(_reachable_sources(functions)):
        digest.update(_source_digest(source))
    for module in sorted({function.__module__ for function in functions}):  # constants, too
        digest.update(used_digest(module))
    digest.update(_engine_digest())
    return digest.hexdigest()[:12]


def digest_of_sources(functions: Sequence[Callable]) -> str:
    """Of the modules that hold these functions, and of those whose functions they use, and so on."""
    digest = hashlib.sha256()
    for source in sorted(_reachable_sources(functions)):
        digest.update(_source_digest(source))
    return digest.hexdigest()[:12]


@cache
def _engine_digest() -> bytes:
    """Of the kernels that plugins are called from, and of the requests they are passed, loaded already or not."""
    package = Path(__file__).parent
    folders = [package / name for name in ("kernels", "engines", "devices")]
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    seam = [package / name for name in ("hook_arguments.py", "plugin.py", "policy.py")]
    return b"".join(_source_digest(str(file)) for file in (*files, *seam))


def _reachable_sources(functions: Sequence[Callable]) -> set[str]:
    """Files of the modules that hold the functions, and of those whose functions they use, and so on; not numpy's."""
    todo = [sys.modules.get(function.__module__) for function in functions]
    seen, files = set(), set()
    while todo:
        module = todo.pop()
        if module is None or module.__name__ in seen:
            continue
        seen.add(module.__name__)
        if not getattr(module, "__file__", None) or module.__name__.split(".")[0] in ("numpy", "numba"):
            continue
        files.add(module.__file__)
        todo += _modules_of_functions(module)
    return files


def _modules_of_functions(module) -> Iterator:
    for value in list(vars(module).values()):
        if isinstance(value, Dispatcher) or inspect.isfunction(value):
            yield sys.modules.get(python_of(value).__module__)


@cache
def _source_digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()
