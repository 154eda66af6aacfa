"""Which of many runs nobody can do better than in everything: the Pareto front, exactly, within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.metrics import HIGHER, LOWER, NEITHER

if TYPE_CHECKING:
    from sim.result_set import ResultSet, Run

AT_MOST, AT_LEAST = "at_most", "at_least"


@dataclass(frozen=True)
class Limit:
    """What a metric must keep to. kind: AT_MOST or AT_LEAST; value: in the metric's unit."""

    metric: str
    kind: str
    value: float

    def excess(self, found: float) -> float:
        """How far beyond the limit a value is; 0 and less is within."""
        return found - self.value if self.kind == AT_MOST else self.value - found

    def plain(self) -> dict[str, Any]:
        """As a manifest says it."""
        return {"metric": self.metric, "kind": self.kind, "value": self.value}


@dataclass(frozen=True)
class Front:
    """runs: of the front, the best of the first objective first; dominated: those that another is as good as in all
    objectives and better in one; infeasible: those that break a limit; untold: those without some of the metrics.

    objectives: metric to the direction that is better.
    """

    objectives: Mapping[str, str]
    limits: tuple[Limit, ...]
    runs: tuple[Run, ...]
    dominated: tuple[Run, ...]
    infeasible: tuple[Run, ...]
    untold: tuple[Run, ...]


def pareto_front(
    results: ResultSet,
    objectives: Mapping[str, str] | Sequence[str] | None = None,
    limits: Sequence[Limit] | None = None,
) -> Front:
    """The front of the runs of a set.

    objectives: metrics, each with 'higher' or 'lower', or in its own direction; by default those of the study that the
    set is of, whose limits are then those to keep to. Raises InputError for an unknown metric, none, or one of which
    neither direction is better.
    """
    study = next((one["study"] for one in results.manifests if "study" in one), {})
    asked = _directions(results, objectives if objectives is not None else study.get("objectives", {}))
    kept = tuple(limits if limits is not None else (Limit(**one) for one in study.get("limits", ())))
    needed = {*asked, *(limit.metric for limit in kept)}
    untold = tuple(run for run in results if not needed <= run.result.summary.keys())
    told = [run for run in results if run not in untold]
    feasible = [run for run in told if all(one.excess(run.result.summary[one.metric]) <= 0 for one in kept)]
    signs = [1.0 if better == LOWER else -1.0 for better in asked.values()]
    costs = np.array([[run.result.summary[name] for name in asked] for run in feasible], float).reshape(-1, len(asked))
    on_front = non_dominated(costs * signs)
    front = sorted((at for at in range(len(feasible)) if on_front[at]), key=lambda at: tuple(costs[at] * signs))
    return Front(
        asked,
        kept,
        tuple(feasible[at] for at in front),
        tuple(run for run, on in zip(feasible, on_front, strict=True) if not on),
        tuple(run for run in told if run not in feasible),
        untold,
    )


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """bool[n] which rows of float64[n, k] no other row is at most as large as in all columns, and less in one.

    Rows that are the same do not dominate each other. It takes k n^2 steps.
    """
    found = np.ones(len(costs), bool)
    for at, row in enumerate(costs):
        found[at] = not ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
    return found


def _directions(results: ResultSet, objectives: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Metric to direction. Raises InputError where one has none."""
    if not objectives:
        raise InputError("no objectives", expected="metrics such as latency_p99_ns and cost_usd_per_hour")
    given = dict(objectives) if isinstance(objectives, Mapping) else dict.fromkeys(objectives, "")
    found = {name: better or results.declaration(name).better for name, better in given.items()}
    for name, better in found.items():
        check_direction(name, better)
    return found


def check_direction(metric: str, better: str) -> str:
    """The direction of an objective. Raises InputError where it is none."""
    if better == NEITHER:
        raise InputError("neither direction of this metric is better:", value=metric, expected="higher or lower for it")
    if better not in (HIGHER, LOWER):
        raise InputError("not a direction:", value=better, expected="higher or lower")
    return better
