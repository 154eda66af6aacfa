"""Heap calls as CSV: time_ns, op (alloc, resize, free), address_id, size_bytes, and optionally stream, kind and label.

The form of `workloads/record/heap_python.py` and `heap_program.py`. address_id is whatever names an object while it
lives: a number, an address (0x...), or text; after a free it may name another object. size_bytes: from then on; of a
free it does not matter and may be empty. stream (from 0), kind and label are taken from the row that allocates an
object.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, OPERATION_NAMES, RELEASE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.streams import open_stream
from sim.trace_building import Report
from sim.trace_options import Option
from workloads.allocations._unseen import UNSEEN, drop_unseen
from workloads.readers._common import is_text
from workloads.readers._table import (
    Block,
    bad_cell,
    header_line,
    one_of,
    split_line,
    text_blocks,
    trimmed,
    whole_numbers,
)

_REQUIRED = {"time": "time_ns", "op": "op", "id": "address_id", "size": "size_bytes"}
_OPTIONAL = {"stream": "stream", "kind": "kind", "label": "label"}
_UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
_LARGEST_STREAM = 1 << 20


def recognises(head: bytes) -> bool:
    names = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip().removeprefix("\ufeff").split(",")
    return is_text(head) and {"op", "address_id", "size_bytes"} <= {name.strip() for name in names}


def read(path: Path, options: dict[str, Any]) -> Operations:
    report = functools.partial(InputError, file=path)
    with open_stream(path, options["max_bytes"]) as stream:
        columns = _gathered(_blocks(stream, options, report), options["rows"])
    if not columns:
        raise report("no allocations", expected="rows after the line of column names")
    columns = drop_unseen(columns) if options["unseen"] == "skip" else columns
    allocated = columns["op"] == ALLOCATE
    kinds, kind = np.unique(columns["kind"][allocated], return_inverse=True) if "kind" in columns else ((), None)
    return build_operations(
        path.name.split(".")[0],
        columns["time"],
        columns["op"],
        columns["id"],
        columns["size"],
        file=path,
        lines=columns["lines"],
        stream=columns["stream"][allocated] if "stream" in columns else None,
        kind=kind,
        kinds=tuple(map(str, kinds)),
        labels=columns["label"][allocated].tolist() if "label" in columns else None,
    )


def _gathered(blocks: Iterator[dict[str, np.ndarray]], rows: int | None) -> dict[str, np.ndarray]:
    """The columns of all blocks, up to so many rows; none where there is no block."""
    parts, count = [], 0
    for block in blocks:
        parts.append(block)
        count += block["op"].size
        if rows is not None and count >= rows:
            break
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in (parts[0] if parts else ())}


def _blocks(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[dict[str, np.ndarray]]:
    names = split_line(header_line(stream, report), ",", 1, report)
    wanted = _wanted(names, options["columns"], report)
    codes = {name: code for code, name in enumerate(OPERATION_NAMES)}
    unit_ns = _UNITS_NS[options["time_unit"]]
    ids = _Ids()
    for block in text_blocks(stream, report, wanted, ",", names):
        op = one_of(block, "op", codes, report, "alloc, resize or free").astype(np.int8)
        columns = {
            "op": op,
            "time": _times(block, report) * unit_ns,
            "id": ids(block, report),
            "size": _whole(block, "size", op == RELEASE, report),
            "lines": _lines(block, op.size),
        }
        if "stream" in block:
            columns["stream"] = _whole(block, "stream", op != ALLOCATE, report)
            _check_streams(block, columns["stream"], report)
        yield {**columns, **{name: _texts(block, name) for name in ("kind", "label") if name in block}}


def _wanted(names: list[str], mapping: dict[str, Any], report: Report) -> dict[str, str]:
    """Field of ours -> column of the file."""
    known = {**_REQUIRED, **_OPTIONAL}
    for field, header in mapping.items():
        if field not in known:
            raise report("unknown field in the option columns", value=field, candidates=known)
        if header not in names:
            raise report("missing column", line=1, value=header, candidates=names)
    optional = {field: header for field, header in _OPTIONAL.items() if header in names}
    return {**_REQUIRED, **optional, **mapping}


def _times(block: Block, report: Report) -> np.ndarray:
    import pyarrow as pa

    try:
        return trimmed(block["time"]).cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        raise bad_cell(block, "time", report, _is_number, "a number") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _whole(block: Block, field: str, may_be_blank: np.ndarray, report: Report) -> np.ndarray:
    """int64[n]; blank cells count as 0. What no 64 bits hold is as absurd as the largest that they do."""
    from pyarrow import compute

    texts = trimmed(block[field])
    blank = compute.and_(compute.equal(texts, ""), may_be_blank)
    filled = {**block.columns, field: compute.if_else(blank, "0", texts)}
    numbers = whole_numbers(Block(filled, block.headers, block.data, block.first_line), field, report)
    return np.minimum(numbers, np.iinfo(np.int64).max).astype(np.int64) if numbers.dtype == np.uint64 else numbers


def _check_streams(block: Block, streams: np.ndarray, report: Report) -> None:
    bad = (streams < 0) | (streams > _LARGEST_STREAM)
    if bad.any():
        row = int(bad.argmax())
        expected = f"a whole number from 0 to {_LARGEST_STREAM}"
        where = {**block.where(row), "field": block.headers["stream"]}
        raise report("bad number", **where, value=int(streams[row]), expected=expected)


class _Ids:
    """Ids as numbers where all of the first block are, else as text, numbered in order of appearance."""

    def __init__(self):
        self.numbers: dict[str, int] | None = None

    def __call__(self, block: Block, report: Report) -> np.ndarray:
        if self.numbers is None:
            try:
                return whole_numbers(block, "id", report).view(np.int64)
            except InputError:
                if block.first_line > 2:  # ids of earlier blocks were numbers
                    raise
                self.numbers = {}
        encoded = trimmed(block["id"]).dictionary_encode()
        known = [self.numbers.setdefault(text, len(self.numbers)) for text in encoded.dictionary.to_pylist()]
        return np.array(known, np.int64)[encoded.indices.to_numpy()]


def _texts(block: Block, field: str) -> np.ndarray:
    """object[n] of texts; equal ones of a block are one object."""
    encoded = block[field].dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()]


def _lines(block: Block, rows: int) -> np.ndarray:
    """int64[rows] the line of each row in the file; blank lines are no rows."""
    if block.data.count(b"\n") + (not block.data.endswith(b"\n")) == rows:
        return np.arange(block.first_line, block.first_line + rows)
    lines = enumerate(block.data.split(b"\n"), block.first_line)
    return np.array([number for number, line in lines if line.strip(b"\r")])


SOURCE = AllocationSource(
    "heap_csv",
    "CSV of heap calls: time_ns, op (alloc, resize, free), address_id, size_bytes [, stream, kind, label]",
    options={
        "columns": Option({}, "field -> the file's column, such as {time: t_us, id: pointer, size: bytes}"),
        "time_unit": Option("ns", "unit of the times", choices=tuple(_UNITS_NS)),
        "unseen": UNSEEN,
        "rows": Option(None, "rows that are read, at most", kind=int, at_least=1),
        "max_bytes": Option(64 << 30, "the most that a file may hold once decompressed", kind="bytes", at_least=1),
    },
    extensions=(".csv",),
    read=read,
    recognises=recognises,
)
