"""A serving scenario from the plain data of a manifest, to run it again: the inverse of `ServingScenario.resolved`.

`with_places` says where the files are that it names (`sim.plain_data`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sim import plain_data
from sim.serving.options import Cluster, KvTier, ServingOptions, Slo

if TYPE_CHECKING:
    from sim.cost.calibration import Calibration, Gpu
    from sim.llm.models import Model
    from sim.profile import Profile
    from sim.serving.scenario import ServingScenario


class Loaded(NamedTuple):
    """What a scenario names."""

    profile: Profile
    model: Model
    gpu: Gpu
    kernels: Calibration


def scenario_of(plain: Mapping[str, Any]) -> ServingScenario:
    """Raises InputError where a key is missing or unknown, as in what another version wrote."""
    from sim.scenario import Workload
    from sim.serving.scenario import ServingScenario

    with plain_data.complete():
        serving = plain["serving"]
        return ServingScenario(
            name=plain["name"],
            description=plain["description"],
            file=None,
            system=plain["system"],
            profile_overrides=dict(plain["overrides"]),
            workload=plain_data.of(Workload, plain["workload"]),
            model=serving["model"],
            gpu=serving["gpu"],
            kernels=serving["kernels"],
            options=options_of(plain),
            cluster=plain_data.of(Cluster, serving["cluster"]),
            slo=plain_data.of(Slo, serving["slo"]),
            preset=serving["preset"],
            monitor_every_ns=plain["monitor_every_ns"],
            seed=plain["seed"],
            compare=tuple(plain["compare"]),
        )


def with_places(plain: Mapping[str, Any], scenario: ServingScenario) -> dict[str, Any]:
    """The same plain data, with the places that this scenario has of files with the same own names."""
    with plain_data.complete():
        serving = {
            name: plain_data.place(plain["serving"][name], getattr(scenario, name))
            for name in ("model", "gpu", "kernels")
        }
        trace = {"trace": plain_data.place(plain["workload"].get("trace"), scenario.workload.trace)}
        return {
            **plain,
            "system": plain_data.place(plain["system"], scenario.system),
            "workload": {**plain["workload"], **{name: place for name, place in trace.items() if place}},
            "serving": {**plain["serving"], **serving},
        }


def options_of(plain: Mapping[str, Any]) -> ServingOptions:
    """The engine's options and tiers alone. Raises InputError likewise."""
    with plain_data.complete():
        serving = plain["serving"]
        tiers = tuple(plain_data.of(KvTier, {"name": name, **tier}) for name, tier in serving["tiers"].items())
        return dataclasses.replace(plain_data.of(ServingOptions, serving["options"]), tiers=tiers)


def loaded_of(plain: Mapping[str, Any]) -> Loaded:
    """The system, model, accelerator and kernels. Raises InputError for any that is not shipped."""
    from sim.cost.calibration import load_calibration, load_gpu
    from sim.llm.models import load_model
    from sim.profile import load_profile

    with plain_data.complete():
        serving = plain["serving"]
        return Loaded(
            profile=load_profile(plain["system"], plain["overrides"]),
            model=load_model(serving["model"]),
            gpu=load_gpu(serving["gpu"]),
            kernels=load_calibration(serving["kernels"]),
        )
