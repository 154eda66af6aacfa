"""Small machines and traces for the engine's tests, made in memory."""

from dataclasses import dataclass, field

import numpy as np
import simpy

from sim.hierarchy import Choice, Hierarchy, TierPlan, build
from sim.profile import Access, Device, Profile, Tier
from sim.simulation import _Model, _Monitor
from sim.trace import Trace

ONE_CHANNEL_EACH = 1 << 40  # an interleave so wide that a request takes one channel


def device(name, latency_ns=0.0, bytes_per_ns=1.0, occupancy_ns=0.0, channels=1, interleave_bytes=ONE_CHANNEL_EACH):
    way = Access(latency_ns, bytes_per_ns, occupancy_ns)
    return Device(name, "dram", "fixed", "", 1 << 60, channels, interleave_bytes, way, way, 1.0, 1.0, 0.0, None, 0.0)


def machine(*devices, paths=None, links=None) -> Profile:
    """Tiers of these devices, fastest first; `paths` names the links of each up to the compute unit."""
    paths = paths or [()] * len(devices)
    tiers = tuple(Tier(part.name, part, tuple(path)) for part, path in zip(devices, paths, strict=True))
    return Profile("test", "", (), tiers, dict(links or {}), "digest")


def plan(name, capacity_bytes, eviction="lru", offload="write_back", admission="always", page_bytes=1, inclusive=False):
    return TierPlan(
        name,
        capacity_bytes,
        eviction=Choice(eviction),
        admission=Choice(admission),
        offload=Choice(offload),
        allocator=Choice("paged", {"page_bytes": page_bytes}),
        inclusive=inclusive,
    )


def trace(ids, arrival_ns, size_bytes=100, **columns) -> Trace:
    ids = np.asarray(ids, np.int64)
    sizes = np.broadcast_to(np.asarray(size_bytes, np.int64), ids.shape).copy()
    return Trace.from_columns("test", ids=ids, arrival_ns=arrival_ns, size_bytes=sizes, **columns)


def zipf_trace(requests, objects, mean_gap_ns, seed=1, **columns) -> Trace:
    rng = np.random.default_rng(seed)
    weights = np.cumsum(1 / np.arange(1, objects + 1))
    ids = np.searchsorted(weights / weights[-1], rng.random(requests))
    return trace(ids, np.cumsum(rng.exponential(mean_gap_ns, requests)), **columns)


@dataclass
class Ran:
    """An engine after its run."""

    hierarchy: Hierarchy
    model: _Model
    samples: dict = field(default_factory=dict)

    @property
    def engine(self):
        return self.model.engine

    @property
    def latency_ns(self):
        return self.engine.answers.latency_ns

    @property
    def counts(self):
        return self.engine.res.counts


def run(profile, plans, workload, every_ns=None, **options) -> Ran:
    """Build and run to the end; `every_ns`: a monitor looks that often."""
    hierarchy = build(profile, plans, workload, **options)
    env = simpy.Environment()
    model = _Model(env, hierarchy)
    monitor = _Monitor(env, model, every_ns, None) if every_ns else None
    env.run(model.process)
    return Ran(hierarchy, model, monitor.samples() if monitor else {})
