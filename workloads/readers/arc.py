"""The block traces of the ARC paper: four numbers a line; first block, number of blocks, one ignored, request number.

A row for each block of a request. The format is that of Megiddo and Modha, "ARC: a self-tuning, low overhead
replacement cache" (FAST 2003).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from sim.trace_building import Chunk, Report
from sim.trace_options import BYTES, Option, Reader
from workloads.readers._common import is_text
from workloads.readers._runs import spread
from workloads.readers._table import text_blocks, whole_numbers

COLUMNS = ("start", "blocks", "ignored", "request")
_LINE = re.compile(rb"\d+ \d+ \d+ \d+\r?")


def sniff(head: bytes, name: str) -> bool:
    lines = head.split(b"\n")[:8]
    whole = lines[:-1] or lines
    return is_text(head) and all(_LINE.fullmatch(line) for line in whole)


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a block."""
    wanted = {name: name for name in COLUMNS[:2]}
    for block in text_blocks(stream, report, wanted, " ", list(COLUMNS), line=1):
        start = whole_numbers(block, "start", report, 0, (1 << 62) - 1)
        count = whole_numbers(block, "blocks", report, 1, 1 << 24)
        yield from spread(start, count, options["block_bytes"], {}, report, block.where)


READER = Reader(
    "arc",
    "block traces of the ARC paper (text: first block, number of blocks, ignored, request number)",
    ("lis", "arc"),
    sniff,
    read,
    {"block_bytes": Option(512, "the size of a block", kind=BYTES, at_least=1, at_most=1 << 40)},
)
