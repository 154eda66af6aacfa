"""A hardware profile and a choice of policies made into one engine state: tiers, links, routes between them.

The links of a profile form a tree with the compute unit at its root: each tier names the links from itself up to there.
A request's data travel that path; a copy between two tiers goes up to where their paths meet, and down again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from sim import registry
from sim.choice import Choice
from sim.engines import block_cache as bc
from sim.engines import event_devices as ed
from sim.engines.columns import columns_of, make_hints
from sim.engines.flags import MAX_LEVELS
from sim.engines.residency import Plugins, Residency, make_residency
from sim.errors import InputError
from sim.kernels.address_index import make_address_index
from sim.kernels.event_heap import make_heap
from sim.policy import Context, EventModel, Plugin, Stacked
from sim.profile import Device, Profile

_FIRST_SLOTS = 1024


@dataclass(frozen=True)
class TierPlan:
    """One caching tier: how much of its device it uses, and who decides there."""

    name: str
    capacity_bytes: int
    eviction: Choice = Choice("lru")
    admission: Choice = Choice("always")
    offload: Choice = Choice("write_back")
    allocator: Choice = Choice("paged")
    inclusive: bool = False


@dataclass(frozen=True)
class Column:
    """One direction of one device or link, as its traffic is counted."""

    part: str  # "tier" or "link"
    name: str
    direction: str  # read or write of a device, up or down of a link
    device: Device


class Server(NamedTuple):
    """Level of the stack of models and row there; or number of a device simulated by events, and DRIVEN."""

    level: int
    row: int


@dataclass(frozen=True)
class Hierarchy:
    """An engine ready to run, and what its numbers stand for."""

    profile: Profile
    tiers: tuple[str, ...]  # by level; the last holds everything
    plans: tuple[TierPlan, ...]  # one a level but the last
    columns: tuple[Column, ...]
    servers: tuple[Server, ...]  # each tier's device, then each link up, down
    engine: bc.Engine

    def server_name(self, server: int) -> str:
        """`tier.NAME`, or `link.NAME.up` and `.down`, of a row of `servers`."""
        if server < len(self.tiers):
            return f"tier.{self.tiers[server]}"
        column = self.columns[len(self.tiers) + server]
        return f"link.{column.name}.{column.direction}"

    def with_engine(self, engine: bc.Engine) -> Hierarchy:
        """The same hierarchy, whose engine has moved on."""
        return replace(self, engine=engine)

    def with_log(self, records: int) -> Hierarchy:
        """The same hierarchy, whose engine will log what it does, so many records at a time."""
        return self.with_engine(self.engine._replace(log=np.zeros((records, bc.LOG_COLUMNS))))

    def busy_ns(self, engine: bc.Engine | None = None, now_ns: float | None = None) -> np.ndarray:
        """float64[servers] time that each server was held until now, averaged over its channels; or, simulated event by
        event, that it had any work.

        engine: in place of the hierarchy's own; now_ns: in place of the last completion.
        """
        engine = engine or self.engine
        now_ns = engine.clock_ns[bc.LAST_COMPLETION] if now_ns is None else now_ns
        worked_ns = ed.busy_ns(engine.devices, now_ns)
        held_ns = [state.busy_ns for state in engine.model_states]
        return np.array([worked_ns[at] if row == ed.DRIVEN else held_ns[at][row] for at, row in self.servers])


def build(
    profile: Profile,
    plans: Sequence[TierPlan],
    trace,
    *,
    prefetch: Choice = Choice("none"),
    last_offload: Choice = Choice("write_back"),
    seed: int = 0,
    spare_blocks: int = 0,
    clients: int = 1,
) -> Hierarchy:
    """The engine of one run.

    plans: the caching tiers, fastest first; the profile's last tier holds everything and has none. A tier whose
    offload policy is `none` takes no part. spare_blocks: room for blocks that only prefetching touches.
    Raises InputError where the profile, the plans and the trace do not fit together.
    """
    plans = [plan for level, plan in enumerate(plans) if level == 0 or plan.offload.name != "none"]
    last = profile.tiers[-1]
    names = (*(plan.name for plan in plans), last.name)
    if len(names) > MAX_LEVELS:
        problem = f"more tiers that take part than the engine keeps count of in a block's word: {len(names)}"
        raise InputError(problem, file=profile.file, expected=f"at most {MAX_LEVELS}")
    footprint = int(trace.block_bytes.sum())
    if last.device.capacity_bytes is not None and footprint > last.device.capacity_bytes:
        raise InputError(
            f"tier {last.name!r} must hold the whole trace, {footprint} bytes, but has",
            file=profile.file,
            value=last.device.capacity_bytes,
        )
    columns, servers, model, states, driven = servers_of(profile, names)
    prefetcher = prefetch.plugin(registry.PREFETCH)
    degree = int(prefetcher.degree(prefetcher.resolve(prefetch.parameters)))
    plug, res = contents(
        plans,
        last.name,
        trace,
        last_offload=last_offload,
        seed=seed,
        spare_blocks=spare_blocks if degree else 0,
        degree=degree,
    )
    blocks = len(res.size_of)
    work = _workload(trace)
    keys, values = np.zeros(0, np.int64), np.zeros(0, np.int32)
    if degree:
        keys, values = make_address_index(trace.address, blocks)
    context = Context(capacity=plans[0].capacity_bytes if plans else footprint, blocks=blocks, seed=seed)
    first_stage, stages = routes_between(profile, names, servers)
    devices = _event_devices(driven, first_stage, stages, res.size_of, trace.n_blocks)
    times, facts = bc.make_pool(_FIRST_SLOTS)
    counts = np.zeros(11, np.int64)
    counts[bc.FREE_COUNT], counts[bc.KNOWN] = _FIRST_SLOTS, trace.n_blocks
    engine = bc.Engine(
        plug=plug,
        model=model,
        model_states=states,
        devices=devices,
        prefetch=prefetcher,
        prefetch_state=prefetcher.make_state(context, prefetch.parameters),
        res=res,
        work=work,
        first_stage=first_stage,
        stages=stages,
        times=times,
        facts=facts,
        starts=np.zeros(degree + len(names) + 1, np.int64),
        fetching=np.full(blocks, bc.NOBODY, np.int32),
        answers=_answers(work),
        traffic=_traffic(len(columns)),
        proposals=np.zeros(degree, np.int64),
        index_keys=keys,
        index_values=values,
        events=make_heap(_FIRST_SLOTS + clients),
        counts=counts,
        clock_ns=np.zeros(2),
        log=np.zeros((0, bc.LOG_COLUMNS)),
    )
    if work.think_ns.size:
        bc.start_clients(work.think_ns, engine.events, engine.counts, clients)
    return Hierarchy(profile, names, tuple(plans), columns, servers, engine)


def contents(
    plans: Sequence[TierPlan],
    last_name: str,
    trace,
    *,
    last_offload: Choice = Choice("write_back"),
    seed: int = 0,
    spare_blocks: int = 0,
    degree: int = 0,
) -> tuple[Plugins, Residency]:
    """Who decides in each level, and an empty hierarchy for the trace's blocks; the last level holds all of them.

    spare_blocks: room for blocks beyond the trace's; degree: prefetches that one access may cause.
    """
    footprint = int(trace.block_bytes.sum())
    everything = TierPlan(name=last_name, capacity_bytes=footprint, offload=last_offload)
    blocks = trace.n_blocks + spare_blocks
    plug, removable = _plugins([*plans, everything], trace, blocks, seed)
    spare = np.zeros(spare_blocks, np.int64)
    res = make_residency(
        size_of=np.concatenate([trace.block_bytes, spare]),
        address_of=np.concatenate([trace.address, spare]),
        hints=make_hints(blocks, trace.columns),
        capacity=[*(plan.capacity_bytes for plan in plans), footprint],
        inclusive=[*(plan.inclusive for plan in plans), False],
        removable=removable,
        proposals=degree,
    )
    return plug, res


def servers_of(profile: Profile, names: Sequence[str]):
    """Rows of device state: one a tier, then two a link, one for each direction."""
    columns, parts = [], []
    for name in names:
        device = profile.tier(name).device
        columns += [Column("tier", name, "read", device), Column("tier", name, "write", device)]
        parts.append((("tier", name), device))
    for name, link in profile.links.items():
        columns += [Column("link", name, "up", link), Column("link", name, "down", link)]
        parts += [(("link", name), link)] * 2
    by_model: dict[str, list[Device]] = {}
    driven: dict[tuple[str, str], Device] = {}
    servers = []
    for owner, part in parts:
        if isinstance(registry.load(registry.DEVICE_MODEL, part.model), EventModel):
            driven.setdefault(owner, part)
            servers.append(Server(list(driven).index(owner), ed.DRIVEN))
            continue
        rows = by_model.setdefault(part.model, [])
        servers.append(Server(list(by_model).index(part.model), len(rows)))
        rows.append(part)
    models = [registry.load(registry.DEVICE_MODEL, name) for name in by_model or {"fixed": []}]
    states = tuple(model.init(rows) for model, rows in zip(models, by_model.values() or [[]], strict=True))
    return tuple(columns), tuple(servers), Stacked(models), states, tuple(driven.values())


def _event_devices(
    parts: Sequence[Device], first_stage: np.ndarray, stages: np.ndarray, size_of: np.ndarray, known: int
) -> ed.EventDevices:
    """The devices that are simulated event by event, at rest; both directions of a link are one.

    Blocks lie one after the other, in order of first access; the `known` ones are followed by those that only
    prefetching touches, for which the largest size is left.
    """
    models = [registry.load(registry.DEVICE_MODEL, part.model) for part in parts]
    parameters = [_parameters(model, part) for model, part in zip(models, parts, strict=True)]
    chunk_of = np.array([model.chunk_bytes for model in models], np.int64)
    met = [
        [int(chunk_of[stage[0]]) for stage in stages[first:last] if stage[1] == ed.DRIVEN]
        for first, last in itertools.pairwise(first_stage)
    ]
    chunk_bytes = np.array([max(chunks, default=0) for chunks in met], np.int64)
    largest = int(size_of.max(initial=1))
    cut = chunk_bytes[chunk_bytes > 0]
    room = np.concatenate([size_of[:known], np.full(len(size_of) - known, largest)])
    return ed.EventDevices(
        model=Stacked(models),
        states=tuple(model.init(one) for model, one in zip(models, parameters, strict=True)),
        queues=np.array([[one.capacity_bytes, bc.NOBODY, bc.NOBODY, 0] for one in parameters], np.int64).reshape(-1, 4),
        clocks=np.tile([np.inf, 0.0, 0.0], (len(parts), 1)),
        chunk_bytes=chunk_bytes,
        most_chunks=-(-largest // int(cut.min())) if cut.size else 0,
        place_of=np.cumsum(room) - room if parts else np.zeros(0, np.int64),
        chunks=np.full((_FIRST_SLOTS if parts else 0, 5), bc.NOBODY, np.int64),
        sent_ns=np.zeros(_FIRST_SLOTS if parts else 0),
    )


def _parameters(model: EventModel, part: Device) -> Any:
    """Of a part, or of its `count` side by side. Raises InputError where the model has no form for several."""
    one = model.of_device(part.each, {})
    if part.count == 1:
        return one
    if model.times is None:
        problem = f"device {part.name!r}: the model {part.model!r} stands for one part, and the system has"
        raise InputError(problem, value=part.count, expected="count: 1, or the model 'fixed'")
    return model.times(one, part.count)


def _plugins(plans: Sequence[TierPlan], trace, blocks: int, seed: int) -> tuple[Plugins, list[bool]]:
    """The four stacks and their states; the last level's take part in nothing, so they are made for no block."""
    kinds = {
        "eviction": registry.EVICTION,
        "admission": registry.ADMISSION,
        "offload": registry.OFFLOAD,
        "allocator": registry.ALLOCATOR,
    }
    stacks: dict[str, Any] = {}
    removable = []
    for field_name, kind in kinds.items():
        plugins, states = [], []
        for level, plan in enumerate(plans):
            choice = getattr(plan, field_name)
            plugin = choice.plugin(kind)
            plugin.check_needs(trace)
            if plugin.plain:
                raise InputError(f"policy {plugin.name!r} is a plain Python class, which only a replay can run")
            idle = level == len(plans) - 1 and field_name != "offload"
            context = Context(capacity=plan.capacity_bytes, blocks=1 if idle else blocks, seed=seed + level)
            plugins.append(plugin)
            states.append(plugin.make_state(context, _without_places(plugin, choice.parameters)))
            if field_name == "eviction":
                removable.append(plugin.remove is not None)
                plugins[-1] = plugin if plugin.remove is not None else _with_unreachable_remove(plugin)
        stacks[field_name] = Stacked(plugins)
        stacks[f"{field_name}_states"] = tuple(states)
    _check_removal(plans, removable)
    return Plugins(**stacks), removable


def _without_places(plugin: Plugin, given: Mapping[str, Any]) -> dict[str, Any]:
    """Nobody asks where blocks of a tier lie: an allocator that can do without their places, does."""
    return {"places": False, **given} if "places" in plugin.parameters() else dict(given)


def _unreachable(state, block):
    """Stands in for the missing hook; residency checks `removable` before it calls."""


def _with_unreachable_remove(plugin: Plugin) -> Plugin:
    return replace(plugin, remove=_unreachable)


def _check_removal(plans: Sequence[TierPlan], removable: Sequence[bool]) -> None:
    exclusive = [level for level, plan in enumerate(plans[:-1]) if level and plan.offload.name == "exclusive"]
    invalidated = [above for level, plan in enumerate(plans[:-1]) if plan.inclusive for above in range(level)]
    for level in (*exclusive, *invalidated):
        if not removable[level]:
            plan = plans[level]
            raise InputError(
                f"tiers.{plan.name}: eviction policy {plan.eviction.name!r} has no remove hook, which an exclusive "
                "tier and the tiers above an inclusive one need"
            )


def _workload(trace) -> bc.Workload:
    closed = "think_ns" in trace.columns
    if not closed and "arrival_ns" not in trace.columns:
        raise InputError(f"trace {trace.name!r} has no arrival times, which a timed run needs; replay it instead")
    columns = columns_of(trace, leave_out=("arrival_ns",) if closed else ())
    return bc.Workload(columns, trace.column("think_ns") if closed else np.zeros(0))


def _answers(work: bc.Workload) -> bc.Answers:
    rows = work.columns.block.size
    return bc.Answers(
        latency_ns=np.full(rows, np.nan),
        arrival_ns=work.columns.arrival_ns if work.columns.arrival_ns.size else np.zeros(rows),
        parts_ns=np.zeros((rows, len(bc.PARTS)), np.float32),
        level=np.zeros(rows, np.int8),
        outcome=np.zeros(rows, np.int8),
        next_waiting=np.full(rows, bc.NOBODY, np.int32),
    )


def _traffic(columns: int) -> bc.Traffic:
    return bc.Traffic(np.zeros((columns, len(bc.PURPOSES)), np.int64), np.zeros(columns, np.int64), np.zeros(columns))


class _Stage(NamedTuple):
    """A row of `Engine.stages`."""

    server: int
    row_of_model: int
    column: int
    is_write: bool
    part: int


def routes_between(profile: Profile, names: Sequence[str], servers: Sequence[Server]) -> tuple[np.ndarray, np.ndarray]:
    """Every route of every kind between every two levels: where each begins, and its stages one after the other."""
    levels = len(names)
    link_names = list(profile.links)

    def device(level: int, is_write: bool) -> _Stage:
        return _Stage(*servers[level], 2 * level + is_write, is_write, bc.DEVICE_NS)

    def link(name: str, down: bool) -> _Stage:
        nth = 2 * link_names.index(name) + down
        return _Stage(*servers[levels + nth], 2 * levels + nth, down, bc.LINK_NS)

    def path(level: int) -> tuple[str, ...]:
        return profile.tier(names[level]).path

    def stages(kind: int, source: int, target: int) -> list[_Stage]:
        if kind == bc.FROM_LEVEL:
            return [device(source, False), *(link(name, False) for name in path(source))]
        if kind == bc.TO_LEVEL:
            return [*(link(name, True) for name in reversed(path(source))), device(source, True)]
        up, down = _branches(path(source), path(target))
        descent = [*(link(name, True) for name in reversed(down)), device(target, True)]
        if kind == bc.FILL_LEVEL:  # the block itself passes the common part of the way
            return descent
        return [device(source, False), *(link(name, False) for name in up), *descent]

    routes = [stages(kind, a, b) for kind in range(4) for a in range(levels) for b in range(levels)]
    flat = [stage for route in routes for stage in route]
    first_stage = np.concatenate([[0], np.cumsum([len(route) for route in routes])])
    return first_stage, np.array(flat, np.uint32)


def _branches(source: tuple[str, ...], target: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What two paths to the root do not share: links up from the source, and those of the target's path."""
    shared = 0
    while shared < min(len(source), len(target)) and source[-1 - shared] == target[-1 - shared]:
        shared += 1
    return source[: len(source) - shared], target[: len(target) - shared]
