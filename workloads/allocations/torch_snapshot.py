"""What PyTorch recorded of its CUDA memory: dumps of `torch.cuda.memory._snapshot()`, as a pickle or as JSON.

Format: "Understanding CUDA Memory Usage" of PyTorch's documentation, and `_snapshot` of torch/cuda/memory.py. Of the
events of one device (`device_traces`), `alloc` allocates an object at an address, and `free_completed` releases it: a
little after `free_requested` where other streams still used it. Segments, failures and marks are passed by, for what
allocates is asked here, not how PyTorch served it. What is freed and never allocated, and what is allocated at the end
by `segments` and not by the events, was there before the recording (or its oldest events are lost, see `max_entries`):
it is allocated at time 0, in order of address. Sizes are those requested where the file says so, else rounded ones.

An object's label is the innermost frame of Python outside of torch. Times are microseconds where events have `time_us`,
otherwise each event is one after the one before. The capacity of the device is not in a snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.streams import open_stream
from sim.trace_options import BYTES, Option
from workloads.allocations._plain_pickle import NotPlain, load_plain

_FRAMES_LOOKED_AT = 256  # deeper than Python's own stacks of a training step


class _Event(NamedTuple):
    time_us: float
    op: int
    address: int
    size: int
    stream: int
    label: str


class _Malformed(ValueError):
    """Something in the file that no snapshot has, and where."""


def read(path: Path, options: dict[str, Any]) -> Operations:
    snapshot = _load(path, options["max_bytes"])
    try:
        events = _all_events(snapshot, options["device"])
    except _Malformed as error:
        raise InputError(f"not a snapshot of PyTorch's memory: {error}", file=path) from error
    births = [event for event in events if event.op == ALLOCATE]
    streams = np.unique([event.stream for event in births], return_inverse=True)[1]
    times = np.maximum.accumulate(np.array([event.time_us for event in events], float)) if events else np.zeros(0)
    return build_operations(
        path.name,
        times * 1000.0,
        np.array([event.op for event in events], np.int8),
        np.array([event.address for event in events], np.int64),
        np.array([event.size for event in events], np.int64),
        file=path,
        stream=streams.reshape(-1),
        labels=[event.label for event in births],
    )


def _load(path: Path, max_bytes: int) -> Any:
    with open_stream(path, max_bytes) as stream:
        data = stream.read()
    try:
        return json.loads(data) if data.lstrip()[:1] == b"{" else load_plain(data)
    except (NotPlain, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"not a snapshot of PyTorch's memory: {reason}", file=path) from error


def _all_events(snapshot: Any, device: int) -> list[_Event]:
    """What was there before, at time 0, and what was recorded."""
    _expect(isinstance(snapshot, Mapping), "it is not a dict")
    traces = _list(snapshot, "device_traces")
    _expect(device < len(traces), f"it has {len(traces)} devices, and not device {device}")
    _expect(isinstance(traces[device], list), f"the events of device {device} are not a list")
    labels = _Labels()
    recorded = list(_recorded(traces[device], labels))
    before = _before(recorded, _blocks(snapshot, device, labels))
    start = min((event.time_us for event in recorded), default=0.0)
    return before + [event._replace(time_us=event.time_us - start) for event in recorded]


def _recorded(entries: list, labels: _Labels) -> Iterator[_Event]:
    ops = {"alloc": ALLOCATE, "free_completed": RELEASE}
    for number, entry in enumerate(entries):
        where = f"event {number}"
        _expect(isinstance(entry, Mapping), f"{where} is not a dict")
        action = entry.get("action")
        _expect(isinstance(action, str), f"{where} has no action")
        if action in ops:
            time_us = entry.get("time_us", number)
            _expect(_is_number(time_us), f"{where} has a time_us that is not a number")
            address, size, stream = (_natural(entry, what, where) for what in ("addr", "size", "stream"))
            yield _Event(float(time_us), ops[action], address, size, stream, labels.of(entry))


def _blocks(snapshot: Mapping, device: int, labels: _Labels) -> dict[int, _Event]:
    """What was allocated when the snapshot was taken, by address."""
    blocks = {}
    for number, segment in enumerate(_list(snapshot, "segments")):
        where = f"segment {number}"
        _expect(isinstance(segment, Mapping), f"{where} is not a dict")
        if segment.get("device", 0) != device:
            continue
        address, stream = _natural(segment, "address", where), _natural(segment, "stream", where)
        for block in _list(segment, "blocks"):
            _expect(isinstance(block, Mapping), f"a block of {where} is not a dict")
            size = _natural(block, "size", where)
            if str(block.get("state", "")).startswith("active"):
                at = _natural(block, "address", where) if "address" in block else address
                asked = _natural(block, "requested_size", where) if "requested_size" in block else size
                blocks[at] = _Event(0.0, ALLOCATE, at, asked or size, stream, labels.of(block))
            address += size  # of the next block, where the file does not say
    return blocks


def _before(recorded: list[_Event], blocks: dict[int, _Event]) -> list[_Event]:
    """What was allocated before the first event, in order of address."""
    first, live = {}, {}
    for event in recorded:
        first.setdefault(event.address, event)
        live[event.address] = event.op == ALLOCATE
    freed = {at: event._replace(time_us=0.0, op=ALLOCATE) for at, event in first.items() if event.op == RELEASE}
    kept = {at: block for at, block in blocks.items() if at not in live}
    return [event for _, event in sorted({**freed, **kept}.items())]


class _Labels:
    """Labels by stack: many events share one list of frames."""

    def __init__(self):
        self.known: dict[int, str] = {}

    def of(self, entry: Mapping) -> str:
        frames = entry.get("frames")
        if not isinstance(frames, list):
            return ""
        if id(frames) not in self.known:
            self.known[id(frames)] = next(filter(None, map(_label, frames[:_FRAMES_LOOKED_AT])), "")
        return self.known[id(frames)]


def _label(frame: Any) -> str:
    """A frame of Python outside of torch as "file.py:12 function", "" for another."""
    name = frame.get("filename") if isinstance(frame, Mapping) else None
    if not isinstance(name, str) or not name.endswith(".py"):
        return ""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if "torch" in parts:
        return ""
    return f"{parts[-1]}:{frame.get('line', 0)} {frame.get('name', '')}".strip()


def _list(of: Mapping, name: str) -> list:
    value = of.get(name)
    _expect(isinstance(value, list | tuple), f"it has no list {name!r}")
    return list(value)


def _natural(of: Mapping, name: str, where: str) -> int:
    value = of.get(name)
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    _expect(fits, f"{where} has no {name!r}, or one that is no natural number below 2^63")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _expect(right: bool, problem: str) -> None:
    if not right:
        raise _Malformed(problem)


def _recognises(head: bytes) -> bool:
    words = (b"segments", b"device_traces")
    return head[:1] in b"\x80({" and any(word in head for word in words)


SOURCE = AllocationSource(
    name="torch_snapshot",
    description="PyTorch's record of CUDA memory: torch.cuda.memory._dump_snapshot, a pickle (read safely) or JSON",
    options={
        "device": Option(0, "number of the GPU", at_least=0),
        "max_bytes": Option(4 << 30, "the most that a file may hold once decompressed", kind=BYTES, at_least=1),
    },
    extensions=(".pickle", ".pkl", ".json"),
    read=read,
    recognises=_recognises,
)
