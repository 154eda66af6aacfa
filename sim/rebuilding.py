"""A scenario of a hierarchy from the plain data of a manifest, to run it again: the inverse of `Scenario.resolved`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sim import plain_data

if TYPE_CHECKING:
    from sim.scenario import Scenario


def scenario_of(plain: Mapping[str, Any]) -> Scenario:
    """Raises InputError where a key is missing or unknown, as in what another version wrote."""
    from sim.scenario import Migration, Scenario, TierSettings, Workload

    with plain_data.complete():
        migration = plain["migration"]
        return Scenario(
            name=plain["name"],
            description=plain["description"],
            file=None,
            system=plain["system"],
            profile_overrides=dict(plain["overrides"]),
            workload=plain_data.of(Workload, plain["workload"]),
            tiers={name: plain_data.of(TierSettings, tier) for name, tier in plain["tiers"].items()},
            prefetch=plain_data.value_of(plain["prefetch"]),
            migration=plain_data.of(Migration, migration) if migration else None,
            monitor_every_ns=plain["monitor_every_ns"],
            compare=tuple(plain["compare"]),
            seed=plain["seed"],
        )


def with_places(plain: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    """The same plain data, with the places that this scenario has of files with the same own names."""
    with plain_data.complete():
        workload = dict(plain["workload"])
        if "trace" in workload:
            workload["trace"] = plain_data.place(workload["trace"], scenario.workload.trace)
        return {**plain, "system": plain_data.place(plain["system"], scenario.system), "workload": workload}
