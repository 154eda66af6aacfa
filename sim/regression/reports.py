"""Findings as CI reads them: JUnit XML, and Markdown for a pull request or a job's summary."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from sim.comparing import Change
from sim.regression.judging import ERROR, IMPROVEMENT, REGRESSION, STATUSES, WITHIN, Finding

_PLURALS = {ERROR: "errors", REGRESSION: "regressions", IMPROVEMENT: "improvements", WITHIN: "within tolerance"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~])")
_LONGEST = 24  # of a value of a configuration; digests are longer
NOTHING_CHANGED = "nothing that was recorded of its inputs: then the simulator itself did, or the machine"


def headline(findings: Sequence[Finding]) -> str:
    """'2 regressions, 57 within tolerance'."""
    counts = {status: sum(one.status == status for one in findings) for status in STATUSES}
    parts = [
        f"{count} {status if count == 1 and status != WITHIN else _PLURALS[status]}"
        for status, count in counts.items()
        if count
    ]
    return ", ".join(parts) or "nothing was watched"


def sentence(finding: Finding) -> str:
    """What became of it, without its name."""
    if finding.problem and math.isnan(finding.change):
        return finding.problem
    unit = "" if finding.unit == "1" else f" {finding.unit}"
    said = f"was {finding.was:.6g}{unit}, is {finding.now:.6g}{unit}: {change_text(finding)}"
    said += f", tolerance {finding.tolerance}"
    return f"{said}; {finding.problem}" if finding.problem else said


def change_text(finding: Finding) -> str:
    """By how much: in percent of what was, or in the metric's unit where that was 0."""
    if math.isnan(finding.change):
        return "-"
    if math.isnan(finding.relative):
        return f"{finding.change:+.3g}"
    return f"{100 * finding.relative:+.3g} %"


def changed_inputs(findings: Iterable[Finding]) -> dict[str, list[tuple[str, Change]]]:
    """By scenario, what changed of the inputs of its runs that got worse or better: (their labels, change)."""
    found: dict[str, dict[tuple[str, str, str], tuple[list[str], Change]]] = {}
    for one in findings:
        if one.status in (REGRESSION, IMPROVEMENT):
            of_scenario = found.setdefault(f"{one.baseline}: {one.scenario}", {})
            for change in one.changes:
                labels, _ = of_scenario.setdefault((change.field, repr(change.was), repr(change.now)), ([], change))
                labels += [one.label] if one.label not in labels else []
    return {
        scenario: [(", ".join(labels), change) for labels, change in changes.values()]
        for scenario, changes in found.items()
    }


def short(value: object) -> str:
    """A value of a configuration in few characters."""
    text = "-" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


# --- JUnit ------------------------------------------------------------------------------------------------------------


def junit(findings: Sequence[Finding]) -> str:
    """One test case for each metric of each run, a suite for each baseline."""
    root = ElementTree.Element("testsuites", _counts(findings) | {"name": "memhier regress"})
    for name in dict.fromkeys(one.baseline for one in findings):
        own = [one for one in findings if one.baseline == name]
        suite = ElementTree.SubElement(root, "testsuite", {"name": _xml(name)} | _counts(own))
        for one in own:
            _case(suite, one)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counts(findings: Sequence[Finding]) -> dict[str, str]:
    statuses = [one.status for one in findings]
    counts = {"tests": len(statuses), "failures": statuses.count(REGRESSION), "errors": statuses.count(ERROR)}
    return {name: str(count) for name, count in counts.items()}


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    place = ".".join(part for part in (finding.baseline, finding.scenario, finding.label) if part)
    case = ElementTree.SubElement(suite, "testcase", classname=_xml(place), name=_xml(finding.metric or "runs"))
    said = _xml(sentence(finding))
    if finding.status in (REGRESSION, ERROR):
        kind = "failure" if finding.status == REGRESSION else "error"
        told = ElementTree.SubElement(case, kind, message=said, type=finding.status)
        told.text = _xml("\n".join([said, *(f"changed: {_change_text(one)}" for one in finding.changes)]))
    elif finding.status == IMPROVEMENT:
        ElementTree.SubElement(case, "system-out").text = said


def _change_text(change: Change) -> str:
    return f"{change.field}: {change.was} -> {change.now}"


def _xml(text: str) -> str:
    """Without what no XML can hold, however it is escaped."""
    return _NOT_XML.sub("?", text)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(findings: Sequence[Finding]) -> str:
    """A heading, a table of everything that is not as it was, and what changed of the inputs."""
    lines = [f"### memhier: {headline(findings)}", ""]
    told = [one for status in STATUSES for one in findings if one.status == status and status != WITHIN]
    if told:
        lines += [
            "| | scenario | metric | was | is | change | tolerance |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        ]
        lines += [_markdown_row(one) for one in told]
        lines += ["", *_markdown_changes(told)]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(finding: Finding) -> str:
    name = " ".join(part for part in (finding.scenario, finding.label) if part)
    numbers = ["" if math.isnan(value) else f"{value:.6g}" for value in (finding.was, finding.now)]
    metric = ": ".join(part for part in (finding.metric, finding.problem) if part)
    cells = [finding.status, f"{finding.baseline}: {name}", metric, *numbers, change_text(finding), finding.tolerance]
    return f"| {' | '.join(map(_markdown, cells))} |"


def _markdown_changes(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for scenario, changes in changed_inputs(findings).items():
        lines += [
            f"What changed of the inputs of {_markdown(scenario)}:" + ("" if changes else f" {NOTHING_CHANGED}."),
            "",
        ]
        lines += [
            "- " + _markdown(f"{one.field}: {short(one.was)} -> {short(one.now)} ({labels})") for labels, one in changes
        ]
        lines += [""] if changes else []
    return lines


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
