"""What several runs, or many requests, say of a metric: its mean, a difference of two, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
BATCHES = 30  # of requests; more of them are shorter, and less independent (Schmeiser, Operations Research 1982)


class Estimate(NamedTuple):
    """A mean of `count` values and its confidence interval; low and high are NaN where one value says nothing of it."""

    mean: float
    low: float
    high: float
    count: int


class Difference(NamedTuple):
    """How far one mean is above another, its confidence interval, and p: how probable one as far from 0 would be, did
    they not differ.
    """

    change: float
    low: float
    high: float
    p: float


def estimate(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """The mean of independent values with Student's interval (Student, Biometrika 1908).

    NaN among the values makes all of it NaN: a metric that one run cannot tell has no mean.
    """
    values = np.asarray(values, float)
    mean = float(values.mean()) if values.size else math.nan
    if values.size < 2:
        return Estimate(mean, math.nan, math.nan, values.size)
    half = student_quantile(0.5 + confidence / 2, values.size - 1) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return Estimate(mean, mean - half, mean + half, values.size)


def student_quantile(share: float, freedom: float) -> float:
    """What Student's distribution with so many degrees of freedom stays below with this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def welch(was: Sequence[float], now: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Of two means of independent values, at least two each, whose variances may differ (Welch, Biometrika 1947)."""
    before, after = np.asarray(was, float), np.asarray(now, float)
    parts = [float(values.var(ddof=1)) / values.size for values in (before, after)]
    change, variance = float(after.mean() - before.mean()), sum(parts)
    if variance == 0:
        return _difference(change, 0.0, 1.0, confidence)
    sizes = (before.size, after.size)
    freedom = variance**2 / sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    return _difference(change, math.sqrt(variance), freedom, confidence)


def paired(changes: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Difference:
    """Of the mean of independent changes, at least two, each of one pair (Student 1908)."""
    values = np.asarray(changes, float)
    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    return _difference(float(values.mean()), error, values.size - 1, confidence)


def paired_batches(changes: np.ndarray, batches: int = BATCHES, confidence: float = CONFIDENCE) -> Difference:
    """Of the mean of changes that stand in order and depend on those near to them, at least two for each batch.

    Means of long stretches depend little on each other, so that Student's interval holds of them (batch means: Law,
    Simulation Modeling and Analysis, 9.5.3). Where stretches as long as a batch still depend on each other, the
    interval is too narrow.
    """
    values = np.asarray(changes, float)
    means = [float(stretch.mean()) for stretch in np.array_split(values, batches)]
    error = float(np.std(means, ddof=1)) / math.sqrt(batches)
    return _difference(float(values.mean()), error, batches - 1, confidence)


def prediction(values: Sequence[float], count: int, confidence: float = CONFIDENCE) -> Estimate:
    """Where the mean of `count` further values of the same kind falls (Hahn, Technometrics 1969)."""
    told = np.asarray(values, float)
    mean = float(told.mean())
    spread = float(told.std(ddof=1)) * math.sqrt(1 / told.size + 1 / count)
    half = student_quantile(0.5 + confidence / 2, told.size - 1) * spread
    return Estimate(mean, mean - half, mean + half, told.size)


def holm(p: Sequence[float]) -> list[float]:
    """The same probabilities made larger, so that with all of them below 5 % taken for real, the chance that any one is
    not is at most 5 %, however they depend on each other (Holm, Scandinavian Journal of Statistics 1979).
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = largest
    return adjusted


def _difference(change: float, error: float, freedom: float, confidence: float) -> Difference:
    """error: the standard error of the change; where it is 0, each pair says the same."""
    from scipy.special import stdtr

    if error == 0:
        return Difference(change, change, change, 1.0 if change == 0 else 0.0)
    half = student_quantile(0.5 + confidence / 2, freedom) * error
    return Difference(change, change - half, change + half, float(2 * stdtr(freedom, -abs(change) / error)))
