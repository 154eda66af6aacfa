"""What a serving scenario names: the model, the accelerator and the constants of its kernels, or which those are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.errors import InputError
from sim.llm.models import Model, load_model
from sim.profile import Profile
from sim.scenario_files import beside, each, moved
from sim.yaml_document import Document

if TYPE_CHECKING:  # which brings numba with it
    from sim.cost.calibration import Calibration, Gpu


@dataclass(frozen=True)
class Parts:
    """None for what is not there or not good; errors say why. gpu_name, kernels_name: what loads them."""

    model: Model | None
    gpu: Gpu | None
    kernels: Calibration | None
    gpu_name: str
    kernels_name: str
    errors: tuple[InputError, ...]


def find(document: Document, profile: Profile | None) -> Parts:
    """The parts that a document names, the accelerator by default the system's, the kernels by default its own."""
    from sim.cost.calibration import load_calibration, load_gpu

    serving = document.data.get("serving")
    said = serving if isinstance(serving, dict) else {}
    errors: list[InputError] = []
    model = _loaded(document, "model", said.get("model"), load_model, errors)
    gpu_name = said.get("gpu")
    if gpu_name is None and profile is not None:
        gpu_name = profile.gpu
        if gpu_name is None:
            errors.append(_no_gpu(document, profile))
    gpu = _loaded(document, "gpu", gpu_name, load_gpu, errors)
    kernels_name = said.get("kernels")
    if kernels_name is None and gpu is not None:
        kernels_name = _calibrated(gpu.name)
        if kernels_name is None:
            errors.append(_uncalibrated(document, gpu.name))
    kernels = _loaded(document, "kernels", kernels_name, load_calibration, errors)
    paths = (beside(document, name) if isinstance(name, str) else "" for name in (gpu_name, kernels_name))
    return Parts(model, gpu, kernels, *paths, tuple(errors))


def _loaded(document: Document, key: str, name: object, load: Callable[[str], Any], errors: list[InputError]) -> Any:
    """The part of this name; None, its faults noted, where there is none."""
    if not isinstance(name, str) or not name.strip():
        return None
    try:
        return load(beside(document, name))
    except InputError as error:
        faults = each(error)
        errors += [one if one.file is not None else moved(document, one, ("serving", key)) for one in faults]
        return None


def _no_gpu(document: Document, profile: Profile) -> InputError:
    from sim.cost.calibration import gpu_names

    problem = f"system {profile.name!r} does not say which GPU it has"
    return document.error(problem, ("serving", "gpu"), expected=f"one of {', '.join(gpu_names())}")


def _calibrated(gpu: str) -> str | None:
    """The calibration of this accelerator, first the one of its own name."""
    from sim.cost.calibration import calibration_names, load_calibration

    listed = sorted(calibration_names(), key=lambda name: name != gpu)
    return next((name for name in listed if load_calibration(name).gpu == gpu), None)


def _uncalibrated(document: Document, gpu: str) -> InputError:
    from sim.cost.calibration import calibration_names

    expected = f"`run_sim.py calibrate` of its kernels, or another GPU's constants: {', '.join(calibration_names())}"
    return document.error(f"no kernels of {gpu!r} were measured", ("serving", "kernels"), expected=expected)
