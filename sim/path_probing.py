"""One path of a system alone under synthetic loads: a tier's device and the links between it and the compute unit.

The requests go through the timed engine (`sim.engines.block_cache`), as those of a run that misses every other tier
would: what is simulated in detail and what is timed by `fixed` is as the system says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import simpy

from sim.engines import block_cache as bc
from sim.errors import InputError
from sim.hierarchy import build
from sim.probing import Progress, Reading, profile_energy_pj
from sim.profile import Profile, Tier, load_profile, system_names
from sim.served import transaction_bytes
from sim.simulation import _Model
from sim.trace import Trace
from sim.traffic import Load, requests_of, result_of


def probe_path(
    system: str, tier: str, loads: Sequence[Load], overrides: Mapping[str, Any], progress: Progress | None = None
) -> list[Reading]:
    """Readings of a system's tier and its links under each load, each from rest.

    overrides: of the system, by dotted path. Energy is the profile's: what devices and links take for each bit, and
    their static watts. Raises InputError.
    """
    profile = load_profile(system, overrides)
    alone = dataclasses.replace(profile, tiers=(profile.tier(tier),))
    loads = [_filled(load, alone.tiers[0]) for load in loads]
    readings = []
    for nth, load in enumerate(loads):
        readings.append(_read(alone, load))
        if progress is not None:
            progress(nth + 1, len(loads))
    return readings


def _filled(load: Load, tier: Tier) -> Load:
    return dataclasses.replace(load, size_bytes=load.size_bytes or transaction_bytes(tier.device))


def _read(alone: Profile, load: Load) -> Reading:
    device = alone.tiers[0].device
    address, is_write, born_ns = requests_of(load, device.capacity_bytes)
    engine = _drive(alone, load, address, is_write, born_ns)
    done_ns = engine.answers.arrival_ns + engine.answers.latency_ns
    order = np.argsort(done_ns, kind="stable")
    measured = order[load.warmup : load.warmup + load.requests]
    began_ns = done_ns[order[load.warmup - 1]] if load.warmup else 0.0
    elapsed_ns = float(done_ns[measured[-1]] - began_ns)
    result = result_of(load, engine.answers.latency_ns[measured], is_write[measured], elapsed_ns)
    parts = [device, *(alone.links[name] for name in alone.tiers[0].path)]
    return Reading(load, result, {}, profile_energy_pj(parts, result), "profile")


def _drive(alone: Profile, load: Load, address, is_write, born_ns) -> bc.Engine:
    """The engine after all requests: each address is a block, which lies where the address says."""
    times = {"think_ns": np.zeros(len(address))} if load.outstanding else {"arrival_ns": born_ns}
    sizes = np.full(len(address), load.size_bytes, np.int64)
    trace = Trace.from_columns("probe", ids=address, size_bytes=sizes, op=is_write.astype(np.uint8), **times)
    hierarchy = build(alone, [], trace, clients=load.outstanding or 1)
    if hierarchy.engine.devices.place_of.size:
        hierarchy.engine.devices.place_of[:] = trace.address
    env = simpy.Environment()
    model = _Model(env, hierarchy)
    env.run(model.process)
    return model.engine


def path_of(name: str) -> tuple[str, str] | None:
    """(system, tier) of `SYSTEM:TIER`; None for what names a device. Raises InputError for a system without a tier."""
    system, colon, tier = name.rpartition(":")
    if colon and tier and "/" not in tier:
        return system, tier
    if name not in system_names():
        return None
    paths = ", ".join(f"{name}:{tier.name}" for tier in load_profile(name).tiers)
    raise InputError("a system is probed by one of its paths:", value=name, expected=paths)
