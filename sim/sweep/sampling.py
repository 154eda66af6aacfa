"""Which combinations of values are run: all, the first of each with the first of the others, or some drawn by lot."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sim.errors import InputError
from sim.sweep.fields import Field

GRID, ZIP, RANDOM, LATIN_HYPERCUBE = "grid", "zip", "random", "latin_hypercube"
METHODS = (GRID, ZIP, RANDOM, LATIN_HYPERCUBE)
DRAWN = (RANDOM, LATIN_HYPERCUBE)
MOST_POINTS = 1_000_000

Combination = dict[str, Any]  # dotted field -> value


@dataclass(frozen=True)
class Sample:
    """How combinations are chosen. points, seed: of those that are drawn by lot."""

    method: str = GRID
    points: int | None = None
    seed: int = 0


def combinations(fields: Mapping[str, Field], sample: Sample) -> list[Combination]:
    """Values of all fields, in the order in which they are run; each combination once.

    A grid varies the last field fastest. A latin hypercube of n points has one in each nth part of every field (McKay,
    Beckman and Conover, Technometrics 1979). Raises InputError where lists to zip differ in length, or there are too
    many.
    """
    if sample.method in DRAWN:
        found = [
            {name: field.at(share) for (name, field), share in zip(fields.items(), shares, strict=True)}
            for shares in _shares(len(fields), sample)
        ]
    else:
        levels = {name: field.levels() for name, field in fields.items()}
        found = [dict(zip(levels, values, strict=True)) for values in _listed(levels, sample.method)]
    distinct: dict[str, Combination] = {}
    for one in found:
        distinct.setdefault(json.dumps(one, sort_keys=True, default=str), one)
    return list(distinct.values())


def _listed(levels: Mapping[str, tuple], method: str) -> Iterator[tuple]:
    if method == ZIP:
        lengths = {name: len(values) for name, values in levels.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(
                "fields to zip have lists of different lengths:", value=lengths, expected="equally long ones"
            )
        return zip(*levels.values(), strict=True)
    many = 1
    for values in levels.values():
        many *= len(values)
    if many > MOST_POINTS:
        raise InputError("too large a grid:", value=many, expected=f"at most {MOST_POINTS} points, or a sample of them")
    return itertools.product(*levels.values())


def _shares(dimensions: int, sample: Sample) -> list[list[float]]:
    """A row a point, of numbers from 0 to below 1; the same for the same seed."""
    import numpy as np

    if sample.method == RANDOM:
        return np.random.default_rng(sample.seed).random((sample.points, dimensions)).tolist()
    from scipy.stats import qmc

    drawn = qmc.LatinHypercube(dimensions, rng=np.random.default_rng(sample.seed)).random(sample.points)
    return np.clip(drawn, 0, np.nextafter(1, 0)).tolist()
