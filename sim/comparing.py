"""What differs between two sets of results: in what they are of, and in scores, with how sure that is.

A simulation repeats exactly, so that every difference between two results is there. Whether it would be there on other
traffic of the same kind is another question, which needs several draws of it: several seeds, or, where two runs served
the very same requests, many requests (`sim.estimates`). Probabilities are Holm's over all differences that are tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sim import estimates
from sim.errors import InputError
from sim.estimates import CONFIDENCE, Difference
from sim.metrics import LOWER, NEITHER
from sim.result_set import shared_label

if TYPE_CHECKING:
    import numpy as np

    from sim.metrics import Metric
    from sim.result_set import ResultSet, Run
    from sim.saved_result import SavedResult

EXACT, SEEDS, PAIRED_SEEDS, BATCHES = "exact", "seeds", "paired seeds", "paired requests"  # methods
METHODS = {
    EXACT: "no interval: a single value each, which would be the same in every repetition",
    SEEDS: "over independent seeds (Welch's t test)",
    PAIRED_SEEDS: "over seeds that both sides served the same requests of (Student's paired t test)",
    BATCHES: f"over {estimates.BATCHES} stretches of the requests that both served (batch means, Student's t test)",
}
BETTER, WORSE, CHANGED, SAME, APPEARED, VANISHED = "better", "worse", "changed", "same", "appeared", "vanished"
_INPUTS = ("profile", "trace", "policies", "timing_models", "capacity_bytes", "capacity_blocks", "link", "versions")
_WORDS_ALONE = ("description", "compare")  # of a scenario, which change no run
_FEWEST_REQUESTS = 2 * estimates.BATCHES


@dataclass(frozen=True)
class Change:
    """One value of what results are of, by its dotted name; None where it is not there."""

    field: str
    was: Any
    now: Any


@dataclass(frozen=True)
class Score:
    """One metric on both sides; NaN where one has none. Over several seeds it is their mean.

    method: one of METHODS; difference: NaN but for its change, where the method is EXACT; p: Holm's.
    """

    metric: Metric
    name: str
    was: float
    now: float
    method: str
    difference: Difference
    p: float = math.nan

    @property
    def verdict(self) -> str:
        if math.isnan(self.was) or math.isnan(self.now):
            return VANISHED if math.isnan(self.now) else APPEARED
        return verdict(self.metric, self.difference.change)

    @property
    def significant(self) -> bool | None:
        """None where the method cannot tell."""
        return None if self.method == EXACT else self.p < 1 - CONFIDENCE

    @property
    def relative(self) -> float:
        """The change as a share of what was; NaN where that was 0."""
        return relative(self.difference.change, self.was)


@dataclass(frozen=True)
class Pair:
    """Runs of one thing on both sides, alike but for their seeds on each. files: tables that differ in some byte."""

    label: str
    was: tuple[Run, ...]
    now: tuple[Run, ...]
    changes: tuple[Change, ...]
    scores: tuple[Score, ...]
    files: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs at all."""
        return not self.changes and not self.files and all(score.verdict == SAME for score in self.scores)


@dataclass(frozen=True)
class Comparison:
    """Pairs in the order of the first set; labels of what only one of them has."""

    pairs: tuple[Pair, ...]
    only_was: tuple[str, ...]
    only_now: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.only_was and not self.only_now and all(pair.same for pair in self.pairs)


def diff(was: ResultSet, now: ResultSet, metrics: Sequence[str] | None = None) -> Comparison:
    """What is different in `now`. metrics: only these.

    Runs are partners where their kind and their varied fields, or else labels, are the same; a single one on each side
    is the other's partner whatever it is called. Raises InputError for an unknown metric, where nothing has a partner,
    or where results cannot be read.
    """
    for name in metrics or ():
        _check_metric(name, was, now)
    before, after = was.groups(), now.groups()
    partners = [(0, 0)] if len(before) == len(after) == 1 else _partners(before, after)
    if not partners:
        raise InputError(
            "nothing to compare: no run has a partner on the other side:",
            value=", ".join(map(shared_label, before)),
            expected=f"one of {', '.join(map(shared_label, after))}",
        )
    pairs = [_pair(before[left], after[right], metrics) for left, right in partners]
    paired_left, paired_right = ({pair[side] for pair in partners} for side in (0, 1))
    return Comparison(
        _with_holm(pairs),
        tuple(shared_label(group) for at, group in enumerate(before) if at not in paired_left),
        tuple(shared_label(group) for at, group in enumerate(after) if at not in paired_right),
    )


def verdict(metric: Metric, change: float) -> str:
    """What a change of a metric is."""
    if change == 0:
        return SAME
    if metric.better == NEITHER:
        return CHANGED
    return BETTER if (change < 0) == (metric.better == LOWER) else WORSE


def relative(change: float, was: float) -> float:
    """A change as a share of what was; NaN where that was 0."""
    return change / abs(was) if was else math.nan


# --- what results are of ----------------------------------------------------------------------------------------------


def configuration(result: SavedResult) -> dict[str, Any]:
    """Everything that decides what a run gives, by dotted name: the scenario's fields, digests, versions."""
    manifest = result.manifest
    made_of = _flat({key: manifest.get(key) for key in _INPUTS})
    return {"format": manifest["format"], **resolved_fields(manifest["scenario"]), **made_of}


def resolved_fields(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a resolved scenario that decide what a run gives, by dotted name."""
    return _flat({key: value for key, value in scenario.items() if key not in _WORDS_ALONE})


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Change, ...]:
    """What differs between two configurations, in their order."""
    fields = dict.fromkeys([*was, *now])
    return tuple(Change(name, was.get(name), now.get(name)) for name in fields if was.get(name) != now.get(name))


def _flat(data: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{within}{key}.")
        elif value is not None:
            found[f"{within}{key}"] = value
    return found


# --- partners ---------------------------------------------------------------------------------------------------------


def _partners(before: Sequence[tuple[Run, ...]], after: Sequence[tuple[Run, ...]]) -> list[tuple[int, int]]:
    """(place in `before`, place in `after`) of groups of one name; the scenario's is part of it where it must be."""
    for told in (_name, lambda runs: (_scenario(runs), *_name(runs))):
        left, right = ([told(runs) for runs in groups] for groups in (before, after))
        if len(set(left)) == len(left) and len(set(right)) == len(right):
            break
    places = {name: at for at, name in enumerate(right)}
    return [(at, places[name]) for at, name in enumerate(left) if name in places]


def _name(runs: Sequence[Run]) -> tuple[str, str]:
    first = runs[0]
    return first.kind.name, repr(sorted(first.values.items())) if first.values else first.result.label


def _scenario(runs: Sequence[Run]) -> str:
    return runs[0].result.manifest["scenario"]["name"]


def _pair(was: tuple[Run, ...], now: tuple[Run, ...], metrics: Sequence[str] | None) -> Pair:
    if was[0].kind.name != now[0].kind.name:
        raise InputError(
            "results of different kinds of scenario:",
            value=was[0].kind.name,
            expected=f"one of kind {now[0].kind.name!r}, as the other is",
        )
    left, right = _of_one_seed(was, now)
    labels = dict.fromkeys(map(shared_label, (was, now)))
    return Pair(
        " -> ".join(labels),
        was,
        now,
        (*_seeds_changed(was, now), *changes(*(_without_seed(run, was, now) for run in (left, right)))),
        tuple(_scores(was, now, metrics)),
        _files_that_differ(was, now),
    )


def _of_one_seed(was: Sequence[Run], now: Sequence[Run]) -> tuple[Run, Run]:
    """A run of each side, of the same seed where there are such."""
    by_seed = {run.seed: run for run in now}
    return next(((run, by_seed[run.seed]) for run in was if run.seed in by_seed), (was[0], now[0]))


def _without_seed(run: Run, was: Sequence[Run], now: Sequence[Run]) -> dict[str, Any]:
    """What the run is of, but for its seed, which is told by itself, and requests drawn with another one."""
    told = configuration(run.result)
    told.pop("seed", None)
    if "workload.generator" in told and not {one.seed for one in was} & {one.seed for one in now}:
        told.pop("trace.digest", None)
    return told


def _seeds_changed(was: Sequence[Run], now: Sequence[Run]) -> Iterable[Change]:
    before, after = ([run.seed for run in runs] for runs in (was, now))
    if sorted(before) == sorted(after):
        return ()
    if len(before) == len(after) == 1:
        return (Change("seed", before[0], after[0]),)
    return (Change("seeds", before, after),)


def _files_that_differ(was: Sequence[Run], now: Sequence[Run]) -> tuple[str, ...]:
    """Names of tables that are not the same to the byte in some run of the same seed."""
    partners = {run.seed: run for run in now}
    found: dict[str, None] = {}
    for run in was:
        other = partners.get(run.seed)
        for table in run.result.TABLES if other is not None else ():
            if _bytes(run.result, table) != _bytes(other.result, table):
                found[table] = None
    return tuple(found)


def _bytes(result: SavedResult, table: str) -> bytes | None:
    """A table's file; None where the results are in memory alone."""
    if result.folder is None:
        return None
    file = result.folder / f"{table}.parquet"
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=file) from error


# --- scores -----------------------------------------------------------------------------------------------------------


def _check_metric(name: str, was: ResultSet, now: ResultSet) -> None:
    """Raises InputError where neither side has it, with the nearest."""
    if not any(name in run.result.summary for results in (was, now) for run in results):
        now.declaration(name)


def _scores(was: Sequence[Run], now: Sequence[Run], metrics: Sequence[str] | None) -> Iterable[Score]:
    kind = was[0].kind
    asked = dict.fromkeys(name for run in (*was, *now) for name in run.result.summary)
    means = _request_means(was, now)
    for name in asked:
        if metrics is None or name in metrics:
            before, after = ([run.result.summary.get(name, math.nan) for run in runs] for runs in (was, now))
            mean_was, mean_now = math.fsum(before) / len(before), math.fsum(after) / len(after)
            method, difference = _difference(was, now, before, after, means.get(name))
            yield Score(kind.declaration(name), name, mean_was, mean_now, method, difference)


def _difference(
    was: Sequence[Run], now: Sequence[Run], before: list[float], after: list[float], change_by_request: Any
) -> tuple[str, Difference]:
    """By which method the values of a metric are told apart, and what it says."""
    change = math.fsum(after) / len(after) - math.fsum(before) / len(before)
    if math.isnan(change) or len(set(before)) == len(set(after)) == 1:
        if change_by_request is not None and change != 0:
            return BATCHES, estimates.paired_batches(change_by_request)
        return EXACT, Difference(change, math.nan, math.nan, math.nan)
    if min(len(before), len(after)) < 2:
        return EXACT, Difference(change, math.nan, math.nan, math.nan)
    if _same_requests_by_seed(was, now):
        left, right = (_by_seed(runs, values) for runs, values in ((was, before), (now, after)))
        return PAIRED_SEEDS, estimates.paired([right[seed] - left[seed] for seed in sorted(left)])
    return SEEDS, estimates.welch(before, after)


def _by_seed(runs: Sequence[Run], values: Sequence[float]) -> dict[int, float]:
    return {run.seed: value for run, value in zip(runs, values, strict=True)}


def _same_requests_by_seed(was: Sequence[Run], now: Sequence[Run]) -> bool:
    left, right = ({run.seed: _trace_of(run) for run in runs} for runs in (was, now))
    return left == right and None not in left.values() and len(left) == len(was) == len(now)


def _trace_of(run: Run) -> str | None:
    return (run.result.manifest.get("trace") or {}).get("digest")


def _request_means(was: Sequence[Run], now: Sequence[Run]) -> dict[str, np.ndarray]:
    """By metric, how each request changed it, where one run each served the same requests; NaN stands in none."""
    import numpy as np

    if not len(was) == len(now) == 1 or not _trace_of(was[0]) or _trace_of(was[0]) != _trace_of(now[0]):
        return {}
    before, after = (runs[0].kind.request_means(runs[0].result) for runs in (was, now))
    found = {}
    for name in before.keys() & after.keys():
        left, right = before[name], after[name]
        if left.size == right.size and np.array_equal(np.isnan(left), np.isnan(right)):
            change = (right - left)[~np.isnan(left)]
            found |= {name: change} if change.size >= _FEWEST_REQUESTS else {}
    return found


def _with_holm(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The same pairs with Holm's probabilities over all scores of all of them that are tested."""
    tested = [score for pair in pairs for score in pair.scores if score.method != EXACT]
    adjusted = iter(estimates.holm([score.difference.p for score in tested]))
    return tuple(
        replace(
            pair,
            scores=tuple(score if score.method == EXACT else replace(score, p=next(adjusted)) for score in pair.scores),
        )
        for pair in pairs
    )
