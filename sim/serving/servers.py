"""The servers that copies of KV blocks pass: of each engine its own tiers and links, and those that all engines share.

One state of device models serves all of them, a row each. A part that is shared has one row, any other one for each
engine, so that engines that advance in order of time queue at what they share and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim import registry
from sim.engines import block_cache as bc
from sim.errors import InputError
from sim.hierarchy import Server, routes_between
from sim.policy import EventModel, Stacked
from sim.profile import Device, Profile


@dataclass(frozen=True)
class Servers:
    """of_engine: for each engine its rows: one a tier, then two a link, up and down. columns: what the traffic of an
    engine is counted by, `tier.dram.write` or `link.pcie.up`, two a tier and two a link. owners: by model and row, the
    part whose row it is.
    """

    tiers: tuple[str, ...]
    links: tuple[str, ...]
    columns: tuple[str, ...]
    devices: tuple[Device, ...]  # one a column
    model: Stacked
    states: tuple[Any, ...]
    of_engine: tuple[tuple[Server, ...], ...]
    owners: tuple[tuple[str, ...], ...]

    def busy_ns(self) -> dict[str, float]:
        """How long each part was held: `tier.dram`, `link.pcie.up`; of several the mean over those with it."""
        held: dict[str, list[float]] = {}
        for owners, state in zip(self.owners, self.states, strict=True):
            for part, held_ns in zip(owners, state.busy_ns, strict=True):
                held.setdefault(part, []).append(float(held_ns))
        return {part: float(np.mean(all_of_it)) for part, all_of_it in held.items()}


def make_servers(profile: Profile, tiers: Sequence[str], engines: int = 1, shared: Collection[str] = ()) -> Servers:
    """Idle servers. shared: names of tiers and links. Raises InputError for parts simulated event by event."""
    parts = [(f"tier.{name}", name, profile.tier(name).device) for name in tiers]
    for name, link in profile.links.items():
        parts += [(f"link.{name}.up", name, link), (f"link.{name}.down", name, link)]
    by_model: dict[str, list[Device]] = {}
    owners: dict[str, list[str]] = {}
    of_engine = []
    common: dict[str, Server] = {}
    for _ in range(engines):
        servers = []
        for label, name, device in parts:
            if label not in common:
                _check_model(device)
                rows = by_model.setdefault(device.model, [])
                level = list(by_model).index(device.model)
                owners.setdefault(device.model, []).append(label)
                common_row = Server(level, len(rows))
                rows.append(device)
                if name in shared:
                    common[label] = common_row
            else:
                common_row = common[label]
            servers.append(common_row)
        of_engine.append(tuple(servers))
    models = [registry.load(registry.DEVICE_MODEL, name) for name in by_model]
    columns = [f"tier.{name}.{way}" for name in tiers for way in ("read", "write")]
    columns += [label for label, _, _ in parts[len(tiers) :]]
    devices = [device for _, _, device in parts[: len(tiers)] for _ in range(2)]
    devices += [device for _, _, device in parts[len(tiers) :]]
    return Servers(
        tiers=tuple(tiers),
        links=tuple(profile.links),
        columns=tuple(columns),
        devices=tuple(devices),
        model=Stacked(models),
        states=tuple(model.init(rows) for model, rows in zip(models, by_model.values(), strict=True)),
        of_engine=tuple(of_engine),
        owners=tuple(tuple(owners[name]) for name in by_model),
    )


def _check_model(device: Device) -> None:
    if isinstance(registry.load(registry.DEVICE_MODEL, device.model), EventModel):
        problem = f"part {device.name!r} is simulated event by event, which a serving run cannot do yet:"
        raise InputError(problem, value=device.model, expected="fidelity: fixed in the system")


def paths(
    profile: Profile, servers: Servers, engine: int, link: str | None = None, senders: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Routes between every two tiers of an engine, and from the G1 of each of the first `senders` engines to its own.

    What is handed over leaves the sender by its own `link` and enters by the receiver's. first_stage int64[E E + 1] for
    E ends, which are the tiers and after them the senders, and stages int64[., 5], as `network.Network` has them.
    """
    names, own = servers.tiers, servers.of_engine[engine]
    ends = len(names) + senders
    first, stages = routes_between(profile, names, own)
    routes = []
    for source in range(ends):
        for target in range(ends):
            route = (bc.BETWEEN_LEVELS * len(names) + source) * len(names) + target
            if source < len(names) and target < len(names):
                routes.append(stages[first[route] : first[route + 1]])
            elif target == 0:
                routes.append(_handed_over(servers, source - len(names), engine, link))
            else:
                routes.append(stages[:0])
    starts = np.concatenate([[0], np.cumsum([len(route) for route in routes])])
    return starts.astype(np.int64), np.concatenate(routes).astype(np.int64)


def _handed_over(servers: Servers, sender: int, receiver: int, link: str) -> np.ndarray:
    """Down one engine's link and up another's; both count as the receiver's traffic, by the link's name."""
    stages = []
    for engine, down in ((sender, 1), (receiver, 0)):
        place = len(servers.tiers) + 2 * servers.links.index(link) + down
        server = servers.of_engine[engine][place]
        stages.append((server.level, server.row, len(servers.tiers) + place, down, bc.LINK_NS))
    return np.array(stages, np.uint32)
