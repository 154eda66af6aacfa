"""Memory accesses as valgrind's lackey prints them (--tool=lackey --trace-mem=yes).

Lines are `I  ADDRESS,SIZE` for an instruction, ` L ADDRESS,SIZE` for a load, ` S ADDRESS,SIZE` for a store and
` M ADDRESS,SIZE` for a modification, which is a load and a store at one place and here a write; addresses are
hexadecimal, sizes decimal. Valgrind's own lines (`==PID== ...`, `--PID-- ...`) and blank ones are passed over. Time is
the number of instructions so far, at a nominal time each.
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

_ACCESS = line_pattern(r"(I | [LSM]) ([0-9a-fA-F]{1,16}),(\d{1,9})")
_PASSED_OVER = line_pattern(r"(?:==|--)\d+(?:==|--)[^\n]*|[ \t]*")
_EXPECTED = "'I  ADDRESS,SIZE', ' L ADDRESS,SIZE', ' S ADDRESS,SIZE' or ' M ADDRESS,SIZE'"


def sniff(head: bytes, name: str) -> bool:
    return is_text(head) and _ACCESS.search(head) is not None


def read(stream: BinaryIO, options: dict[str, Any], report: Report) -> Iterator[Chunk]:
    """A row for each cache line that an access touches."""
    instructions = 0
    for lines in access_lines(stream, _ACCESS, _PASSED_OVER, _EXPECTED, report):
        if not lines.found:
            continue
        kinds, addresses, sizes = zip(*lines.found, strict=True)
        kinds = np.array(kinds)
        fetch = kinds == b"I "
        clock = instructions + np.cumsum(fetch)
        instructions = int(clock[-1])
        kept = np.arange(fetch.size) if options["instructions"] else np.flatnonzero(~fetch)
        address, length = hexadecimal(addresses), lengths(sizes, lines, report)
        rows = {
            "arrival_ns": clock[kept] * options["instruction_ns"],
            "op": np.where(fetch | (kinds == b" L"), READ, WRITE)[kept],
        }
        yield from cut(
            address[kept],
            length[kept],
            options["line_bytes"],
            rows,
            report,
            lambda row, lines=lines, kept=kept: lines.where(int(kept[row])),
        )


READER = Reader(
    "lackey",
    "memory accesses by valgrind's lackey (text: I, L, S or M, hexadecimal address, size)",
    ("lackey",),
    sniff,
    read,
    {
        "line_bytes": LINE_BYTES,
        "instructions": Option(False, "whether instruction fetches are rows, too"),
        "instruction_ns": Option(1.0, "nominal time of an instruction", at_least=0.0, at_most=1e9),
    },
)
