"""MSR Cambridge block traces: CSV without a header, a request a line.

The columns are time (ticks of 100 ns), host, disk, Read or Write, offset (bytes), size (bytes) and response time.
A volume is a host and a disk; volumes are numbered in order of first appearance and are the tenants. An id is the
offset in bytes, or the number of the block where requests are cut into blocks, plus the volume's number times 2^52. The
format is that of Narayanan, Donnelly and Rowstron, "Write off-loading" (FAST 2008). Response times are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Clock, Report
from sim.trace_columns import READ, WRITE
from sim.trace_options import Option, Reader
from workloads.readers._common import is_text
from workloads.readers._runs import BLOCK_BYTES, cut
from workloads.readers._table import Block, one_of, text_blocks, whole_numbers

COLUMNS = ("timestamp", "hostname", "disk", "type", "offset", "size", "response")
OPERATIONS = {"read": READ, "write": WRITE}
_VOLUME_SHIFT = 52
_MOST_VOLUMES = 1 << (63 - _VOLUME_SHIFT)
_TICK_NS = 100.0


def sniff(head: bytes, name: str) -> bool:
    if not is_text(head):
        return False
    cells = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")
    return len(cells) == len(COLUMNS) and cells[3].strip().lower() in OPERATIONS


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a line, or one for each block that a line's request touches."""
    clock, volumes = Clock(_TICK_NS, report), _Volumes(report)
    wanted = {name: name for name in COLUMNS[:-1]}
    latest = None
    for block in text_blocks(stream, report, wanted, ",", list(COLUMNS), line=1):
        times = whole_numbers(block, "timestamp", report, 0, (1 << 62) - 1)
        if options["backwards"] == "hold" and times.size:
            times = np.maximum.accumulate(times if latest is None else np.maximum(times, latest))
            latest = times[-1]
        volume = volumes(block)
        rows = {
            "arrival_ns": clock(times, block.where),
            "op": one_of(block, "type", OPERATIONS, report, "Read or Write"),
            "tenant": volume,
        }
        offset = whole_numbers(block, "offset", report, 0, (1 << _VOLUME_SHIFT) - 1)
        length = whole_numbers(block, "size", report, 1, 1 << 50)
        for chunk in cut(offset, length, options["block_bytes"], rows, report, block.where):
            yield {**chunk, "id": chunk["id"] + (chunk["tenant"] << _VOLUME_SHIFT)}


class _Volumes:
    """Numbers pairs of host and disk in order of first appearance."""

    def __init__(self, report: Report):
        self.report = report
        self.known: dict[str, int] = {}

    def __call__(self, block: Block) -> np.ndarray:
        """int64[n] volume of each row."""
        from pyarrow import compute

        encoded = compute.binary_join_element_wise(block["hostname"], block["disk"], "\n").dictionary_encode()
        numbers = [self.known.setdefault(name, len(self.known)) for name in encoded.dictionary.to_pylist()]
        if len(self.known) > _MOST_VOLUMES:
            expected = f"at most {_MOST_VOLUMES}"
            raise self.report("too many volumes", line=block.first_line, value=len(self.known), expected=expected)
        return np.array(numbers, np.int64)[encoded.indices.to_numpy()]


READER = Reader(
    "msr",
    "MSR Cambridge block I/O (CSV: 100 ns ticks, host, disk, Read or Write, offset, bytes, response time)",
    ("csv",),
    sniff,
    read,
    {
        "block_bytes": BLOCK_BYTES,
        "backwards": Option(
            "refuse",
            "a time before that of the line above; refuse: an error; hold: taken as the latest time so far",
            choices=("refuse", "hold"),
        ),
    },
)
