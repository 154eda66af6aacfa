"""Charts of many runs: metrics over the fields that were varied, objectives against each other, hits by capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim import metrics, units
from sim.errors import InputError
from sim.pareto import Limit, non_dominated
from sim.report import charts
from sim.report.cells import Shown, column_of
from sim.report.charts import Axis, Chart, joined
from sim.report.tables import kind_of

if TYPE_CHECKING:
    import pandas

    from sim.result_set import ResultSet, Run

MOST_CURVES = 7  # that can be told apart
MOST_PANELS = 6
_MOST_NAMED = 6  # of points whose names are written beside them
_OF_SEEDS = "Means over seeds, of capacities, too: a share of what a trace has differs by its seed."
_LOG_FROM = 50.0  # an axis whose ends differ by more is logarithmic


def metric_by_field(means: pandas.DataFrame, fields: Sequence[str], shown: Shown) -> Chart:
    """A metric over the first of the fields, a curve for each value of the second, small multiples for those of the
    third; with more fields or more values than can be told apart, a point for each setting over the first field.

    means: what `ResultSet.over_seeds` says of the metric.
    """
    told = means[means[shown.metric].notna()]
    first, *others = fields
    kind, places = places_of(told[first].tolist())
    data: dict[str, Any] = {first: places, shown.metric: told[shown.metric].to_numpy(float)}
    data |= {f"{shown.metric}.{end}": told[f"{shown.metric}.{end}"].to_numpy(float) for end in ("low", "high")}
    distinct = [told[field].map(str).nunique() for field in others]
    most = (MOST_CURVES, MOST_PANELS)
    separate = len(others) <= len(most) and all(n <= m for n, m in zip(distinct, most, strict=False))
    data |= {field: told[field].map(str).to_numpy(str) for field in others}
    if separate:
        order = _in_order(data, first, others)
        data = {name: np.asarray(values)[order] for name, values in data.items()}
    else:
        data["run"] = told["label"].to_numpy(str)
    log = kind != charts.NAMES and _spans(places)
    seeds = int(told["runs"].max()) if len(told) else 0
    some = np.isfinite(data[f"{shown.metric}.low"]).any()
    notes = (f"Means of up to {seeds} seeds; lines through points: 95 % confidence.",) if some and separate else ()
    if not separate:
        notes = (f"A point a setting: {', '.join(others)} differ, too.",)
    return Chart(
        name=f"by_{first}_{shown.metric}".replace(".", "_"),
        title=f"{shown.noun[0].upper()}{shown.noun[1:]} by {short(first)}",
        summary=_best_sentence(told, fields, shown),
        mark=charts.LINES if separate else charts.POINTS,
        x=Axis(first, first, kind, log=log),
        y=_axis_of(shown, data[shown.metric], _spans(_with_low(data, shown.metric))),
        data=data,
        series=others[0] if separate and others else None,
        legend_title=short(others[0]) if separate and others else "",
        low=f"{shown.metric}.low" if some and separate else None,
        high=f"{shown.metric}.high" if some and separate else None,
        also=() if separate else ("run",),
        panels=others[1] if separate and len(others) > 1 else None,
        notes=notes,
    )


def _axis_of(shown: Shown, values: np.ndarray, log: bool) -> Axis:
    """The axis of a metric, in the multiple of its unit in which its column in a table would be."""
    kind = kind_of(shown)
    column = column_of(shown, values.tolist())
    unit = (shown.scales[column.unit], column.unit.replace("x", "")) if kind == charts.NUMBER else None
    return Axis(shown.metric, shown.noun, kind, log=log, unit=unit)


def _in_order(data: dict[str, Any], first: str, others: Sequence[str]) -> np.ndarray:
    """Rows of a curve one after the other, by the first field; curves in order of their first appearance."""
    keys = [np.asarray(data[first])] if np.asarray(data[first]).dtype.kind != "U" else [np.arange(len(data[first]))]
    for field in others:
        seen = {name: at for at, name in enumerate(dict.fromkeys(data[field]))}
        keys.append(np.array([seen[name] for name in data[field]]))
    return np.lexsort(keys)


def _spans(values: Any) -> bool:
    numbers = np.asarray(values, float)
    numbers = numbers[np.isfinite(numbers)]
    return bool(numbers.size and numbers.min() > 0 and numbers.max() / numbers.min() > _LOG_FROM)


def _with_low(data: dict[str, Any], metric: str) -> np.ndarray:
    """The values and the low ends of their intervals, which a log axis cannot show below 0."""
    return np.concatenate([data[metric], data[f"{metric}.low"]])


def _best_sentence(means: pandas.DataFrame, fields: Sequence[str], shown: Shown) -> str:
    values = means[shown.metric]
    best = means.loc[values.idxmax() if shown.better == metrics.HIGHER else values.idxmin()]
    at = ", ".join(f"{short(field)} {best[field]}" for field in fields)
    return f"Best at {at}: {charts.written(float(best[shown.metric]), kind_of(shown))}."


def short(field: str) -> str:
    """'capacity' of 'tiers.hbm.capacity', with what it is of: 'hbm.capacity'."""
    return ".".join(field.split(".")[-2:]).replace("_", " ")


def places_of(values: Sequence[Any]) -> tuple[str, np.ndarray]:
    """(kind of axis, where the values of a field stand on it): numbers if all of them are, of one kind, else names."""
    for kind, read in _READERS:
        numbers = [read(value) for value in values]
        if all(number is not None for number in numbers):
            return kind, np.array(numbers, float)
    return charts.NAMES, np.array([str(value) for value in values])


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _share(value: Any) -> float | None:
    text = str(value).strip()
    number = _number(text[:-1]) if text.endswith("%") else None
    return None if number is None else number / 100


def _quantity(read: Any) -> Any:
    def number(value: Any) -> float | None:
        try:
            return float(read(str(value)))
        except InputError:
            return None

    return number


_READERS = (
    (charts.NUMBER, _number),
    (charts.SHARE, _share),
    (charts.BYTES, _quantity(units.parse_bytes)),
    (charts.TIME, _quantity(units.parse_time)),
)


def pareto(
    means: pandas.DataFrame,
    first: Shown,
    second: Shown,
    objectives: Sequence[Shown] = (),
    limits: Sequence[Limit] = (),
) -> Chart:
    """Each setting's place by two metrics, and which of them no other one within the limits is better than in all
    objectives, by default these two.
    """
    objectives = objectives or (first, second)
    wanted = [first, second, *objectives]
    told = means[means[[*dict.fromkeys(one.metric for one in wanted)]].notna().all(axis=1)]
    within = np.ones(len(told), bool)
    for limit in limits:
        within &= (limit.excess(told[limit.metric].to_numpy(float)) <= 0).astype(bool)
    costs = [told[one.metric].to_numpy(float) * (-1.0 if one.better == metrics.HIGHER else 1.0) for one in objectives]
    front = np.zeros(len(told), bool)
    front[within] = non_dominated(np.column_stack(costs)[within])
    labels = told["label"].to_numpy(str)
    named = ", ".join(labels[front][:4]) + (" and others" if front.sum() > 4 else "")
    written = front & (front.sum() <= _MOST_NAMED)
    place = np.where(front, "on the front", np.where(within, "beaten", "beyond a limit"))
    order = np.argsort(~front, kind="stable")
    nouns = " and ".join(dict.fromkeys(one.noun for one in objectives))
    x, y = (told[one.metric].to_numpy(float)[order] for one in (second, first))
    return Chart(
        name=f"pareto_{first.metric}_{second.metric}".replace(".", "_"),
        title=f"{first.noun[0].upper()}{first.noun[1:]} against {second.noun}",
        summary=f"On the front, which no other setting is better than in {nouns}: {named or 'none'} "
        f"({front.sum()} of {front.size}).",
        mark=charts.POINTS,
        x=_axis_of(second, x, _spans(x)),
        y=_axis_of(first, y, _spans(y)),
        data={
            "setting": labels[order],
            first.metric: y,
            second.metric: x,
            "place": place[order],
            "label": np.where(written, labels, "")[order],
        },
        series="place",
        text="label",
        also=("setting",),
    )


def hit_ratio_by_capacity(results: ResultSet) -> list[Chart]:
    """The miss ratio over the capacity of each caching tier of which runs have several, a curve a policy there.

    Runs that differ otherwise than in this capacity and the tier's policy are on curves of their own.
    """
    tiers = dict.fromkeys(tier for run in results for tier in run.result.manifest["capacity_bytes"])
    return [chart for tier in tiers if (chart := _misses(results, tier)) is not None]


def _misses(results: ResultSet, tier: str) -> Chart | None:
    own = f"tiers.{tier}.capacity"
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}  # by policy, by the capacity asked for
    for run in results:
        capacity = run.result.manifest["capacity_bytes"].get(tier)
        if capacity is not None and "hit_ratio" in run.result.summary:
            asked = str(run.result.manifest["scenario"]["tiers"][tier]["capacity"])
            points = curves.setdefault(_curve_name(run, tier, own), {}).setdefault(asked, [])
            points.append((capacity, 1 - run.result.summary["hit_ratio"]))
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves or len(curves) > MOST_CURVES:
        return None
    parts = []
    for name, points in curves.items():
        at = np.array(sorted(np.mean(one, axis=0).tolist() for one in points.values()))
        parts.append({"policy": np.repeat(name, len(at)), "capacity_bytes": at[:, 0], "miss_ratio": at[:, 1]})
    least = min(parts, key=lambda part: float(part["miss_ratio"].min()))
    data = joined(parts)
    return Chart(
        name=f"miss_ratio_by_capacity_of_{tier}",
        title=f"Misses by capacity of {tier}",
        summary=f"The lowest miss ratio is {charts.written(float(least['miss_ratio'].min()), charts.SHARE)}, with "
        f"{least['policy'][0]}.",
        mark=charts.LINES,
        x=Axis("capacity_bytes", f"capacity of {tier}", charts.BYTES, log=_spans(data["capacity_bytes"])),
        y=Axis("miss_ratio", "miss ratio of all caching tiers", charts.SHARE, low=0),
        data=data,
        series="policy",
        notes=(_OF_SEEDS,) if any(len(one) > 1 for points in curves.values() for one in points.values()) else (),
    )


def _curve_name(run: Run, tier: str, own: str) -> str:
    """The tier's eviction policy, and what else was varied than its capacity and that."""
    policy = run.result.manifest["scenario"]["tiers"][tier]["eviction"]
    also = [
        f"{short(field)} {value}"
        for field, value in run.values.items()
        if not field.startswith((own, f"tiers.{tier}.eviction"))
    ]
    parameters = [f"{name}={value}" for name, value in policy.items() if name not in ("policy", "parameters")]
    parameters += [f"{name}={value}" for name, value in (policy.get("parameters") or {}).items()]
    return ", ".join([":".join([str(policy["policy"]), *parameters]), *also])


def varied(means: pandas.DataFrame, metric: str) -> bool:
    """Whether a metric is told, and not everywhere the same."""
    values = means[metric].dropna() if metric in means else []
    return len(values) > 1 and not math.isclose(float(min(values)), float(max(values)), rel_tol=1e-12)
