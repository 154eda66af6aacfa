"""Fits the constants of `sim.cost.kernels`, and corrections, to measured kernel times; tells errors on a half held out.

What is least is the mean of |log(predicted / measured)|: relative, and little moved by outliers. The search goes along
one constant after the other by factors, ever smaller ones, which needs no derivative of what is full of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.cost import kernels
from sim.cost.calibration import AT_LEAST_ONE, ELEMENTWISE, FAMILIES, SHARES, Calibration, Gpu
from sim.cost.correction import NONE, Correction, Nodes, learn
from sim.cost.predict import predict, sizes_of
from sim.cost.timings import Samples, Timings
from sim.errors import InputError

_FIRST_STEP, _LAST_STEP = 0.5, 0.002
_LEAST = 1e-9  # below which a constant is as good as 0
_FASTEST_CACHE = 16.0  # times the memory's bandwidth: what comes from a cache faster shows in no time
_FEWEST = 8  # samples of an operator, of which half is fitted to
_SEED = 0
_CLEARLY = 1.05
_LINEAR = kernels.Linear(0.8, 0.85, 3000.0, 500.0, 10.0, 0.5, 0.1)
_PREFILL = kernels.Prefill(0.6, 7000.0, 500.0, 3000.0, 1.5, 0.0)
_DECODE = kernels.Decode(0.85, 9000.0, 2000.0, 3000.0, 30.0, 1.0)
_MIXED = kernels.Mixed(1.0, 0.9, 2000.0, 1.0, 3e7, 300.0, 0.6)
_ALL_REDUCE = kernels.AllReduce(10000.0, 2000.0, 0.6)
_FIXED = {"splits", "present", "together"}  # chosen, not searched


def _powers(base: int, first: int, last: int) -> tuple[int, ...]:
    return tuple(base**power for power in range(first, last + 1))


_NODES: dict[
    str, Nodes
] = {  # of corrections, by the sizes of sim.cost.kernels; products: both sides of where tiles end
    "linear": ((1, 4, 16, 17, 32, 64, 65, 96, 128, 129, 192, 256, 257, 512, 1024, 2048, 4096), _powers(4, 9, 14)),
    "prefill": (_powers(4, 1, 8), (1, 64, 512, 2048, 8192)),
    "decode": (_powers(2, 0, 14), (32, 64, 128, 512, 2048, 8192)),
    "mixed": (_powers(2, 4, 16), (32, 128, 512, 1024, 2048, 4096, 8192, 16384)),
    "all_reduce": (_powers(4, 5, 15), (2, 4, 8)),
    "elementwise": (_powers(4, 5, 15), (1,)),
}


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
    """A calibration fitted to all samples; one fitted to half of them, its errors on the other half, and what could not
    be fitted, in words.
    """

    calibration: Calibration
    half: Calibration
    errors: tuple[Errors, ...]
    left_out: tuple[str, ...]


def fit(timings: Timings, gpu: Gpu, name: str, source: str) -> Fit:
    """All families that `timings` has: on one random half of each (seeded, so that it is the same each time), which the
    other half is held against, and then on all, which is what calibrations are made of.

    source: words that say where the times are from. Raises InputError where a family needs what the accelerator lacks.
    """
    found, left_out = _Found(), list(timings.left_out)
    for family in FAMILIES:
        if family not in timings.samples:
            continue
        beside = [_beside(family, one.get("prefill"), gpu) for one in (found.half, found.whole)]
        if family == "mixed" and beside[0] is None:
            left_out.append("mixed batches: no attention of prefill alone to start from")
            continue
        _fit_family(family, timings.samples[family], gpu.machine, beside, found, left_out)
    for operator, samples in _by_operator(timings.samples.get(ELEMENTWISE)):
        _fit_family(f"{ELEMENTWISE}.{operator}", samples, gpu.machine, [None, None], found, left_out)
    if not found.errors:
        raise InputError("too few samples to fit anything", value=", ".join(left_out))
    told = f"derived: fitted by run_sim.py calibrate to {source}"
    sources = {family: f"{told}; half held out: {_words(seen[0])}" for family, seen in found.errors.items()}
    whole, half = (
        Calibration(
            name=name,
            description=f"Kernels of {gpu.description}",
            gpu=gpu.name,
            models=timings.models,
            elementwise={one.split(".")[1]: known[one] for one in known if one not in FAMILIES},
            iteration_overhead_ns=0.0,
            sources=sources,
            corrections=corrections,
            **{family: known.get(family) for family in FAMILIES},
        )
        for known, corrections in ((found.whole, found.corrections), (found.half, found.half_corrections))
    )
    return Fit(whole, half, tuple(one for seen in found.errors.values() for one in seen), tuple(left_out))


def judge(timings: Timings, gpu: Gpu, calibration: Calibration) -> tuple[list[Errors], list[str]]:
    """The errors of constants as they are, on all samples; and the families and operators that it has none for.

    The accelerator may be another than that of the calibration: its peaks are then used with the other's constants.
    """
    errors, missing = [], []
    for family, samples in timings.samples.items():
        beside = _beside(family, calibration.prefill, gpu)
        for operator, own in _by_operator(samples) if family == ELEMENTWISE else [(family, samples)]:
            constants = calibration.elementwise.get(operator) if family == ELEMENTWISE else getattr(calibration, family)
            if constants is None or (family == "mixed" and beside is None):
                missing.append(operator)
                continue
            table = calibration.correction(operator if family != ELEMENTWISE else f"{family}.{operator}").arrays
            predicted = predict(family, gpu.machine, constants, own.values, beside, table)
            errors += _told(own, np.zeros(len(own), bool), predicted)
    return errors, missing


class _Found:
    """What was fitted so far, by family: constants and corrections to all samples and to half, errors of the latter."""

    def __init__(self) -> None:
        self.whole: dict[str, NamedTuple] = {}
        self.half: dict[str, NamedTuple] = {}
        self.corrections: dict[str, Correction] = {}
        self.half_corrections: dict[str, Correction] = {}
        self.errors: dict[str, list[Errors]] = {}


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


def _fit_family(
    name: str, samples: Samples, machine: kernels.Machine, beside: list, found: _Found, left_out: list[str]
) -> None:
    """Add a family's constants, corrections and errors; too few samples are left out.

    beside: as `predict` has it, of what was fitted to half and to all.
    """
    if len(samples) < _FEWEST:
        left_out.append(f"{name}: {len(samples)} samples are too few, {_FEWEST} are needed")
        return
    fitted = half(len(samples))
    constants, correction = _fitted(samples.where(fitted), machine, beside[0])
    predicted = predict(samples.family, machine, constants, samples.values, beside[0], correction.arrays)
    found.errors[name] = _told(samples, fitted, predicted)
    found.half[name], found.half_corrections[name] = constants, correction
    found.whole[name], found.corrections[name] = _fitted(samples, machine, beside[1])
    for corrections in (found.corrections, found.half_corrections):
        if corrections[name] == NONE:
            del corrections[name]


def _fitted(samples: Samples, machine: kernels.Machine, beside) -> tuple[NamedTuple, Correction]:
    """The constants of the start that leads to the least error, and what then remains to be corrected.

    Of another kind of kernel, a later start has to be better by `_CLEARLY`: few samples would choose by chance.
    """
    found = [_search(samples, machine, beside, start) for start in _starts(samples)]
    doubt = 1.0 if samples.family == ELEMENTWISE else _CLEARLY
    favoured = [left * (doubt if at else 1.0) for at, (_, left) in enumerate(found)]
    constants, _ = found[int(np.argmin(favoured))]
    predicted = predict(samples.family, machine, constants, samples.values, beside)
    sizes = sizes_of(samples.family, machine, constants, samples.values, beside)
    return constants, learn(_NODES[samples.family], sizes, predicted, samples.time_ns, _alike(samples))


def _alike(samples: Samples) -> np.ndarray | None:
    """Products with one matrix are alike; whether libraries suit it well says nothing of others of its size."""
    return samples.values[:, 1] * 2.0**32 + samples.values[:, 2] if samples.family == "linear" else None


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
    if samples.family == "decode":
        return [_DECODE._replace(together=each) for each in (1.0, 2.0)]
    if samples.family == "elementwise":
        # Times grow by what a byte takes; the cache's size is unknown: try some.
        moved = samples.values[:, 0]
        lowest, most = float(samples.time_ns.min()), float(moved.max())
        return [kernels.Elementwise(lowest, 1.0, 0.8, most * share) for share in (0.02, 0.1, 0.3, 1.0)]
    starts = {"linear": _LINEAR, "mixed": _MIXED, "all_reduce": _ALL_REDUCE}
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
