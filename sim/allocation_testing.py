"""The rules of allocators (`sim.Allocator`), tried on random requests; reached by `sim.testing.check_allocator`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import config

from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, Operations, build_operations
from sim.hook_arguments import SYSTEM_CALLS, Context
from sim.policy import Allocator, hook_samples, sample_request
from sim.testing import (
    STATE_RULE,
    Broken,
    PythonHooks,
    check_compiles,
    check_states,
    compiled_hooks,
    fresh_state,
    same,
    truth,
)

_BLOCKS, _REQUESTS, _SEED = 24, 600, 7
_CAPACITIES = 64 * 4096, 64 << 20  # the larger for allocators that take memory by segments of megabytes
_STREAM_CAPACITY = 1 << 28  # enough for allocators that take memory from the system by segments of 20 MiB


def rules(allocator: Allocator, parameters: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(rule, its trial) in the order in which they are tried."""
    stream = random_stream()
    context = Context(_STREAM_CAPACITY, stream.objects.born.size, _SEED, objects=stream.objects)
    state = fresh_state(allocator, context, parameters, "random objects")
    samples = hook_samples(allocator, state, sample_request())
    yield "init gives a new state each time", lambda: _check_state(allocator, parameters, context)
    yield "every hook compiles and returns the right type", lambda: check_compiles(allocator, samples)
    yield "every byte is accounted for", lambda: _Stream(allocator, parameters, stream).trial()
    if not allocator.needs:
        for capacity in _CAPACITIES:
            yield f"what it says would fit does ({capacity} bytes)", _free_trial(allocator, parameters, capacity)
    yield "the same again for the same seed", lambda: _check_again(allocator, parameters, stream, False)
    if not config.DISABLE_JIT:
        yield "compiled as in Python", lambda: _check_again(allocator, parameters, stream, True)


def _free_trial(allocator: Allocator, parameters: dict[str, Any], capacity: int) -> Callable[[], None]:
    return lambda: _Free(allocator, parameters, capacity).trial()


def _check_state(allocator: Allocator, parameters: dict[str, Any], context: Context) -> None:
    check_states(*(fresh_state(allocator, context, parameters, "random objects") for _ in range(2)))


def _check_again(allocator: Allocator, parameters: dict[str, Any], stream: Operations, compiled: bool) -> None:
    one, other = (_Stream(allocator, parameters, stream, which).run() for which in (False, compiled))
    what = "in Python and compiled" if compiled else "for the same requests"
    same(one, other, f"the allocator is not the same {what}", STATE_RULE)


def random_stream(operations: int = 500, most_live: int = 20, largest: int = 8 << 20, seed: int = _SEED) -> Operations:
    """Objects that come, grow, shrink and go at random, all that can be known of them said; sizes in units of 256."""
    rng = np.random.default_rng(seed)
    rows, live, made = [], {}, 0
    for step in range(operations):
        kind = rng.random()
        if live and (kind < 0.3 or len(live) == most_live):
            gone = list(live)[rng.integers(len(live))]
            rows.append((step, RELEASE, gone, 1))
            del live[gone]
        elif live and kind < 0.6:
            grown = list(live)[rng.integers(len(live))]
            live[grown] = min(largest, max(256, int(live[grown] * rng.uniform(0.9, 1.5)) // 256 * 256))
            rows.append((step, RESIZE, grown, live[grown]))
        else:
            live[made] = int(2 ** rng.uniform(8, np.log2(largest))) // 256 * 256
            rows.append((step, ALLOCATE, made, live[made]))
            made += 1
    time_ns, op, number, size = (np.array(column) for column in zip(*rows, strict=True))
    bare = build_operations("random", 1e6 * time_ns, op, number, size)
    most, unit = np.minimum(2 * bare.objects.final_bytes, largest), np.full(made, 256)
    known = {"most_bytes": most, "unit_bytes": unit, "stream": rng.integers(0, 2, made), "kind": np.zeros(made)}
    return build_operations("random", 1e6 * time_ns, op, number, size, kinds=("object",), **known)


class _Memory:
    """An allocator in use, and what it says of its bytes, added up."""

    def __init__(self, allocator: Allocator, parameters: dict[str, Any], context: Context, compiled: bool = False):
        self.allocator, self.capacity = allocator, context.capacity
        self.hooks = compiled_hooks(allocator) if compiled else PythonHooks(allocator, "random allocations")
        self.state = fresh_state(allocator, context, parameters, f"capacity {context.capacity}")
        self.sizes: dict[int, int] = {}
        self.log: list[Any] = []
        self.room = np.zeros((4096, 2), np.int64)
        self.places: bool | None = None if allocator.names_places else False  # a parameter may do without
        self.empty_bytes = self.free()
        self.whole_bytes = self.empty_bytes + int(self.hooks.metadata_bytes(self.state))
        least = 1 if self.capacity >= _CAPACITIES[-1] else 0  # a small memory may be of no use
        if not least <= self.empty_bytes <= self.capacity:
            raise Broken(f"free_bytes of an empty memory of {self.capacity} bytes is {self.empty_bytes}")

    def trial(self) -> None:
        self.run()

    def free(self) -> int:
        return int(self.hooks.free_bytes(self.state))

    def allocate(self, block: int, size: int, exact: bool) -> None:
        """exact: what `largest_free_bytes` says holds for this object, of which nothing else is known."""
        before, largest = self.free(), int(self.hooks.largest_free_bytes(self.state))
        placed = truth(self.hooks.allocate(self.state, block, size), "allocate")
        if exact and placed and size > largest:
            raise Broken(f"allocate placed {size} bytes where largest_free_bytes said {largest}")
        if exact and not placed and size == largest:
            raise Broken(f"allocate refused {size} bytes, just what largest_free_bytes said would fit")
        if not placed and self.free() != before:
            raise Broken("an allocate that returns False must change nothing, but free_bytes changed")
        if placed:
            self.sizes[block] = size
        self.log.append((block, size, placed))

    def release(self, block: int) -> None:
        self.hooks.release(self.state, block)
        del self.sizes[block]

    def resize(self, block: int, size: int) -> None:
        old, before = self.runs_of(block), self.free()
        done = truth(self.hooks.resize(self.state, block, size), "resize")
        if not done and (self.free() != before or self.runs_of(block) != old):
            raise Broken("a resize that returns False must change nothing")
        if done:
            kept = min(size, self.sizes[block])
            if _first(old, kept) != _first(self.runs_of(block), kept):
                raise Broken(f"resize from {self.sizes[block]} to {size} bytes moved what was there")
            self.sizes[block] = size
        self.log.append((block, size, done))

    def release_all(self) -> None:
        for block in list(self.sizes):
            self.release(block)
        if self.free() != self.empty_bytes:
            raise Broken(f"after all is released {self.free()} bytes are free; before, it was {self.empty_bytes}")

    def account(self) -> None:
        hooks, state = self.hooks, self.state
        free, largest = self.free(), int(hooks.largest_free_bytes(state))
        told = {what: int(getattr(hooks, f"{what}_bytes")(state)) for what in ("internal", "reserved", "metadata")}
        if not 0 <= largest <= free + told["reserved"]:  # what is reserved may be taken back
            raise Broken(f"largest_free_bytes is {largest} where free_bytes is {free}, and {told['reserved']} reserved")
        asked = sum(self.sizes.values())
        if min(told.values()) < 0 or free + asked + sum(told.values()) != self.whole_bytes:
            parts = " + ".join(f"{bytes_} {what}" for what, bytes_ in told.items())
            whole = f"{self.whole_bytes}, as when it was empty"
            raise Broken(f"bytes do not add up: {free} free + {asked} asked for + {parts} is not {whole}")
        calls = [int(hooks.calls_made(state, which)) for which in range(len(SYSTEM_CALLS))]
        self.log.append((free, largest, told, int(hooks.held_bytes(state)), calls, float(hooks.waited_ns(state))))

    def runs_of(self, block: int) -> list[tuple[int, int]]:
        """(address, bytes) of each run of an object; of none where the allocator names no places."""
        runs = int(self.hooks.extents(self.state, block, self.room))
        if runs > self.room.shape[0]:
            self.room = np.zeros((runs, 2), np.int64)
            runs = int(self.hooks.extents(self.state, block, self.room))
        if self.places is None:
            self.places = runs >= 0
        if (runs >= 0) != self.places:
            raise Broken(f"extents returned {runs} of a placed object")
        return [(int(at), int(size)) for at, size in self.room[: max(runs, 0)]]

    def check_places(self) -> None:
        """Objects lie in the memory, have room for their bytes, and do not overlap."""
        spans = []
        for block, size in self.sizes.items():
            runs = self.runs_of(block)
            if self.places and sum(length for _, length in runs) < size:
                raise Broken(f"extents of an object of {size} bytes add up to less: {runs[:4]}")
            spans += [(at, at + length, block) for at, length in runs]
        end, owner = 0, None
        for start, stop, block in sorted(spans):
            if start < end or stop > self.capacity:
                problem = f"overlaps object {owner}" if start < end else f"lies beyond the {self.capacity} bytes"
                raise Broken(f"object {block} at {start} to {stop} {problem}")
            end, owner = stop, block


class _Free(_Memory):
    """Blocks of any size, again and again, nothing known of them beforehand."""

    def __init__(self, allocator: Allocator, parameters: dict[str, Any], capacity: int):
        super().__init__(allocator, parameters, Context(capacity, _BLOCKS, _SEED))

    def run(self) -> list:
        rng = np.random.default_rng(_SEED)
        self.account()
        for _ in range(_REQUESTS):
            block = int(rng.integers(_BLOCKS))
            size = int(rng.integers(1, self.capacity // 4))
            if rng.random() < 0.2:
                size = int(self.hooks.largest_free_bytes(self.state))
            if block in self.sizes:
                self.release(block)
            elif size > 0:
                self.allocate(block, size, exact=True)
            self.account()
            self.check_places()
        self.release_all()
        return self.log


class _Stream(_Memory):
    """A stream of objects, of which all is known beforehand."""

    def __init__(self, allocator: Allocator, parameters: dict[str, Any], stream: Operations, compiled: bool = False):
        context = Context(_STREAM_CAPACITY, stream.objects.born.size, _SEED, objects=stream.objects)
        super().__init__(allocator, parameters, context, compiled)
        self.stream = stream

    def run(self) -> list:
        ops = self.stream
        self.account()
        for now, op, block, size in zip(ops.time_ns, ops.op, ops.object, ops.size_bytes, strict=True):
            self.hooks.tick(self.state, float(now))
            self._do(int(op), int(block), int(size))
            self.account()
            self.check_places()
        self.release_all()
        return self.log

    def _do(self, op: int, block: int, size: int) -> None:
        if op == ALLOCATE:
            self.allocate(block, size, exact=False)
        elif block in self.sizes and op == RELEASE:
            self.release(block)
        elif block in self.sizes and self.allocator.can_resize:
            self.resize(block, size)


def _first(runs: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The runs of the first bytes of an object."""
    kept = []
    for at, length in runs:
        if size <= 0:
            break
        kept.append((at, min(length, size)))
        size -= length
    return kept
