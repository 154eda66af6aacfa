"""`regress`: scores of baselines beside those that were recorded, and the files that CI reads of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.commands import output
from sim.commands.output import Answer
from sim.errors import InputError
from sim.written_files import write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sim.regression.baseline import Baseline
    from sim.regression.judging import Finding, Runs
    from sim.regression.recorded import Records

REGRESSED, FAILED = 1, 2  # exit codes


def regress(
    files: Sequence[str], update: bool, junit: str | None, markdown: str | None, jobs: int
) -> tuple[Answer, int]:
    """The answer and the exit code. Raises InputError before anything is run, where the files are not as they must be;
    and, with `update`, where a run failed, so that nothing is written.
    """
    from sim.regression import judging, recorded, reports
    from sim.regression.baseline import load_baseline
    from sim.regression.running import run_all

    baselines = _each_once([load_baseline(file) for file in files])
    for place in (junit, markdown):
        _check_place(place)
    before = {one.file: recorded.read(one.file) for one in baselines}
    with output.progress("regress", "runs") as progress:
        runs = run_all(baselines, jobs, progress)
    found = [one for each in baselines for one in judging.judged(each, before[each.file], runs)]
    for place, made in ((junit, reports.junit), (markdown, reports.markdown)):
        if place is not None:
            write_text(Path(place), made(found))
    if update:
        return _updated(baselines, before, runs), 0
    return _answer(found), _exit_code(found)


def _each_once(baselines: list[Baseline]) -> list[Baseline]:
    names = [one.name for one in baselines]
    twice = next((one for one in baselines if names.count(one.name) > 1), None)
    if twice is not None:
        raise InputError("a baseline's name twice:", file=twice.file, value=twice.name, expected="each its own")
    return baselines


def _check_place(place: str | None) -> None:
    """Find out before long runs whether a file can be written."""
    if place is not None and not Path(place).absolute().parent.is_dir():
        raise InputError("no such folder to write to:", value=str(Path(place).parent))


def _exit_code(findings: Sequence[Finding]) -> int:
    from sim.regression.judging import ERROR, REGRESSION

    statuses = {one.status for one in findings}
    return FAILED if ERROR in statuses else REGRESSED if REGRESSION in statuses else 0


# --- answers ----------------------------------------------------------------------------------------------------------


def _answer(findings: Sequence[Finding]) -> Answer:
    from sim.regression.judging import IMPROVEMENT
    from sim.regression.reports import headline

    rows = [_row(one) for one in findings]
    better = any(one.status == IMPROVEMENT for one in findings)
    notes = ["What got better is not taken over: --update would record it."] if better else []
    document = {"headline": headline(findings), "exit_code": _exit_code(findings), "findings": _with_changes(findings)}
    return Answer(document, rows, lambda: _text(findings), notes)


def _row(finding: Finding) -> dict[str, Any]:
    row = {key: value for key, value in asdict(finding).items() if key != "changes"}
    return row | {"change": finding.change, "change_share": finding.relative}


def _with_changes(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [_row(one) | {"inputs_changed": [asdict(change) for change in one.changes]} for one in findings]


def _text(findings: Sequence[Finding]) -> RenderableType:
    from rich.console import Group

    from sim.regression.judging import IMPROVEMENT, REGRESSION
    from sim.regression.reports import changed_inputs, headline

    told = [one for status in (REGRESSION, IMPROVEMENT) for one in findings if one.status == status]
    parts: list[RenderableType] = [headline(findings)]
    parts += [_table(told)] if told else []
    parts += [_inputs(scenario, changes) for scenario, changes in changed_inputs(told).items()]
    return Group(*parts)


def _table(findings: Sequence[Finding]) -> RenderableType:
    """A row a finding; what cannot be said in numbers stands in lines of its own below."""
    from rich.console import Group
    from rich.text import Text

    from sim.regression.reports import change_text
    from sim.report.cells import plain_table

    table = plain_table("run", "", "was", "is", "change", "tolerance")
    lines = []
    for one in findings:
        name = f"{one.scenario} {one.label} {one.metric}".replace("  ", " ").strip()
        if math.isnan(one.change):
            lines.append(Text(f"{one.status}: {name}: {one.problem}"))
        else:
            table.add_row(name, one.status, f"{one.was:.5g}", f"{one.now:.5g}", change_text(one), one.tolerance)
    return Group(*([table] if table.rows else []), *lines)


def _inputs(scenario: str, changes: Sequence[Any]) -> RenderableType:
    from rich.text import Text

    from sim.regression.reports import NOTHING_CHANGED, short

    lines = [f"{one.field}: {short(one.was)} -> {short(one.now)} ({labels})" for labels, one in changes]
    return Text("\n  ".join([f"changed in {scenario} since it was recorded:", *(lines or [NOTHING_CHANGED])]))


# --- updating ---------------------------------------------------------------------------------------------------------


def _updated(baselines: Sequence[Baseline], before: Mapping[Path, Records], runs: Runs) -> Answer:
    """Record what the runs gave, of all baselines or of none."""
    from sim.regression import judging, recorded

    after = {one.file: judging.recording(one, runs) for one in baselines}
    texts = {recorded.place_of(file): recorded.written(records) for file, records in after.items()}
    for place, text in texts.items():
        write_text(place, text)
    rows = [row for one in baselines for row in _moves(one, before[one.file], after[one.file])]
    notes = [f"recorded: {place}" for place in texts]
    return Answer({"recorded": list(map(str, texts)), "changes": rows}, rows, lambda: _moves_text(rows), notes)


def _moves(baseline: Baseline, before: Records, after: Records) -> list[dict[str, Any]]:
    """Each value that is recorded otherwise than before; None where there is or was none."""
    was, now = _flat(before), _flat(after)
    keys = dict.fromkeys([*was, *now])
    names = ("scenario", "label", "metric", "seed")
    return [
        {"baseline": baseline.name, **dict(zip(names, key, strict=True)), "was": was.get(key), "now": now.get(key)}
        for key in keys
        if was.get(key) != now.get(key)
    ]


def _flat(records: Records) -> dict[tuple[str, str, str, int], float]:
    return {
        (name, label, metric, seed): value
        for name, labels in records.items()
        for label, record in labels.items()
        for metric, values in record.metrics.items()
        for seed, value in values.items()
    }


def _moves_text(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    from sim.report.cells import plain_table

    if not rows:
        return "no recorded value changes"
    table = plain_table("run", "seed", "was", "is")
    for row in rows:
        cells = ["-" if row[side] is None else f"{row[side]:.6g}" for side in ("was", "now")]
        table.add_row(f"{row['scenario']} {row['label']} {row['metric']}", str(row["seed"]), *cells)
    return table


def report_errors(answer: Answer) -> None:
    """The errors of an answer on stderr, a line for all metrics of a run that have the same."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for row in answer.rows:
        if row.get("status") == "error":
            name = " ".join(part for part in (row["scenario"], row["label"]) if part)
            metrics.setdefault((f"{row['baseline']}: {name}", row["problem"]), []).append(row["metric"])
    for (run, problem), names in metrics.items():
        print(f"error: {run}: {', '.join(names)}: {problem}", file=sys.stderr)
