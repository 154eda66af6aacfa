"""CloudPhysics' binary vscsi traces, versions 1 and 2: little-endian records of one SCSI command each.

Version 1, 32 bytes: uint32 serial number, uint32 bytes, uint32 scatter-gather entries, uint16 command, uint16 version,
uint64 block, uint64 time (us). Version 2, 40 bytes: uint16 command, uint16 version, uint32 serial number, uint32 bytes,
uint32 scatter-gather entries, uint64 block, uint64 time (us), uint64 response time. The version is the upper byte of
its field, and the same in all records. Blocks are of 512 bytes; an id is the number of the first, or that of a block
of `block_bytes` where requests are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Clock, Report
from sim.trace_columns import READ, WRITE
from sim.trace_options import Option, Reader
from workloads.readers._runs import BLOCK_BYTES, cut

RECORDS = {
    1: np.dtype(
        [
            *(("serial", "<u4"), ("bytes", "<u4"), ("entries", "<u4"), ("command", "<u2"), ("version", "<u2")),
            *(("block", "<u8"), ("time", "<u8")),
        ]
    ),
    2: np.dtype(
        [
            *(("command", "<u2"), ("version", "<u2"), ("serial", "<u4"), ("bytes", "<u4"), ("entries", "<u4")),
            *(("block", "<u8"), ("time", "<u8"), ("response", "<u8")),
        ]
    ),
}
SECTOR_BYTES = 512
# operation codes of SCSI block commands: READ and WRITE (6, 10, 12, 16), WRITE AND VERIFY, WRITE LONG and the like
_READS = (0x08, 0x28, 0x2D, 0x88, 0xA8)
_WRITES = (0x0A, 0x2A, 0x2E, 0x3F, 0x8A, 0x8E, 0x9A, 0x9C, 0xAA, 0xAE)
_OTHER = 2
_CHUNK_RECORDS = 1 << 15
_US = 1e3


def sniff(head: bytes, name: str) -> bool:
    return _version(head) is not None


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a record, or one for each block that its request touches."""
    clock = Clock(_US, report)
    meaning = np.full(1 << 16, _OTHER, np.uint8)
    meaning[list(_READS)], meaning[list(_WRITES)] = READ, WRITE
    for first, records in _records(stream, report):
        op = meaning[records["command"]]
        if options["other_commands"] == "refuse" and (op == _OTHER).any():
            row = int(np.argmax(op == _OTHER))
            expected = "a read or a write (the option other_commands: skip leaves others out)"
            raise report("command", value=hex(records["command"][row]), expected=expected, **_where(first)(row))
        kept = np.flatnonzero(op != _OTHER)
        where = _where(first, kept)
        records, op = records[kept], op[kept]
        _check(records, where, report)
        rows = {"arrival_ns": clock(records["time"], where), "op": op}
        length = records["bytes"].astype(np.int64)
        if options["block_bytes"] == 0:
            yield {"id": records["block"].view(np.int64), "size_bytes": length, **rows, "where": where}
        else:
            start = records["block"] * np.uint64(SECTOR_BYTES)
            yield from cut(start, length, options["block_bytes"], rows, report, where)


def _records(stream: BinaryIO, report: Report) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first, records) of successive stretches of the file."""
    head = stream.read(2 * RECORDS[2].itemsize)
    version = _version(head)
    if version is None:
        problem = "the trace is empty" if not head else "not a vscsi trace of version 1 or 2"
        raise report(problem, expected="records whose version is 1 or 2")
    record = RECORDS[version]
    first, rest = 0, head
    while data := rest + stream.read(_CHUNK_RECORDS * record.itemsize - len(rest)):
        whole, over = divmod(len(data), record.itemsize)
        if over and len(data) < _CHUNK_RECORDS * record.itemsize:
            problem = f"truncated: record {first + whole + 1} has {over} of {record.itemsize} bytes"
            raise report(problem)
        records = np.frombuffer(data, record, whole)
        wrong = records["version"] >> 8 != version
        if wrong.any():
            row = int(np.argmax(wrong))
            found = int(records["version"][row] >> 8)
            raise report("bad version", value=found, expected=f"{version}, as before", **_where(first)(row))
        yield first, records
        first, rest = first + whole, b""


def _version(head: bytes) -> int | None:
    """1 or 2, or None where the first two records say neither."""
    for version, record in RECORDS.items():
        records = np.frombuffer(head, record, min(2, len(head) // record.itemsize))
        if records.size and (records["version"] >> 8 == version).all():
            return version
    return None


def _check(records: np.ndarray, where, report: Report) -> None:
    for name, least, most in (("bytes", 1, 1 << 32), ("time", 0, 1 << 62), ("block", 0, 1 << 54)):
        wrong = (records[name] < least) | (records[name] >= most)
        if wrong.any():
            row = int(np.argmax(wrong))
            expected = f"from {least} to {most - 1}"
            raise report(f"bad {name}", value=int(records[name][row]), expected=expected, **where(row))


def _where(first: int, kept: np.ndarray | None = None):
    return lambda row: {"field": f"record {first + int(row if kept is None else kept[row]) + 1}"}


READER = Reader(
    "vscsi",
    "CloudPhysics vscsi (binary records of SCSI commands, versions 1 and 2)",
    ("vscsi", "vscsi1", "vscsi2"),
    sniff,
    read,
    {
        "block_bytes": BLOCK_BYTES,
        "other_commands": Option(
            "refuse", "commands that neither read nor write: an error, or no row", choices=("refuse", "skip")
        ),
    },
)
