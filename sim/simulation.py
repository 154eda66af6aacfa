"""Runs a scenario: a compiled hierarchy, a monitor and a migration daemon share the clock of one SimPy environment.

The hierarchy is one process. It runs ahead in compiled code to the next event of anyone else and never past it, then
gives way; so whoever acts at time t finds it in its state at t, and results do not depend on how often anyone looks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import simpy
from numba.core.errors import NumbaError

from sim.compiling import compiled, explained
from sim.engines import block_cache as bc
from sim.engines.event_devices import FIRST_WAITING
from sim.engines.residency import CAPACITY, FAULT, FAULT_BLOCK, FAULT_LEVEL, HITS, LOOKUPS, NO_REMOVE, USED
from sim.errors import InputError
from sim.hierarchy import Hierarchy, build
from sim.looks import Look, Progress, compiles
from sim.policy import Plugin

if TYPE_CHECKING:
    from sim.profile import Profile
    from sim.scenario import Scenario
    from sim.trace import Trace

_FIRST_SPARE_BLOCKS = 1024
_FIRST_LOG_RECORDS = 1 << 14
_SAMPLES = 200  # of a run whose scenario does not say how often to look


@dataclass(frozen=True)
class Simulation:
    """A run that has ended. samples: equally long columns (`_Monitor`); wall_seconds leaves out reading the trace."""

    scenario: Scenario
    profile: Profile
    trace_name: str
    trace_digest: str
    hierarchy: Hierarchy
    samples: dict[str, np.ndarray]
    duration_ns: float
    wall_seconds: float


class _NeedsBlocks(Exception):
    """The prefetcher went to more addresses that the trace does not have than there is room for."""


class _NeedsLog(Exception):
    """One event added more records to the log than there was room for."""


class LogReader(Protocol):
    """Reads what the engine of a run does, record by record (columns `LOG_...` of `sim.engines.block_cache`)."""

    def begin(self, hierarchy: Hierarchy) -> None:
        """A run starts, or starts again: forget what was read."""

    def take(self, records: np.ndarray) -> None:
        """float64[n, 10] that came since the last time, in order; a view that holds for this call."""

    def until_ns(self, now_ns: float) -> float:
        """How far to go on from here; infinity: to the end of the run; not beyond now_ns: no further."""


def _plugins(engine: bc.Engine) -> Iterator[tuple[Plugin, Any]]:
    """Every plugin of the run with its state."""
    plug = engine.plug
    for stack, states in (
        (plug.eviction, plug.eviction_states),
        (plug.admission, plug.admission_states),
        (plug.offload, plug.offload_states),
        (plug.allocator, plug.allocator_states),
        (engine.model, engine.model_states),
        (engine.devices.model, engine.devices.states),
    ):
        yield from zip(stack.plugins, states, strict=True)
    yield engine.prefetch, engine.prefetch_state


class _Model:
    """The hierarchy as a SimPy process."""

    def __init__(self, env: simpy.Environment, hierarchy: Hierarchy, log: LogReader | None = None):
        self.env, self.hierarchy, self.engine, self.log = env, hierarchy, hierarchy.engine, log
        self._compile_devices()
        self._advance = compiled(_plugins(self.engine), bc.advance, self.engine, 0.0, bc.NOBODY, 0)
        self.process = env.process(self._run())

    def _compile_devices(self) -> None:
        devices = self.engine.devices
        try:
            devices.model.compile_apart(devices.states)
        except NumbaError as error:
            raise explained(_plugins(self.engine), error) from error

    @property
    def finished(self) -> bool:
        return not self.process.is_alive

    def _run(self):
        while True:
            if self.advance(float(self.env.peek())) == bc.FINISHED:
                return
            try:
                yield self.env.timeout(max(0.0, self.engine.clock_ns[bc.NOW] - self.env.now))
            except simpy.Interrupt:  # someone gave it work at this moment: look again when the next event is
                continue

    def advance(self, until_ns: float, shrink_level: int = bc.NOBODY, shrink_to_bytes: int = 0) -> int:
        """Take every event before `until_ns`, and then evict from a level if asked to. Returns FINISHED or AT_LIMIT."""
        while True:
            status = self._advance(self.engine, until_ns, shrink_level, shrink_to_bytes)
            if status == bc.NEEDS_ROOM:
                self.engine = bc.with_more_room(self.engine)
            elif status == bc.NEEDS_BLOCKS:
                raise _NeedsBlocks
            elif status == bc.LOG_FULL:
                self.read_log()
            elif status == bc.FAULTY:
                raise self._fault()
            elif status == bc.FINISHED and self.engine.counts[bc.COMPLETED] < self.engine.work.columns.block.size:
                raise self._stuck()
            else:
                return status

    def read_log(self) -> None:
        """Hand over what has been logged, and empty the log."""
        log, counts = self.engine.log, self.engine.counts
        if counts[bc.LOGGED] > len(log):
            raise _NeedsLog
        self.log.take(log[: counts[bc.LOGGED]])
        counts[bc.LOGGED] = 0

    def _stuck(self) -> InputError:
        """Nothing will happen any more though not all requests are answered: a device keeps or refuses some."""
        queues = self.engine.devices.queues
        names = [plugin.name for plugin in self.engine.devices.model.plugins]
        refusing = [name for name, first in zip(names, queues[:, FIRST_WAITING], strict=True) if first >= 0]
        lost = self.engine.work.columns.block.size - int(self.engine.counts[bc.COMPLETED])
        which = f", with device model {refusing[0]!r} refusing what waits for it" if refusing else ""
        return InputError(f"{lost} requests are never answered{which}")

    def _fault(self) -> InputError:
        state = self.engine.res.state
        plan = self.hierarchy.plans[state[FAULT_LEVEL]]
        block = int(state[FAULT_BLOCK])
        if state[FAULT] == NO_REMOVE:
            return InputError(f"tiers.{plan.name}: eviction policy {plan.eviction.name!r} has no remove hook")
        problem = (
            f"tiers.{plan.name}: eviction policy {plan.eviction.name!r} chose a victim that is not resident: block"
        )
        return InputError(problem, value=block)


class _Monitor:
    """Looks at the hierarchy every so often, and once at the end.

    Columns: time_ns; requests_issued, requests_completed; tier.NAME.X for each caching tier and each X of
    `block_cache.SAMPLED`; busy_ns.tier.NAME and busy_ns.link.NAME.up or .down, cumulative, and so are bytes.X and
    wait_ns.X (of all that queued there) of each X of tier.NAME.read, tier.NAME.write, link.NAME.up and link.NAME.down.
    """

    def __init__(self, env: simpy.Environment, model: _Model, every_ns: float, progress: Progress | None):
        self.env, self.model, self.every_ns, self.progress = env, model, every_ns, progress
        tiers = len(model.hierarchy.plans)
        self._levels: list[np.ndarray] = []
        self._others: list[tuple] = []
        self._traffic: list[tuple[np.ndarray, np.ndarray]] = []
        self._scratch = np.zeros((tiers, len(bc.SAMPLED)), np.int64)
        self._sample = compiled(_plugins(model.engine), bc.sample, model.engine, self._scratch)
        env.process(self._run())

    def _run(self):
        while not self.model.finished:
            self.look()
            yield self.env.timeout(self.every_ns)

    def look(self) -> None:
        engine = self.model.engine
        if len(self._scratch):
            self._sample(engine, self._scratch)
        self._levels.append(self._scratch.copy())
        issued, completed = int(engine.counts[bc.ISSUED]), int(engine.counts[bc.COMPLETED])
        busy = self.model.hierarchy.busy_ns(engine, self.env.now)
        self._others.append((self.env.now, issued, completed, busy))
        self._traffic.append((engine.traffic.bytes.sum(axis=1), engine.traffic.wait_ns.copy()))
        if self.progress is not None:
            self.progress(self._so_far)

    def _so_far(self) -> Look:
        engine = self.model.engine
        lookups, missed = int(engine.res.counts[0, LOOKUPS]), int(engine.res.counts[-1, HITS])
        figures = {"hit ratio": f"{1 - missed / lookups:.1%}"} if lookups else {}
        done, total = int(engine.counts[bc.COMPLETED]), engine.work.columns.block.size
        return Look(done, total, simulated_ns=self.env.now, figures=figures)

    def samples(self) -> dict[str, np.ndarray]:
        hierarchy = self.model.hierarchy
        times, issued, completed, busy = zip(*self._others, strict=True)
        columns = {
            "time_ns": np.array(times, float),
            "requests_issued": np.array(issued, np.int64),
            "requests_completed": np.array(completed, np.int64),
        }
        levels = np.array(self._levels)
        for level, plan in enumerate(hierarchy.plans):
            for at, name in enumerate(bc.SAMPLED):
                columns[f"tier.{plan.name}.{name}"] = levels[:, level, at]
        for server in range(len(hierarchy.servers)):
            columns[f"busy_ns.{hierarchy.server_name(server)}"] = np.array([look[server] for look in busy])
        moved, waited_ns = (np.array(looks) for looks in zip(*self._traffic, strict=True))
        for at, column in enumerate(hierarchy.columns):
            name = f"{column.part}.{column.name}.{column.direction}"
            columns |= {f"bytes.{name}": moved[:, at], f"wait_ns.{name}": waited_ns[:, at]}
        return columns


def _migrate(env: simpy.Environment, model: _Model, level: int, settings):
    """A daemon that keeps room in a tier: above the high watermark it evicts down to the low one."""
    while not model.finished:
        yield env.timeout(settings.every_ns)
        levels = model.engine.res.levels
        capacity = int(levels[level, CAPACITY])
        if not model.finished and levels[level, USED] > settings.high_watermark * capacity:
            model.advance(env.now, level, int(settings.low_watermark * capacity))
            model.process.interrupt()


def simulate(
    scenario: Scenario,
    *,
    profile: Profile | None = None,
    trace: Trace | None = None,
    progress: Progress | None = None,
    log: LogReader | None = None,
) -> Simulation:
    """Run a scenario to its end. profile and trace: those of the scenario, where the caller has them already.

    log: is told all that servers do and levels give up, and says how far the run is to go.

    Raises InputError where the scenario's parts do not fit together, or a policy breaks a rule of the seam.
    """
    from sim.profile import load_profile
    from sim.scenario import load_workload

    profile = profile or load_profile(scenario.system, scenario.profile_overrides)
    trace = load_workload(scenario) if trace is None else trace
    spare, records = _FIRST_SPARE_BLOCKS, _FIRST_LOG_RECORDS
    while True:  # a run is a function of its inputs: one that needs more room starts again
        try:
            return _simulate(scenario, profile, trace, spare, progress, log, records)
        except _NeedsBlocks:
            spare *= 4
        except _NeedsLog:
            records *= 4


def _simulate(
    scenario, profile, trace, spare_blocks: int, progress: Progress | None, log: LogReader | None, records: int
) -> Simulation:
    from sim.scenario import plans

    hierarchy = build(
        profile,
        plans(scenario, profile, trace),
        trace,
        prefetch=scenario.prefetch,
        seed=scenario.seed,
        spare_blocks=spare_blocks,
        clients=scenario.workload.clients or 1,
    )
    if log is not None:
        hierarchy = hierarchy.with_log(records)
        log.begin(hierarchy)
    started = time.perf_counter()
    env = simpy.Environment()
    compiles(progress, trace.n_requests)
    model = _Model(env, hierarchy, log)
    every_ns = scenario.monitor_every_ns or _default_interval_ns(hierarchy, scenario.workload.clients or 1)
    monitor = _Monitor(env, model, every_ns, progress)
    if scenario.migration is not None:
        level = _caching_level(hierarchy, scenario.migration.tier)
        env.process(_migrate(env, model, level, scenario.migration))
    if log is None:
        env.run(model.process)
    else:
        _run_logged(env, model, log)
    monitor.look()
    engine = model.engine
    return Simulation(
        scenario=scenario,
        profile=profile,
        trace_name=trace.name,
        trace_digest=trace.digest,
        hierarchy=hierarchy.with_engine(engine),
        samples=monitor.samples(),
        duration_ns=float(engine.clock_ns[bc.LAST_COMPLETION]),
        wall_seconds=time.perf_counter() - started,
    )


def _run_logged(env: simpy.Environment, model: _Model, log: LogReader) -> None:
    """As far as the log's reader wants to know of."""
    until_ns = log.until_ns(env.now)
    while until_ns > env.now and not model.finished:
        env.run(model.process if until_ns == np.inf else model.process | env.timeout(until_ns - env.now))
        model.read_log()
        until_ns = log.until_ns(env.now)


def _caching_level(hierarchy: Hierarchy, tier: str) -> int:
    names = [plan.name for plan in hierarchy.plans]
    if tier not in names:
        raise InputError("migration.tier: no caching tier of this run", value=tier, candidates=names)
    return names.index(tier)


def _default_interval_ns(hierarchy: Hierarchy, clients: int) -> float:
    """About a two-hundredth of the run: of the arrivals' span, or of what a closed loop takes if nothing hits."""
    work = hierarchy.engine.work
    if work.columns.arrival_ns.size:
        span_ns = float(work.columns.arrival_ns[-1])
    else:
        size = int(hierarchy.engine.res.size_of[: len(work.columns.block)].mean())
        round_ns = hierarchy.profile.unloaded_ns(hierarchy.tiers[-1], max(1, size)) + float(work.think_ns.mean())
        span_ns = round_ns * work.columns.block.size / clients
    return max(1.0, span_ns / _SAMPLES)
