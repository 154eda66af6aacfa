"""Which field matters: the share of a metric's variance that lies between the levels of each (its main effect)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.result_set import ResultSet
from sim.sweep.amounts import amount_of

SEEDS = ""  # in the place of a field's name
_FEWEST_EACH = 2  # runs of a level, in the mean, for its mean to say something of it
_MOST_DEPENDENCE = 0.05  # Cramér's V squared of two fields, 1 where one tells the other
_BINS = 4  # of a field whose every value is another


def effects(results: ResultSet, metric: str) -> dict[str, float]:
    """Field -> eta squared, the sum of squares between its levels over that of all runs (Fisher's analysis of
    variance); under SEEDS the share that lies within combinations.

    Nothing where it cannot be told: fewer than two fields, runs that are too few, fields that depend on each other, or
    a metric that does not differ.
    """
    values = np.array([run.result.summary.get(metric, np.nan) for run in results], float)
    fields = [field for field in results.fields if len({_key(run.values.get(field)) for run in results}) > 1]
    if len(fields) < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        return {}
    levels = {field: _levels([run.values.get(field) for run in results]) for field in fields}
    if any(one is None for one in levels.values()) or _together(list(levels.values())):
        return {}
    shares = {field: _between(values, one) for field, one in levels.items()}
    combinations = _numbered([json.dumps(dict(run.values), sort_keys=True, default=str) for run in results])
    if combinations.max() + 1 < values.size:
        shares[SEEDS] = 1 - _between(values, combinations)
    return shares


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _levels(values: Sequence[Any]) -> np.ndarray | None:
    """int64[n] the level of each run, or its bin where nearly every value is another; None where neither will do."""
    levels = _numbered([_key(value) for value in values])
    if values and len(values) >= _FEWEST_EACH * (levels.max() + 1):
        return levels
    amounts = [amount_of(value) for value in values]
    if len(values) < _BINS * _FEWEST_EACH * 2 or any(amount is None for amount in amounts):
        return None
    order = np.argsort(np.argsort([amount.number for amount in amounts], kind="stable"))
    return order * _BINS // len(values)


def _numbered(keys: Sequence[str]) -> np.ndarray:
    return np.unique(keys, return_inverse=True)[1]


def _together(levels: Sequence[np.ndarray]) -> bool:
    """Whether two fields depend on each other, as zipped ones do, or where constraints leave few combinations: then
    what is of one field cannot be told from what is of the other. Measured by Cramér's V squared.
    """
    for at, one in enumerate(levels):
        for other in levels[at + 1 :]:
            counts = np.zeros((one.max() + 1, other.max() + 1))
            np.add.at(counts, (one, other), 1)
            expected = np.outer(counts.sum(1), counts.sum(0)) / one.size
            chi_squared = ((counts - expected) ** 2 / expected).sum()
            if chi_squared / one.size / (min(counts.shape) - 1) > _MOST_DEPENDENCE:
                return True
    return False


def _between(values: np.ndarray, levels: np.ndarray) -> float:
    counts = np.bincount(levels)
    means = np.bincount(levels, values) / counts
    total = ((values - values.mean()) ** 2).sum()
    return float((counts * (means - values.mean()) ** 2).sum() / total)
