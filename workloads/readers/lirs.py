"""The traces of the LIRS paper: one block number a line; a line `*` ends a phase and is no access.

The format is that of Jiang and Zhang, "LIRS: an efficient low inter-reference recency set replacement policy"
(SIGMETRICS 2002).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Report
from sim.trace_options import Option, Reader
from workloads.readers._common import is_text
from workloads.readers._table import whole_lines

_LINE = re.compile(rb"[ \t]*(\d{1,18}|\*)[ \t]*\r?")


def sniff(head: bytes, name: str) -> bool:
    lines = head.split(b"\n")[:16]
    whole = lines[:-1] or lines
    numbers = any(line.strip().isdigit() for line in whole)
    return is_text(head) and numbers and all(_LINE.fullmatch(line) for line in whole)


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row a line."""
    first = 1
    for data in whole_lines(stream, 1, report):
        numbers, lines = _numbers(data, first, report)
        chunk: Chunk = {"id": numbers, "where": lambda row, lines=lines: {"line": int(lines[row])}}
        if options["size_bytes"] is not None:
            chunk["size_bytes"] = np.full(numbers.size, options["size_bytes"], np.int64)
        yield chunk
        first += data.count(b"\n")


def _numbers(data: bytes, first: int, report: Report) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] block numbers, and the line of each."""
    texts = [line.strip() for line in data.split(b"\n")]
    places = [at for at, text in enumerate(texts) if text not in (b"", b"*")]
    bad = next((at for at in places if not (texts[at].isdigit() and len(texts[at]) < 19)), None)
    if bad is not None:
        text = texts[bad].decode("utf-8", "replace")
        raise report("bad value", line=first + bad, value=text, expected="a block number below 10^18, or *")
    return np.array([int(texts[at]) for at in places], np.int64), np.array(places, np.int64) + first


READER = Reader(
    "lirs",
    "traces of the LIRS paper, which Caffeine reads too (text: one block number a line)",
    ("trc", "trace", "txt"),
    sniff,
    read,
    {"size_bytes": Option(None, "the size of every block; without it they have none", kind="bytes", at_least=1)},
)
