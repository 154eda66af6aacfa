"""`diff`: what differs between two sets of results, in what they are of and in scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sim.commands.output import Answer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sim.comparing import Change, Comparison, Pair, Score
    from sim.report.sheet import Sheet

_MOST_PAIRS = 6  # that are shown one by one where nobody asks for all
_LONGEST = 24  # of a value of a configuration; digests are longer


def diff(was: str, now: str, metrics: str | None, everything: bool) -> Answer:
    """Raises InputError where a side holds no results, or nothing has a partner."""
    from sim.comparing import diff as difference
    from sim.result_set import load_results

    names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    found = difference(load_results(was), load_results(now), names)
    rows = [_row(pair, score) for pair in found.pairs for score in pair.scores]
    return Answer(_document(found, was, now), rows, lambda: _text(found, was, now, everything), _notes(found))


# --- for programs -----------------------------------------------------------------------------------------------------


def _document(found: Comparison, was: str, now: str) -> dict[str, Any]:
    pairs = [
        {
            "label": pair.label,
            "same": pair.same,
            "seeds_was": [run.seed for run in pair.was],
            "seeds_now": [run.seed for run in pair.now],
            "configuration": [{"field": one.field, "was": one.was, "now": one.now} for one in pair.changes],
            "tables_that_differ": list(pair.files),
            "scores": [_row(pair, score) for score in pair.scores],
        }
        for pair in found.pairs
    ]
    sides = {"only_was": list(found.only_was), "only_now": list(found.only_now)}
    return {"was": was, "now": now, "same": found.same, "pairs": pairs, **sides}


def _row(pair: Pair, score: Score) -> dict[str, Any]:
    difference = score.difference
    return {
        "label": pair.label,
        "metric": score.name,
        "unit": score.metric.unit,
        "better": score.metric.better,
        "was": score.was,
        "now": score.now,
        "change": difference.change,
        "change_share": score.relative,
        "change_low": difference.low,
        "change_high": difference.high,
        "verdict": score.verdict,
        "method": score.method,
        "p": difference.p,
        "p_holm": score.p,
        "significant": score.significant,
    }


# --- for people -------------------------------------------------------------------------------------------------------


def _text(found: Comparison, was: str, now: str, everything: bool) -> RenderableType:
    from rich.console import Group

    different = [pair for pair in found.pairs if not pair.same]
    if len(different) > _MOST_PAIRS and not everything:
        return Group(_heading(found, was, now), _overview(different))
    return Group(_heading(found, was, now), *(part for pair in different for part in _parts(pair, everything)))


def _heading(found: Comparison, was: str, now: str) -> str:
    if found.same:
        return f"no difference: {was} and {now} say the same, to the byte"
    alike = sum(pair.same for pair in found.pairs)
    lines = [f"was: {was}", f"now: {now}"]
    lines += [f"{alike} of {len(found.pairs)} pairs without any difference"] if alike else []
    for side, labels in (("was", found.only_was), ("now", found.only_now)):
        lines += [f"only in {side}: {', '.join(labels)}"] if labels else []
    return "\n".join(lines)


def _parts(pair: Pair, everything: bool) -> Iterator[RenderableType]:
    seeds = "" if len(pair.was) == len(pair.now) == 1 else f" ({len(pair.was)} and {len(pair.now)} seeds)"
    yield f"\n{pair.label}{seeds}"
    if pair.changes:
        yield configuration_table(pair.changes)
    differ = [score for score in pair.scores if score.verdict != "same"]
    shown = [score for score in differ if everything or "." not in score.name]
    if shown:
        yield _scores_table(shown)
    if len(shown) < len(differ):
        yield f"and {len(differ) - len(shown)} metrics of tiers, links and parts (--all shows them)"
    if not differ:
        yield "all scores are the same" + (f", but {', '.join(pair.files)}.parquet differ" if pair.files else "")


def configuration_table(changes: Iterable[Change]) -> Sheet:
    """What differs in configuration, a row a field."""
    from sim.report.cells import plain_table

    table = plain_table("field", "was", "now", names=3)
    for one in changes:
        table.add_row(one.field, _short(one.was), _short(one.now))
    return table


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _scores_table(scores: Iterable[Score]) -> Sheet:
    from sim.report.cells import plain_table

    table = plain_table("metric", "was", "now", "change", "+-", "")
    for score in scores:
        mark = "*" if score.significant else " "
        change, margin = _change(score)
        table.add_row(score.name, f"{score.was:.4g}", f"{score.now:.4g}", change, margin, f"{score.verdict}{mark}")
    return table


def _change(score: Score) -> tuple[str, str]:
    """The change and half its interval, in percent of what was where that is not 0."""
    change, half = score.difference.change, (score.difference.high - score.difference.low) / 2
    if math.isnan(change):
        return "-", ""
    scale, unit = (abs(score.was) / 100, " %") if score.was else (1.0, "")
    return f"{change / scale:+.3g}{unit}", "" if math.isnan(half) else f"{half / scale:.2g}{unit}"


def _overview(pairs: Sequence[Pair]) -> Sheet:
    from sim.report.cells import plain_table

    table = plain_table("runs", "fields", "better", "worse", "significant")
    for pair in pairs:
        verdicts = [score.verdict for score in pair.scores]
        certain = sum(bool(score.significant) for score in pair.scores)
        counts = (len(pair.changes), verdicts.count("better"), verdicts.count("worse"), certain)
        table.add_row(pair.label, *map(str, counts))
    return table


def _notes(found: Comparison) -> list[str]:
    from sim.comparing import EXACT, METHODS

    different = [score for pair in found.pairs for score in pair.scores if score.verdict != "same"]
    used = dict.fromkeys(score.method for score in different)
    tested = sum(score.method != EXACT for pair in found.pairs for score in pair.scores)
    if not used:
        return []
    notes = ["Simulations repeat exactly: what differs does. * says that it most likely would on other requests like "]
    notes[0] += "these, too; +- is half the 95 % interval of the change."
    notes += [f"{method}: {METHODS[method]}" for method in METHODS if method in used]
    if tested:
        notes.append(f"* after Holm's correction for {tested} tests; intervals are of each metric alone.")
    return notes
