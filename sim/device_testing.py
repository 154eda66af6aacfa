"""Tells the author of a device model which rules of the seam it breaks: the work of `sim.testing.check_device`.

Small random loads are driven through the model in plain Python, event by event, with a look at every step; then again
along the same schedule in one step an arrival, in many small ones, a second time, and compiled: all must be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import config
from numba.core.errors import NumbaError

from sim.errors import InputError
from sim.policy import DeviceModel, EventModel, explain_failure
from sim.profile import Device
from sim.testing import Broken, PythonHooks, truth

_REQUESTS, _SEED = 48, 7
_MOST_STEPS = 20_000  # from one completion to the next, and until a device is at rest
_NEAR_NS = 1e-5  # clocks count in their own ticks
_STATE_RULE = "everything that it remembers must be in the state, and chance must come from there"


@dataclass(frozen=True)
class _Case:
    """One way to ask. gap: between arrivals, of the time that one request takes; 0: all at once."""

    name: str
    gap: float
    read_ratio: float = 0.6
    transactions: tuple[int, ...] = (1,)


_CASES = (
    _Case("requests one by one", gap=3.0),
    _Case("a burst of reads", gap=0.0, read_ratio=1.0),
    _Case("reads and writes of many sizes", gap=0.1, transactions=(1, 1, 2, 5)),
)
Request = tuple[float, int, int, bool]  # arrival_ns, address, size_bytes, is_write


def rules(model: DeviceModel | EventModel, device: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """What to check of a model with a `sim.profile.Device`, or with the model's own parameters."""
    if isinstance(model, DeviceModel):
        from sim.served import by_events

        yield "serve gives times in order, and never takes back time that it held", partial(_check_serve, model, device)
        model = by_events(model)
    parameters = model.of_device(device, {}) if isinstance(device, Device) else device
    fault = _parameter_fault(parameters)
    yield "parameters say capacity, transaction and clock", partial(_refuse, fault)
    if fault is not None:
        return
    yield "init gives a new state each time, with what the seam wants", partial(_check_state, model, parameters)
    yield "a device at rest has no next event and does nothing", partial(_check_rest, model, parameters)
    for case in _CASES:
        yield f"each request is done once, at its time, with {case.name}", partial(_check_run, model, parameters, case)
        yield (
            f"it does not matter how often it is advanced, with {case.name}",
            partial(_check_steps, model, parameters, case),
        )
    yield "the same again", partial(_check_repeats, model, parameters)
    yield "energy is told by cause", partial(_check_energy, model, parameters)
    if not config.DISABLE_JIT:
        yield "compiled as in Python", partial(_check_compiled, model, parameters)


# --- one device under watch ------------------------------------------------------------------------------------------


class _Watched:
    """A device in plain Python, whose every answer is looked at."""

    def __init__(self, model: EventModel, parameters: Any, case: str):
        self.hooks, self.state, self.case = PythonHooks(model, case), _fresh(model, parameters), case
        self.at_ns = 0.0
        self.asked: dict[int, float] = {}  # when each ticket was handed over
        self.done: dict[int, float] = {}

    def fail(self, what: str) -> None:
        raise Broken(f"{what} ({self.case})")

    def submit(self, ticket: int, request: Request) -> bool:
        """Hand over at the time advanced to."""
        _, address, size, is_write = request
        counts = self.state.counts.copy()
        taken = truth(self.hooks.submit(self.state, ticket, self.at_ns, address, size, is_write), "submit")
        if taken:
            self.asked[ticket] = self.at_ns
        elif len(self.asked) == len(self.done):
            self.fail(f"submit refuses a request of {size} bytes though none is under way")
        elif not np.array_equal(counts, self.state.counts):
            self.fail("a submit that returns False must change nothing, but counts changed")
        return taken

    def next_event(self) -> float:
        at_ns = float(self.hooks.next_event(self.state))
        if math.isnan(at_ns) or at_ns < self.at_ns - _NEAR_NS:
            self.fail(f"next_event goes back in time: {at_ns} ns after advance to {self.at_ns} ns")
        if at_ns == math.inf and len(self.asked) > len(self.done):
            waiting = len(self.asked) - len(self.done)
            self.fail(f"next_event is infinite though {waiting} of {len(self.asked)} requests are not done")
        return at_ns

    def advance(self, until_ns: float, quiet_until_ns: float = 0.0) -> int:
        """Look at what was done; nothing may be before quiet_until_ns, which next_event has told."""
        state, counts = self.state, self.state.counts.copy()
        count = self.hooks.advance(state, until_ns)
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            self.fail(f"advance returned {count!r}; expected how many requests were done")
        if not 0 <= count <= min(len(state.done_ticket), len(state.done_ns)):
            self.fail(f"advance returned {count}; done_ticket has {len(state.done_ticket)} places")
        before_ns = self.at_ns
        for ticket, done_ns in zip(state.done_ticket[:count].tolist(), state.done_ns[:count].tolist(), strict=True):
            self._look(ticket, done_ns, before_ns, until_ns, quiet_until_ns)
            before_ns = done_ns
        if (state.counts < counts).any():
            self.fail("a count fell")
        self.at_ns = until_ns
        return int(count)

    def _look(self, ticket: int, done_ns: float, before_ns: float, until_ns: float, quiet_until_ns: float) -> None:
        if ticket not in self.asked:
            self.fail(f"ticket {ticket} is done, which was never handed over")
        if ticket in self.done:
            self.fail(f"ticket {ticket} is done twice")
        if done_ns < self.asked[ticket]:
            self.fail(f"ticket {ticket} is done at {done_ns} ns, before it came at {self.asked[ticket]} ns")
        if done_ns > until_ns + _NEAR_NS:
            self.fail(f"ticket {ticket} is done at {done_ns} ns, after the {until_ns} ns that were simulated")
        if done_ns < self.at_ns - _NEAR_NS:
            self.fail(f"ticket {ticket} was done at {done_ns} ns, which an advance to {self.at_ns} ns did not tell")
        if done_ns < before_ns - _NEAR_NS:
            self.fail(f"ticket {ticket}, done at {done_ns} ns, comes after one done at {before_ns} ns")
        if done_ns < quiet_until_ns - _NEAR_NS:
            self.fail(f"ticket {ticket} is done at {done_ns} ns; next_event had told {quiet_until_ns} ns")
        self.done[ticket] = done_ns

    def step(self) -> None:
        """On to the next event; half of the way first, where nothing happens yet."""
        at_ns = self.next_event()
        if at_ns > self.at_ns + 4 * _NEAR_NS:
            self.advance((self.at_ns + at_ns) / 2, at_ns)
        self.advance(at_ns, at_ns)

    def steps(self, until: Callable[[], bool], what: str) -> None:
        done, left = len(self.done), _MOST_STEPS
        while not until():
            self.step()
            done, left = (done, left - 1) if len(self.done) == done else (len(self.done), _MOST_STEPS)
            if not left:
                self.fail(f"{_MOST_STEPS} events, and {what}")

    def wait(self, until_ns: float) -> None:
        self.steps(lambda: self.next_event() > until_ns, f"the time is {self.at_ns} ns still")
        self.advance(max(until_ns, self.at_ns))

    def finish(self) -> None:
        """Until all is done, and then until the device is at rest."""
        self.steps(lambda: len(self.done) == len(self.asked), "no further request is done")
        self.steps(lambda: self.next_event() == math.inf, "the device is not at rest")


def _fresh(model: EventModel, parameters: Any):
    try:
        return model.init(parameters)
    except InputError:
        raise
    except Exception as error:  # an author's hook may fail in any way
        raise Broken(f"init raised {type(error).__name__}: {error}") from error


def _requests(parameters: Any, case: _Case, alone_ns: float) -> list[Request]:
    rng = np.random.default_rng(_SEED)
    sizes = rng.choice(case.transactions, _REQUESTS) * parameters.transaction_bytes
    arrivals = np.cumsum(rng.exponential(alone_ns * case.gap, _REQUESTS)) if case.gap else np.zeros(_REQUESTS)
    if parameters.clock_ns:
        arrivals = np.ceil(arrivals / parameters.clock_ns) * parameters.clock_ns
    # Half of the places are near each other, so that some meet.
    span = np.where(rng.random(_REQUESTS) < 0.5, 64 * parameters.transaction_bytes, parameters.capacity_bytes)
    span = np.maximum(np.minimum(span, parameters.capacity_bytes) - sizes, 1)
    places = (rng.random(_REQUESTS) * span).astype(np.int64)
    places -= places % parameters.transaction_bytes
    columns = (arrivals, places, np.minimum(sizes, parameters.capacity_bytes), rng.random(_REQUESTS) >= case.read_ratio)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _alone_ns(model: EventModel, parameters: Any) -> float:
    """What one read takes."""
    device = _Watched(model, parameters, "a lone read")
    device.submit(0, (0.0, 0, parameters.transaction_bytes, False))
    device.finish()
    return device.done[0] or 1.0


def _run(model: EventModel, parameters: Any, case: _Case) -> tuple[_Watched, list[Request]]:
    """The requests in order, each handed over as soon as it is taken; and when that was."""
    device = _Watched(model, parameters, case.name)
    taken = []
    for ticket, request in enumerate(_requests(parameters, case, _alone_ns(model, parameters))):
        device.wait(request[0])
        while not device.submit(ticket, request):
            if device.submit(ticket, request):
                device.fail("submit takes a request that it has just refused, though nothing happened since")
            device.step()
        taken.append((device.at_ns, *request[1:]))
    device.finish()
    return device, taken


# --- rules -----------------------------------------------------------------------------------------------------------


def _check_serve(model: DeviceModel, device: Any) -> None:
    if not isinstance(device, Device):
        raise Broken(f"a device model that serves is checked with a sim.profile.Device, not a {type(device).__name__}")
    rng = np.random.default_rng(_SEED)
    state, hooks, head_ns = model.init((device, device)), PythonHooks(model, "accesses in order"), 0.0
    for _ in range(200):
        row, size = int(rng.integers(2)), int(rng.choice([1, 64, 4096, 1 << 20]))
        held = state.busy_ns.copy()
        start_ns, first_ns, end_ns, latency_ns = hooks.serve(state, row, head_ns, size, bool(rng.integers(2)))
        if (
            not head_ns - _NEAR_NS <= start_ns <= first_ns <= end_ns + _NEAR_NS
            or not 0 <= latency_ns <= end_ns - start_ns
        ):
            told = f"start {start_ns}, first {first_ns}, end {end_ns}, latency {latency_ns}"
            raise Broken(f"serve of an access that comes at {head_ns} ns tells times out of order: {told}")
        if (state.busy_ns < held).any() or state.busy_ns[1 - row] != held[1 - row]:
            raise Broken("serve lets busy_ns fall, or changes that of another device")
        head_ns += float(rng.exponential(2 * (end_ns - start_ns)))


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise Broken(fault)


def _parameter_fault(parameters: Any) -> str | None:
    for name, least in (("capacity_bytes", 1), ("transaction_bytes", 1), ("clock_ns", 0)):
        value = getattr(parameters, name, None)
        if not isinstance(value, int | float) or not least <= value < math.inf:
            return f"{name} of the parameters is {value!r}; expected a number, at least {least}"
    if parameters.transaction_bytes > parameters.capacity_bytes:
        told = f"{parameters.transaction_bytes} bytes, of a device of {parameters.capacity_bytes}"
        return f"transaction_bytes of the parameters is {told}"
    return None


def _check_state(model: EventModel, parameters: Any) -> None:
    one, other = _fresh(model, parameters), _fresh(model, parameters)
    if not isinstance(one, tuple) or not hasattr(one, "_fields"):
        raise Broken(f"init returned a {type(one).__name__}; the state must be a NamedTuple of arrays and numbers")
    for name, kind in (("done_ticket", np.int64), ("done_ns", np.float64), ("counts", np.int64)):
        array = getattr(one, name, None)
        if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != 1:
            raise Broken(f"the state has no field {name}, a row of {np.dtype(kind).name}")
    if len(one.counts) != len(model.count_names):
        raise Broken(f"counts has {len(one.counts)} places, count_names {len(model.count_names)} names")
    for name, mine, yours in zip(one._fields, one, other, strict=True):
        if isinstance(mine, np.ndarray) and mine.size and np.shares_memory(mine, yours):
            raise Broken(f"init gives the same array {name!r} each time; each state must have its own")


def _check_rest(model: EventModel, parameters: Any) -> None:
    device = _Watched(model, parameters, "a device that nobody asks")
    if device.next_event() != math.inf:
        device.fail(f"next_event is {device.next_event()} ns where no request is under way; expected infinity")
    if device.advance(1e6):
        device.fail("advance tells of requests that were never handed over")


def _check_run(model: EventModel, parameters: Any, case: _Case) -> None:
    _run(model, parameters, case)


def _check_steps(model: EventModel, parameters: Any, case: _Case) -> None:
    """Without what was refused on the way, too, which must have changed nothing."""
    watched, taken = _run(model, parameters, case)
    rng = np.random.default_rng(_SEED)
    for small in (False, True):
        device = _Watched(model, parameters, case.name)
        for ticket, request in enumerate(taken):
            _go(device, request[0], rng if small else None)
            if not device.submit(ticket, request):
                device.fail("submit refuses what it takes when it is advanced in other steps")
        _go(device, max(watched.done.values()) + 1.0, rng if small else None)
        how = "in many small steps" if small else "in one step"
        for ticket, done_ns in watched.done.items():
            got = device.done.get(ticket)
            if got != done_ns:
                device.fail(
                    f"ticket {ticket} is done at {done_ns} ns when advanced from event to event, {how} at {got}"
                )


def _go(device: _Watched, until_ns: float, rng: np.random.Generator | None) -> None:
    """Advance to this time; with rng, in small steps, some of them none at all, and looking ahead at times."""
    if rng is not None:
        for part in np.sort(rng.random(3)).tolist():
            device.advance(device.at_ns + part * (until_ns - device.at_ns))
            device.advance(device.at_ns)
            if part < 0.5:
                device.next_event()
    device.advance(until_ns)


def _check_repeats(model: EventModel, parameters: Any) -> None:
    one, other = (_run(model, parameters, _CASES[-1])[0] for _ in range(2))
    if one.done != other.done or not np.array_equal(one.state.counts, other.state.counts):
        raise Broken(f"the same requests are not done the same a second time; {_STATE_RULE}")


def _check_energy(model: EventModel, parameters: Any) -> None:
    device, _ = _run(model, parameters, _CASES[0])
    energy = model.energy_pj(parameters, device.state.counts, device.at_ns)
    for cause, value in dict(energy).items():
        if not isinstance(cause, str) or not 0 <= float(value) < math.inf:
            raise Broken(f"energy_pj says {value!r} of {cause!r}; expected picojoules by cause")


def _check_compiled(model: EventModel, parameters: Any) -> None:
    """By the drive of `probe`, once compiled and once in Python."""
    from sim.traffic import Load, measure

    size = parameters.transaction_bytes
    load = Load("rand", 0.6, size, outstanding=12, requests=_REQUESTS, warmup=0, span_bytes=64 * size)
    if load.span_bytes > parameters.capacity_bytes:
        load = Load("rand", 0.6, size, outstanding=12, requests=_REQUESTS, warmup=0)

    def drive(compiled: bool):
        state = _fresh(model, parameters)
        return measure(model, state, load, parameters.capacity_bytes, parameters.clock_ns, compiled=compiled)

    try:
        one, other = drive(True), drive(False)
    except NumbaError as error:
        raise _uncompilable(model, parameters) or error from error
    for name in ("elapsed_ns", "mean_ns", "write_mean_ns", "counts"):
        if not np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name != "counts"):
            told = f"{name} is {getattr(one, name)} compiled and {getattr(other, name)} in Python"
            raise Broken(f"compiled is not as in Python: {told}; {_STATE_RULE}")


def _uncompilable(model: EventModel, parameters: Any) -> InputError | None:
    """The hook that does not compile."""
    state = _fresh(model, parameters)
    samples = {"submit": (state, 0, 0.0, 0, 64, False), "advance": (state, 0.0), "next_event": (state,)}
    return explain_failure(model, samples)
