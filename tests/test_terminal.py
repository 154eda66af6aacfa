"""Reports on a terminal of 80 columns: no line is longer and no number is cut, whatever the numbers and the labels."""

from __future__ import annotations

import dataclasses
import re

import pytest
from rich.console import Console

import sim
from sim import scenario_kind
from sim.fragmentation import explain as why
from sim.fragmentation.report import moment_report
from sim.result_set import load_result
from sim.serving.results import ServingResult
from tests.serving_runs import made_up_run, made_up_scenario

WIDTH, WIDE = 80, 4000
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
LONG = "a_policy_of_ours:with_a_parameter=abcdefgh:another_one=ijklmnop:and_more=qrstuvwxyz"
FACTORS = [1.0, 1e-9, 1e9]  # of every metric that is no count: tiny and huge ones


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Kind -> two results of it."""
    place = tmp_path_factory.mktemp("results")
    small = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}
    hierarchy = sim.run("zipf_three_tier", small, out=place / "hierarchy")
    allocation = sim.run("training_memory", {"allocation.looks": 4}, out=place / "allocation")
    serving = ServingResult.from_run(made_up_run(), made_up_scenario(), label="made up")
    loaded = {one.folder.name: load_result(one.folder) for one in (hierarchy, allocation)}
    return {name: [one, relabelled(one, LONG)] for name, one in {**loaded, "serving": serving}.items()}


def relabelled(result, label: str, factor: float = 1.0):
    """The same with another label, and its metrics that are no counts so many times as large."""
    scaled = {
        name: value * factor if isinstance(value, float) and value else value for name, value in result.summary.items()
    }
    manifest = {**result.manifest, "label": label}
    return dataclasses.replace(result, summary=scaled, manifest=manifest)


def drawn(renderable, width: int) -> str:
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def check(renderable) -> None:
    narrow, wide = drawn(renderable, WIDTH), drawn(renderable, WIDE)
    assert max(map(len, narrow.splitlines())) <= WIDTH
    assert "…" not in narrow
    missing = set(_NUMBER.findall(wide)) - set(_NUMBER.findall(narrow))
    assert not missing


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", ["hierarchy", "serving", "allocation"])
def test_a_run_fits(kind, factor, results):
    one = scenario_kind.named(kind)
    for result in results[kind]:
        check(one.run_report(relabelled(result, result.label, factor)))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", ["hierarchy", "serving", "allocation"])
def test_a_comparison_fits_and_marks_the_best(kind, factor, results):
    first, second = results[kind]
    others = [
        relabelled(second, f"{LONG[:40]}{letter}", factor * scale)
        for letter, scale in zip("xyz", (1, 2, 3), strict=True)
    ]
    report = scenario_kind.named(kind).comparison_report([relabelled(first, "lru", factor * 1.5), *others])
    check(report)
    starred = [line for line in drawn(report, WIDTH).splitlines() if re.search(r"\d\*", line)]
    assert starred


def test_no_colour_leaves_the_marks(results, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    report = scenario_kind.named("hierarchy").comparison_report(
        [results["hierarchy"][0], relabelled(results["hierarchy"][0], "other", 2.0)]
    )
    console = Console(width=WIDTH, force_terminal=True, highlight=False)
    with console.capture() as captured:
        console.print(report)
    assert "*" in captured.get() and not re.search(r"\x1b\[[0-9;]*3[0-9]", captured.get())


def test_why_an_allocation_was_refused_fits(results, tmp_path):
    changes = {"allocation.looks": 2, "allocation.capacity": "101%"}
    result = sim.run("training_memory", changes, out=tmp_path / "run")
    scenario, operations = why.rebuilt(load_result(result.folder))
    moment = why.moment(scenario, operations)
    check(moment_report(scenario, moment, [why.Way(LONG, 1_234_567), why.Way("best_fit", None)], 1 << 40))
