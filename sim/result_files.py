"""Folders of results, of whatever kind of run: Parquet tables and JSON documents that appear all at once or not at all.

Every such folder has `summary.json`, `manifest.json` (whose `format` says which kind and version it is) and
`timing.json`, beside the tables of its kind.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sim.arrow_numbers import numbers_of
from sim.errors import InputError

if TYPE_CHECKING:
    import pyarrow

DOCUMENTS = ("summary", "manifest", "timing")
_KINDS = {  # what a format begins with -> what reads such a folder
    "memhier result": "sim.results.load_result",
    "memhier serving": "sim.serving.results.load_serving_result",
    "memhier allocation": "sim.fragmentation.results.AllocationResult.load",
    "memhier sweep": "sim.result_set.load_results",
    "memhier study": "sim.result_set.load_results",
}
_LIBRARIES = ("numpy", "numba", "simpy", "pandas", "pyarrow")


class Coded(NamedTuple):
    """A column of names, each as a number into a list of them."""

    codes: np.ndarray
    names: tuple[str, ...]


Columns = Mapping[str, "np.ndarray | Coded"]


def check_place(folder: str | Path) -> None:
    """Find out before a long run whether its results can be written there. Raises InputError where they cannot."""
    folder = Path(folder)
    _check_replaceable(folder)
    place = folder.absolute()
    try:
        made = _make_parents(place.parent)
        trial = place.with_name(f".{place.name}.{os.getpid()}.trial")
        trial.mkdir()
        for path in (trial, *made):
            _remove_if_empty(path)
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error


@contextmanager
def written(folder: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` when all is done. What is there must be results, too.

    Raises InputError where the folder cannot be written or holds anything but results.
    """
    folder = Path(folder)
    _check_replaceable(folder)
    try:
        with _appearing(folder) as unfinished:
            yield unfinished
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error


def write_files(folder: Path, tables: Mapping[str, pyarrow.Table], documents: Mapping[str, Any]) -> None:
    """Parquet and JSON by name, the same bytes for the same content. Raises OSError."""
    import pyarrow.parquet

    for name, table in tables.items():
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet", compression="zstd")
    for name, content in documents.items():
        text = json.dumps(content, indent=1, allow_nan=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read_documents(folder: Path, tables: Iterable[str], format_: str) -> tuple[dict[str, Any], ...]:
    """(summary, manifest, timing) of a folder of results in this format, with these tables.

    Raises InputError where there is no such folder, a file is missing, or it is of another kind or version.
    """
    if not folder.is_dir():
        raise InputError("no such folder of results", value=str(folder))
    _check_kind(folder, format_)
    if format_of(folder) not in ("", format_):
        raise InputError("not results of this version", file=folder / "manifest.json", expected=f"format {format_!r}")
    names = [*(f"{name}.parquet" for name in tables), *(f"{name}.json" for name in DOCUMENTS)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(f"incomplete results: {', '.join(missing)} missing", file=folder)
    documents = tuple(read_json(folder / f"{name}.json") for name in DOCUMENTS)
    if documents[DOCUMENTS.index("manifest")].get("format") != format_:
        raise InputError("not results of this version", file=folder / "manifest.json", expected=f"format {format_!r}")
    return documents


def format_of(folder: Path) -> str:
    """What kind and version of results a folder holds, '' where it holds none that can be read."""
    try:
        return str(read_json(folder / "manifest.json").get("format", ""))
    except InputError:
        return ""


def _check_kind(folder: Path, format_: str) -> None:
    """Raises InputError where the folder holds results of another kind, however complete."""
    found = format_of(folder)
    for kind, reader in _KINDS.items():
        if found.startswith(kind) and not format_.startswith(kind):
            raise InputError(
                "results of another kind of run:", file=folder, value=found, expected=f"what {reader} reads"
            )


@functools.cache
def versions() -> dict[str, str]:
    from importlib.metadata import version

    from sim import __version__

    return {"memhier": __version__, "python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def arrow(columns: Columns) -> pyarrow.Table:
    """The columns' own memory as a table. `pyarrow.array` would import pandas, to see whether it was given some."""
    import pyarrow

    def numbers(column: np.ndarray) -> pyarrow.Array:
        values = np.ascontiguousarray(column)
        kind = pyarrow.from_numpy_dtype(values.dtype)
        return pyarrow.Array.from_buffers(kind, values.size, [None, pyarrow.py_buffer(values)])

    def words(names: tuple[str, ...]) -> pyarrow.Array:
        encoded = [name.encode() for name in names]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
        return pyarrow.StringArray.from_buffers(
            len(names), pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(encoded))
        )

    def array(column: np.ndarray | Coded) -> pyarrow.Array:
        if isinstance(column, Coded):
            return pyarrow.DictionaryArray.from_arrays(numbers(column.codes), words(column.names))
        return numbers(column)

    return pyarrow.table({name: array(column) for name, column in columns.items()})


def numpy_column(table: pyarrow.Table) -> np.ndarray | Coded:
    """The only column of a table."""
    column = table.unify_dictionaries().column(0).combine_chunks()
    if hasattr(column, "dictionary"):
        return Coded(numbers_of(column.indices), tuple(column.dictionary.to_pylist()))
    return numbers_of(column)


def read_parquet(path: Path, columns: list[str] | None = None) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error
    missing = [name for name in columns or () if name not in table.column_names]
    if missing:
        raise InputError("no such column in the table", file=path, value=missing[0])
    return table


def parquet_columns(path: Path) -> list[str]:
    """Names of a table's columns. Raises InputError where it cannot be read."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_schema(path).names
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"not a readable table: {' '.join(str(error).split())[:120]}", file=path)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object. Raises InputError where it cannot be read, or is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"not readable: {error}", file=path) from error
    if not isinstance(content, dict):
        raise InputError("not a JSON object", file=path)
    return content


def _check_replaceable(folder: Path) -> None:
    """Raises InputError where something stands at this place that is not a result."""
    try:
        if not folder.exists() and not folder.is_symlink():
            return
        if folder.is_symlink() or not folder.is_dir():
            raise InputError("not a folder", value=str(folder), expected="a new folder, or one of results to replace")
        empty = not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}", file=folder) from error
    if not empty and not _is_result(folder):
        problem = "the folder holds something else than results of memhier"
        raise InputError(problem, file=folder, expected="a new folder, or one of results to replace")


def _is_result(folder: Path) -> bool:
    return format_of(folder).startswith(tuple(_KINDS))


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end; where that is not reached, nothing stays."""
    place = folder.absolute()
    made = _make_parents(place.parent)
    unfinished = place.with_name(f".{place.name}.{os.getpid()}.unfinished")
    try:
        unfinished.mkdir()
        yield unfinished
        _take_place(unfinished, place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        for parent in made:
            _remove_if_empty(parent)
        raise


def _make_parents(parent: Path) -> list[Path]:
    """Make the folder and those above it; the ones that were not there, innermost first."""
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return


def _take_place(new: Path, place: Path) -> None:
    """Put `new` where `place` is; what was there is removed afterwards, or put back if the move fails."""
    if not place.exists():
        new.rename(place)
        return
    old = new.with_suffix(".replaced")
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
