"""Writes a Chrome trace, event by event, in the Trace Event Format (Duca and Sinclair, 2016) as Perfetto reads it.

Times are whole nanoseconds, written as microseconds with three digits, which is what Perfetto keeps of them. Numbers of
tracks are unique in the file and none is that of its process: Perfetto finds a thread by its number alone, and takes
one with the number of its process for the main thread.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sim.errors import InputError

_FIRST_TRACK = 1000
_PIECE = 1 << 16  # events are handed to the file together, so many characters at a time
_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class TraceFile:
    """One trace being written. `facts` are its metadata; events: how many were written but for names of tracks."""

    def __init__(self, file: IO[bytes], facts: Mapping[str, Any]):
        self._file, self._piece, self._size = file, [], 0
        self._processes, self._tracks = 0, _FIRST_TRACK
        self.events = 0
        self._write('{"displayTimeUnit":"ns","otherData":' + _ENCODE(plain(facts)) + ',"traceEvents":[')
        self._separator = "\n"

    def process(self, name: str) -> int:
        """A group of tracks; groups stand in the order in which they are made."""
        self._processes += 1
        self._name("process", self._processes, None, name, self._processes)
        return self._processes

    def track(self, process: int, name: str) -> int:
        """A track for slices and instants of a group; tracks stand in the order in which they are made."""
        self._tracks += 1
        self._name("thread", process, self._tracks, name, self._tracks)
        return self._tracks

    def slice(
        self, process: int, track: int, start_ns: int, end_ns: int, name: str, category: str, args: Mapping[str, Any]
    ) -> None:
        """Something that lasts. Those of one track follow each other or lie within each other, outer ones first."""
        duration = _duration(end_ns - start_ns)
        self._event("X", process, track, start_ns, f'"dur":{duration},', name, category, args)

    def instant(
        self, process: int, track: int, time_ns: int, name: str, category: str, args: Mapping[str, Any]
    ) -> None:
        self._event("i", process, track, time_ns, '"s":"t",', name, category, args)

    def counter(self, process: int, time_ns: int, name: str, unit: str, value: float) -> None:
        """A value that holds from this time on."""
        self._next(f'{{"ph":"C","ts":{_microseconds(time_ns)},"pid":{process},"name":{_ENCODE(name)},')
        self._write(f'"args":{{{_ENCODE(unit)}:{_ENCODE(value)}}}}}')
        self.events += 1

    def close(self) -> None:
        self._write("\n]}\n")
        self._file.write("".join(self._piece).encode())

    def _event(
        self,
        phase: str,
        process: int,
        track: int,
        time_ns: int,
        more: str,
        name: str,
        category: str,
        args: Mapping[str, Any],
    ) -> None:
        where = f'"ts":{_microseconds(time_ns)},{more}"pid":{process},"tid":{track},'
        self._next(f'{{"ph":"{phase}",{where}"name":{_ENCODE(name)},"cat":{_ENCODE(category)},')
        self._write(f'"args":{_ENCODE(plain(args))}}}')
        self.events += 1

    def _name(self, kind: str, process: int, track: int | None, name: str, order: int) -> None:
        where = f'"pid":{process},' if track is None else f'"pid":{process},"tid":{track},'
        for what, args in ((f"{kind}_name", {"name": name}), (f"{kind}_sort_index", {"sort_index": order})):
            self._next(f'{{"ph":"M",{where}"name":"{what}","args":{_ENCODE(args)}}}')

    def _next(self, text: str) -> None:
        self._write(self._separator + text)
        self._separator = ",\n"

    def _write(self, text: str) -> None:
        self._piece.append(text)
        self._size += len(text)
        if self._size > _PIECE:
            self._file.write("".join(self._piece).encode())
            self._piece, self._size = [], 0


@contextmanager
def written(path: Path, facts: Mapping[str, Any]) -> Iterator[TraceFile]:
    """A trace to fill, which takes its place at the end; compressed where its name ends so. The same bytes each time.

    Raises InputError where it cannot be written; then nothing stays.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as plain_file, _packed(plain_file, path.suffix == ".gz") as file:
            trace = TraceFile(file, facts)
            yield trace
            trace.close()
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot write the timeline: {error.strerror or error}", file=path) from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _packed(file: IO[bytes], compressed: bool) -> Iterator[IO[bytes]]:
    if not compressed:
        yield file
        return
    with gzip.GzipFile("", "wb", 6, file, 0) as packed:  # no name and no time, which would differ each time
        yield packed


def plain(args: Mapping[str, Any]) -> dict[str, Any]:
    """Without numbers that JSON does not have."""
    return {name: value for name, value in args.items() if not (isinstance(value, float) and not math.isfinite(value))}


def _microseconds(time_ns: int) -> str:
    return f"{time_ns // 1000}.{time_ns % 1000:03d}"


def _duration(time_ns: int) -> str:
    """As above, with a digit more where Perfetto, which multiplies by 1000 and cuts off, would lose a nanosecond."""
    text = _microseconds(time_ns)
    return text if int(float(text) * 1000.0) == time_ns else f"{text}001"
