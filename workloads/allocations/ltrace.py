"""Heap calls as tracers print them, a call a line: of ltrace, and of valgrind with --trace-malloc=yes.

ltrace -f -tt -o FILE -e malloc+calloc+realloc+free COMMAND (or -t, -ttt, -r, -S): lines such as
`1234 12:00:00.000001 malloc(32) = 0x55d0c0`, a call that another line interrupts in two (`<unfinished ...>`,
`<... malloc resumed>`). memalign and aligned_alloc are read, too; posix_memalign is not: no line says which address it
gave. valgrind --trace-malloc=yes [--time-stamp=yes] --log-file=FILE COMMAND: lines such as
`--1234-- malloc(10) = 0x4A26040`, with C++'s operators under their mangled names. Lines that are no heap call (system
calls, signals, a program's output) are passed over.

A realloc that moves is an allocation of the new object and then a free of the old one, one that does not is a resize;
0 bytes count as 1; a call that returned nothing is no row. Without times, rows are 1 ns apart. Addresses are those of
one process where ltrace says process ids (they are mostly threads), and of one each where valgrind does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.streams import open_stream
from sim.trace_building import Report
from sim.trace_options import Option
from workloads.allocations._unseen import UNSEEN, drop_unseen

_VALGRIND = re.compile(r"--(?:(?P<days>\d+):(?P<clock>[\d:.]+) )?(?P<pid>\d+)-- (?P<call>.*)")
_LTRACE = re.compile(
    r"(?:\[pid (?P<pid1>\d+)\] |(?P<pid2>\d+) +)? *(?:(?P<clock>\d+:\d+:\d+(?:\.\d+)?) |(?P<seconds>\d+\.\d+) )? *"
    r"(?:\[0x[0-9a-f]+\] )?(?:[\w.+/-]+->)?(?P<call>[\w<].*)"
)
_CALL = re.compile(r"(?P<name>\w+)(?:@[\w.+-]+)?\((?P<arguments>[^()<]*)(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+)(?:@[\w.+-]+)? resumed>(?P<rest>.*)")
_RESULT = re.compile(r" *\)? *= (?P<result>\S+)")
_NESTED = re.compile(r"realloc\([^)]*\)(?=malloc\(|free\()")  # valgrind, of a null pointer or no bytes
_NEW = re.compile(r"_Zn[aw]|__builtin_(?:vec_)?new$")
_DELETE = re.compile(r"_Zd[al]|__builtin_(?:vec_)?delete$|cfree$")
_FEWEST_ARGUMENTS = {"malloc": 1, "calloc": 2, "realloc": 2, "free": 1, "memalign": 2, "aligned_alloc": 2}
_NULLS = ("nil", "(nil)", "NULL")
_EPOCH_SECONDS = 1e8  # -ttt counts from 1970, -r from the call before
_DAY_SECONDS = 86400.0
_MOST = np.iinfo(np.int64).max
_LONGEST_LINE = 1 << 16


class _Line(NamedTuple):
    """What stands before a call, and the call."""

    pid: int
    own_space: bool  # addresses are of this pid alone
    seconds: float | None
    is_difference: bool  # since the line before
    call: str


def recognises(head: bytes) -> bool:
    if head.startswith(b'{"dhatFileVersion"'):
        return True  # to be refused in words
    calls = (_call(line.call) for line in map(_split, head.decode("utf-8", "replace").splitlines()) if line)
    return any(call is not None for call in calls)


def read(path: Path, options: dict[str, Any]) -> Operations:
    report = functools.partial(InputError, file=path)
    rows = list(_rows(path, options, report))
    if not rows:
        raise report("no heap calls", expected='lines such as "malloc(32) = 0x55d0c0"')
    time_ns, op, ids, sizes, lines = zip(*rows, strict=True)
    columns = {
        "time": np.array(time_ns, np.float64),
        "op": np.array(op, np.int8),
        "id": np.array(ids),
        "size": np.array(sizes, np.int64),
        "lines": np.array(lines),
    }
    columns = drop_unseen(columns) if options["unseen"] == "skip" else columns
    return build_operations(
        path.name.split(".")[0],
        columns["time"],
        columns["op"],
        columns["id"],
        columns["size"],
        file=path,
        lines=columns["lines"],
    )


def _rows(path: Path, options: dict[str, Any], report: Report) -> Iterator[tuple[float, int, str, int, int]]:
    """(time, operation, id, size, line), a row at a time."""
    clock = _Clock()
    waiting: dict[tuple[int, str], str] = {}  # arguments of calls that have not returned yet, by pid and name
    for number, text in _lines(path, options["max_bytes"], report):
        line = _split(text)
        if line is None:
            continue
        now_ns = clock(line, number)
        whole = _whole_call(line, waiting)
        if whole is None:
            continue
        where = functools.partial(report, line=number)
        space = f"{line.pid}:" if line.own_space else ""
        for op, address, size in _events(*whole, where):
            yield now_ns, op, f"{space}{address:#x}", min(size, _MOST), number


def _lines(path: Path, max_bytes: int, report: Report) -> Iterator[tuple[int, str]]:
    """(number, text) of each line; the end of one that is too long to be a call is left out."""
    with open_stream(path, max_bytes) as stream:
        number = 0
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            if number == 1 and line.startswith(b'{"dhatFileVersion"'):
                expected = "the output of valgrind --trace-malloc=yes (or of ltrace)"
                raise report("DHAT's totals have no stream of calls, so nothing can be replayed", expected=expected)
            text = line.decode("utf-8", "replace").rstrip()
            while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                line = stream.readline(_LONGEST_LINE)
            yield number, text


def _split(text: str) -> _Line | None:
    """A line of either tracer; None for one that is of neither."""
    valgrind = _VALGRIND.fullmatch(text)
    if valgrind:
        seconds = None
        if valgrind["clock"]:
            seconds = _DAY_SECONDS * int(valgrind["days"]) + _seconds(valgrind["clock"])
        return _Line(int(valgrind["pid"]), True, seconds, False, _NESTED.sub("", valgrind["call"]))
    found = _LTRACE.fullmatch(text)
    if not found:
        return None
    pid, seconds = int(found["pid1"] or found["pid2"] or 0), float(found["seconds"]) if found["seconds"] else None
    if found["clock"]:
        return _Line(pid, False, _seconds(found["clock"]), False, found["call"])
    return _Line(pid, False, seconds, seconds is not None and seconds < _EPOCH_SECONDS, found["call"])


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return 3600 * float(hours) + 60 * float(minutes) + float(seconds)


class _Clock:
    """Times in ns since the first line; of lines without, the number of the line, 1 ns each."""

    def __init__(self):
        self.first, self.last, self.days = None, 0.0, 0.0

    def __call__(self, line: _Line, number: int) -> float:
        if line.seconds is None:
            return self.last * 1e9 if self.first is not None else float(number)
        seconds = self.last + line.seconds if line.is_difference else line.seconds + self.days
        if not line.is_difference and seconds < self.last - _DAY_SECONDS / 2:  # past midnight
            self.days += _DAY_SECONDS
            seconds += _DAY_SECONDS
        if self.first is None:
            self.first = seconds
        self.last = seconds
        return round(1e9 * (seconds - self.first))


def _call(text: str) -> tuple[str, str, str] | None:
    """(name, arguments, what follows) of a heap call, under C's name; None for any other."""
    found = _CALL.match(text)
    if not found:
        return None
    name = found["name"]
    if _NEW.match(name):
        name = "memalign" if "align_val_t" in name else "malloc"
    elif _DELETE.match(name):
        name = "free"
    return (name, found["arguments"], found["rest"]) if name in _FEWEST_ARGUMENTS else None


def _whole_call(line: _Line, waiting: dict[tuple[int, str], str]) -> tuple[str, str, str] | None:
    """The call that ends on this line; a free, which gives nothing back, where it begins."""
    resumed = _RESUMED.match(line.call)
    if resumed:
        arguments = waiting.pop((line.pid, resumed["name"]), None)
        return None if arguments is None else (resumed["name"], arguments, resumed["rest"])
    call = _call(line.call)
    if call is None or not call[2].startswith("<"):
        return call
    name, arguments, why = call
    if name == "free":
        return name, arguments, ")"
    if "unfinished" in why:  # else the program ended in it
        waiting[line.pid, name] = arguments
    return None


def _events(name: str, arguments: str, rest: str, where: Report) -> Iterator[tuple[int, int, int]]:
    """(operation, address, bytes) of what a call did."""
    numbers = [_number(text, name, where) for text in _cells(name, arguments)]
    if len(numbers) < _FEWEST_ARGUMENTS[name]:
        raise where(f"too few arguments of {name}:", value=arguments, expected=f"{_FEWEST_ARGUMENTS[name]}")
    if name == "free":
        if not rest.startswith(")"):
            raise where("a call that is cut off:", value=f"{name}({arguments}{rest}")
        yield from [(RELEASE, numbers[0], 0)] if numbers[0] else []
        return
    found = _RESULT.match(rest)
    if not found:
        raise where("a call without what it returned:", value=f"{name}({arguments}{rest}", expected='" = 0x..."')
    got = _number(found["result"], name, where)
    old = numbers[0] if name == "realloc" else 0
    size = {"calloc": numbers[0] * numbers[-1], "malloc": numbers[0]}.get(name, numbers[min(1, len(numbers) - 1)])
    if got and got == old:
        yield RESIZE, got, size or 1
    elif got:
        yield ALLOCATE, got, size or 1
    if old and got != old and (got or size == 0):
        yield RELEASE, old, 0


def _cells(name: str, arguments: str) -> list[str]:
    """The arguments that count; valgrind says "size 64, al 64" of some operators and "al 64, size 64" of memalign."""
    cells = [cell.strip() for cell in arguments.split(",")]
    if cells[0].startswith("size "):
        cells.reverse()
    return [cell.removeprefix("size ").removeprefix("al ") for cell in cells][: _FEWEST_ARGUMENTS[name]]


def _number(text: str, name: str, where: Report) -> int:
    if text in _NULLS:
        return 0
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise where(f"bad value in a call of {name}", value=text, expected="a whole number, or 0x...") from None


SOURCE = AllocationSource(
    "ltrace",
    "malloc, calloc, realloc and free as ltrace prints them, or valgrind --trace-malloc=yes",
    options={
        "unseen": UNSEEN,
        "max_bytes": Option(64 << 30, "the most that a file may hold once decompressed", kind="bytes", at_least=1),
    },
    extensions=(".ltrace", ".log", ".txt", ".out"),
    read=read,
    recognises=recognises,
)
