"""A stream of allocations: objects that are allocated, resized and released; what allocators are scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.fragmentation.passes import groups_by_label
from sim.hook_arguments import NEVER, Objects

ALLOCATE, RESIZE, RELEASE = range(3)
OPERATION_NAMES = ("alloc", "resize", "free")
LARGEST_BYTES = 1 << 52  # of one object: what a double still counts exactly, half of a 64-bit machine's address space


@dataclass(frozen=True)
class Operations:
    """Rows of calls in order of time; made by `build_operations`, which checks them.

    time_ns: float64[n]. op: int8[n], ALLOCATE, RESIZE or RELEASE. object: int64[n], numbered from 0 in the order in
    which they are allocated, each once. size_bytes: int64[n], from then on; of a release, what is given back.
    objects: what is known of each. kinds: what the codes of `objects.kind` mean. labels: by object, what a person
    would call it (a line of a program, a layer), "" where nobody said. capacity_bytes: of the memory that was recorded.
    """

    name: str
    time_ns: np.ndarray
    op: np.ndarray
    object: np.ndarray
    size_bytes: np.ndarray
    objects: Objects
    kinds: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    capacity_bytes: int | None = None

    @property
    def count(self) -> int:
        return self.op.size

    @property
    def provides(self) -> frozenset[str]:
        """Which fields of `objects` it knows."""
        return frozenset(name for name, column in self.objects._asdict().items() if column.size or not self.count)

    @cached_property
    def live_bytes(self) -> np.ndarray:
        """int64[n] bytes of all objects after each operation."""
        return np.cumsum(_changes(self.op, self.object, self.size_bytes))

    @cached_property
    def peak_live_bytes(self) -> int:
        return int(self.live_bytes.max(initial=0))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all rows and of what is known of the objects."""
        digest = hashlib.sha256()
        for column in (self.time_ns, self.op, self.object, self.size_bytes, *self.objects):
            digest.update(f"{column.dtype}{column.size};".encode())
            digest.update(np.ascontiguousarray(column))
        return digest.hexdigest()

    def label(self, number: int) -> str:
        """What to call an object: its label, else its kind, and its number."""
        own = self.labels[number] if self.labels else ""
        kind = self.kinds[self.objects.kind[number]] if self.kinds else ""
        return f"{own or kind or 'object'} #{number}"


def build_operations(
    name: str,
    time_ns: np.ndarray,
    op: np.ndarray,
    object_id: np.ndarray,
    size_bytes: np.ndarray,
    *,
    file: Any = None,
    lines: np.ndarray | None = None,
    most_bytes: np.ndarray | None = None,
    unit_bytes: np.ndarray | None = None,
    stream: np.ndarray | None = None,
    kind: np.ndarray | None = None,
    group: np.ndarray | None = None,
    kinds: tuple[str, ...] = (),
    labels: list[str] | None = None,
    capacity_bytes: int | None = None,
) -> Operations:
    """Rows as a source has them -> checked operations with dense numbers.

    object_id: whatever names an object while it lives, such as its address; used again after its release, it is another
    object. size_bytes: of a release it is not looked at. most_bytes to labels: by object, in the order of their
    allocations. lines: of each row in its file, for errors. group: where it is not given, it is found by labels that
    name layers (`sim.fragmentation.passes`).

    Raises InputError, naming the line, for a release or resize of what is not allocated, a second allocation of what
    is, a size below 1 or beyond 2^52, or times that go back.
    """
    op, object_id = np.asarray(op, np.int8), np.asarray(object_id)
    time_ns, size_bytes = np.asarray(time_ns, np.float64), np.array(size_bytes, np.int64)
    fault = _Faults(op, object_id, size_bytes, file, np.arange(1, op.size + 1) if lines is None else lines)
    fault.raise_at(~np.isin(op, (ALLOCATE, RESIZE, RELEASE)), "unknown operation", "alloc, resize or free")
    order = np.argsort(object_id, kind="stable")
    in_order, ids = op[order], object_id[order]
    after_release = np.concatenate([[True], (ids[1:] != ids[:-1]) | (in_order[:-1] == RELEASE)])[: op.size]
    fault.raise_at(_back(order, (in_order == ALLOCATE) & ~after_release), "allocated, and it already is:", None)
    fault.raise_at(_back(order, (in_order == RESIZE) & after_release), "resized, but it is not allocated:", None)
    fault.raise_at(_back(order, (in_order == RELEASE) & after_release), "freed, but it is not allocated:", None)
    fault.raise_size((op != RELEASE) & ((size_bytes < 1) | (size_bytes > LARGEST_BYTES)))
    if time_ns.size and not (np.isfinite(time_ns).all() and (np.diff(time_ns) >= 0).all()):
        back = ~np.isfinite(time_ns) | np.concatenate([[False], np.diff(time_ns) < 0])
        fault.raise_at(back, "time that is not finite, or goes back, at the operation on", None)
    number = np.cumsum(op == ALLOCATE) - 1  # of the latest allocation so far
    starts = in_order == ALLOCATE
    dense = np.empty(op.size, np.int64)
    dense[order] = number[order][starts][np.cumsum(starts) - 1] if op.size else 0
    size_bytes[order] = np.where(in_order == RELEASE, np.roll(size_bytes[order], 1), size_bytes[order])
    objects = _objects(op, dense, size_bytes)
    if group is None and labels:
        group = groups_by_label(labels, objects.born, objects.dies)
    given = {"most_bytes": most_bytes, "unit_bytes": unit_bytes, "stream": stream, "kind": kind, "group": group}
    known = {what: np.asarray(column, np.int64) for what, column in given.items() if column is not None}
    for what, column in known.items():
        if column.size != objects.born.size:
            raise ValueError(f"{what} has {column.size} elements; there are {objects.born.size} objects")
    return Operations(
        name,
        time_ns,
        op,
        dense,
        size_bytes,
        objects._replace(**known),
        tuple(kinds),
        tuple(labels or ()),
        capacity_bytes,
    )


def _back(order: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Flags of rows sorted by `order`, in the rows' own order."""
    result = np.empty_like(flags)
    result[order] = flags
    return result


def _changes(op: np.ndarray, dense: np.ndarray, size_bytes: np.ndarray) -> np.ndarray:
    """int64[n] by how many bytes each operation changes what is live."""
    order = np.argsort(dense, kind="stable")
    sizes = np.where(op == RELEASE, 0, size_bytes)[order]
    before = np.where(op[order] == ALLOCATE, 0, np.roll(sizes, 1))
    return _back(order, sizes - before)


def _objects(op: np.ndarray, dense: np.ndarray, size_bytes: np.ndarray) -> Objects:
    born = np.flatnonzero(op == ALLOCATE)
    dies = np.full(born.size, NEVER)
    dies[dense[op == RELEASE]] = np.flatnonzero(op == RELEASE)
    final = np.zeros(born.size, np.int64)
    np.maximum.at(final, dense, size_bytes)
    unknown = dict.fromkeys(("most_bytes", "unit_bytes", "stream", "kind", "group"), np.zeros(0, np.int64))
    return Objects(first_bytes=size_bytes[born], final_bytes=final, born=born, dies=dies, **unknown)


class _Faults:
    """Raises for the first bad row, naming its line and its object."""

    def __init__(self, op, object_id, size_bytes, file, lines):
        self.op, self.object_id, self.size_bytes, self.file, self.lines = op, object_id, size_bytes, file, lines

    def raise_at(self, bad: np.ndarray, problem: str, expected: str | None) -> None:
        if bad.any():
            row = int(bad.argmax())
            value = int(self.op[row]) if expected else str(self.object_id[row])
            raise InputError(problem, value=value, expected=expected, file=self.file, line=int(self.lines[row]))

    def raise_size(self, bad: np.ndarray) -> None:
        if bad.any():
            row = int(bad.argmax())
            value, expected = int(self.size_bytes[row]), f"1 to {LARGEST_BYTES} bytes"
            problem = "absurd size of an object"
            raise InputError(problem, value=value, expected=expected, file=self.file, line=int(self.lines[row]))
