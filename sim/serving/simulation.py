"""Runs a serving experiment: engines, the router between them and a monitor share the clock of one SimPy environment.

All engines are one process. It runs ahead in compiled code to the next event of anyone else and never past it, then
gives way. Within it engines that share a tier or a link take turns, so that they see each other's traffic in order of
time; those that share nothing do not wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from sim import registry
from sim.compiling import compiled
from sim.cost.calibration import Calibration, Gpu, load_calibration, load_gpu
from sim.errors import InputError
from sim.kernels.by_reference import by_reference
from sim.kernels.compile import kernel
from sim.llm.models import Model, load_model
from sim.looks import Look, Progress, compiles
from sim.policy import Plugin
from sim.profile import Profile, load_profile
from sim.serving import record as r
from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.advance import FAULTY, LOG_FULL, NEEDS_ROOM, advance
from sim.serving.building import Memory, build, memory_of
from sim.serving.iteration import give_up
from sim.serving.laws import check_engines, check_run
from sim.serving.log import COLUMNS
from sim.serving.network import PURPOSES, with_more_room
from sim.serving.options import Cluster, ServingOptions
from sim.serving.record import Histogram, ServingRun
from sim.serving.routing import make_router
from sim.serving.sampling import make_look
from sim.serving.servers import Servers, make_servers
from sim.serving.workload import Blocks, Workload, make_workload

if TYPE_CHECKING:
    from sim.serving.scenario import ServingScenario
    from sim.trace import Trace

LogReader = Callable[[int, np.ndarray], None]  # an engine's number, and float64[n, log.COLUMNS]: a view, for this call

_FEWEST_LOG_RECORDS = 1 << 14
_SAMPLES = 200  # within the span of arrivals, of a run whose scenario does not say how often to look
_MOST_SAMPLES = 4000  # beyond which a run that lasts long is looked at half as often


@dataclass(frozen=True)
class Setup:
    """Everything that an experiment is made of, loaded and checked. facts: names and digests for the result."""

    profile: Profile
    model: Model
    gpu: Gpu
    calibration: Calibration
    options: ServingOptions
    cluster: Cluster
    workload: Workload
    blocks: Blocks
    memory: Memory
    seed: int
    monitor_every_ns: float | None
    facts: dict[str, Any]


def setup_of(
    profile: Profile,
    model: Model,
    gpu: Gpu,
    calibration: Calibration,
    options: ServingOptions,
    trace: Trace,
    *,
    cluster: Cluster | None = None,
    seed: int = 0,
    monitor_every_ns: float | None = None,
) -> Setup:
    """An experiment of parts. Raises InputError where they do not fit together."""
    block_tokens = options.block_tokens
    if block_tokens is None:
        hashed = trace.calls.block_tokens if trace.calls is not None and options.prefix_caching else 0
        block_tokens = hashed or 16
    memory = memory_of(profile, options, model, block_tokens)
    longest = min(options.max_model_len or model.context, model.context)
    left = memory.capacity_blocks[0] - int(options.watermark * memory.capacity_blocks[0])
    _check_reservation(options, longest, left, block_tokens)
    workload, blocks = make_workload(trace, options, max_model_len=longest, capacity_blocks=left, seed=seed)
    return Setup(
        profile=profile,
        model=model,
        gpu=gpu,
        calibration=calibration,
        options=options,
        cluster=cluster or Cluster(),
        workload=workload,
        blocks=blocks,
        memory=memory,
        seed=seed,
        monitor_every_ns=monitor_every_ns,
        facts={
            "system": profile.name,
            "profile_digest": profile.digest,
            "model": model.name,
            "gpu": gpu.name,
            "kernels": calibration.name,
            "trace": trace.name,
            "trace_digest": trace.digest,
            "outputs_cut": blocks.cut,
        },
    )


def _check_reservation(options: ServingOptions, longest: int, blocks: int, block_tokens: int) -> None:
    """Raises InputError where not even one call's reservation fits, or memory cannot grow."""
    if options.reservation == "grown" and not options.allocator.plugin(registry.ALLOCATOR).can_resize:
        problem = "memory that grows with its call needs an allocator that can resize:"
        raise InputError(problem, value=options.allocator.name, expected="another, or another reservation")
    if options.reservation == "max" and longest > blocks * block_tokens:
        problem = f"reservation 'max' gives each call memory for {longest} tokens, but G1 has room for"
        expected = f"a max_model_len of at most {blocks * block_tokens}, or more memory"
        raise InputError(problem, value=blocks * block_tokens, expected=expected)


def simulate(
    scenario: ServingScenario,
    progress: Progress | None = None,
    trace: Trace | None = None,
    log: LogReader | None = None,
) -> ServingRun:
    """Run a serving scenario to its end. trace: the scenario's, where the caller has it already. log: is told all
    iterations, copies and preemptions.

    Raises InputError where the scenario's parts do not fit together, or a policy breaks a rule of the seam.
    """
    return run(prepared(scenario, trace), progress, log=log)


def prepared(scenario: ServingScenario, trace: Trace | None = None) -> Setup:
    """What `simulate` runs, which any number of runs may share. Raises InputError as that does."""
    from sim.serving.scenario import load_calls

    return setup_of(
        load_profile(scenario.system, scenario.profile_overrides),
        load_model(scenario.model),
        load_gpu(scenario.gpu),
        load_calibration(scenario.kernels),
        scenario.options,
        load_calls(scenario) if trace is None else trace,
        cluster=scenario.cluster,
        seed=scenario.seed,
        monitor_every_ns=scenario.monitor_every_ns,
    )


def run(setup: Setup, progress: Progress | None = None, jumps: bool = True, log: LogReader | None = None) -> ServingRun:
    """Run an experiment to its end, and check the laws of `sim.serving.laws`. jumps: see `building.build`; log: see
    `simulate`.

    Raises InputError where a policy breaks a rule, and BrokenLaw where the simulator has.
    """
    env = simpy.Environment()
    compiles(progress, setup.workload.arrival_ns.size)
    servers = _servers(setup)
    engines = _engines(setup, servers, jumps)
    if log is not None:
        room = _log_records(setup)
        engines = [engine._replace(log=np.zeros((room, COLUMNS))) for engine in engines]
    house = _House(env, setup, engines, log)
    monitor = _Monitor(env, house, _period_ns(setup), progress)
    env.run()
    house.check_finished()
    house.read_logs()
    monitor.look()
    recorded = _recorded(setup, servers, house, monitor)
    check_run(recorded)
    check_engines(house.engines)
    return recorded


def _log_records(setup: Setup) -> int:
    """Twice what one event can add: it may preempt every call, and end a copy."""
    return max(_FEWEST_LOG_RECORDS, 4 * setup.workload.arrival_ns.size)


def _servers(setup: Setup) -> Servers:
    names = [tier.name for tier in setup.options.tiers]
    cluster = setup.cluster
    return make_servers(setup.profile, names, cluster.replicas, cluster.shared)


def _engines(setup: Setup, servers: Servers, jumps: bool) -> list[s.Engine]:
    cluster = setup.cluster
    made: list[s.Engine] = []
    for number in range(cluster.replicas):
        role = s.EITHER if not cluster.prefill else s.PREFILLS if number < cluster.prefill else s.DECODES
        made.append(
            build(
                setup.profile,
                setup.options,
                setup.model,
                setup.gpu,
                setup.calibration,
                setup.workload,
                setup.blocks,
                setup.memory,
                servers,
                number=number,
                seed=setup.seed,
                jumps=jumps,
                link=cluster.link,
                senders=cluster.prefill if role == s.DECODES else 0,
                role=role,
                routed=cluster.replicas > 1,
                like=made[0] if made else None,
                shared=cluster.shared,
            )
        )
    return made


def _period_ns(setup: Setup) -> float:
    if setup.monitor_every_ns is not None:
        return setup.monitor_every_ns
    span_ns = float(setup.workload.arrival_ns[-1] - setup.workload.arrival_ns[0])
    return max(span_ns / _SAMPLES, 1e6)


# --- engines on the clock --------------------------------------------------------------------------------------------


@kernel
def _give_back(engine, call, now_ns):
    """A call's blocks are free again. No event of the engine is before now_ns."""
    engine.clock[s.NOW] = now_ns
    give_up(engine, call)
    engine.count[s.HANDING_NOW] -= 1
    engine.calls[call, s.STATUS] = s.DONE
    engine.count[s.DIRTY] = 1


class _Server:
    """One engine, and when it will next do something: infinity where nothing is left to do."""

    def __init__(self, engine: s.Engine, number: int, setup: Setup, log: LogReader | None):
        self.engine, self.number, self.setup, self.log = engine, number, setup, log
        self._state = by_reference(engine)
        self._advance = compiled(_plugins(engine), advance, self._state, 0.0)
        self._give_back = None
        if engine.rules[s.ROLE] == s.PREFILLS:
            self._give_back = compiled(_plugins(engine), _give_back, self._state, 0, 0.0)

    def advance(self, until_ns: float) -> float:
        """Take every event before `until_ns`, or until there is something in the outbox; when the next one is."""
        while True:
            status = self._advance(self._state, until_ns)
            if status == NEEDS_ROOM:
                network = with_more_room(self.engine.network, int(self.engine.count[s.INBOX]))
                self.engine = self.engine._replace(network=network)
                self._state = by_reference(self.engine)
            elif status == LOG_FULL:
                self.read_log()
            elif status == FAULTY:
                raise self._fault()
            else:
                return float(self.engine.clock[s.HELD_UNTIL])

    def read_log(self) -> None:
        """Hand over what has been logged, and empty the log."""
        count, log = self.engine.count, self.engine.log
        if self.log is None:
            return
        if count[s.LOGGED] > len(log):
            raise RuntimeError(f"{count[s.LOGGED]} records came at once to a log of {len(log)}")
        self.log(self.number, log[: count[s.LOGGED]])
        count[s.LOGGED] = 0

    def receive(self, calls: np.ndarray | int, arrival_ns: np.ndarray | float) -> None:
        """Calls that will arrive, after all that were told before."""
        begin = int(self.engine.count[s.INBOX])
        end = begin + np.size(calls)
        self.engine.inbox[begin:end], self.engine.inbox_ns[begin:end] = calls, arrival_ns
        self.engine.count[s.INBOX] = end

    def give_back(self, call: int, now_ns: float) -> None:
        """Another engine has what this one computed of a call."""
        self._give_back(self._state, call, now_ns)

    def take_outbox(self) -> list[int]:
        calls = self.engine.outbox[: self.engine.count[s.OUTBOX]].tolist()
        self.engine.count[s.OUTBOX] = 0
        return calls

    def _fault(self) -> InputError:
        state = self.engine.tiers.state
        tier = self.setup.options.tiers[state[t.FAULT_TIER]]
        name = tier.eviction.name
        if state[t.FAULT] == t.NO_REMOVE:
            return InputError(f"tiers.{tier.name}: eviction policy {name!r} has no remove hook, which exclusion needs")
        if state[t.FAULT] == t.TOO_MANY_MOVES:
            return InputError(f"tiers.{tier.name}: more blocks to move at once than there is room for")
        problem = f"tiers.{tier.name}: eviction policy {name!r} chose a victim that is not resident: block"
        return InputError(problem, value=int(state[t.FAULT_BLOCK]))


class _House:
    """All engines as one SimPy process: they take turns in order of time, as far as they can see one another.

    Of engines whose next events are at the same moment, the one of the lowest number is first. An engine is bound to
    the next event of another only where that may change what it finds: of all others where they share a tier; of those
    that prefill; and of one that decodes only while it fetches what was handed to it. Else it runs ahead to the next
    call that is routed by what the engines are like then.
    """

    def __init__(self, env: simpy.Environment, setup: Setup, engines: list[s.Engine], log: LogReader | None):
        self.env, self.setup = env, setup
        self.servers = [_Server(engine, number, setup, log) for number, engine in enumerate(engines)]
        arrivals, prefill = setup.workload.arrival_ns, setup.cluster.prefill
        self.replica_of = np.zeros(arrivals.size, np.int16)
        self._next_ns = np.zeros(len(engines))  # by engine
        self._bound = np.full(len(engines), bool(setup.cluster.shared))  # whether others wait for its events
        self._bound[:prefill] = True
        self._fetching = np.zeros(len(engines), np.int64)  # calls handed to an engine whose KV cache is still to come
        self._source: dict[int, int] = {}  # call: the engine that has its KV cache until then
        self._routed = 0
        self._router = make_router(setup.cluster.router, setup, range(prefill or len(engines)))
        self._exit = make_router("least_loaded", setup, range(prefill, len(engines)))
        if len(engines) == 1:
            self._routed = arrivals.size
        elif self._router.in_turn:
            self._hand_out()
        env.process(self._run())

    def read_logs(self) -> None:
        """What the engines have logged since theirs were last read."""
        for server in self.servers:
            server.read_log()

    @property
    def engines(self) -> list[s.Engine]:
        return [server.engine for server in self.servers]

    @property
    def ended(self) -> int:
        return int(sum(engine.count[s.FINISHED] + engine.count[s.REFUSED_NOW] for engine in self.engines))

    @property
    def finished(self) -> bool:
        return self.ended == self.setup.workload.arrival_ns.size

    def _run(self) -> Iterator[simpy.Event]:
        while True:
            until_ns = float(self.env.peek())
            if until_ns <= self.env.now:  # whoever else acts at this moment sees it as it is before all that we do
                yield self.env.timeout(0.0)
                continue
            next_ns = self._take_turns(until_ns)
            if next_ns == np.inf:
                break
            yield self.env.timeout(max(0.0, next_ns - self.env.now))
        ended_ns = max(float(engine.clock[s.NOW]) for engine in self.engines)
        yield self.env.timeout(max(0.0, ended_ns - self.env.now))

    def _take_turns(self, until_ns: float) -> float:
        """Take everything before `until_ns`; when what follows is."""
        arrival_ns = self.setup.workload.arrival_ns
        while True:
            call_ns = float(arrival_ns[self._routed]) if self._routed < arrival_ns.size else np.inf
            self._advance_to(min(call_ns, until_ns))
            if call_ns >= until_ns:
                return min(call_ns, float(self._next_ns.min()))
            self._hand(self._routed, self._router.choose(self._routed, self.engines), call_ns)
            self._routed += 1

    def _advance_to(self, until_ns: float) -> None:
        """Let every engine take its events before `until_ns`."""
        next_ns = self._next_ns
        while True:
            number = int(next_ns.argmin())
            if next_ns[number] >= until_ns:
                return
            server = self.servers[number]
            next_ns[number] = server.advance(self._limit_ns(number, until_ns))
            if server.engine.count[s.OUTBOX]:
                self._collect(server, float(server.engine.clock[s.NOW]))

    def _limit_ns(self, number: int, until_ns: float) -> float:
        """How far the engine that is next may go: not past what another does that it may see."""
        others = self._bound.copy()
        others[number] = False
        limit_ns = min(until_ns, self._next_ns.min(where=others, initial=np.inf))
        return max(limit_ns, float(np.nextafter(self._next_ns[number], np.inf)))

    def _hand_out(self) -> None:
        """All calls at once, where it does not matter what the engines are like when they arrive."""
        arrival_ns, entries = self.setup.workload.arrival_ns, self._router.numbers
        self._routed = arrival_ns.size
        for place, number in enumerate(entries):
            calls = np.arange(place, arrival_ns.size, len(entries))
            self.servers[number].receive(calls, arrival_ns[calls])
            self.replica_of[calls] = number

    def _hand(self, call: int, number: int, now_ns: float) -> None:
        self.servers[number].receive(call, now_ns)
        self.replica_of[call] = number
        self._next_ns[number] = min(self._next_ns[number], now_ns)

    def _collect(self, server: _Server, now_ns: float) -> None:
        """Empty an engine's outbox: prefilled calls go to an engine that decodes, which says when it has them."""
        for call in server.take_outbox():
            if server.number < self.setup.cluster.prefill:
                self._pass_on(call, server, now_ns)
                continue
            source = self._source.pop(call)
            self.servers[source].give_back(call, now_ns)
            self._next_ns[source] = min(self._next_ns[source], now_ns)
            self._is_fetching(server.number, -1)

    def _pass_on(self, call: int, server: _Server, now_ns: float) -> None:
        for number in self._exit.numbers:  # no one but those that fetch was bound to keep up
            if self._next_ns[number] < now_ns:
                self._next_ns[number] = self.servers[number].advance(now_ns)
        number = self._exit.choose(call, self.engines)
        there, here = self.servers[number].engine, server.engine
        there.calls[call, s.TOKENS] = here.calls[call, s.TOKENS]
        there.calls[call, s.HANDED_IN] = here.calls[call, s.FILLED]
        there.calls[call, s.HANDED_BY] = self._source[call] = server.number
        there.calls[call, s.COUNTED] = 1  # of what it finds: where it was prefilled
        for column in (s.FIRST_SCHEDULED, s.FIRST_TOKEN, s.LAST_TOKEN):
            there.times[call, column] = here.times[call, column]
        self._is_fetching(number, 1)
        self._hand(call, number, now_ns)

    def _is_fetching(self, number: int, more: int) -> None:
        self._fetching[number] += more
        self._bound[number] = self._fetching[number] > 0 or bool(self.setup.cluster.shared)

    def check_finished(self) -> None:
        """Raises InputError where calls are left that nothing will ever run."""
        if self.finished:
            return
        lost = self.setup.workload.arrival_ns.size - self.ended
        waiting = sum(int(engine.waiting.size[0]) for engine in self.engines)
        if self.setup.options.reservation != "paged":
            raise InputError(
                f"{lost} calls never end: {waiting} wait for memory that the allocator never has",
                value=self.setup.options.allocator.name,
                expected="one that can place the largest reservation in empty memory, or more memory",
            )
        raise InputError(
            f"{lost} calls never end: {waiting} wait for KV blocks that the policy of"
            f" {self.setup.options.tiers[0].name!r} does not give up",
            value=self.setup.options.tiers[0].eviction.name,
            expected="a policy that can give up any block that is not in use",
        )


class _Monitor:
    """Looks at all engines every so often, and once at the end."""

    def __init__(self, env: simpy.Environment, house: _House, every_ns: float, progress: Progress | None):
        self.env, self.house, self.every_ns, self.progress = env, house, every_ns, progress
        self._look_at = make_look(house.engines[0])
        self.times: list[float] = []
        self.looks: list[list[dict[str, Any]]] = []
        env.process(self._run())

    def _run(self) -> Iterator[simpy.Event]:
        while not self.house.finished:
            self.look()
            if len(self.times) > _MOST_SAMPLES:
                self.times, self.looks = self.times[::2], self.looks[::2]
                self.every_ns *= 2
            yield self.env.timeout(self.every_ns)
            if self.env.peek() == np.inf:  # nobody else will act any more
                return

    def look(self) -> None:
        if self.times and self.times[-1] == self.env.now:
            self.times.pop()
            self.looks.pop()
        self.times.append(self.env.now)
        self.looks.append([self._look_at(engine) for engine in self.house.engines])
        if self.progress is not None:
            self.progress(self._so_far)

    def _so_far(self) -> Look:
        engines = self.house.engines
        found = sum(int(engine.hit_tokens.sum()) for engine in engines)
        computed = sum(int(engine.count[s.PROMPT_COMPUTED]) for engine in engines)
        figures = {"prefix hits": f"{found / (found + computed):.1%}"} if found + computed else {}
        total = self.house.setup.workload.arrival_ns.size
        return Look(self.house.ended, total, simulated_ns=self.env.now, figures=figures)

    def samples(self) -> dict[str, np.ndarray]:
        """Columns as `record.ServingRun` has them."""
        columns: dict[str, np.ndarray] = {"time_ns": np.array(self.times)}
        for name in self.looks[0][0]:
            columns[name] = np.array([[look[name] for look in looks] for looks in self.looks], float)
        columns["link_bytes"] = columns["link_bytes"].sum(axis=1)
        return columns


# --- the record ------------------------------------------------------------------------------------------------------


def _recorded(setup: Setup, servers: Servers, house: _House, monitor: _Monitor) -> ServingRun:
    engines = house.engines
    first = engines[0]
    finish_ns = np.nanmax([e.clock[s.LAST_FINISH] for e in engines])
    parts = np.sum([engine.engine_ns for engine in engines], axis=0)
    traffic = np.sum([engine.network.traffic_bytes for engine in engines], axis=0)
    gaps = np.sum([engine.gaps for engine in engines], axis=0)
    total_ns = float(sum(int(engine.gap_total_ns[0]) for engine in engines))
    facts = {**setup.facts, "memory": setup.memory.__dict__, "seed": setup.seed}
    return ServingRun(
        calls=_calls(setup, engines, house.replica_of),
        samples=monitor.samples(),
        gaps=Histogram(s.GAP_LOW_NS, s.GAP_RATIO, gaps, total_ns),
        iterations=int(sum(engine.count[s.ITERATIONS] for engine in engines)),
        tiers=tuple(tier.name for tier in setup.options.tiers),
        tier_capacity_blocks=setup.memory.capacity_blocks,
        block_bytes=setup.memory.block_bytes,
        block_tokens=setup.blocks.block_tokens,
        tier_counts=_tier_counts(setup, engines),
        traffic_bytes=dict(zip(servers.columns, traffic.tolist(), strict=True)),
        busy_ns=servers.busy_ns(),
        loads=_loads(engines, first),
        engine_parts_ns=dict(zip(r.ENGINE_PARTS, parts.tolist(), strict=True)),
        duration_ns=float(finish_ns),
        replicas=len(engines),
        facts=facts,
    )


def _calls(setup: Setup, engines: list[s.Engine], replica_of: np.ndarray) -> dict[str, np.ndarray]:
    """Of each call what the engine says that ended it; what several did of it is added up."""
    work = setup.workload
    total = sum(engine.calls for engine in engines)
    last, times = np.empty_like(engines[0].calls), np.empty_like(engines[0].times)
    for number, engine in enumerate(engines):
        ended = replica_of == number
        last[ended], times[ended] = engine.calls[ended], engine.times[ended]
    refused = last[:, s.STATUS] == s.REFUSED
    return {
        "arrival_ns": work.arrival_ns,
        "first_scheduled_ns": times[:, s.FIRST_SCHEDULED],
        "first_token_ns": times[:, s.FIRST_TOKEN],
        "finish_ns": times[:, s.FINISH],
        "input_tokens": work.input_tokens,
        "output_tokens": work.output_tokens,
        "generated_tokens": np.where(refused, 0, last[:, s.TOKENS] - work.input_tokens),
        "computed_tokens": total[:, s.COMPUTED],
        "recomputed_tokens": total[:, s.RECOMPUTED],
        "preemptions": total[:, s.PREEMPTIONS],
        "status": np.where(refused, r.REJECTED, r.COMPLETED).astype(np.int8),
        "reason": last[:, s.REASON].astype(np.int8),
        "replica": replica_of,
        "hit_tokens": np.sum([engine.hit_tokens for engine in engines], axis=0),
        "parts_ns": np.sum([engine.parts_ns for engine in engines], axis=0),
    }


def _tier_counts(setup: Setup, engines: list[s.Engine]) -> dict[str, dict[str, int]]:
    """What the policies of each tier did; a shared tier counts for all engines at once."""
    counts = {}
    for number, tier in enumerate(setup.options.tiers):
        own = engines[:1] if tier.name in setup.cluster.shared else engines
        total = np.sum([engine.tiers.counts[number] for engine in own], axis=0)
        counts[tier.name] = dict(zip(t.COUNTS, total.tolist(), strict=True))
    return counts


def _loads(engines: list[s.Engine], first: s.Engine) -> dict[str, float]:
    moved = np.sum([engine.network.moved for engine in engines], axis=0)
    count = np.sum([engine.count for engine in engines], axis=0)
    each, block_tokens = first.network.copy[2], first.rules[s.BLOCK_TOKENS]
    told = {
        "loads": count[s.LOADS_STARTED],
        "loaded_tokens": count[s.LOADED_BLOCKS] * block_tokens,
        "recomputed_instead_tokens": count[s.RECOMPUTED_INSTEAD],
        "failed": count[s.LOADS_FAILED],
        "iterations_in_one_go": count[s.JUMPED],
    }
    down = moved[PURPOSES.index("store"), 0] + moved[PURPOSES.index("lower"), 0]
    told |= {"stores": down, "stored_bytes": down * each}
    for purpose, (blocks, took_ns) in zip(PURPOSES, moved, strict=True):
        told[f"{purpose}_bytes"] = blocks * each
        told[f"{purpose}_ns"] = took_ns
    return {name: float(value) for name, value in told.items()}


# --- policies --------------------------------------------------------------------------------------------------------


def _plugins(engine: s.Engine) -> Iterator[tuple[Plugin, Any]]:
    """Every plugin of the run with its state."""
    tiers = engine.tiers
    for stack, states in (
        (tiers.eviction, tiers.eviction_states),
        (tiers.admission, tiers.admission_states),
        (tiers.offload, tiers.offload_states),
        (engine.network.model, engine.network.model_states),
    ):
        yield from zip(stack.plugins, states, strict=True)
    yield engine.scheduling, engine.scheduling_state
    yield engine.allocator, engine.allocator_state
