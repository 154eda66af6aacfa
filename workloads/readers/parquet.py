"""Parquet tables, a row a request: `id` and any of a trace's other columns, by our names or mapped by an option.

Ids are whole numbers, or text, which counts by a fixed 64-bit hash. Times that are whole numbers or timestamps count
from the first row; times that are floating point are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sim.trace import text_ids
from sim.trace_building import Chunk, Clock, Report
from sim.trace_columns import COLUMNS, DERIVED
from sim.trace_options import Option, Reader

FIELDS = ("id", *(name for name in COLUMNS if name != "block" and name not in DERIVED))
UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
_BATCH_ROWS = 1 << 16
_MAY_BE_MISSING = ("ttl_ns", "prediction")


def sniff(head: bytes, name: str) -> bool:
    return head.startswith(b"PAR1")


def read_path(path: Path, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a row."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            yield from _chunks(file, options, report)
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise report(f"cannot read Parquet: {' '.join(str(error).split())[:160]}") from error


def _chunks(file, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    wanted = _wanted(file.schema_arrow.names, options["columns"], report)
    clock = Clock(UNITS_NS[options["time_unit"]], report)
    left = options["max_bytes"]
    first = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=list(dict.fromkeys(wanted.values()))):
        left -= batch.nbytes
        if left < 0:
            expected = "the option max_bytes to allow more"
            raise report(f"the file holds more than {options['max_bytes']} bytes", expected=expected)
        where = _where(first)
        columns = {field: _values(batch.column(name), field, report, where) for field, name in wanted.items()}
        if "arrival_ns" in columns:
            columns["arrival_ns"] = _times(columns["arrival_ns"], clock, where)
        yield {**columns, "where": where}
        first += batch.num_rows


def _wanted(names: list[str], mapping: dict[str, Any], report: Report) -> dict[str, str]:
    """Field of ours -> column of the file."""
    for field, name in mapping.items():
        if field not in FIELDS:
            raise report("unknown field in the option columns", value=field, candidates=FIELDS)
        if name is not None and name not in names:
            raise report("missing column", value=name, candidates=names)
    ours = {field: field for field in FIELDS if field in names}
    wanted = {field: name for field, name in {**ours, **mapping}.items() if name is not None}
    if "id" not in wanted:
        raise report("missing column", value="id", expected="it, or the option columns: {id: NAME}", candidates=names)
    if len(set(names)) < len(names):
        raise report("two columns of one name", value=",".join(names))
    return wanted


def _values(column, field: str, report: Report, where) -> np.ndarray:
    """The values of a column as numbers."""
    import pyarrow as pa

    if column.null_count and field not in _MAY_BE_MISSING:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise report(f"{field} is missing", **where(row))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if field == "id" and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return text_ids(column.to_pylist())
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns")).cast(pa.int64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise report(f"{field} does not hold numbers", value=str(column.type))
    return column.to_numpy(zero_copy_only=False)


def _times(times: np.ndarray, clock: Clock, where) -> np.ndarray:
    return times * clock.unit_ns if times.dtype.kind == "f" else clock(times, where)


def _where(first: int):
    return lambda row: {"field": f"row {first + row + 1}"}


READER = Reader(
    "parquet",
    "Parquet tables; columns id, arrival_ns, size_bytes, op, tenant, ttl_ns, ... by name or mapping",
    ("parquet", "pq"),
    sniff,
    options={
        "columns": Option({}, "field -> the file's column, such as {id: lbn}; null leaves a field out"),
        "time_unit": Option("ns", "unit of arrival times that are not timestamps", choices=tuple(UNITS_NS)),
    },
    read_path=read_path,
)
