"""Hit ratios alone, as fast as they can be had: one cache, one policy, no clock."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from sim import registry
from sim.engines.columns import Columns, make_columns, position_of, request_at
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.kernels.optional_array import set_value, value_at
from sim.policy import (
    AdmissionPolicy,
    Context,
    EvictionPolicy,
    Plugin,
    Request,
    explain_failure,
    hook_samples,
    sample_request,
)

if TYPE_CHECKING:
    from sim.trace import Trace

NO_FAULT, NOT_RESIDENT = 0, 1

Progress = Callable[[int, int], None]  # (requests so far, requests in all)


class Cache(NamedTuple):
    """One cache's contents and counts.

    size_of is None where sizes are ignored; every block then counts 1.
    """

    capacity: int
    resident: np.ndarray  # bool[blocks]
    size_of: np.ndarray | None  # int64[blocks] as inserted
    counts: np.ndarray  # int64[len(COUNTS)]
    fault: np.ndarray  # int64[3]: what the policy did wrong (NO_FAULT: nothing), at which access, with which block


COUNTS = ("requests", "hits", "requested_bytes", "hit_bytes", "bypassed", "evictions", "used")
REQUESTS, HITS, REQUESTED_BYTES, HIT_BYTES, BYPASSED, EVICTIONS, USED = range(len(COUNTS))


@dataclass(frozen=True)
class ReplayResult:
    """What a replay found. capacity is in objects where sizes were ignored, else in bytes.

    bypassed: misses of blocks larger than the cache, or refused by the eviction policy. counts: what the policy itself
    counted (its docstring says what that means).
    """

    policy: str
    parameters: dict[str, Any]
    capacity: int
    requests: int
    objects: int
    hits: int
    misses: int
    hit_ratio: float
    byte_hit_ratio: float
    bypassed: int
    kernel_seconds: float
    counts: dict[str, int]


def make_cache(capacity: int, blocks: int, ignore_size: bool) -> Cache:
    """An empty cache."""
    size_of = None if ignore_size else np.zeros(blocks, np.int64)
    counts, fault = np.zeros(len(COUNTS), np.int64), np.zeros(3, np.int64)
    return Cache(capacity, np.zeros(blocks, np.bool_), size_of, counts, fault)


@kernel
def replay_rows(policy, state, admission, admission_state, cache, first, columns, address_of):
    """Access the blocks of `columns` in turn.

    first: the index of the first access; address_of: by block, or None.
    A block larger than the cache is bypassed and counted, and so is one that the eviction policy refuses; no policy
    hears of an insertion. Counts are kept in locals and stored at the end: a store to an array would make the compiler
    reload every array of the state. A policy that evicts what is not there, but for the missed block itself, ends the
    replay at once, with `cache.fault` set.
    """
    capacity, resident, size_of = cache.capacity, cache.resident, cache.size_of
    rows = columns.block.size
    hits = hit_bytes = requested_bytes = bypassed = evictions = 0
    used = cache.counts[USED]
    for i in range(rows):
        request = request_at(columns, i, first + i, address_of, 1, value_at(columns.arrival_ns, i, 0.0))
        block, size = request.block, request.size_bytes
        requested_bytes += size
        admission.on_access(admission_state, request)
        if resident[block]:
            hits += 1
            hit_bytes += size
            policy.on_hit(state, request)
            continue
        policy.on_miss(state, request)
        if size > capacity:
            bypassed += 1
            continue
        if not admission.admit(admission_state, request):
            continue
        if not policy.admit(state, request):
            bypassed += 1
            continue
        while used + size > capacity:
            victim = policy.evict(state, request)
            if victim < 0 or victim >= resident.size or not resident[victim]:
                if victim == block:
                    bypassed += 1
                    break
                cache.fault[0], cache.fault[1], cache.fault[2] = NOT_RESIDENT, first + i, victim
                return
            resident[victim] = False
            used -= value_at(size_of, victim, 1)
            evictions += 1
        else:
            resident[block] = True
            used += size
            set_value(size_of, block, size)
            policy.on_insert(state, request)
    counts = cache.counts
    counts[REQUESTS] += rows
    counts[HITS] += hits
    counts[HIT_BYTES] += hit_bytes
    counts[REQUESTED_BYTES] += requested_bytes
    counts[BYPASSED] += bypassed
    counts[EVICTIONS] += evictions
    counts[USED] = used


# ------------------------------------------------------------------------------------------------------- a whole replay


def replay(
    trace: Trace | str | os.PathLike,
    policy: str | EvictionPolicy | type = "lru",
    capacity: str | int = "10%",
    ignore_object_size: bool = False,
    parameters: Mapping[str, Any] | None = None,
    admission: str | AdmissionPolicy = "always",
    seed: int = 0,
    progress: Progress | None = None,
    reader: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> ReplayResult:
    """How often one cache under `policy` hits.

    trace: a trace, a file, or a name from the catalogue; policy, admission: a name, with parameters if need be
    ("s3fifo:small_ratio=0.2"), or an object; capacity: "10%" of the distinct objects or of their bytes, objects (bytes,
    where sizes count), or "4 GiB"; parameters: of the policy; reader: the file's format where it does not say it;
    options: of the reader. Raises InputError for what cannot be replayed so.
    """
    policy, given = plugin_of(registry.EVICTION, policy)
    given = {**given, **(parameters or {})}
    admission, admission_given = plugin_of(registry.ADMISSION, admission)
    if policy.plain:
        warnings.warn(f"{policy.name} is a plain Python class: it is not compiled, and replays slowly", stacklevel=2)
    policy.resolve(given), admission.resolve(admission_given)  # a misspelt parameter is told before the trace is read
    trace = with_columns(trace, ignore_object_size, reader, (policy, admission), options)
    return _Replay(trace, policy, given, admission, admission_given, capacity, ignore_object_size, seed).run(progress)


def plugin_of(kind: registry.Kind, wanted: str | Plugin) -> tuple[Plugin, dict[str, Any]]:
    if isinstance(wanted, type):
        from sim.plain_policy import plain_policy

        wanted = plain_policy(wanted)
    if isinstance(wanted, Plugin):
        if kind.name != wanted.KIND:
            raise InputError(f"{wanted.name!r} is no {kind.noun}", value=wanted.KIND, expected=kind.name)
        return wanted, {}
    from sim.choice import parse_choice

    choice = parse_choice(wanted)
    return registry.load(kind, choice.name), dict(choice.parameters)


def with_columns(
    trace, ignore_size: bool, reader: str | None, plugins: tuple[Plugin, ...], options: Mapping[str, Any] | None = None
) -> Trace:
    """The trace with the columns that these plugins need; nothing else is kept of one that is read here."""
    from sim.trace import Trace
    from sim.trace_columns import COLUMNS
    from sim.trace_loading import load_trace

    needs = {need for plugin in plugins for need in plugin.needs}
    if not isinstance(trace, Trace):
        uses = {use for plugin in plugins for use in plugin.uses}
        kept = needs | uses if ignore_size else needs | uses | {"size_bytes"}
        trace = load_trace(trace, reader=reader, options=options, needs=kept & COLUMNS.keys())
    if "next_access" in needs:
        trace = trace.with_next_access()
    for plugin in plugins:
        plugin.check_needs(trace)
    return trace


class _Replay:
    """One replay, from an empty cache to its result."""

    def __init__(self, trace, policy, given, admission, admission_given, capacity, ignore_size, seed):
        from sim.capacity import parse_capacity

        self.trace, self.policy, self.admission = trace, policy, admission
        self.unit_size = ignore_size or "size_bytes" not in trace.columns
        self.capacity = parse_capacity(capacity, trace, ignore_size, within_footprint=True)
        self.parameters = policy.resolve(given)
        self.read = policy.reads(trace, self.parameters) | admission.reads(trace, admission.resolve(admission_given))
        context = Context(self.capacity, trace.n_blocks, seed, self.unit_size)
        self.state = policy.make_state(context, given)
        self.admission_state = admission.make_state(context, admission_given)
        self.cache = make_cache(self.capacity, trace.n_blocks, self.unit_size)

    def run(self, progress: Progress | None) -> ReplayResult:
        kernel_seconds, first = 0.0, 0
        for rows in self._chunks():
            if first == 0:
                self._warm_up(rows)
            started = time.perf_counter()
            self._access(first, rows)
            kernel_seconds += time.perf_counter() - started
            self._check_fault()
            first += rows.block.size
            if progress is not None:
                progress(first, self.trace.n_requests)
        return self._result(kernel_seconds)

    def _chunks(self) -> Iterator[Columns]:
        wanted = self._columns()
        first = 0
        for block, *columns in self.trace.chunks("block", *wanted):
            position = position_of(self.trace, first, first + block.size) if "position" in self.read else None
            yield make_columns(block, position=position, **dict(zip(wanted, columns, strict=True)))
            first += block.size

    def _columns(self) -> list[str]:
        """Names of the columns beside `block` that the plugins read."""
        columns = self.read & self.trace.columns
        return sorted(columns - {"size_bytes"} if self.unit_size else columns | {"size_bytes"})

    def _warm_up(self, columns: Columns) -> None:
        """Compile, so that the time measured is the kernel's alone."""
        try:
            self._access(0, Columns(*(column if column is None else column[:0] for column in columns)))
        except NumbaError as error:
            request = sample_request()
            raise explain(self.policy, self.state, request, error, self.admission, self.admission_state) from error

    def _access(self, first: int, columns: Columns) -> None:
        address_of = self.trace.address if "address" in self.read else None
        parts = (self.policy, self.state, self.admission, self.admission_state, self.cache)
        self._kernel()(*parts, first, columns, address_of)

    def _kernel(self) -> Callable:
        if not self.policy.plain:
            return replay_rows
        from sim.plain_policy import replay_plainly

        return replay_plainly

    def _check_fault(self) -> None:
        code, index, block = self.cache.fault.tolist()
        if code != NO_FAULT:
            known = 0 <= block < self.trace.n_blocks
            why = "is not resident" if known else f"does not exist (blocks are 0 to {self.trace.n_blocks - 1})"
            problem = f"eviction policy {self.policy.name!r} evicted block {block}, which {why}, at access {index}"
            raise InputError(f"{problem}; sim.testing.check_policy says more")

    def _result(self, kernel_seconds: float) -> ReplayResult:
        counts = dict(zip(COUNTS, self.cache.counts.tolist(), strict=True))
        return ReplayResult(
            policy=self.policy.name,
            parameters=self.parameters,
            capacity=self.capacity,
            requests=counts["requests"],
            objects=self.trace.n_blocks,
            hits=counts["hits"],
            misses=counts["requests"] - counts["hits"],
            hit_ratio=counts["hits"] / counts["requests"],
            byte_hit_ratio=counts["hit_bytes"] / counts["requested_bytes"],
            bypassed=counts["bypassed"],
            kernel_seconds=kernel_seconds,
            counts={name: int(getattr(self.state, name)[0]) for name in self.policy.counts},
        )


# ------------------------------------------------------------------------------------------- what does not compile, why


_WANTED = {
    "evict": ("the number of a block", "int"),
    "admit": ("True or False", "bool"),
    "preempts": ("True or False", "bool"),
    **{hook: ("a number", "float") for hook in ("rank", "victim_rank", "hold_ns")},
}


def explain(
    policy: Plugin, state, request: Request, error: Exception, admission: Plugin | None = None, admission_state=None
) -> InputError:
    """The one line that says which hook stopped the replay kernel from being compiled, and why."""
    for plugin, its_state in ((policy, state), (admission, admission_state)):
        if plugin is not None:
            found = explain_failure(plugin, hook_samples(plugin, its_state, request))
            found = found or wrong_return(plugin)
            if found is not None:
                return found
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(f"{policy.KIND} policy {policy.name!r} does not compile with the replay: {(lines or [error])[0]}")


def wrong_return(plugin: Plugin) -> InputError | None:
    """The line that says that a compiled hook returns something of the wrong kind; None where none does."""
    for hook, (expected, kind) in _WANTED.items():
        function = getattr(plugin, hook, None)
        for signature in getattr(function, "nopython_signatures", ()):
            returned = str(signature.return_type)
            if not returned.lstrip("u").startswith((kind, "bool" if kind == "bool" else "int", "Literal")):
                source = function.py_func.__code__
                problem = f"{plugin.KIND} policy {plugin.name!r}: hook {hook} returns {returned}"
                return InputError(problem, file=source.co_filename, line=source.co_firstlineno, expected=expected)
    return None
