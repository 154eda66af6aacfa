"""A report of any set of results: the verdict, what was run, all of it side by side, what each kind of run shows."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim import metrics
from sim.errors import InputError
from sim.pareto import Front, Limit, pareto_front
from sim.report import charts, sweep_charts, tables
from sim.report.cells import Shown, best_on_what, column_of
from sim.report.charts import Axis, Chart
from sim.report.sections import Cell, Fold, Group, Section, Table, Words, section
from sim.result_set import ResultSet, Run, label_of, short_names
from sim.study.report import sentences

if TYPE_CHECKING:
    import pandas

    from sim.saved_result import SavedResult
    from sim.scenario_kind import ScenarioKind

MOST_COMPARED = 7  # runs with curves of their own in common figures, which can still be told apart
MOST_DETAILED = 3  # runs with figures of their own
MOST_POINTS = 300  # of such a curve
_MOST_ROWS = 40  # of policies side by side; all are in the table of points
_MOST_POINTS_LISTED = 2000
_MOST_SWEPT = 4  # metrics that are drawn over the fields
_MOST_LISTED = 20  # failed runs, and scenarios as resolved
_LONGEST_NAME = 80
_BARS = 4  # metrics drawn as bars
_ROOM_FOR_TEXT = 1.3  # beside the longest bar


@dataclass(frozen=True)
class Report:
    """What a page shows: its title, what is below it, sections in order, and the verdict's sentences."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    verdict: tuple[str, ...]


@dataclass(frozen=True)
class _Family:
    """Runs of one kind and scenario, which can be put side by side.

    results: by the name of the run, with labels that tell them apart; means: over seeds, of the metrics shown.
    """

    kind: ScenarioKind
    name: str
    set: ResultSet
    results: Mapping[str, SavedResult]
    shown: tuple[Shown, ...]
    means: pandas.DataFrame

    @property
    def compared(self) -> list[SavedResult]:
        return self._some(MOST_COMPARED)

    @property
    def detailed(self) -> list[SavedResult]:
        return self._some(MOST_DETAILED)

    @property
    def first(self) -> SavedResult:
        """The baseline: lru where it is among them, else the first."""
        values = list(self.results.values())
        return next((result for result in values if result.label == "lru"), values[0])

    def ranked(self) -> list[SavedResult]:
        """Best first by the kind's first metric of its trade, those without it last."""
        metric = self.kind.trade[0]
        sign = -1.0 if self.kind.declaration(metric).better == metrics.HIGHER else 1.0
        told = [result for result in self.results.values() if metric in result.summary]
        if self.kind.fewest is not None:
            return sorted(told, key=lambda one: (one.summary[self.kind.fewest], sign * one.summary[metric]))
        return sorted(told, key=lambda result: sign * result.summary[metric])

    def _some(self, most: int) -> list[SavedResult]:
        """All, or the best, the worst and the baseline where there are more than `most`, in order."""
        values = list(self.results.values())
        ranked = self.ranked()
        if len(values) <= most or not ranked:
            return values[:most]
        chosen = {id(result) for result in (ranked[0], ranked[-1], self.first)}
        return [result for result in values if id(result) in chosen]


def report_of(results: ResultSet, title: str | None = None) -> Report:
    """The report of these runs. Raises InputError where results are not what a run leaves."""
    families = _families(results)
    if not families:
        failed = tuple(line for one in results.failed for line in one.error[:1])
        raise InputError(f"no finished run among the results{': ' + failed[0] if failed else ''}")
    verdicts = [_verdict(family) for family in families]
    several = len(families) > 1
    parts: list[Section] = section("verdict", "Verdict", *_verdict_words(families, verdicts, results))
    parts += section("runs", "What was run", *(_facts(family) for family in families), _failed(results))
    for family in families:
        prefix, heading = (
            (f"{_slug(f'{family.kind.name} {family.name}')}_", f"{family.name}: ") if several else ("", "")
        )
        for one in _family_sections(family):
            parts.append(Section(prefix + one.name, _after(heading, one.title), one.parts))
    parts += section("provenance", "Provenance", *_provenance(families, results))
    names = list(dict.fromkeys(family.name for family in families))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Report(
        title or shown,
        _subtitle(results),
        _with_own_names(parts),
        tuple(line for verdict in verdicts for line in verdict),
    )


def _after(heading: str, title: str) -> str:
    return f"{heading}{title[0].lower()}{title[1:]}" if heading else title


def _slug(text: str) -> str:
    """Letters, digits and '_' alone: it becomes part of links and names of files, whatever results say."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:_LONGEST_NAME]


def _with_own_names(sections: Sequence[Section]) -> tuple[Section, ...]:
    """The same, each chart's name its own, so that files and links are, too."""
    seen: dict[str, int] = {}

    def named(part: Any, within: str = "") -> Any:
        if isinstance(part, Chart):
            name = _slug(f"{part.name} {within}")
            seen[name] = seen.get(name, 0) + 1
            return dataclasses.replace(part, name=name if seen[name] == 1 else f"{name}_{seen[name]}")
        if isinstance(part, Group):
            return dataclasses.replace(part, parts=tuple(named(one, part.title) for one in part.parts))
        return part

    return tuple(dataclasses.replace(one, parts=tuple(map(named, one.parts))) for one in sections)


def _subtitle(results: ResultSet) -> str:
    told = [_counted(len(results), "run")]
    told += [f"{len(results.failed)} failed"] if results.failed else []
    told += [f"{results.missing} not there yet"] if results.missing else []
    seeds = {run.seed for run in results}
    told += [_counted(len(seeds), "seed")]
    return ", ".join(told)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


# --- families ------------------------------------------------------------------------------------------------------


def _families(results: ResultSet) -> list[_Family]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in results:
        groups.setdefault((run.kind.name, run.result.manifest["scenario"]["name"]), []).append(run)
    return [_family(name, ResultSet(tuple(runs), manifests=results.manifests)) for (_, name), runs in groups.items()]


def _family(name: str, own: ResultSet) -> _Family:
    kind, runs = own.runs[0].kind, own.runs
    shown = kind.columns()
    wanted = [one.metric for one in shown] + [one for one in (*kind.trade, kind.fewest, *_of_study(own)) if one]
    means = own.over_seeds(list(dict.fromkeys(wanted)))
    means["label"] = _distinct(means, own.fields)
    return _Family(kind, name, own, _told_apart(runs), shown, means)


def _distinct(means: pandas.DataFrame, fields: Sequence[str]) -> list[str]:
    """Labels of the rows, by the fields that were varied; those that several have with a number behind them."""
    seen: dict[str, int] = {}
    told = []
    for _, row in means.iterrows():
        label = _settled({field: row[field] for field in fields if row[field] is not None}) or row["label"]
        seen[label] = seen.get(label, 0) + 1
        told.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return told


def _settled(values: Mapping[str, Any]) -> str:
    return label_of(values, short_names(values))


def _told_apart(runs: Sequence[Run]) -> dict[str, SavedResult]:
    """The results by name, with labels that say what they differ in."""
    labels = [_label(run) for run in runs]
    once = {label for label, times in Counter(labels).items() if times == 1}
    return {
        run.name: dataclasses.replace(
            run.result,
            manifest={**run.result.manifest, "label": label if label in once else _named(run, label)},
        )
        for run, label in zip(runs, labels, strict=True)
    }


def _label(run: Run) -> str:
    if not run.values:
        return run.result.label
    return _settled(run.values)


def _named(run: Run, label: str) -> str:
    return f"{label}, seed {run.seed}" if run.values else f"{label} ({run.name})"


# --- what stands first -----------------------------------------------------------------------------------------------


def _verdict(family: _Family) -> list[str]:
    """Of a comparison and of one run, the sentences of their terminal reports; of many, who is best over all seeds."""
    front = pareto_front(family.set) if _of_study(family.set) else None
    if front is not None and len(front.untold) < len(family.set):
        return _of_front(family, front)
    values = list(family.results.values())
    if len(values) <= MOST_COMPARED and len(family.means) == len(values):
        with consistent(values):
            return family.kind.verdict(values)
    columns = tables.columns_of(family.means, family.shown, family.kind.fewest)
    lines = [best_on_what(family.means["label"].tolist(), columns)]
    seeds = {run.name: run.seed for run in family.set}
    of_first = next(seeds[name] for name, result in family.results.items() if result is family.first)
    same = {id(result) for name, result in family.results.items() if seeds[name] == of_first}
    best = next((result for result in family.ranked() if id(result) in same), family.first)
    if best is not family.first:
        with consistent([best, family.first]):
            lines += family.kind.verdict([best, family.first])[1:]
    return lines


def _of_front(family: _Family, front: Front) -> list[str]:
    """Of a study: how many are on its front, and which of those is the best of each objective; what breaks a limit is
    none of them.
    """
    results, known = family.set, {one.metric: one for one in family.shown}
    lines = sentences(results, front)
    for metric, better in front.objectives.items() if front.runs else ():
        column = known.get(metric) or tables.shown(results.declaration(metric))
        wanted = max if better == metrics.HIGHER else min
        best = wanted(front.runs, key=lambda run, metric=metric: run.result.summary[metric])
        told = column_of(column, [best.result.summary[metric]])
        lines.append(f"Of these the best {column.noun}, {told.texts[0]} {told.unit}: {_settled(best.values)}.")
    return lines


def _verdict_words(families: Sequence[_Family], verdicts: Sequence[list[str]], results: ResultSet) -> list[Any]:
    several = len(families) > 1
    parts = []
    for family, lines in zip(families, verdicts, strict=True):
        led = [f"{family.name}: {lines[0]}" if several else lines[0]]
        parts += [Words(tuple(led), strong=True), Words(tuple(lines[1:]))]
    if results.failed or results.missing:
        told = [f"{_counted(len(results.failed), 'run')} failed"] if results.failed else []
        told += [f"{results.missing} of the points are not there yet"] if results.missing else []
        parts.append(Words((f"{' and '.join(told)}; what is said here is of the {len(results)} that are.",)))
    return parts


def _facts(family: _Family) -> Table:
    """What the runs have in common, and how many there are."""
    values = list(family.results.values())
    with consistent(values[:1]):
        rows = family.kind.facts(values[0])
    policies = list(dict.fromkeys(result.label for result in values))
    shown = ", ".join(policies[:8]) + (f" and {len(policies) - 8} more" if len(policies) > 8 else "")
    seeds = sorted({run.seed for run in family.set})
    rows += [("Runs", len(values) if family.set.fields else f"{len(values)}: {shown}" if len(values) > 1 else shown)]
    rows += [(f"Varied: {field}", _values_of(family.set, field)) for field in family.set.fields]
    rows += [("Seeds", ", ".join(map(str, seeds[:12])) + (" ..." if len(seeds) > 12 else ""))]
    caption = f"{family.name}" + (" (the first run's, where runs differ)" if len(values) > 1 else "")
    return tables.facts(caption, rows)


def _values_of(results: ResultSet, field: str) -> str:
    values = list(dict.fromkeys(str(run.values.get(field)) for run in results))
    return ", ".join(values[:12]) + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def _failed(results: ResultSet) -> Table | None:
    if not results.failed:
        return None
    rows = tuple(
        (Cell(one.name), Cell(_settings(one.values)), Cell(str(one.seed)), Cell("; ".join(one.error)))
        for one in results.failed[:_MOST_LISTED]
    )
    left = len(results.failed) - len(rows)
    notes = (f"And {left} more.",) if left else ()
    return Table("Runs that failed", ("run", "settings", "seed", "error"), rows, notes=notes)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{field} = {value}" for field, value in values.items())


# --- sections of a family ---------------------------------------------------------------------------------------------


def _family_sections(family: _Family) -> list[Section]:
    compared, detailed = family.compared, family.detailed
    made = section("side_by_side", "Side by side", *_side_by_side(family)) if len(family.means) > 1 else []
    made += section("sweep", "Over what was varied", *_swept(family))
    made += section("trade", "One against the other", *_trades(family))
    with consistent([*compared, *detailed]):
        made += section("misses", "Misses by capacity", *_misses(family))
        made += family.kind.report_sections(compared, detailed, MOST_POINTS)
    if len(family.results) > len(compared):
        words = Words((_left_out(family, compared),))
        at = next((nth for nth, one in enumerate(made) if one.name in ("latency", "held")), 0)
        made[at] = dataclasses.replace(made[at], parts=(words, *made[at].parts))
    elif len(compared) > len(detailed):
        words = Words((_left_out(family, detailed),))
        at = next((nth for nth, one in enumerate(made) if one.name == "over_time"), 0)
        made[at] = dataclasses.replace(made[at], parts=(words, *made[at].parts))
    return made


def _left_out(family: _Family, shown: Sequence[SavedResult]) -> str:
    by = family.kind.declaration(family.kind.trade[0]).description
    names = ", ".join(result.label for result in shown)
    return (
        f"From here on {len(shown)} of {len(family.results)} runs are drawn: the best and the worst by one measure "
        f"({by}), and the baseline: {names}."
    )


def _side_by_side(family: _Family) -> list[Any]:
    """Bars of the first metrics, and a table of all shown; of many settings, those that rank first."""
    means, cut = family.means, ()
    if len(means) > _MOST_ROWS:
        metric = family.kind.trade[0]
        higher = family.kind.declaration(metric).better == metrics.HIGHER
        means = means.sort_values(metric, ascending=not higher).head(_MOST_ROWS).reset_index(drop=True)
        cut = (f"The first {_MOST_ROWS} of {len(family.means)} settings by {metric}; all are in the table of points.",)
    heading = "setting" if family.set.fields else family.kind.compared
    table = tables.side_by_side("Means", heading, means, family.shown, family.kind.fewest)
    bars = [] if len(means) > 12 else _bars(family)
    return [dataclasses.replace(table, notes=(*table.notes, *cut)), *bars]


def _bars(family: _Family) -> list[Chart]:
    """A bar a setting, with its interval, of the first metrics that are not everywhere the same."""
    columns = tables.columns_of(family.means, family.shown, family.kind.fewest)
    differ = [column for column in columns if sweep_charts.varied(family.means, column.shown.metric)]
    return [_bar_chart(family.means, column) for column in differ[:_BARS]]


def _bar_chart(means: pandas.DataFrame, column: Any) -> Chart:
    shown = column.shown
    values = {end: means[f"{shown.metric}{end}"].to_numpy(float) for end in ("", ".low", ".high")}
    leaders = [label for label, best in zip(means["label"], column.best, strict=True) if best]
    unit = f" {column.unit}" if column.unit != "x" else ""
    texts = [f"{text}{unit}{' *' if best else ''}" for text, best in zip(column.texts, column.best, strict=True)]
    some = bool((values[".high"] > values[".low"]).any())
    most = float(np.nanmax([values[""], values[".high"]])) or 1.0
    return Chart(
        name=f"side_by_side_{shown.metric}",
        title=f"{shown.noun[0].upper()}{shown.noun[1:]}",
        summary=f"Best (*): {', '.join(leaders)}." if leaders else "None is alone the best.",
        mark=charts.BARS,
        x=Axis(shown.metric, shown.noun, tables.kind_of(shown), low=0, high=_ROOM_FOR_TEXT * most),
        y=Axis("run", "", charts.NAMES),
        data={
            "run": means["label"].to_numpy(str),
            shown.metric: values[""],
            **({f"{shown.metric}{end}": values[end] for end in (".low", ".high")} if some else {}),
            "label": texts,
        },
        low=f"{shown.metric}.low" if some else None,
        high=f"{shown.metric}.high" if some else None,
        text="label",
        notes=("Lines through the ends of bars: 95 % confidence over seeds.",) if some else (),
    )


def _swept(family: _Family) -> list[Any]:
    fields = _by_values(family.set)
    if not fields:
        return []
    told = [shown for shown in family.shown if sweep_charts.varied(family.means, shown.metric)][:_MOST_SWEPT]
    return [*(sweep_charts.metric_by_field(family.means, fields, shown) for shown in told), _points(family)]


def _by_values(results: ResultSet) -> list[str]:
    """Fields with more than one value: first that of numbers that has most, then those with fewest."""
    counts = {field: len({str(run.values.get(field)) for run in results}) for field in results.fields}
    varied = [field for field in results.fields if counts[field] > 1]

    def order(field: str) -> tuple[bool, int]:
        kind, _ = sweep_charts.places_of([run.values.get(field) for run in results])
        return kind == charts.NAMES, -counts[field]

    if not varied:
        return []
    first = min(varied, key=order)
    return [first, *sorted((field for field in varied if field != first), key=lambda field: -counts[field])]


def _points(family: _Family) -> Table:
    """Every run, its settings and metrics."""
    runs = list(family.set)[:_MOST_POINTS_LISTED]
    told = [shown for shown in family.shown if all(shown.metric in run.result.summary for run in runs)]
    columns = [column_of(shown, [run.result.summary[shown.metric] for run in runs]) for shown in told]
    rows = tuple(
        (
            Cell(run.name),
            *(tables.cell(_plain(run.values.get(field))) for field in family.set.fields),
            Cell(str(run.seed), run.seed),
            *(Cell(column.texts[at], float(run.result.summary[column.shown.metric])) for column in columns),
        )
        for at, run in enumerate(runs)
    )
    headings = ("run", *map(sweep_charts.short, family.set.fields), "seed", *map(tables.with_unit, columns))
    left = len(family.set) - len(runs)
    return Table("All points", headings, rows, sortable=True, notes=(f"And {left} more.",) if left else ())


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _trades(family: _Family) -> list[Chart]:
    """Settings by two metrics: each pair of what a study asks for, or the two of the kind's trade."""
    known = {shown.metric: shown for shown in family.shown}
    study = _study(family.set)
    asked = dict(study.get("objectives") or dict.fromkeys(family.kind.trade, ""))
    limits = [Limit(**one) for one in study.get("limits") or ()]
    objectives = [
        dataclasses.replace(shown, better=asked[name] or shown.better)
        for name in asked
        if (shown := known.get(name) or tables.shown(family.kind.declaration(name), name))
    ]
    means = family.means
    if family.kind.fewest is not None:
        means = means[means[family.kind.fewest] == means[family.kind.fewest].min()]
    return [
        sweep_charts.pareto(means, one, other, objectives, limits)
        for one, other in itertools.combinations(objectives, 2)
        if len(means) > 2 and all(sweep_charts.varied(means, shown.metric) for shown in (one, other))
    ]


def _study(results: ResultSet) -> Mapping[str, Any]:
    """What the study among what was loaded asks for; nothing where there is none."""
    return next((one["study"] for one in results.manifests if isinstance(one.get("study"), dict)), {})


def _of_study(results: ResultSet) -> list[str]:
    """Metrics that a study asks for, or limits."""
    study = _study(results)
    return [*(study.get("objectives") or {}), *(one["metric"] for one in study.get("limits") or ())]


def _misses(family: _Family) -> list[Chart]:
    return sweep_charts.hit_ratio_by_capacity(family.set) if family.kind.name == "hierarchy" else []


# --- provenance ------------------------------------------------------------------------------------------------------


def _provenance(families: Sequence[_Family], results: ResultSet) -> list[Any]:
    """Of what code and inputs the results are, and each scenario as it was resolved."""
    parts: list[Any] = []
    for family in families:
        manifests = [run.result.manifest for run in family.set]
        parts.append(tables.facts(f"{family.name}: inputs and code", _inputs(manifests)))
        shown = {result.label: result.manifest["scenario"] for result in family.detailed}
        title = f"{family.name}, {{}}: the scenario as resolved"
        parts += [Fold(title.format(label), _yaml(told)) for label, told in shown.items()]
    for manifest in results.manifests[:_MOST_LISTED]:
        asked = {key: value for key, value in manifest.items() if key != "points"}
        parts.append(Fold(f"{manifest.get('name', 'sweep')}: what was asked for", _yaml(asked)))
    folders = [f"{run.name}: {run.result.folder}" for run in list(results)[:_MOST_POINTS_LISTED]]
    parts.append(Fold("Folders of the results", "\n".join(folders)))
    return parts


def _inputs(manifests: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Format, digests and versions, each once."""
    told: dict[str, dict[str, None]] = {}

    def say(name: str, value: Any) -> None:
        told.setdefault(name, {})[str(value)] = None

    for manifest in manifests:
        say("Format", manifest["format"])
        for name in ("profile", "trace"):
            if isinstance(manifest.get(name), dict):
                digest = manifest[name].get("digest")
                say(name.capitalize(), f"{manifest[name].get('name')} ({str(digest)[:12] if digest else 'no digest'})")
        for name, value in manifest.get("facts", {}).items():
            if isinstance(value, str | int | float):
                say(name, str(value)[:80])
        for name, digest in manifest.get("policies", {}).items():
            say("Policies and models", f"{name} ({digest})")
        for name, version in manifest.get("versions", {}).items():
            say("Versions", f"{name} {version}")
    return [(name, _listed(list(values))) for name, values in told.items()]


def _listed(values: Sequence[str]) -> str:
    left = len(values) - _MOST_LISTED
    return ", ".join(values[:_MOST_LISTED]) + (f" and {left} more" if left > 0 else "")


def _yaml(content: Any) -> str:
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(content, default=str)), sort_keys=False, allow_unicode=True, width=100)


@contextmanager
def consistent(results: Sequence[SavedResult]) -> Iterator[None]:
    """Within it results are read that may contradict themselves: what cannot be made of them is an InputError."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        places = [str(result.folder) for result in results if result.folder is not None]
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"not results as a run leaves them ({told})", file=places[0] if places else None) from error


def folder_of(results: ResultSet) -> Path | None:
    """Where the first run is."""
    return next((run.result.folder for run in results), None)
