"""What several runs with different seeds say of a metric: its mean, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean of `count` values and its confidence interval; low and high are NaN where one value says nothing of it."""

    mean: float
    low: float
    high: float
    count: int


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
