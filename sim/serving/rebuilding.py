"""A serving scenario from the plain data of a manifest, to run it again: the inverse of `ServingScenario.resolved`.

A manifest has of each file only its own name, so that by itself only what names shipped parts and catalogued traces can
be run again; loading any other part raises an InputError that says which is unknown. `with_places` says where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sim.choice import Choice
from sim.errors import InputError
from sim.serving.options import Cluster, KvTier, ServingOptions, Slo

if TYPE_CHECKING:
    from sim.cost.calibration import Calibration, Gpu
    from sim.llm.models import Model
    from sim.profile import Profile
    from sim.serving.scenario import ServingScenario

T = TypeVar("T")


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

    with _complete():
        serving = plain["serving"]
        return ServingScenario(
            name=plain["name"],
            description=plain["description"],
            file=None,
            system=plain["system"],
            profile_overrides=dict(plain["overrides"]),
            workload=_of(Workload, plain["workload"]),
            model=serving["model"],
            gpu=serving["gpu"],
            kernels=serving["kernels"],
            options=options_of(plain),
            cluster=_of(Cluster, serving["cluster"]),
            slo=_of(Slo, serving["slo"]),
            preset=serving["preset"],
            monitor_every_ns=plain["monitor_every_ns"],
            seed=plain["seed"],
            compare=tuple(plain["compare"]),
        )


def with_places(plain: Mapping[str, Any], scenario: ServingScenario) -> dict[str, Any]:
    """The same plain data, with the places that this scenario has of files with the same own names."""
    with _complete():
        serving = {
            name: _place(plain["serving"][name], getattr(scenario, name)) for name in ("model", "gpu", "kernels")
        }
        trace = {"trace": _place(plain["workload"].get("trace"), scenario.workload.trace)}
        return {
            **plain,
            "system": _place(plain["system"], scenario.system),
            "workload": {**plain["workload"], **{name: place for name, place in trace.items() if place}},
            "serving": {**plain["serving"], **serving},
        }


def _place(own_name: str | None, place: str | None) -> str | None:
    return place if own_name and place and Path(place).name == own_name else own_name


def options_of(plain: Mapping[str, Any]) -> ServingOptions:
    """The engine's options and tiers alone. Raises InputError likewise."""
    with _complete():
        serving = plain["serving"]
        tiers = tuple(_of(KvTier, {"name": name, **tier}) for name, tier in serving["tiers"].items())
        return dataclasses.replace(_of(ServingOptions, serving["options"]), tiers=tiers)


def loaded_of(plain: Mapping[str, Any]) -> Loaded:
    """The system, model, accelerator and kernels. Raises InputError for any that is not shipped."""
    from sim.cost.calibration import load_calibration, load_gpu
    from sim.llm.models import load_model
    from sim.profile import load_profile

    with _complete():
        serving = plain["serving"]
        return Loaded(
            profile=load_profile(plain["system"], plain["overrides"]),
            model=load_model(serving["model"]),
            gpu=load_gpu(serving["gpu"]),
            kernels=load_calibration(serving["kernels"]),
        )


@contextmanager
def _complete() -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise InputError("the manifest's scenario lacks", value=str(error.args[0])) from error


def _of(kind: type[T], plain: Mapping[str, Any]) -> T:
    known = [field.name for field in dataclasses.fields(kind)]
    for name in plain:
        if name not in known:
            raise InputError(
                f"the manifest's scenario has an unknown part of {kind.__name__}", value=name, candidates=known
            )
    return kind(**{name: _value(value) for name, value in plain.items()})


def _value(value: Any) -> Any:
    """A policy and its parameters as a choice, a list as the tuple that it was."""
    if isinstance(value, Mapping) and "policy" in value:
        return Choice(value["policy"], {name: one for name, one in value.items() if name != "policy"})
    return tuple(value) if isinstance(value, list) else value
