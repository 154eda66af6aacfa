"""Tells the author of a policy, an allocator or a device model, in plain words, which rules of the seam it breaks.

    import sim
    sim.testing.check_policy(POLICY)

Every rule is tried on small random traces: with objects of one size and of many, in a cache of one object and of more,
with and without refusals and removals; first as plain Python, where nothing can be corrupted, then compiled.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numba import config
from numba.core.errors import NumbaError

from sim.engines.columns import HINTS, make_columns
from sim.engines.replay import HITS, explain, make_cache, replay_rows, wrong_return
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.policy import (
    NEVER,
    NO_BLOCK,
    AdmissionPolicy,
    Allocator,
    Context,
    DeviceModel,
    EventModel,
    EvictionPolicy,
    OffloadPolicy,
    Plugin,
    PrefetchPolicy,
    Request,
    SchedulingPolicy,
    explain_failure,
    hook_samples,
    make_request,
)

_BLOCKS, _REQUESTS, _SEED = 24, 600, 7


class CheckFailed(AssertionError):
    """The rules that were broken, one sentence each."""

    def __init__(self, name: str, failures: list[str]):
        self.failures = failures
        super().__init__("\n".join([f"{name} breaks {len(failures)} rule(s):", *(f"  - {one}" for one in failures)]))


class Broken(Exception):
    """A rule was broken; ends the case at hand."""


@dataclass(frozen=True)
class Report:
    """What was checked and found good."""

    name: str
    kind: str
    checks: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.kind} {self.name}: good", *(f"  - {check}" for check in self.checks)])


@dataclass(frozen=True)
class _Case:
    """One way to use an eviction policy. refuse, remove, prefetch: how often that is done instead of what is usual."""

    name: str
    capacity: int
    largest: int = 1
    refuse: float = 0.0
    remove: float = 0.0
    prefetch: float = 0.0


_CASES = (
    _Case("objects of one size", capacity=8),
    _Case("a cache of one object", capacity=1),
    _Case("objects of many sizes", capacity=40, largest=12),
    _Case("an admission policy that refuses some", capacity=8, refuse=0.3),
    _Case("blocks that are prefetched", capacity=8, prefetch=0.2),
)
_REMOVING = _Case("blocks that are removed", capacity=8, remove=0.2)


def check_policy(policy: Plugin, parameters: Mapping[str, Any] | None = None) -> Report:
    """What was checked. Raises CheckFailed with every rule that `policy` breaks, of whichever kind it is."""
    for kind, check in _CHECKS.items():
        if isinstance(policy, kind):
            return checked(policy, check(policy, dict(parameters or {})))
    raise CheckFailed(repr(policy), [f"it is a {type(policy).__name__}, not a policy (sim.EvictionPolicy and so on)"])


def check_allocator(allocator: Allocator, parameters: Mapping[str, Any] | None = None) -> Report:
    """What was checked. Raises CheckFailed with every rule that `allocator` breaks."""
    if not isinstance(allocator, Allocator):
        raise CheckFailed(repr(allocator), [f"it is a {type(allocator).__name__}, not a sim.Allocator"])
    return checked(allocator, _allocator_rules(allocator, dict(parameters or {})))


def check_device(model: DeviceModel | EventModel, device: Any) -> Report:
    """What was checked of a device model with a `sim.profile.Device`, or with parameters of the model's own.

    Raises CheckFailed with every rule that `model` breaks.
    """
    from sim import device_testing

    if not isinstance(model, DeviceModel | EventModel):
        raise CheckFailed(repr(model), [f"it is a {type(model).__name__}, not a sim.EventModel or sim.DeviceModel"])
    return checked(model, device_testing.rules(model, device))


def checked(plugin: Plugin, rules: Iterator[tuple[str, Callable[[], None]]]) -> Report:
    """Try the rules in order; those of compiled code come last, and are left out where plain Python is not sound."""
    good, failures = [], []
    for rule, trial in rules:
        if rule.startswith("compiled") and failures:
            break
        try:
            trial()
            good.append(rule)
        except Broken as broken:
            failures.append(str(broken))
        except InputError as error:
            failures.append(str(error))
    if failures:
        raise CheckFailed(f"{plugin.KIND} {plugin.name!r}", _distinct(failures))
    return Report(plugin.name, plugin.KIND, tuple(good))


def _distinct(failures: list[str]) -> list[str]:
    """Each fault once, with the first case that showed it."""
    return list({failure.rpartition(" (")[0] or failure: failure for failure in reversed(failures)}.values())[::-1]


# -------------------------------------------------------------------------------------------------------- every plugin


class PythonHooks:
    """A plugin's hooks as plain Python functions, whose failures say which hook it was."""

    def __init__(self, plugin: Plugin, case: str):
        for hook in plugin.HOOKS:
            function = getattr(plugin, hook)
            setattr(self, hook, None if function is None else _told(getattr(function, "py_func", function), hook, case))


def _told(function: Callable, hook: str, case: str) -> Callable:
    def call(*arguments):
        try:
            return function(*arguments)
        except Exception as error:  # an author's hook may fail in any way
            raise Broken(f"{hook} raised {type(error).__name__}: {error} ({case})") from error

    return call


@cache
def compiled_hooks(plugin: Plugin) -> SimpleNamespace:
    """The plugin's hooks as compiled functions that Python can call."""
    hooks = {hook: getattr(plugin, hook) for hook in plugin.HOOKS}
    return SimpleNamespace(**{hook: function and kernel(function) for hook, function in hooks.items()})


def _fresh_state(plugin: Plugin, capacity: int, blocks: int, parameters: dict[str, Any]):
    context = Context(capacity=capacity, blocks=blocks, seed=_SEED)
    return fresh_state(plugin, context, parameters, f"capacity {capacity}, {blocks} blocks")


def fresh_state(plugin: Plugin, context: Context, parameters: dict[str, Any], case: str):
    """A state; an `init` that fails in any other way than by an InputError breaks a rule."""
    try:
        return plugin.make_state(context, parameters)
    except InputError:
        raise
    except Exception as error:  # as above
        raise Broken(f"init raised {type(error).__name__}: {error} ({case})") from error


def _check_state(plugin: Plugin, parameters: dict[str, Any]) -> None:
    check_states(*(_fresh_state(plugin, 8, _BLOCKS, parameters) for _ in range(2)))


def check_states(state: Any, again: Any) -> None:
    """Two states of one plugin, which must have nothing in common."""
    if not isinstance(state, tuple) or not hasattr(state, "_fields"):
        raise Broken(f"init returned a {type(state).__name__}; the state must be a NamedTuple of arrays and numbers")
    for name, one, other in zip(state._fields, state, again, strict=True):
        if isinstance(one, np.ndarray) and one.size and np.shares_memory(one, other):
            raise Broken(f"init gives the same array {name!r} each time; each state must have its own")


_READS = {"address": "address", "arrival_ns": "arrival_ns", "is_write": "op", "tenant": "tenant"}
_READS |= {hint: hint for hint in (*HINTS, "position")}


def _check_needs(plugin: Plugin) -> None:
    """What a hook reads of its request must be named in `needs` or `uses`, or a replay would not pass it."""
    named = {*plugin.needs, *plugin.uses, *(use for uses in plugin.uses_if.values() for use in uses)}
    for hook in plugin.HOOKS:
        function = getattr(plugin, hook)
        for name in names_read(getattr(function, "py_func", function), "request"):
            if name in _READS and _READS[name] not in named:
                raise Broken(f"{hook} reads request.{name}, but needs does not name {_READS[name]!r} (nor uses)")


def names_read(function: Callable | None, argument: str) -> Iterator[str]:
    """Fields that a hook's source reads of one of its arguments."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, or part of an expression: nothing to read
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == argument:
            yield node.attr


def check_compiles(plugin: Plugin, samples: dict[str, tuple]) -> None:
    if config.DISABLE_JIT:
        return
    failure = explain_failure(plugin, samples) or wrong_return(plugin)
    if failure is not None:
        raise failure


def _trace(largest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(blocks, sizes, next accesses) of a small random trace; a block keeps its size."""
    rng = np.random.default_rng(_SEED)
    blocks = np.minimum(rng.geometric(0.12, _REQUESTS) - 1, _BLOCKS - 1).astype(np.int32)
    sizes = rng.integers(1, largest + 1, _BLOCKS)[blocks].astype(np.int64)
    upcoming, last = np.full(_REQUESTS, NEVER, np.int64), {}
    for row in reversed(range(_REQUESTS)):
        upcoming[row] = last.get(int(blocks[row]), NEVER)
        last[int(blocks[row])] = row
    return blocks, sizes, upcoming


def _requests(largest: int = 1) -> Iterator[Request]:
    for row, (block, size, upcoming) in enumerate(zip(*(column.tolist() for column in _trace(largest)), strict=True)):
        yield make_request(row, block, 100 + block, size, 10.0 * row, row % 5 == 0, row % 3, upcoming)


def same(one: list, other: list, what: str, why: str) -> None:
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            raise Broken(f"{what}: answer {at} is {a!r} one time and {b!r} another; {why}")


STATE_RULE = "everything that it remembers must be in the state, and chance must come from sim.make_rng(context.seed)"


# ------------------------------------------------------------------------------------------------------------- eviction


def _eviction_rules(policy: EvictionPolicy, parameters: dict[str, Any]):
    state = _fresh_state(policy, 8, _BLOCKS, parameters)
    request = next(_requests())
    if not policy.plain:
        yield "init gives a new state each time", lambda: _check_state(policy, parameters)
        yield "what hooks read of a request is in needs", lambda: _check_needs(policy)
        yield (
            "every hook compiles and returns the right type",
            lambda: check_compiles(policy, hook_samples(policy, state, request)),
        )
    cases = [*_CASES, _REMOVING] if policy.remove is not None else list(_CASES)
    for case in cases:
        yield f"keeps track of residents with {case.name}", lambda case=case: _Cache(policy, parameters, case).run()
    yield "the same again for the same seed", lambda: _check_repeats(policy, parameters)
    if not config.DISABLE_JIT and not policy.plain:
        for case in cases:
            yield f"compiled as in Python with {case.name}", lambda case=case: _check_compiled(policy, parameters, case)
        yield "compiled into the replay", lambda: _check_replay(policy, parameters, request)


class _Cache:
    """A cache in plain Python under an eviction policy, which notices whatever the policy gets wrong."""

    def __init__(self, policy: EvictionPolicy, parameters: dict[str, Any], case: _Case, compiled: bool = False):
        self.policy = compiled_hooks(policy) if compiled else PythonHooks(policy, case.name)
        self.case, self.state = case, _fresh_state(policy, case.capacity, _BLOCKS, parameters)
        self.sizes: dict[int, int] = {}  # of residents
        self.victims: list[int] = []
        self.left: dict[int, str] = {}  # how each block that was resident last left
        self.hits = 0
        self.rng = np.random.default_rng(_SEED)

    def run(self) -> _Cache:
        """Serve the trace, then take out all that is left and serve it once more."""
        for _ in range(2):
            for request in _requests(self.case.largest):
                self.access(request)
            self.drain(request)
        return self

    def access(self, request: Request) -> None:
        if self.sizes and self.rng.random() < self.case.remove:
            block = sorted(self.sizes)[int(self.rng.integers(len(self.sizes)))]
            self.policy.remove(self.state, block)
            del self.sizes[block]
            self.left[block] = "removed"
        if int(request.block) in self.sizes:
            self.hits += 1
            self.policy.on_hit(self.state, request)
            return
        if self.rng.random() >= self.case.prefetch:  # a prefetched block was not asked for, so it was not missed
            self.policy.on_miss(self.state, request)
        if request.size_bytes > self.case.capacity or self.rng.random() < self.case.refuse:
            return
        if not truth(self.policy.admit(self.state, request), "admit"):
            return
        while sum(self.sizes.values()) + request.size_bytes > self.case.capacity:
            if not self.evict(request):
                return
        self.sizes[int(request.block)] = request.size_bytes
        self.policy.on_insert(self.state, request)

    def drain(self, request: Request) -> None:
        """As a daemon does, which wants room but has no block; the policy may refuse."""
        request = make_request(request.index, NO_BLOCK, NO_BLOCK, 0, request.arrival_ns)
        before = len(self.sizes)
        while self.sizes:
            try:
                if not self.evict(request):
                    return
            except Broken as broken:
                offered = before - len(self.sizes)
                problem = f"evict must offer every resident block once; it offered {offered} of {before}, then this"
                raise Broken(f"{problem}: {broken}") from broken

    def evict(self, request: Request) -> bool:
        """Whether a block left; the policy may also refuse the one that was to come."""
        victim = self.policy.evict(self.state, request)
        if isinstance(victim, bool) or not isinstance(victim, int | np.integer):
            raise Broken(f"evict returned {victim!r}, which is not the number of a block ({self.case.name})")
        if int(victim) not in self.sizes and int(victim) == int(request.block):
            self.victims.append(int(victim))
            return False
        if int(victim) not in self.sizes:
            known = 0 <= victim < _BLOCKS
            state = self._history(int(victim)) if known else f"does not exist (blocks are 0 to {_BLOCKS - 1})"
            raise Broken(f"evict gave up block {int(victim)}, which {state} ({self.case.name})")
        self.victims.append(int(victim))
        del self.sizes[int(victim)]
        self.left[int(victim)] = "evicted"
        return True

    def _history(self, block: int) -> str:
        if block not in self.left:
            return "is not resident"
        by = ", by remove as by evict" if self.case.remove else ""
        return f"is not resident: it was {self.left[block]} before and must be forgotten then{by}"


def _check_repeats(policy: EvictionPolicy, parameters: dict[str, Any]) -> None:
    one, other = (_Cache(policy, parameters, _CASES[0]).run().victims for _ in range(2))
    same(one, other, "evict is not the same for the same seed", STATE_RULE)


def _check_compiled(policy: EvictionPolicy, parameters: dict[str, Any], case: _Case) -> None:
    one, other = (_Cache(policy, parameters, case, compiled).run().victims for compiled in (False, True))
    same(one, other, f"evict is not the same in Python and compiled ({case.name})", STATE_RULE)


def _check_replay(policy: EvictionPolicy, parameters: dict[str, Any], request: Request) -> None:
    """The replay kernel finds as many hits as plain Python."""
    case = _CASES[0]
    plain = _Cache(policy, parameters, case)
    for one in _requests():
        plain.access(one)
    blocks, _, upcoming = _trace(1)
    rows, addresses = np.arange(_REQUESTS), 100 + np.arange(_BLOCKS)
    columns = make_columns(
        blocks,
        next_access=upcoming,
        arrival_ns=10.0 * rows,
        op=(rows % 5 == 0).astype(np.uint8),
        tenant=(rows % 3).astype(np.int32),
    )
    cache = make_cache(case.capacity, _BLOCKS, ignore_size=True)
    state = _fresh_state(policy, case.capacity, _BLOCKS, parameters)
    try:
        replay_rows(policy, state, _ALWAYS, _ALWAYS.make_state(Context(1, 1)), cache, 0, columns, addresses)
    except NumbaError as error:
        raise explain(policy, state, request, error) from error
    if cache.counts[HITS] != plain.hits:
        raise Broken(f"the compiled replay has {cache.counts[HITS]} hits, the same in Python {plain.hits}")


class _NoState(NamedTuple):
    pass


def _no_state(context):
    return _NoState()


def _admit_all(state, request):
    return True


_ALWAYS = AdmissionPolicy(name="always", init=_no_state, admit=_admit_all)


# ------------------------------------------------------------------------------------- admission, prefetch and offload


def _admission_rules(policy: AdmissionPolicy, parameters: dict[str, Any]):
    state = _fresh_state(policy, 8, _BLOCKS, parameters)
    samples = hook_samples(policy, state, next(_requests()))
    yield "what hooks read of a request is in needs", lambda: _check_needs(policy)
    yield from _answer_rules(policy, parameters, samples, _admissions)


def _admissions(hooks, state) -> Iterator[Any]:
    for request in _requests(largest=12):
        hooks.on_access(state, request)
        yield truth(hooks.admit(state, request), "admit")


def _prefetch_rules(policy: PrefetchPolicy, parameters: dict[str, Any]):
    resolved = policy.resolve(parameters)
    degree = policy.degree(resolved)
    yield "degree is a whole number", lambda: _check_degree(degree)
    if isinstance(degree, int) and degree >= 0:
        state = _fresh_state(policy, 8, _BLOCKS, parameters)
        samples = hook_samples(policy, state, next(_requests()))

        def proposals(hooks, state) -> Iterator[Any]:
            yield from _proposals(hooks, state, degree)

        yield from _answer_rules(policy, parameters, samples, proposals)


def _check_degree(degree: Any) -> None:
    if isinstance(degree, bool) or not isinstance(degree, int) or degree < 0:
        raise Broken(f"degree returned {degree!r}; expected how many proposals one access may make")


def _proposals(hooks, state, degree: int) -> Iterator[Any]:
    for request in _requests():
        written = np.zeros(degree, np.int64)
        count = hooks.propose(state, request, request.index % 2 == 0, written)
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 <= count <= degree:
            raise Broken(f"propose returned {count!r}; expected how many addresses it wrote, 0 to degree ({degree})")
        yield int(count), tuple(written[:count].tolist())


def _offload_rules(policy: OffloadPolicy, parameters: dict[str, Any]):
    state = _fresh_state(policy, 8, _BLOCKS, parameters)
    samples = hook_samples(policy, state, next(_requests()))
    yield from _answer_rules(policy, parameters, samples, _offloads)


def _offloads(hooks, state) -> Iterator[Any]:
    for request in _requests():
        hooks.on_access(state, request)
        for hook in ("copy_on_insert", "copy_on_hit"):
            yield truth(getattr(hooks, hook)(state, request), hook)
        for hook in ("copy_on_evict", "keep_on_promote"):
            yield truth(getattr(hooks, hook)(state, request.block), hook)


def truth(answer: Any, hook: str) -> bool:
    if not isinstance(answer, bool | np.bool_):
        raise Broken(f"{hook} returned {answer!r}, which is neither True nor False")
    return bool(answer)


def _answer_rules(plugin: Plugin, parameters: dict[str, Any], samples: dict[str, tuple], answers: Callable):
    """Rules of a plugin that only answers: its answers are of the right type, repeatable, and the same compiled."""

    def ask(compiled: bool) -> list:
        hooks = compiled_hooks(plugin) if compiled else PythonHooks(plugin, "any request")
        return list(answers(hooks, _fresh_state(plugin, 8, _BLOCKS, parameters)))

    name = f"{plugin.KIND} policy {plugin.name!r}"
    yield "init gives a new state each time", lambda: _check_state(plugin, parameters)
    yield "every hook compiles and returns the right type", lambda: check_compiles(plugin, samples)
    yield "answers are of the right type", lambda: _no_result(ask(False))
    yield (
        "the same again for the same seed",
        lambda: same(ask(False), ask(False), f"{name} is not the same for the same seed", STATE_RULE),
    )
    if not config.DISABLE_JIT:
        yield (
            "compiled as in Python",
            lambda: same(ask(False), ask(True), f"{name} is not the same in Python and compiled", STATE_RULE),
        )


def _no_result(_answers: list) -> None:
    """A trial gives nothing back."""


# ----------------------------------------------------------------------------------------------------------- allocators


def _allocator_rules(allocator: Allocator, parameters: dict[str, Any]):
    from sim import allocation_testing

    return allocation_testing.rules(allocator, parameters)


# ---------------------------------------------------------------------------------------------------------- scheduling


def _scheduling_rules(policy: SchedulingPolicy, parameters: dict[str, Any]):
    from sim import scheduling_testing

    return scheduling_testing.rules(policy, parameters)


_CHECKS: dict[type, Callable] = {
    EvictionPolicy: _eviction_rules,
    AdmissionPolicy: _admission_rules,
    PrefetchPolicy: _prefetch_rules,
    OffloadPolicy: _offload_rules,
    SchedulingPolicy: _scheduling_rules,
    Allocator: _allocator_rules,
}
