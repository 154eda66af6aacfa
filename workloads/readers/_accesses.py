"""Memory accesses in a text, a line each: found by one pattern, folded into cache lines."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from sim.trace_building import Report
from sim.trace_options import BYTES, Option
from workloads.readers._table import whole_lines

LINE_BYTES = Option(
    64,
    "size of a cache line: an access is a row for each line it touches, ids are numbers of lines; 0: ids are addresses",
    kind=BYTES,
    at_least=0,
    at_most=1 << 30,
)


class Lines:
    """Some lines of the text. found: the groups of each line that matched. No line may match both patterns."""

    def __init__(self, data: bytes, first: int, pattern: re.Pattern, passed_over: re.Pattern, report: Report):
        self.data, self.first, self.pattern = data, first, pattern
        self.found = pattern.findall(data)
        lines = data.count(b"\n") + 1  # the last may be empty, which counts as a blank one, passed over
        if len(self.found) + len(passed_over.findall(data)) != lines:
            raise self._bad_line(passed_over, report)

    def where(self, row: int) -> dict[str, int]:
        """The line of the row-th match, as keywords of InputError."""
        matches = self.pattern.finditer(self.data)
        at = next(match.start() for nth, match in enumerate(matches) if nth == row)
        return {"line": self.first + self.data.count(b"\n", 0, at)}

    def _bad_line(self, passed_over: re.Pattern, report: Report):
        lines = enumerate(self.data.split(b"\n"), self.first)
        good = (self.pattern.fullmatch, passed_over.fullmatch)
        number, line = next((number, line) for number, line in lines if not any(fits(line) for fits in good))
        return report("no memory access:", line=number, value=line.decode("utf-8", "replace").strip())


def access_lines(
    stream: BinaryIO, pattern: re.Pattern, passed_over: re.Pattern, expected: str, report: Report
) -> Iterator[Lines]:
    """The text in pieces. Raises InputError for the first line that neither is an access nor may be passed over."""
    first = 1
    told = functools.partial(report, expected=expected)
    for data in whole_lines(stream, 1, report):
        yield Lines(data, first, pattern, passed_over, told)
        first += data.count(b"\n")


def hexadecimal(texts: list[bytes]) -> np.ndarray:
    """uint64[n] of hexadecimal numbers of at most 16 digits."""
    return np.array([int(text, 16) for text in texts], np.uint64)


def lengths(texts: list[bytes], lines: Lines, report: Report) -> np.ndarray:
    """int64[n] bytes of each access. Raises InputError where one is 0."""
    found = np.array([int(text) for text in texts], np.int64)
    if found.size and found.min() < 1:
        raise report("bad size", value=0, expected="1 byte or more", **lines.where(int(np.argmin(found))))
    return found


def line_pattern(alternatives: str) -> re.Pattern:
    """A pattern of whole lines, with or without a carriage return at the end."""
    return re.compile(rf"^(?:{alternatives})\r?$".encode(), re.MULTILINE)
