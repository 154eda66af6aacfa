"""Replays a measured run of a real engine, and says how far ours is from it, figure by figure.

The measured arrivals, lengths and engine settings are taken as they are, and so is the number of KV blocks, which the
real engine worked out from the memory that it found free. Everything else comes from the system, the model and the
constants of its kernels; nothing is fitted to the run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.cost.calibration import calibration_names, load_calibration, load_gpu
from sim.errors import InputError
from sim.llm.models import load_model, model_names
from sim.looks import Progress
from sim.profile import Profile, load_profile
from sim.serving.laws import check_run
from sim.serving.measured import Measured, load_measured
from sim.serving.options import Cluster, KvTier
from sim.serving.record import ServingRun
from sim.serving.simulation import run, setup_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (("mean", None), ("p50", 50), ("p90", 90), ("p99", 99))
_LOOKS_PER_SECOND = 10


@dataclass(frozen=True)
class Compared:
    """One figure of both runs, in ns, or a share."""

    name: str
    ours: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, of ours."""
        return self.ours / self.measured - 1 if self.measured else float("nan")


@dataclass(frozen=True)
class Follow:
    """A measured series and ours at the same moments: running, waiting (calls), kv_use (share of G1)."""

    name: str
    t_s: np.ndarray
    ours: np.ndarray
    measured: np.ndarray

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference."""
        return float(np.mean(np.abs(self.ours - self.measured)))


@dataclass(frozen=True)
class Check:
    """arrivals: "client", or "queued" where the run does not say when calls were sent. notes: what was assumed."""

    folder: str
    system: str
    model: str
    kernels: str
    arrivals: str
    figures: tuple[Compared, ...]
    series: tuple[Follow, ...]
    notes: tuple[str, ...]
    run: ServingRun


def check_serving(
    folder: str | Path,
    system: str,
    model: str,
    kernels: str | None = None,
    arrivals: str | None = None,
    progress: Progress | None = None,
) -> Check:
    """Replay the run in a folder on a system. kernels: constants of the accelerator; None: those of its own.

    arrivals: "client" takes calls as they were sent and times as whoever called saw them, "queued" both as the real
    engine took them in; None: the first where known. Raises InputError for what cannot be read or does not fit.
    """
    measured = load_measured(folder)
    profile = load_profile(system)
    shape = load_model(model)
    gpu, constants = _accelerator(profile, kernels)
    if arrivals is None:
        arrivals = "queued" if measured.requests.client_arrival_ns is None else "client"
    replayed = measured.trace(arrivals)
    notes = [*_notes(measured), *([replayed.warning] if replayed.warning else [])]
    options = measured.engine.options(prefix_caching=False) if replayed.dataset is None else measured.engine.options()
    options = dataclasses.replace(options, tiers=(KvTier(_own_memory(profile)),))
    setup = setup_of(
        profile,
        shape,
        gpu,
        constants,
        options,
        replayed.trace,
        cluster=Cluster(replicas=measured.engine.data_parallel, router="least_loaded"),
        monitor_every_ns=1e9 / _LOOKS_PER_SECOND,
    )
    ours = run(setup, progress)
    check_run(ours)
    refused = int(np.count_nonzero(ours.calls["status"]))
    if refused:
        notes.append(f"{refused} calls are refused here, and left out of the figures")
    return Check(
        folder=str(folder),
        system=profile.name,
        model=shape.name,
        kernels=constants.name,
        arrivals=arrivals,
        figures=tuple(_figures(measured, ours, arrivals)),
        series=tuple(_series(measured, ours, arrivals)),
        notes=tuple(notes),
        run=ours,
    )


def _notes(measured: Measured) -> list[str]:
    """What of the real engine is not as it was. Raises InputError where that is too far from what is modelled."""
    engine, notes = measured.engine, []
    if engine.pipeline_parallel > 1:
        problem = "pipeline parallelism is not modelled:"
        raise InputError(problem, file=measured.folder / "meta.json", value=engine.pipeline_parallel, expected="1")
    if engine.assumed:
        notes.append(f"not stated by the run, assumed: {', '.join(engine.assumed)}")
    if engine.data_parallel > 1:
        notes.append(
            f"{engine.data_parallel} engines, each with the KV blocks that the run states, the least loaded first"
        )
    if engine.enforce_eager:
        notes.append("the run launched kernels one by one (enforce_eager), for which no time is added")
    if engine.kv_cache_dtype not in (None, "auto", engine.dtype):
        notes.append(f"KV cache of {engine.kv_cache_dtype}, timed as of the model's own type")
    return notes


def _accelerator(profile: Profile, kernels: str | None):
    """The system's accelerator, and constants of its kernels."""
    named = next((unit.gpu for unit in profile.compute if unit.gpu), None)
    if named is None:
        problem = f"system {profile.name!r} does not say which accelerator it has"
        raise InputError(problem, file=profile.file, expected="'gpu' in its compute")
    gpu = load_gpu(named)
    if kernels is not None:
        return gpu, load_calibration(kernels)
    for name in calibration_names():
        calibration = load_calibration(name)
        if calibration.gpu == named:
            return gpu, calibration
    raise InputError(
        "no constants of the kernels of", value=named, expected="--kernels", candidates=calibration_names()
    )


def _own_memory(profile: Profile) -> str:
    """The accelerator's memory: of the tiers without a link before them the largest."""
    near = [tier for tier in profile.tiers if not tier.path]
    if not near:
        raise InputError(f"system {profile.name!r} has no memory beside its accelerator", file=profile.file)
    return max(near, key=lambda tier: tier.device.capacity_bytes or 0).name


def _figures(measured: Measured, ours: ServingRun, arrivals: str) -> list[Compared]:
    requests, calls = measured.requests, ours.calls
    when = requests.arrival_ns if arrivals == "queued" else requests.client_arrival_ns
    order = np.argsort(when, kind="stable")
    done = calls["status"] == 0
    theirs = {
        "ttft": (requests.first_token_ns - when)[order],
        "tpot": requests.tpot_ns[order],
        "latency": (requests.finish_ns - when)[order],
    }
    gaps = np.where(calls["output_tokens"] > 1, calls["output_tokens"] - 1, np.nan)
    own = {
        "ttft": calls["first_token_ns"] - calls["arrival_ns"],
        "tpot": (calls["finish_ns"] - calls["first_token_ns"]) / gaps,
        "latency": calls["finish_ns"] - calls["arrival_ns"],
    }
    found = [
        Compared(f"{name}_{label}_ns", _of(own[name][done], share), _of(theirs[name][done], share))
        for name in theirs
        for label, share in QUANTILES
    ]
    found.append(Compared("makespan_ns", ours.duration_ns, float(requests.finish_ns.max() - when.min())))
    return found


def _of(values: np.ndarray, share: float | None) -> float:
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan")
    return float(np.mean(values) if share is None else np.percentile(values, share))


def _series(measured: Measured, ours: ServingRun, arrivals: str) -> list[Follow]:
    """Ours at the moments of the measured series, as of the last look before each."""
    series, start_ns = measured.series, measured.series_start_ns
    if series is None:
        return []
    requests = measured.requests
    first_ns = 0.0 if arrivals == "queued" else float(requests.client_arrival_ns.min())
    at_ns = series.t_s * 1e9 + (start_ns or 0.0) - first_ns
    looks = np.clip(np.searchsorted(ours.samples["time_ns"], at_ns, side="right") - 1, 0, None)
    in_use = ours.samples["kv_blocks_in_use"].mean(axis=1) / ours.tier_capacity_blocks[0]
    followed = [("running", ours.samples["running"].sum(axis=1), series.running)]
    followed.append(("waiting", ours.samples["waiting"].sum(axis=1), series.waiting))
    if series.kv_cache_pct is not None:
        followed.append(("kv_use", in_use, series.kv_cache_pct / 100))
    return [Follow(name, series.t_s, own[looks], theirs) for name, own, theirs in followed]


def draw(check: Check, figure: Figure) -> None:
    """The series of both runs, one above the other, on an empty figure."""
    titles = {"running": "requests running", "waiting": "requests waiting", "kv_use": "share of KV blocks in use"}
    axes = figure.subplots(max(1, len(check.series)), 1, sharex=True, squeeze=False)[:, 0]
    for ax, one in zip(axes, check.series, strict=False):
        ax.plot(one.t_s, one.measured, color="black", linewidth=1.6, label="measured")
        ax.plot(one.t_s, one.ours, color="tab:orange", linewidth=1.2, label="simulated")
        ax.set_ylabel(titles[one.name])
        ax.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    axes[0].set_title(f"{Path(check.folder).name}: measured, and simulated on {check.system}")
    axes[-1].set_xlabel("time (s)")


def known_model(text: str) -> str:
    """The shipped model that a name such as `meta-llama/Llama-3.1-8B` means, or the name itself."""
    plain = "".join(letter for letter in text.rsplit("/", 1)[-1].lower() if letter.isalnum())
    for name in model_names():
        if plain.removesuffix("instruct") == "".join(letter for letter in name if letter.isalnum()):
            return name
    return text
