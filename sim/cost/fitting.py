"""Fits the constants of `sim.cost.kernels` to one half of measured kernel times, and tells the error on the other half.

What is least is the mean of |log(predicted / measured)|: relative, and little moved by outliers. The search goes along
one constant after the other by factors, ever smaller ones, which needs no derivative of what is full of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.cost import kernels
from sim.cost.calibration import AT_LEAST_ONE, SHARES, Calibration, Gpu
from sim.cost.predict import predict
from sim.cost.timings import Samples, Timings
from sim.errors import InputError

_FIRST_STEP, _LAST_STEP = 0.5, 0.002
_LEAST = 1e-9  # below which a constant is as good as 0
_FASTEST_CACHE = 16.0  # times the memory's bandwidth: what comes from a cache faster shows in no time
_FEWEST = 8  # samples of an operator, of which half is fitted to
_SEED = 0
_LINEAR = kernels.Linear(0.8, 0.85, 3000.0, 500.0, 10.0, 0.5)
_PREFILL = kernels.Prefill(0.6, 7000.0, 500.0, 3000.0, 1.5, 0.0)
_DECODE = kernels.Decode(0.85, 9000.0, 2000.0, 3000.0, 30.0)
_MIXED = kernels.Mixed(1.0, 0.9, 2000.0, 1.0, 3e7)
_ALL_REDUCE = kernels.AllReduce(10000.0, 2000.0, 0.6)
_FIXED = {"splits", "present"}  # chosen, not searched


@dataclass(frozen=True)
class Errors:
    """Of one family or operator: samples, and the relative errors of those told about, as shares of the measured."""

    name: str
    fitted: int
    held_out: int
    median: float
    p90: float
    bias: float

    @staticmethod
    def of(name: str, fitted: int, predicted: np.ndarray, measured: np.ndarray) -> Errors:
        """bias: the median of the signed error."""
        signed = predicted / measured - 1
        median, p90 = np.percentile(np.abs(signed), [50, 90])
        return Errors(name, fitted, len(measured), float(median), float(p90), float(np.median(signed)))


@dataclass(frozen=True)
class Fit:
    """A calibration, the errors on samples that it was not fitted to, and what could not be fitted, in words."""

    calibration: Calibration
    errors: tuple[Errors, ...]
    left_out: tuple[str, ...]


def fit(timings: Timings, gpu: Gpu, name: str, source: str) -> Fit:
    """All families that `timings` has, on one random half of each (seeded, so that it is the same each time).

    source: words that say where the times are from. Raises InputError where a family needs what the accelerator lacks.
    """
    machine, left_out = gpu.machine, list(timings.left_out)
    families: dict[str, NamedTuple | None] = dict.fromkeys(("linear", "prefill", "decode", "mixed", "all_reduce"))
    sources, errors, elementwise = {}, [], {}
    told = f"derived: fitted by run_sim.py calibrate to {source}"
    for family in families:
        samples = timings.samples.get(family)
        if samples is None:
            continue
        beside = _beside(family, families["prefill"], gpu)
        if family == "mixed" and beside is None:
            left_out.append("mixed batches: no attention of prefill alone to start from")
            continue
        found = _fit_family(samples, machine, beside)
        if found is None:
            left_out.append(f"{family}: {len(samples)} samples are too few, {_FEWEST} are needed")
            continue
        families[family], seen = found
        errors += seen
        sources[family] = f"{told}; held out {_words(seen[0])}"
    for operator, samples in _by_operator(timings.samples.get("elementwise")):
        found = _fit_family(samples, machine, None)
        if found is None:
            left_out.append(f"elementwise {operator}: {len(samples)} samples are too few, {_FEWEST} are needed")
            continue
        elementwise[operator], seen = found
        errors += seen
        sources[f"elementwise.{operator}"] = f"{told}; held out {_words(seen[0])}"
    if not sources:
        raise InputError("too few samples to fit anything", value=", ".join(left_out))
    calibration = Calibration(
        name=name,
        description=f"Kernels of {gpu.description}",
        gpu=gpu.name,
        models=timings.models,
        elementwise=elementwise,
        iteration_overhead_ns=0.0,
        sources=sources,
        **families,
    )
    return Fit(calibration, tuple(errors), tuple(left_out))


def judge(timings: Timings, gpu: Gpu, calibration: Calibration) -> tuple[list[Errors], list[str]]:
    """The errors of constants as they are, on all samples; and the families and operators that it has none for.

    The accelerator may be another than that of the calibration: its peaks are then used with the other's constants.
    """
    errors, missing = [], []
    for family, samples in timings.samples.items():
        beside = _beside(family, calibration.prefill, gpu)
        for operator, own in _by_operator(samples) if family == "elementwise" else [(family, samples)]:
            constants = (
                calibration.elementwise.get(operator) if family == "elementwise" else getattr(calibration, family)
            )
            if constants is None or (family == "mixed" and beside is None):
                missing.append(operator)
                continue
            predicted = predict(family, gpu.machine, constants, own.values, beside)
            errors += _told(own, np.zeros(len(own), bool), predicted)
    return errors, missing


def _words(errors: Errors) -> str:
    return f"median {errors.median:.1%}, p90 {errors.p90:.1%} of {errors.held_out}"


def _beside(family: str, prefill: kernels.Prefill | None, gpu: Gpu) -> kernels.Prefill | float | None:
    if family == "mixed":
        return prefill
    if family != "all_reduce":
        return None
    if gpu.link_bytes_per_ns is None:
        raise InputError("all-reduce times of a GPU without a link:", value=gpu.name, expected="'link' in its file")
    return gpu.link_bytes_per_ns


def _by_operator(samples: Samples | None) -> list[tuple[str, Samples]]:
    if samples is None:
        return []
    return [(str(name), samples.where(samples.operator == name)) for name in np.unique(samples.operator.astype(str))]


def _fit_family(samples: Samples, machine: kernels.Machine, beside) -> tuple[NamedTuple, list[Errors]] | None:
    """The constants and their errors; None where there are too few samples."""
    if len(samples) < _FEWEST:
        return None
    fitted = half(len(samples))
    chosen = samples.where(fitted)
    candidates = [_search(chosen, machine, beside, start) for start in _starts(chosen)]
    best, _ = min(candidates, key=lambda one: one[1])
    predicted = predict(samples.family, machine, best, samples.values, beside)
    return best, _told(samples, fitted, predicted)


def half(count: int) -> np.ndarray:
    """bool[count]: the rows that are fitted to, drawn by a seed; the others are held out."""
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(_SEED).permutation(count)[: count // 2]] = True
    return chosen


def _told(samples: Samples, fitted: np.ndarray, predicted: np.ndarray) -> list[Errors]:
    """Errors of all samples not fitted to, then of each operator, where there are several."""
    operators = np.unique(samples.operator.astype(str))
    name = samples.family if samples.family != "elementwise" else f"elementwise {operators[0]}"
    held = ~fitted
    told = [Errors.of(name, int(fitted.sum()), predicted[held], samples.time_ns[held])]
    for operator in operators if len(operators) > 1 else ():
        own = samples.operator == operator
        if (own & held).any():
            counted = int((own & fitted).sum())
            told.append(Errors.of(f"  {operator}", counted, predicted[own & held], samples.time_ns[own & held]))
    return told


def _starts(samples: Samples) -> list[NamedTuple]:
    if samples.family == "prefill":
        return [_PREFILL, _PREFILL._replace(splits=1.0)]
    if samples.family == "elementwise":
        # Times grow by what a byte takes; the cache's size is unknown: try some.
        moved = samples.values[:, 0]
        lowest, most = float(samples.time_ns.min()), float(moved.max())
        return [kernels.Elementwise(lowest, 1.0, 0.8, most * share) for share in (0.02, 0.1, 0.3, 1.0)]
    starts = {"linear": _LINEAR, "decode": _DECODE, "mixed": _MIXED, "all_reduce": _ALL_REDUCE}
    return [starts[samples.family]]


def _search(samples: Samples, machine: kernels.Machine, beside, start: NamedTuple) -> tuple[NamedTuple, float]:
    def loss(constants: NamedTuple) -> float:
        predicted = predict(samples.family, machine, constants, samples.values, beside)
        return float(np.abs(np.log(predicted / samples.time_ns)).mean())

    best, least = start, loss(start)
    step = _FIRST_STEP
    while step > _LAST_STEP:
        better, least = _round(best, least, step, loss)
        if better == best:
            step /= 2
        best = better
    return best, least


def _round(
    best: NamedTuple, least: float, step: float, loss: Callable[[NamedTuple], float]
) -> tuple[NamedTuple, float]:
    """Each constant in turn, larger or smaller by the step, kept where that is better."""
    for name in best._fields:
        if name in _FIXED:
            continue
        for factor in (1 + step, 1 / (1 + step)):
            value = _inside(name, getattr(best, name) * factor)
            tried = best._replace(**{name: value})
            found = loss(tried) if tried != best else least
            if found < least:
                best, least = tried, found
    return best, least


def _inside(name: str, value: float) -> float:
    """The nearest value that the constant may have."""
    if name in AT_LEAST_ONE:
        return max(value, 1.0)
    if name == "cache_efficiency":
        return min(value, _FASTEST_CACHE)
    return min(value, 1.0) if name in SHARES else max(value, _LEAST)
