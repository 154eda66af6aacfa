"""Memory accesses as DynamoRIO's tools print them; four forms of line, which may be mixed.

- `... read SIZE byte(s) @ ADDRESS ...`, also `write` and `ifetch`: drmemtrace's view tool. Its headings, rulers, and
  records of other kinds (`<marker: ...>`, `<thread ...>`) are passed over.
- `ADDRESS: SIZE, r`, also `w`, or the name of an instruction, which is then a fetch: the sample memtrace_simple.
- `PC,r,SIZE,ADDRESS`, also `w`: the sample memtrace_x86.
- `PC: R SIZE ADDRESS`, also `W`: tools that print the instruction's own address first.

Addresses are hexadecimal, with or without 0x, sizes decimal. Lines that begin `Format:` and blank ones are passed over.
None of the forms has times: time is the number of accesses so far, at a nominal time each. Threads are not told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from sim.trace_building import Chunk, Report
from sim.trace_columns import READ, WRITE
from sim.trace_options import Option, Reader
from workloads.readers._accesses import LINE_BYTES, access_lines, hexadecimal, lengths, line_pattern
from workloads.readers._common import is_text
from workloads.readers._runs import cut

_HEX = r"(?:0[xX])?([0-9a-fA-F]{1,16})"
_PC = r"(?:0[xX])?[0-9a-fA-F]{1,16}"
_FORMS = (
    rf"[ \tT\d:.]*?\b(read|write|ifetch)[ \t]+(\d{{1,9}}) byte\(s\) @ {_HEX}\b[^\n]*?",
    rf"[ \t]*{_HEX}: *(\d{{1,9}}), *([A-Za-z_][\w.]*)",
    rf"[ \t]*{_PC}, ?([rwRW]), ?(\d{{1,9}}), ?{_HEX}",
    rf"[ \t]*{_PC}: ([rwRW]) +(\d{{1,9}}) +{_HEX}",
)
_ACCESS = line_pattern("|".join(_FORMS))
_HEADINGS = r"Format:[^\n]*|Output format:|[ \t]*<--[^\n]*|-{4,}"
_PASSED_OVER = line_pattern(rf"{_HEADINGS}|[^@\n]*<(?:marker|thread)[^\n]*|[ \t]*")
_EXPECTED = "'read SIZE byte(s) @ ADDRESS', 'ADDRESS: SIZE, r', 'PC,r,SIZE,ADDRESS' or 'PC: R SIZE ADDRESS'"
_READS, _WRITES = (b"read", b"r", b"R"), (b"write", b"w", b"W")


def sniff(head: bytes, name: str) -> bool:
    return is_text(head) and _ACCESS.search(head) is not None


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row for each cache line that an access touches."""
    before = 0
    for lines in access_lines(stream, _ACCESS, _PASSED_OVER, _EXPECTED, report):
        if not lines.found:
            continue
        kinds, sizes, addresses = zip(*map(_in_order, lines.found), strict=True)
        write = np.array([kind in _WRITES for kind in kinds])
        fetch = ~write & np.array([kind not in _READS for kind in kinds])
        kept = np.arange(fetch.size) if options["instructions"] else np.flatnonzero(~fetch)
        address, length = hexadecimal(addresses), lengths(sizes, lines, report)
        rows = {
            "arrival_ns": (before + kept) * options["access_ns"],
            "op": np.where(write, WRITE, READ)[kept],
        }
        yield from cut(
            address[kept],
            length[kept],
            options["line_bytes"],
            rows,
            report,
            lambda row, lines=lines, kept=kept: lines.where(int(kept[row])),
        )
        before += fetch.size


def _in_order(groups: tuple[bytes, ...]) -> tuple[bytes, bytes, bytes]:
    """(kind, size, address) out of the groups of all forms, of which one has matched."""
    viewed, simple, listed, told = groups[0:3], groups[3:6], groups[6:9], groups[9:12]
    if simple[0]:
        return simple[2], simple[1], simple[0]
    return viewed if viewed[0] else listed if listed[0] else told


READER = Reader(
    "drmemtrace",
    "memory accesses by DynamoRIO's tools (text of the view tool and of the memtrace samples)",
    ("memtrace", "drmemtrace"),
    sniff,
    read,
    {
        "line_bytes": LINE_BYTES,
        "instructions": Option(False, "whether instruction fetches are rows, too"),
        "access_ns": Option(1.0, "nominal time from one access of the text to the next", at_least=0.0, at_most=1e9),
    },
)
