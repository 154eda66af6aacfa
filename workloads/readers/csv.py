"""Any delimited text with a header, its columns found by name or mapped by options.

A row needs an id; every other column of a trace is optional. Times count from the first row. An id column of
whole numbers (decimal or 0x) is taken as numbers, any other by a fixed 64-bit hash of its text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.arrow_numbers import numbers_of
from sim.errors import InputError
from sim.trace_building import Chunk, Clock, Report
from sim.trace_columns import READ, WRITE
from sim.trace_options import Option, Reader
from workloads.readers._common import is_text
from workloads.readers._table import (
    Block,
    bad_cell,
    hashed,
    header_line,
    one_of,
    split_line,
    text_blocks,
    trimmed,
    whole_numbers,
)

KNOWN_HEADERS = {
    "id": "id obj_id object_id objid object key block block_id lbn lba page page_id address addr offset",
    "arrival_ns": "arrival_ns arrival time timestamp ts clock_time",
    "size_bytes": "size_bytes size obj_size object_size bytes length len value_size",
    "op": "op operation opcode request_type rw io_type",
    "tenant": "tenant tenant_id client client_id vm thread_id",
    "think_ns": "think_ns think think_time",
    "cost": "cost fetch_cost recompute_cost",
    "ttl_ns": "ttl_ns ttl",
    "frequency_hint": "frequency_hint",
    "prediction": "prediction predicted_next_access",
    "priority": "priority",
}
UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
DELIMITERS = {"auto": "", "comma": ",", "tab": "\t", "semicolon": ";", "space": " ", "pipe": "|"}
# SCSI operation codes in hexadecimal beside the words: 08/0a, 28/2a, a8/aa, 88/8a are READ/WRITE (6, 10, 12, 16)
SPELLINGS = {
    READ: "r read 0 get gets load l rd 08 8 28 a8 88 false",
    WRITE: "w write 1 set put add store s wr update replace 0a a 2a aa 8a true",
}
_OPERATIONS = "read or write, as a word, a letter or a SCSI code (the option op_names adds spellings)"


def sniff(head: bytes, name: str) -> bool:
    if not is_text(head):
        return False
    first = head.split(b"\n", 1)[0].decode("utf-8", "replace")
    names = first.strip().removeprefix("\ufeff").split(_delimiter(first) or ",")
    return not first.lstrip().startswith("{") and "id" in _mapped(names)


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a line."""
    names, delimiter = _names(stream, options, report)
    wanted = _wanted(names, options, report)
    clock = Clock(_time_unit_ns(wanted.get("arrival_ns"), options), report)
    ids = _Ids(options["ids"])
    operations = _operations(options["op_names"], report)
    for block in text_blocks(stream, report, wanted, delimiter, names, line=1 if options["names"] else 2):
        chunk: Chunk = {"id": ids(block, report), "where": block.where}
        if "arrival_ns" in block:
            chunk["arrival_ns"] = clock(_numbers(block, "arrival_ns", report), block.where)
        if "think_ns" in block:
            chunk["think_ns"] = _numbers(block, "think_ns", report) * _time_unit_ns(wanted["think_ns"], options)
        if "size_bytes" in block:
            chunk["size_bytes"] = whole_numbers(block, "size_bytes", report, at_least=1, at_most=1 << 50)
        elif options["size_bytes"] is not None:
            chunk["size_bytes"] = np.full(len(block["id"]), options["size_bytes"], np.int64)
        if "tenant" in block:
            chunk["tenant"] = whole_numbers(block, "tenant", report, at_least=0, at_most=(1 << 31) - 1)
        if "ttl_ns" in block:
            chunk["ttl_ns"] = _floats(block, "ttl_ns", report) * _time_unit_ns(wanted["ttl_ns"], options)
        for field in ("cost", "prediction"):
            if field in block:
                chunk[field] = _floats(block, field, report)
        for field in ("frequency_hint", "priority"):
            if field in block:
                chunk[field] = whole_numbers(block, field, report)
        if "op" in block:
            chunk["op"] = one_of(block, "op", operations, report, _OPERATIONS)
        yield chunk


def _names(stream: BinaryIO, options: dict[str, Any], report: Report) -> tuple[list[str], str]:
    """The file's column names and its delimiter."""
    delimiter = DELIMITERS[options["delimiter"]]
    if options["names"] is not None:
        return [str(name) for name in options["names"]], delimiter or ","
    header = header_line(stream, report)
    delimiter = delimiter or _delimiter(header) or ","
    return split_line(header, delimiter, 1, report), delimiter


def _delimiter(header: str) -> str:
    """The delimiter that a header uses, or the empty string for a header of one column."""
    return next((d for d in (",", "\t", ";", "|", " ") if d in header.strip()), "")


def _mapped(names: list[str]) -> dict[str, str]:
    """Field of ours -> column of the file, by names known to be used; the first spelling on our list wins."""
    plain = {_plain(name): name for name in reversed(names)}
    found = {}
    for field, known in KNOWN_HEADERS.items():
        match = next((plain[name] for name in known.split() if name in plain), None)
        if match is not None:
            found[field] = match
    return found


def _plain(header: str) -> str:
    """A header in lower case and without its unit, so that time_us and Time [us] are time."""
    text = re.sub(r"[^a-z0-9]+", "_", header.strip().lower()).strip("_")
    return (
        text
        if text in ("size_bytes", "arrival_ns", "think_ns", "ttl_ns")
        else re.sub(r"_(ns|us|ms|s|bytes)$", "", text)
    )


def _wanted(names: list[str], options: dict[str, Any], report: Report) -> dict[str, str]:
    """Field of ours -> column of the file: as the options say, and by known names for what they leave open."""
    mapping = options["columns"]
    for field, header in mapping.items():
        if field not in KNOWN_HEADERS:
            raise report("unknown field in the option columns", value=field, candidates=KNOWN_HEADERS)
        if header is not None and header not in names:
            raise report("missing column", line=1, value=header, candidates=names)
    chosen = {field: header for field, header in {**_mapped(names), **mapping}.items() if header is not None}
    if "id" not in chosen:
        known = ", ".join(KNOWN_HEADERS["id"].split()[:6])
        expected = f"a column of ids ({known}, ...) or the option columns: {{id: NAME}}"
        raise report("no column of ids among", line=1, value=",".join(names), expected=expected)
    return chosen


def _time_unit_ns(header: str | None, options: dict[str, Any]) -> float:
    """The unit of a column of times: as set, else by the end of its name, else seconds."""
    if options["time_unit"] != "auto":
        return UNITS_NS[options["time_unit"]]
    ending = re.search(r"[^a-z](ns|us|ms|s)[^a-z]*$", (header or "").lower())
    return UNITS_NS[ending[1]] if ending else UNITS_NS["s"]


def _numbers(block: Block, field: str, report: Report) -> np.ndarray:
    """int64[n] where all are whole numbers, else float64[n]."""
    import pyarrow as pa

    texts = trimmed(block[field])
    for kind in (pa.int64(), pa.float64()):
        try:
            return numbers_of(texts.cast(kind))
        except pa.ArrowInvalid:
            continue
    raise bad_cell(block, field, report, _is_number, "a number")


def _floats(block: Block, field: str, report: Report) -> np.ndarray:
    """float64[n]; an empty cell is NaN, which says that nothing is known."""
    import pyarrow as pa
    from pyarrow import compute

    texts = trimmed(block[field])
    try:
        return numbers_of(compute.if_else(compute.equal(texts, ""), "nan", texts).cast(pa.float64()))
    except pa.ArrowInvalid:
        raise bad_cell(block, field, report, _is_float_or_empty, "a number, or nothing") from None


def _is_float_or_empty(cell: str) -> bool:
    try:
        return not cell or (float(cell) is not None and "_" not in cell)
    except ValueError:
        return False


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False


class _Ids:
    """Reads ids as numbers or as text; `auto` settles it by the first block, for a block must not change its mind."""

    def __init__(self, kind: str):
        self.kind = kind

    def __call__(self, block: Block, report: Report) -> np.ndarray:
        if self.kind == "text":
            return hashed(block, "id")
        try:
            numbers = whole_numbers(block, "id", report, expected="a whole number (the option ids: text allows any)")
        except InputError:
            if self.kind == "number":
                raise
            self.kind = "text"
            return hashed(block, "id")
        self.kind = "number"
        return numbers.view(np.int64)


def _operations(extra: dict[str, Any], report: Report) -> dict[str, int]:
    """Spelling -> READ or WRITE; the option op_names adds spellings or changes them."""
    spelled = {text: op for op, texts in SPELLINGS.items() for text in texts.split()}
    for text, meaning in extra.items():
        if meaning not in ("read", "write"):
            raise report("bad value in the option op_names", value=meaning, expected="read or write")
        spelled[str(text).lower()] = READ if meaning == "read" else WRITE
    return spelled


READER = Reader(
    "csv",
    "delimited text with a header; id, arrival_ns, size_bytes, op, tenant, ttl_ns, ... by known names or mapping",
    ("csv", "tsv", "txt"),
    sniff,
    read,
    {
        "columns": Option(
            {}, "field -> the file's column, such as {id: lbn, arrival_ns: time}; null leaves a field out"
        ),
        "names": Option(None, "the columns' names, for a file without a header", kind=list),
        "delimiter": Option("auto", "what separates columns", choices=tuple(DELIMITERS)),
        "time_unit": Option(
            "auto", "unit of times; auto: by the column's name (time_us), else s", choices=("auto", *UNITS_NS)
        ),
        "ids": Option("auto", "what ids are; auto: whole numbers if the first are", choices=("auto", "number", "text")),
        "op_names": Option({}, "further spellings of operations, such as {alloc: write, free: read}"),
        "size_bytes": Option(None, "the size of every row, for a file without sizes", kind="bytes", at_least=1),
    },
)
