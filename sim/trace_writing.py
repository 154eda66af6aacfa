"""Traces into files: Parquet, libCacheSim's oracleGeneral, and memhier's own dense folders.

Each is written a chunk at a time, so that memory stays bounded, and under another name that is changed at the end, so
that no half of a file is left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sim.errors import InputError
from sim.trace import Trace
from sim.trace_columns import COLUMNS, DERIVED, NEVER

_S = 1e9
_UINT32_END = 1 << 32
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Format:
    """One format to write. write(trace, target, source); keeps: the columns it has room for; endings: of targets."""

    name: str
    endings: tuple[str, ...]
    keeps: frozenset[str]
    keeps_calls: bool
    write: Callable[[Trace, Path, str], None]

    def loses(self, trace: Trace) -> list[str]:
        """What of this trace does not fit into the format."""
        columns = sorted(trace.columns - self.keeps - DERIVED)
        return columns + (["calls"] if trace.calls is not None and not self.keeps_calls else [])


def format_of(target: Path, name: str | None) -> Format:
    """The format called `name`, or the one that the end of the target's name says. Raises InputError for neither."""
    formats = {one.name: one for one in FORMATS}
    if name is not None:
        if name not in formats:
            raise InputError("unknown format", value=name, candidates=formats)
        return formats[name]
    for one in FORMATS:
        if target.name.lower().endswith(tuple(ending.lower() for ending in one.endings)):
            return one
    endings = ", ".join(ending for one in FORMATS for ending in one.endings)
    raise InputError("no format has this ending:", value=target.name, expected=f"one of {endings}, or --format")


# -------------------------------------------------------------------------------------------------------------- formats


def write_oracle_general(trace: Trace, target: Path, source: str) -> None:
    """libCacheSim's records of 24 bytes: uint32 time (whole seconds), uint64 id, uint32 size, int64 next access.

    The next access is the request number counted from 1, -1 for never; times are rounded down; a trace without sizes or
    times has 1 and 0 there. A target that ends with .zst is compressed. Raises InputError for a size or a time in
    seconds of 2^32 or more.
    """
    trace = trace.with_next_access()
    optional = [name for name in ("arrival_ns", "size_bytes") if name in trace.columns]
    with _appearing(target) as file:
        for block, next_access, *rest in trace.chunks("block", "next_access", *optional):
            columns = dict(zip(optional, rest, strict=True))
            file.write(_records(trace.address[block], next_access, columns, target))


def _records(ids: np.ndarray, next_access: np.ndarray, columns: dict[str, np.ndarray], target: Path) -> np.ndarray:
    """uint32[n, 6] the words of n records."""
    words = np.empty((ids.size, 6), "<u4")
    seconds = np.floor(columns["arrival_ns"] / _S) if "arrival_ns" in columns else np.zeros(ids.size)
    sizes = columns.get("size_bytes", np.ones(ids.size, np.int64))
    for name, values in (("time in seconds", seconds), ("size", sizes)):
        if values.max() >= _UINT32_END:
            expected = "less than 2^32, or another format"
            raise InputError(f"no room in oracleGeneral for the {name}", value=values.max().item(), expected=expected)
    words[:, 0], words[:, 3] = seconds, sizes
    words[:, 1:3] = ids.astype("<i8").view("<u4").reshape(-1, 2)
    words[:, 4:6] = np.where(next_access == NEVER, -1, next_access + 1).astype("<i8").view("<u4").reshape(-1, 2)
    return words


def write_parquet(trace: Trace, target: Path, source: str) -> None:
    """A table with `id` and the trace's own columns, without what follows from the ids; compressed by zstd."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [name for name in COLUMNS if name in trace.columns and name != "block" and name not in DERIVED]
    facts = json.dumps({"name": trace.name, "digest": trace.digest, "source": source})
    fields = [pa.field("id", pa.int64()), *(pa.field(name, pa.from_numpy_dtype(COLUMNS[name])) for name in names)]
    schema = pa.schema(fields, {"memhier.trace": facts})
    with _appearing(target) as file:
        options = {"compression": "zstd", "compression_level": _ZSTD_LEVEL, "write_page_checksum": True}
        with parquet.ParquetWriter(file, schema, **options) as writer:
            for block, *columns in trace.chunks("block", *names):
                arrays = [pa.array(column) for column in (trace.address[block], *columns)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))


def write_dense(trace: Trace, target: Path, source: str) -> None:
    """A folder of arrays that are mapped rather than read."""
    from sim import dense

    dense.write_dense(trace, target, source)


@contextmanager
def _appearing(target: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes its name once all is written; compressed where the name ends with .zst."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    if target.is_dir():
        raise InputError("cannot write the trace: it is a folder", file=target)
    try:
        with ExitStack() as opened:
            file = opened.enter_context(open(unfinished, "wb"))
            if target.suffix.lower() == ".zst":
                import zstandard

                compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
                file = opened.enter_context(compressor.stream_writer(file))
            yield file
        unfinished.replace(target)
    except OSError as error:
        raise InputError(f"cannot write the trace: {error.strerror or error}", file=target) from error
    finally:
        unfinished.unlink(missing_ok=True)


_ALL = frozenset(COLUMNS)
FORMATS = (
    Format("parquet", (".parquet",), _ALL, False, write_parquet),
    Format(
        "oracleGeneral",
        (".oracleGeneral", ".oracleGeneral.zst"),
        frozenset({"block", "arrival_ns", "size_bytes"}),
        False,
        write_oracle_general,
    ),
    Format("dense", (".dense",), _ALL, True, write_dense),
)
