"""The seam through which everything pluggable reaches compiled kernels.

A plugin is one frozen object of hooks, each a plain Python function over a state (a NamedTuple of arrays and scalars).
Python sees functions, so a debugger and `NUMBA_DISABLE_JIT=1` work. Compiled code sees a value of size zero whose
Numba type is (kind, name, digest): kernels specialise per plugin, are cached on disk, and are compiled again when any
source that can reach the kernel has changed. Parameters live in the state, so changing one recompiles nothing.

Blocks are dense numbers from 0 to `context.blocks - 1`; a policy keeps what it knows of a block, resident or ghost, at
that index of its arrays.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numba import config
from numba.extending import overload_method

from sim.errors import InputError
from sim.hook_arguments import NEVER, NO_BLOCK, Call, Context, Request, make_call, make_request
from sim.kernels.compile import INLINED, inlined, specialised, subroutine
from sim.plugin import Plugin, PluginType, StackedType, by_type, explain_failure
from sim.plugin_digest import python_of

__all__ = [
    "NEVER",
    "NO_BLOCK",
    "AdmissionPolicy",
    "Allocator",
    "Call",
    "Context",
    "DeviceModel",
    "EventModel",
    "EvictionPolicy",
    "OffloadPolicy",
    "Plugin",
    "PrefetchPolicy",
    "Request",
    "SchedulingPolicy",
    "Stacked",
    "explain_failure",
    "hook_samples",
    "make_call",
    "make_request",
    "sample_call",
    "sample_request",
]


def _nothing(state, request):
    """The default of a hook that observes."""


def _yes(state, request):
    """The default of a hook that may refuse."""
    return True


def _no_preemption(state, waiting, running):
    return False


def _count_nothing(state, call, tokens):
    """The default of a hook that counts."""


def _last_admitted(state, call):
    return call.admission


def _hold_nothing(state, call):
    return 0.0


# Defaults of an allocator's hooks.


def _no_bytes(state):
    return np.int64(0)


def _not_told(state):
    return np.int64(-1)


def _keep_size(state, block, size_bytes):
    return False


def _no_places(state, block, out):
    return np.int64(-1)


def _no_calls(state, which):
    return np.int64(0)


def _no_wait(state):
    return 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class EvictionPolicy(Plugin):
    """Which block leaves.

    on_hit(state, request): the block of `request` is resident and was accessed.
    on_miss(state, request), optional: it is not; called before anything is evicted or inserted.
    admit(state, request) -> bool, optional: whether the missed block, which could be inserted, enters at all; asked
        before anything is evicted, and whether or not there is room. For policies whose own rules refuse blocks: what
        any policy can be combined with is an `AdmissionPolicy`.
    evict(state, request) -> block: the resident block to give up for that of `request`; it is forgotten, or kept as a
        ghost, by this call. Or `request.block` itself, which is not resident: then it is not inserted, and what was
        evicted for it before stays evicted. `request.block` is NO_BLOCK where room alone is wanted.
    on_insert(state, request): the block of `request` has become resident.
    remove(state, block), optional: a resident block has left for another reason than `evict` (an exclusive
        hierarchy moves it, an inclusive one invalidates it). A policy without it cannot serve such a tier.
    counts: names of fields of the state, int64[1] each, that a replay's result gives.
    """

    KIND: ClassVar[str] = "eviction"
    HOOKS: ClassVar[Mapping[str, int]] = {
        "on_hit": 2,
        "on_miss": 2,
        "admit": 2,
        "evict": 2,
        "on_insert": 2,
        "remove": 2,
    }
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {"on_miss": _nothing, "admit": _yes, "remove": None}

    on_hit: Callable
    on_insert: Callable
    evict: Callable
    on_miss: Callable | None = None
    admit: Callable | None = None
    remove: Callable | None = None
    counts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class AdmissionPolicy(Plugin):
    """Whether a missed block enters.

    admit(state, request) -> bool: asked once for each block that could be inserted.
    on_access(state, request), optional: sees every access of the tier, hit or miss, before anything else.
    """

    KIND: ClassVar[str] = "admission"
    HOOKS: ClassVar[Mapping[str, int]] = {"admit": 2, "on_access": 2}
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {"on_access": _nothing}

    admit: Callable
    on_access: Callable | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PrefetchPolicy(Plugin):
    """What to fetch before it is asked for.

    propose(state, request, hit, proposals) -> count: after an access, write the addresses to fetch into `proposals`
        (int64[limit(parameters)]) and return how many. Addresses are the trace's own numbers (`request.address`).
    degree: how many proposals one access may make, from the resolved parameters.
    """

    KIND: ClassVar[str] = "prefetch"
    HOOKS: ClassVar[Mapping[str, int]] = {"propose": 4}

    propose: Callable
    degree: Callable


@dataclass(frozen=True, eq=False, kw_only=True)
class OffloadPolicy(Plugin):
    """How blocks of the tier above come to this tier, and whether this tier keeps what it gives back.

    copy_on_insert(state, request) -> bool: the block was inserted above and is not here: write it here, too?
    copy_on_hit(state, request) -> bool: the block was hit above and is not here: write it here now?
    copy_on_evict(state, block) -> bool: the tier above evicted the block and it is not here: demote it to here?
    keep_on_promote(state, block) -> bool: the block was read from here into the tier above: keep this copy?
    on_access(state, request), optional: sees every access to the tier above.
    """

    KIND: ClassVar[str] = "offload"
    HOOKS: ClassVar[Mapping[str, int]] = {
        "copy_on_insert": 2,
        "copy_on_hit": 2,
        "copy_on_evict": 2,
        "keep_on_promote": 2,
        "on_access": 2,
    }
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {"on_access": _nothing}

    copy_on_insert: Callable
    copy_on_hit: Callable
    copy_on_evict: Callable
    keep_on_promote: Callable
    on_access: Callable | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SchedulingPolicy(Plugin):
    """Which call of a language model runs next, and which one gives way.

    `init` is told how many `calls`, `tenants` and `programs` there are, which number arrays of the state.

    rank(state, call) -> float: of a waiting call; the lowest goes first, of equals the first that arrived, then the
        lowest index. Like all hooks that answer, it changes nothing, and its answer is finite.
    victim_rank(state, call) -> float, optional: of a running call, asked where blocks run out: the highest is
        preempted, of equals the last that arrived, then the highest index. Without it: the last that was admitted.
    preempts(state, waiting, running) -> bool, optional: whether the waiting call that is next, but finds no room, takes
        the place of this running one; asked of the last that was admitted first. Of two calls, one at most may preempt
        the other, and one that was preempted ranks behind the one that took its place.
    hold_ns(state, call) -> float, optional: for how long the KV blocks of a call that has ended stay pinned, 0 or more;
        where its program's next call arrives before that is over, until that call is admitted. Asked after `on_finish`.

    These observe, all optional: on_arrive(state, call): it waits from now on. on_admit(state, call): it waits no more;
    `call.admission` is of this admission. on_preempt(state, call): it is preempted, and waits again;
    `call.preemptions` counts this one. on_finish(state, call): it has ended; all that arrive end once, while they run.
    on_tokens(state, call, tokens): so many more tokens were computed of its prompt or generated;
    `call.generated_tokens` counts them already. It is called where `counts_tokens` is set.

    dynamic: ranks change while calls wait. All waiting calls are ranked at the beginning of each scheduling pass, and
        the next one again before it is admitted: where the admissions of this pass have lifted it above another, it
        goes back. Otherwise a call is ranked when it arrives and when it is preempted, after that hook.
    sees_hits: `call.hit_tokens` is looked up for `rank`.
    Raises InputError where there is an `on_tokens` that would not be called.
    """

    KIND: ClassVar[str] = "scheduling"
    HOOKS: ClassVar[Mapping[str, int]] = {
        "rank": 2,
        "victim_rank": 2,
        "preempts": 3,
        "hold_ns": 2,
        "on_arrive": 2,
        "on_admit": 2,
        "on_preempt": 2,
        "on_finish": 2,
        "on_tokens": 3,
    }
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {
        "victim_rank": _last_admitted,
        "preempts": _no_preemption,
        "hold_ns": _hold_nothing,
        "on_arrive": _nothing,
        "on_admit": _nothing,
        "on_preempt": _nothing,
        "on_finish": _nothing,
        "on_tokens": _count_nothing,
    }

    rank: Callable
    victim_rank: Callable | None = None
    preempts: Callable | None = None
    hold_ns: Callable | None = None
    on_arrive: Callable | None = None
    on_admit: Callable | None = None
    on_preempt: Callable | None = None
    on_finish: Callable | None = None
    on_tokens: Callable | None = None
    dynamic: bool = False
    sees_hits: bool = False
    counts_tokens: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not self.counts_tokens and python_of(self.on_tokens) is not _count_nothing:
            problem = f"scheduling policy {self.name!r}: on_tokens would not be called"
            raise InputError(problem, value="counts_tokens=False", expected="counts_tokens=True")

    def has(self, hook: str) -> bool:
        """Whether the policy has this optional hook of its own, so that an engine need not call what does nothing."""
        return python_of(getattr(self, hook)) is not self.OPTIONAL[hook]


@dataclass(frozen=True, eq=False, kw_only=True)
class Allocator(Plugin):
    """Where objects are placed in a memory, and what is wasted by it; an object of a cache's tier is a block.

    `context.objects` says what is known of the objects before they come (`sim.hook_arguments.Objects`); `needs` names
    its fields without which the allocator cannot work. At every moment

        bytes of objects + internal + reserved + metadata + free = the capacity, less a tail that never changes.

    allocate(state, block, size_bytes) -> bool: place an object that is not placed; False where nothing fits.
    release(state, block): give back the place of a placed object.
    free_bytes(state): bytes in no allocation. largest_free_bytes(state): the largest object that would still fit.
    internal_bytes(state): bytes allocated that their object will never use: rounding, and rests of pages.
    reserved_bytes(state), optional: bytes allocated that their object does not use yet, which the allocator may be able
        to take back for another; none by default.
    metadata_bytes(state), optional: of the capacity, what the allocator's own books take; none by default.
    outside_bytes(state), optional: what its books take outside of the capacity (a block table in other memory, say).
    held_bytes(state), optional: what it has taken from the system now: segments, mapped pages. Negative (the default)
        where it has no notion of that: it then holds the pages on which an object ever lay, at most 256 runs of each.
    resize(state, block, size_bytes) -> bool, optional: give a placed object another size, whose contents keep their
        place; False where that cannot be, and nothing has changed. Without it an object that grows is placed anew,
        copied and released.
    extents(state, block, out) -> int, optional: how many runs of addresses a placed object lies in, in the order of
        its bytes, neighbours merged; the first of them are written to out, int64[n, 2] of (address, bytes), as far as
        they go. The last may reach beyond the object's own bytes. Negative where it names no places.
    tick(state, now_ns), optional: time has come to now_ns; called before the calls of that moment.
    calls_made(state, which) -> int, optional: calls of the system so far, see `sim.hook_arguments.SYSTEM_CALLS`.
    waited_ns(state) -> float, optional: how long callers have waited for such calls so far.
    """

    KIND: ClassVar[str] = "allocator"
    HOOKS: ClassVar[Mapping[str, int]] = {
        "allocate": 3,
        "release": 2,
        "free_bytes": 1,
        "largest_free_bytes": 1,
        "internal_bytes": 1,
        "reserved_bytes": 1,
        "metadata_bytes": 1,
        "outside_bytes": 1,
        "held_bytes": 1,
        "resize": 3,
        "extents": 3,
        "tick": 2,
        "calls_made": 2,
        "waited_ns": 1,
    }
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {
        "reserved_bytes": _no_bytes,
        "metadata_bytes": _no_bytes,
        "outside_bytes": _no_bytes,
        "held_bytes": _not_told,
        "resize": _keep_size,
        "extents": _no_places,
        "tick": _nothing,
        "calls_made": _no_calls,
        "waited_ns": _no_wait,
    }

    allocate: Callable
    release: Callable
    free_bytes: Callable
    largest_free_bytes: Callable
    internal_bytes: Callable
    reserved_bytes: Callable | None = None
    metadata_bytes: Callable | None = None
    outside_bytes: Callable | None = None
    held_bytes: Callable | None = None
    resize: Callable | None = None
    extents: Callable | None = None
    tick: Callable | None = None
    calls_made: Callable | None = None
    waited_ns: Callable | None = None

    @property
    def can_resize(self) -> bool:
        return python_of(self.resize) is not _keep_size

    @property
    def names_places(self) -> bool:
        return python_of(self.extents) is not _no_places

    @property
    def tells_held(self) -> bool:
        return python_of(self.held_bytes) is not _not_told


@dataclass(frozen=True, eq=False, kw_only=True)
class DeviceModel(Plugin):
    """How long devices and links of one model take; one state serves all of them, each a row.

    init(devices): `devices` is a sequence of `sim.profile.Device`; the state has a field `busy_ns`, float64[devices],
        time that each was held so far, averaged over its channels.
    serve(state, row, head_ns, size_bytes, is_write) -> (start_ns, first_ns, end_ns, latency_ns): take in one access
        whose first byte arrives at head_ns, calls coming in order of head_ns. start_ns: when service began; first_ns:
        when the first byte leaves; end_ns: when the last byte would leave if all of it had been there at start_ns;
        latency_ns: the part of it that a byte takes from end to end of the device.
    """

    KIND: ClassVar[str] = "device_model"
    HOOKS: ClassVar[Mapping[str, int]] = {"serve": 5}

    serve: Callable


@dataclass(frozen=True, eq=False, kw_only=True)
class EventModel(Plugin):
    """A device that reorders what it is asked for, simulated from event to event; one state is one device.

    init(parameters): the parameters are the model's own, with `capacity_bytes`, `transaction_bytes` and `clock_ns` (at
        whose edges it takes requests; 0 for at any time). The state has the fields `done_ticket` int64[requests] and
        `done_ns` float64[requests], which the last `advance` filled, and `counts` int64, what the model counts.
    submit(state, ticket, arrival_ns, address, size_bytes, is_write) -> bool: take in a request, after `advance` up to
        its arrival, in order of arrival; False, and nothing is changed, where the queue that it needs is full.
    advance(state, until_ns) -> count: simulate all up to until_ns; so many requests were done, in order of time. It
        does not matter how often it is called.
    next_event(state) -> float: ns of the next thing that will happen, infinity where no request is under way.
    """

    KIND: ClassVar[str] = "event_model"
    HOOKS: ClassVar[Mapping[str, int]] = {"submit": 6, "advance": 2, "next_event": 1}

    submit: Callable
    advance: Callable
    next_event: Callable
    of_device: Callable  # (sim.profile.Device, changes by name) -> parameters; raises InputError
    chunk_bytes: int = 4096  # in a hierarchy, what is larger is asked for in pieces of this
    times: Callable | None = None  # (parameters, count) -> parameters of so many side by side; None: there is one only
    energy_pj: Callable  # (parameters, counts, elapsed_ns) -> picojoules by cause
    count_names: tuple[str, ...]


class Stacked:
    """One plugin a level, called by level number: `stacked.evict(states, level, request)`.

    Tiers run different policies with states of different types; compiled code cannot index such a tuple by a variable.
    The levels' hooks are chained into one function of nested comparisons, which the compiler flattens. A stack of no
    plugins has the hooks of event models, which do nothing: code that calls them compiles, and is never reached.
    """

    def __init__(self, plugins: Sequence[Plugin]):
        self.plugins = tuple(plugins)
        self.kind = self.plugins[0].KIND if self.plugins else EventModel.KIND
        name = "+".join(plugin.name for plugin in self.plugins)
        digest = hashlib.sha256("".join(plugin.digest for plugin in self.plugins).encode()).hexdigest()[:12]
        self._numba_type_ = StackedType(self.kind, name, digest)
        by_type[self._numba_type_] = self

    def chained(self, hook: str) -> Callable:
        functions = tuple(self._function(plugin, hook) for plugin in self.plugins)
        arity = 2 if hook in _DONE else EventModel.HOOKS.get(hook) or type(self.plugins[0]).HOOKS[hook]
        return _chain(functions, arity, _IDLE.get(hook))

    def _function(self, plugin: Plugin, hook: str) -> Callable:
        if hook in _DONE:
            return _DONE[hook]
        function = getattr(plugin, hook) or _missing_hook(plugin, hook)
        return _shared(function) if self.kind == EventModel.KIND else function

    def compile_apart(self, states: Sequence[Any]) -> None:
        """Compile the hooks of event models for these states, where they are not yet.

        Within the compilation of what calls them they would take three times as long: their code is then optimised
        again with that of each caller.
        """
        for plugin, state in zip(self.plugins, states, strict=True):
            for hook, arguments in hook_samples(plugin, state, sample_request()).items():
                specialised(_shared(getattr(plugin, hook)), *arguments)

    def __getattr__(self, hook: str) -> Callable:
        """The hooks as plain Python methods (used where compilation is off)."""
        if hook.startswith("_") or not (hook in _DONE or hook in type(self.plugins[0]).HOOKS):
            raise AttributeError(hook)
        return lambda states, level, *rest: self._function(self.plugins[level], hook)(states[level], *rest)


# What the last `advance` of an event model left in its state, as if a hook said it; what a stack of no devices says.
_DONE = {
    "done_ticket": inlined(lambda state, place: state.done_ticket[place]),
    "done_at_ns": inlined(lambda state, place: state.done_ns[place]),
}
_IDLE = {"submit": False, "advance": 0, "next_event": math.inf, "done_ticket": 0, "done_at_ns": 0.0}


@cache
def _shared(function: Callable) -> Callable:
    """The function compiled once for all devices of a type: a model's code is large, and a call costs it little."""
    return function if config.DISABLE_JIT else subroutine(python_of(function))


def _missing_hook(plugin: Plugin, hook: str) -> Callable:
    raise InputError(f"{plugin.KIND} policy {plugin.name!r} has no {hook} hook, which this hierarchy needs")


def _chain(functions: Sequence[Callable], arity: int, none: object = None) -> Callable:
    """`lambda stacked, states, level, ...: functions[level](states[level], ...)` as an expression that compiles.

    Written out as text, since its length depends on the number of levels and a call for each comparison would pass
    the states of all levels each time. none: the value where there are no functions.
    """
    rest = "".join(f", a{i}" for i in range(1, arity))
    calls = [f"f{level}(states[{level}]{rest})" for level in range(len(functions))] or ["none"]
    choice = "".join(f"{call} if level == {level} else " for level, call in enumerate(calls[:-1])) + calls[-1]
    names = {f"f{level}": function for level, function in enumerate(functions)}
    return eval(f"lambda stacked, states, level{rest}: {choice}", {**names, "none": none})


def _forward(find: Callable, arity: int) -> Callable:
    """An overload of `plugin.hook(...)` with `arity` arguments: the function that `find` has for the plugin's type."""

    def one(plugin, a):
        f = find(plugin)
        return lambda plugin, a: f(a)

    def two(plugin, a, b):
        f = find(plugin)
        return lambda plugin, a, b: f(a, b)

    def three(plugin, a, b, c):
        f = find(plugin)
        return lambda plugin, a, b, c: f(a, b, c)

    def four(plugin, a, b, c, d):
        f = find(plugin)
        return lambda plugin, a, b, c, d: f(a, b, c, d)

    def five(plugin, a, b, c, d, e):
        f = find(plugin)
        return lambda plugin, a, b, c, d, e: f(a, b, c, d, e)

    def six(plugin, a, b, c, d, e, g):
        f = find(plugin)
        return lambda plugin, a, b, c, d, e, g: f(a, b, c, d, e, g)

    return {1: one, 2: two, 3: three, 4: four, 5: five, 6: six}[arity]


def _forward_level(hook: str, arity: int) -> Callable:
    """An overload of `stacked.hook(states, level, ...)`, whose arguments beyond those a hook of `arity` takes."""

    def one(stacked, states, level):
        return by_type[stacked].chained(hook)

    def two(stacked, states, level, a1):
        return by_type[stacked].chained(hook)

    def three(stacked, states, level, a1, a2):
        return by_type[stacked].chained(hook)

    def four(stacked, states, level, a1, a2, a3):
        return by_type[stacked].chained(hook)

    def five(stacked, states, level, a1, a2, a3, a4):
        return by_type[stacked].chained(hook)

    def six(stacked, states, level, a1, a2, a3, a4, a5):
        return by_type[stacked].chained(hook)

    return {1: one, 2: two, 3: three, 4: four, 5: five, 6: six}[arity]


def _register_hooks() -> None:
    """Tell the compiler of every hook of every kind: once for a plugin, once for a stack, which takes a level more."""
    policies = (EvictionPolicy, AdmissionPolicy, PrefetchPolicy, OffloadPolicy, SchedulingPolicy)
    kinds = (*policies, Allocator, DeviceModel, EventModel)
    for hook, arity in {hook: arity for kind in kinds for hook, arity in kind.HOOKS.items()}.items():
        own = _forward(lambda typ, hook=hook: getattr(by_type[typ], hook), arity)
        overload_method(PluginType, hook, jit_options=INLINED)(own)
        overload_method(StackedType, hook, jit_options=INLINED)(_forward_level(hook, arity))
    for hook in _DONE:
        overload_method(StackedType, hook, jit_options=INLINED)(_forward_level(hook, 2))


_register_hooks()


def sample_request() -> Request:
    """A request of the types that kernels pass."""
    return make_request(0, 0, 0)


def sample_call() -> Call:
    """A call of the types that kernels pass."""
    return make_call(0, 0.0, 0.0, 1, 1.0)


def hook_samples(plugin: Plugin, state, request: Request) -> dict[str, tuple]:
    """Arguments of the types that a kernel passes to each hook that the plugin has."""
    block, call = (request.block,), sample_call()
    after_state = {
        **{hook: (call,) for hook in SchedulingPolicy.HOOKS},
        "preempts": (call, call),
        "on_tokens": (call, 1),
        **{hook: block for hook in ("remove", "copy_on_evict", "keep_on_promote", "release")},
        **{hook: () for hook in ("waited_ns", *(hook for hook in Allocator.HOOKS if hook.endswith("_bytes")))},
        **{hook: (request.block, request.size_bytes) for hook in ("allocate", "resize")},
        "extents": (request.block, np.zeros((1, 2), np.int64)),
        "tick": (0.0,),
        "calls_made": (0,),
        "propose": (request, True, np.zeros(0, np.int64)),
        "serve": (0, 0.0, request.size_bytes, False),
        "submit": (0, 0.0, request.address, request.size_bytes, False),
        "advance": (0.0,),
        "next_event": (),
    }
    hooks = (hook for hook in plugin.HOOKS if getattr(plugin, hook) is not None)
    return {hook: (state, *after_state.get(hook, (request,))) for hook in hooks}
