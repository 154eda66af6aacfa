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
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import config, typeof, types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import NativeValue, models, overload_method, register_model, unbox

from sim.errors import InputError
from sim.kernels.compile import INLINED, inlined, specialised, subroutine, used_digest

NEVER = np.iinfo(np.int64).max  # next_access of a block that is not accessed again
NO_BLOCK = -1  # block of a request for room alone, such as the migration daemon's


class Request(NamedTuple):
    """What a hook may know of the access at hand; fields may be added, so read them by name."""

    index: int  # which access of the trace this is, from 0
    block: int  # dense number of the block
    address: int  # number of the block in the trace's own numbering: neighbours there are neighbours here
    size_bytes: int  # 1 where object sizes are ignored
    arrival_ns: float
    is_write: bool
    tenant: int
    next_access: int  # index of the next access to this block, NEVER where there is none
    position: int  # which block of its LLM call this is, from 0; 0 where the trace has no calls
    cost: float  # of computing or fetching the block anew, in the trace's own unit; 1 where it does not say
    ttl_ns: float  # how long the block may be used from this access on; infinite where the trace does not say
    frequency_hint: int  # how often the block is expected to be accessed; 0 where the trace does not say
    prediction: float  # what a predictor says of the block; -1 where the trace does not say
    priority: int  # a block of a higher one is to stay longer; 0 where the trace does not say


@inlined
def make_request(
    index,
    block,
    address,
    size_bytes=1,
    arrival_ns=0.0,
    is_write=False,
    tenant=0,
    next_access=-1,
    position=0,
    cost=1.0,
    ttl_ns=np.inf,
    frequency_hint=0,
    prediction=-1.0,
    priority=0,
):
    """A request of exactly the types that every kernel passes to the hooks, so that each is compiled once."""
    return Request(
        np.int64(index),
        np.int64(block),
        np.int64(address),
        np.int64(size_bytes),
        np.float64(arrival_ns),
        bool(is_write),
        np.int64(tenant),
        np.int64(next_access),
        np.int64(position),
        np.float64(cost),
        np.float64(ttl_ns),
        np.int64(frequency_hint),
        np.float64(prediction),
        np.int64(priority),
    )


@dataclass(frozen=True)
class Context:
    """What a plugin's `init` is told.

    capacity: in bytes, in objects where sizes are ignored; unit_sizes: they are ignored, each block counts 1.
    """

    capacity: int
    blocks: int
    seed: int = 0
    unit_sizes: bool = False


class PluginType(types.Type):
    """Numba's view of a plugin; equality, and so every cache key, is by kind, name and digest."""

    def __init__(self, kind: str, plugin_name: str, digest: str):
        self.kind, self.plugin_name, self.digest = kind, plugin_name, digest
        super().__init__(name=f"{type(self).__name__}:{kind}({plugin_name}@{digest})")


class StackedType(PluginType):
    """Numba's view of one plugin a level."""


register_model(PluginType)(models.OpaqueModel)
register_model(StackedType)(models.OpaqueModel)


@unbox(PluginType)
@unbox(StackedType)
def _unbox(typ, obj, c):
    return NativeValue(c.context.get_dummy_value())


_by_type: dict[PluginType, Plugin | Stacked] = {}  # how a type met by the compiler finds its hooks again


def _nothing(state, request):
    """The default of a hook that observes."""


def _yes(state, request):
    """The default of a hook that may refuse."""
    return True


@dataclass(frozen=True, eq=False, kw_only=True)
class Plugin:
    """Base of all plugins. `init(context, **parameters)` returns the state; the parameters are its keyword arguments.

    needs: trace columns without which the plugin cannot work ("next_access"), "address", or "position" (of a block in
    its LLM call); over a trace without them it is refused. uses: those that it takes into account where the trace has
    them ("cost"); uses_if: those that it takes into account only where a parameter, by name, is set. plain: it is a
    Python class (`sim.plain_policy`), and cannot be compiled.
    Raises InputError where a hook is missing or takes the wrong number of arguments.
    """

    KIND: ClassVar[str] = ""
    HOOKS: ClassVar[Mapping[str, int]] = {}
    OPTIONAL: ClassVar[Mapping[str, Callable]] = {}

    name: str
    init: Callable
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    uses_if: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    doc: str = ""
    plain: bool = False
    _numba_type_: PluginType = field(init=False, repr=False, default=None)

    def __post_init__(self):
        for hook, arity in self.HOOKS.items():
            self._check_hook(hook, arity)
        compiled = {hook: _compiled(getattr(self, hook)) for hook in self.HOOKS if getattr(self, hook) is not None}
        digest = _digest(tuple(_python(function) for function in compiled.values()))
        for hook, function in compiled.items():
            object.__setattr__(self, hook, function)
        object.__setattr__(self, "_numba_type_", PluginType(self.KIND, self.name, digest))
        if not self.doc:
            object.__setattr__(self, "doc", _first_sentence(self.init))
        _by_type[self._numba_type_] = self

    def _check_hook(self, hook: str, arity: int) -> None:
        function = getattr(self, hook)
        if function is None and hook in self.OPTIONAL:
            if self.OPTIONAL[hook] is not None:
                object.__setattr__(self, hook, self.OPTIONAL[hook])
            return
        if not callable(function):
            raise InputError(f"{self.KIND} policy {self.name!r}: {hook} is not a function", value=function)
        got = len(inspect.signature(_python(function)).parameters)
        if got != arity:
            raise InputError(f"{self.KIND} policy {self.name!r}: {hook} takes {got} arguments", expected=str(arity))

    @property
    def digest(self) -> str:
        return self._numba_type_.digest

    def parameters(self) -> dict[str, Any]:
        """Name and default of each parameter."""
        declared = list(inspect.signature(self.init).parameters.values())[1:]
        return {p.name: p.default for p in declared if p.kind is not p.VAR_KEYWORD}

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` over the defaults, each of its default's type. Raises InputError for what does not fit."""
        defaults = self.parameters()
        resolved = dict(defaults)
        for name, value in given.items():
            if name not in defaults:
                expected = None if defaults else f"no parameters: {self.name} has none"
                raise InputError(
                    f"{self.KIND} policy {self.name!r}: unknown parameter",
                    value=name,
                    expected=expected,
                    candidates=defaults,
                )
            resolved[name] = self._coerce(name, value, defaults[name])
        return resolved

    def _coerce(self, name: str, value: Any, default: Any) -> Any:
        if isinstance(default, bool):
            wanted, words = bool, {"true": True, "false": False}
            value = words.get(str(value).lower(), value)
        else:
            wanted = type(default)
        if isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool):
            return value
        try:
            if wanted in (int, float) and not isinstance(value, bool):
                number = wanted(value)
                if wanted is float or number == float(value):
                    return number
        except (TypeError, ValueError, OverflowError):
            pass
        what = {int: "a whole number", float: "a number", bool: "true or false"}.get(wanted, wanted.__name__)
        problem = f"{self.KIND} policy {self.name!r}: parameter {name} is"
        raise InputError(problem, value=value, expected=f"{what} such as {default!r}")

    def check_needs(self, trace) -> None:
        """Raises InputError where the trace lacks a column without which the plugin cannot work."""
        for need in self.needs:
            if need not in trace.provides:
                what = "LLM calls" if need == "position" else f"the column {need!r}"
                problem = f"{self.KIND} policy {self.name!r} needs {what}, which trace {trace.name!r}"
                raise InputError(f"{problem} does not have")

    def reads(self, trace, parameters: Mapping[str, Any]) -> set[str]:
        """What the plugin, with these parameters, takes of a trace that has all that it needs."""
        more = {use for name, uses in self.uses_if.items() if parameters[name] for use in uses}
        return {*self.needs} | (({*self.uses} | more) & trace.provides)

    def make_state(self, context: Context, given: Mapping[str, Any] | None = None) -> NamedTuple:
        """The state before the first access. Raises InputError where a parameter's value is out of range."""
        parameters = self.resolve(given or {})
        try:
            return self.init(context, **parameters)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{self.KIND} policy {self.name!r}: {error}") from error


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
class Allocator(Plugin):
    """Where a block is placed in a tier's memory, and what is wasted by it.

    allocate(state, block, size_bytes) -> bool: place a block that is not placed; False where nothing fits.
    release(state, block): give back the place of a placed block.
    free_bytes(state): bytes in no allocation. largest_free_bytes(state): the largest block that would still fit.
    internal_bytes(state): bytes allocated beyond what was asked for.
    """

    KIND: ClassVar[str] = "allocator"
    HOOKS: ClassVar[Mapping[str, int]] = {
        "allocate": 3,
        "release": 2,
        "free_bytes": 1,
        "largest_free_bytes": 1,
        "internal_bytes": 1,
    }

    allocate: Callable
    release: Callable
    free_bytes: Callable
    largest_free_bytes: Callable
    internal_bytes: Callable


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
        _by_type[self._numba_type_] = self

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
    return function if config.DISABLE_JIT else subroutine(_python(function))


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
        return _by_type[stacked].chained(hook)

    def two(stacked, states, level, a1):
        return _by_type[stacked].chained(hook)

    def three(stacked, states, level, a1, a2):
        return _by_type[stacked].chained(hook)

    def four(stacked, states, level, a1, a2, a3):
        return _by_type[stacked].chained(hook)

    def five(stacked, states, level, a1, a2, a3, a4):
        return _by_type[stacked].chained(hook)

    def six(stacked, states, level, a1, a2, a3, a4, a5):
        return _by_type[stacked].chained(hook)

    return {1: one, 2: two, 3: three, 4: four, 5: five, 6: six}[arity]


def _register_hooks() -> None:
    """Tell the compiler of every hook of every kind: once for a plugin, once for a stack, which takes a level more."""
    kinds = (EvictionPolicy, AdmissionPolicy, PrefetchPolicy, OffloadPolicy, Allocator, DeviceModel, EventModel)
    for hook, arity in {hook: arity for kind in kinds for hook, arity in kind.HOOKS.items()}.items():
        own = _forward(lambda typ, hook=hook: getattr(_by_type[typ], hook), arity)
        overload_method(PluginType, hook, jit_options=INLINED)(own)
        overload_method(StackedType, hook, jit_options=INLINED)(_forward_level(hook, arity))
    for hook in _DONE:
        overload_method(StackedType, hook, jit_options=INLINED)(_forward_level(hook, 2))


_register_hooks()


def sample_request() -> Request:
    """A request of the types that kernels pass."""
    return make_request(0, 0, 0)


def hook_samples(plugin: Plugin, state, request: Request) -> dict[str, tuple]:
    """Arguments of the types that a kernel passes to each hook that the plugin has."""
    block = (request.block,)
    after_state = {
        **{hook: block for hook in ("remove", "copy_on_evict", "keep_on_promote", "release")},
        **{hook: () for hook in ("free_bytes", "largest_free_bytes", "internal_bytes")},
        "allocate": (request.block, request.size_bytes),
        "propose": (request, True, np.zeros(0, np.int64)),
        "serve": (0, 0.0, request.size_bytes, False),
        "submit": (0, 0.0, request.address, request.size_bytes, False),
        "advance": (0.0,),
        "next_event": (),
    }
    hooks = (hook for hook in plugin.HOOKS if getattr(plugin, hook) is not None)
    return {hook: (state, *after_state.get(hook, (request,))) for hook in hooks}


def explain_failure(plugin: Plugin, samples: Mapping[str, tuple]) -> InputError | None:
    """The one line that says which hook of `plugin` does not compile and why; None where all of them do.

    samples: hook name to arguments of the types that a kernel passes.
    """
    for hook, arguments in samples.items():
        function = getattr(plugin, hook)
        if function is None or not isinstance(function, Dispatcher):
            continue
        try:
            function.compile(tuple(typeof(argument) for argument in arguments))
        except NumbaError as cause:
            return _one_line(plugin, hook, cause)
    return None


def _one_line(plugin: Plugin, hook: str, cause: Exception) -> InputError:
    function = _python(getattr(plugin, hook))
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    noise = ("Failed in", "During:", "File ", "There are", "Overload", "This error", "<source", "- ", "^")
    telling = [line for line in lines if not line.startswith(noise)] or lines
    file, line = inspect.getsourcefile(function), function.__code__.co_firstlineno
    problem = f"{plugin.KIND} policy {plugin.name!r}: hook {hook} does not compile: {telling[0]}"
    return InputError(problem, file=file, line=line)


def _compiled(function: Callable) -> Callable:
    return function if isinstance(function, Dispatcher) or config.DISABLE_JIT else inlined(function)


def _python(function: Callable) -> Callable:
    return getattr(function, "py_func", function)


def _first_sentence(init: Callable) -> str:
    """What a list shows of a plugin: the first sentence of its module's docstring."""
    module = sys.modules.get(_python(init).__module__)
    text = (getattr(module, "__doc__", None) or "").strip()
    return text.split("\n\n")[0].replace("\n", " ")


def _digest(functions: Sequence[Callable]) -> str:
    """Of all source that can reach a kernel through these functions, and of the functions themselves."""
    digest = hashlib.sha256(repr(bool(config.BOUNDSCHECK)).encode())
    for function in functions:
        code = function.__code__
        closure = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
        digest.update(repr((function.__qualname__, code.co_code, repr(code.co_consts), closure)).encode())
    for source in sorted(_reachable_sources(functions)):
        digest.update(_source_digest(source))
    for module in sorted({function.__module__ for function in functions}):  # constants, too
        digest.update(used_digest(module))
    digest.update(_engine_digest())
    return digest.hexdigest()[:12]


@cache
def _engine_digest() -> bytes:
    """Of the kernels that plugins are called from, and of the requests they are passed, loaded already or not."""
    package = Path(__file__).parent
    folders = [package / name for name in ("kernels", "engines", "devices")]
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    return b"".join(_source_digest(str(file)) for file in (*files, __file__))


def _reachable_sources(functions: Sequence[Callable]) -> set[str]:
    """Files of the modules that hold the functions, and of those whose functions they use, and so on; not numpy's."""
    todo = [sys.modules.get(function.__module__) for function in functions]
    seen, files = set(), set()
    while todo:
        module = todo.pop()
        if module is None or module.__name__ in seen:
            continue
        seen.add(module.__name__)
        if not getattr(module, "__file__", None) or module.__name__.split(".")[0] in ("numpy", "numba"):
            continue
        files.add(module.__file__)
        todo += _modules_of_functions(module)
    return files


def _modules_of_functions(module) -> Iterator:
    for value in list(vars(module).values()):
        if isinstance(value, Dispatcher) or inspect.isfunction(value):
            yield sys.modules.get(_python(value).__module__)


@cache
def _source_digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()
