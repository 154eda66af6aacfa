"""`regress`: what is a regression, who says so, and what is written down of it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim import estimates, metrics
from sim.comparing import Change
from sim.errors import InputError
from sim.metric_values import parse_value
from sim.regression import recorded
from sim.regression.baseline import Baseline, Guard, Tolerance, Watched, load_baseline
from sim.regression.judging import ERROR, IMPROVEMENT, REGRESSION, WITHIN, Finding, judged
from sim.regression.recorded import Record
from sim.regression.reports import headline, junit, markdown
from sim.regression.running import Measured, inputs_of
from sim.scenario_kind import named

ROOT = Path(__file__).parent.parent
CI_PAGE, WORKFLOW = ROOT / "docs" / "ci.md", ROOT / "docs" / "examples" / "guard-policies.yml"
SMALL = """
name: small
description: two policies
tolerance: {relative: 1e-9}
scenarios:
  zipf:
    scenario: zipf_three_tier
    set: {workload.parameters.requests: 300, workload.parameters.objects: 80}
    compare: [fifo, lru]
    metrics: [hit_ratio, latency_p99_ns]
"""


@pytest.fixture
def baseline(tmp_path):
    """Writes a baseline; the text of SMALL with things replaced."""

    def write(*replaced, name="small.yaml"):
        text = SMALL
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# ------------------------------------------------------------------------------------------------------------ judging


@pytest.fixture(scope="module")
def scenario():
    return named("hierarchy").load("zipf_three_tier")


def judge(scenario, tolerance, was, now, metric="latency_p99_ns", better=None, **changed):
    """The one finding about a metric whose values, by seed, were and are these; None: not told."""
    declared = metrics.declaration(metric)
    watched = Watched(metric, declared, better or declared.better, tolerance)
    seeds = range(len(now))
    guard = Guard("zipf", named("hierarchy"), {"lru": {seed: scenario for seed in seeds}}, (watched,))
    asked = Baseline("made_up", Path("made_up.yaml"), (guard,))
    inputs = inputs_of(guard, "lru") | changed
    values = {metric: {seed: value for seed, value in enumerate(was) if value is not None}}
    record = Record(inputs, {seed: None for seed in range(len(was))}, values if values[metric] else {})
    runs = {
        ("made_up", "zipf", "lru", seed): Measured({metric: value} if value is not None else {"hit_ratio": 1.0})
        for seed, value in enumerate(now)
    }
    found = judged(asked, {"zipf": {"lru": record}}, runs)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("form", "amount", "now", "expected"),
    [
        ("relative", 0.1, 109.9, WITHIN),
        ("relative", 0.1, 110.1, REGRESSION),
        ("relative", 0.1, 89.9, IMPROVEMENT),
        ("relative", 0.0, 100.0, WITHIN),
        ("absolute", 5.0, 105.0, WITHIN),
        ("absolute", 5.0, 105.1, REGRESSION),
        ("absolute", 5.0, 94.0, IMPROVEMENT),
    ],
)
def test_a_tolerance_has_two_sides(scenario, form, amount, now, expected):
    assert judge(scenario, Tolerance(form, amount), [100.0], [now]).status == expected


@pytest.mark.parametrize(
    ("metric", "better", "up", "down"),
    [
        ("latency_p99_ns", None, REGRESSION, IMPROVEMENT),
        ("hit_ratio", None, IMPROVEMENT, REGRESSION),
        ("hit_ratio", "lower", REGRESSION, IMPROVEMENT),
        ("requests", None, REGRESSION, REGRESSION),  # neither direction is better: it should not move
    ],
)
def test_the_direction_is_the_metrics_own_or_the_baselines(scenario, metric, better, up, down):
    exact = Tolerance("relative", 0.0)
    assert judge(scenario, exact, [1.0], [2.0], metric, better).status == up
    assert judge(scenario, exact, [2.0], [1.0], metric, better).status == down


@given(st.lists(st.floats(1, 100), min_size=2, max_size=6), st.floats(-50, 50))
def test_over_seeds_what_is_beyond_the_prediction_is_told(was, shift):
    now = [value + shift for value in was]
    told = estimates.prediction(was, len(now), 0.95)
    mean = sum(now) / len(now)
    if min(abs(mean - told.low), abs(mean - told.high)) < 1e-9:
        return
    found = judge(named("hierarchy").load("zipf_three_tier"), Tolerance("statistical", 0.95), was, now)
    expected = WITHIN if told.low <= mean <= told.high else REGRESSION if shift > 0 else IMPROVEMENT
    assert found.status == expected


def test_a_metric_that_vanishes_or_appears_is_a_regression(scenario):
    exact = Tolerance("relative", 0.0)
    gone = judge(scenario, exact, [1.0], [None])
    assert gone.status == REGRESSION and gone.problem.startswith("vanished")
    new = judge(scenario, exact, [None], [1.0])
    assert new.status == REGRESSION and new.problem.startswith("appeared")
    never = judge(scenario, exact, [None], [None], "tier.hmb.hit_ratio")
    assert never.status == ERROR and "did you mean 'hit_ratio'" in never.problem


def test_other_seeds_than_recorded_are_an_error(scenario):
    found = judge(scenario, Tolerance("relative", 0.0), [1.0, 2.0], [1.0])
    assert found.status == ERROR and "recorded of seeds 0, 1, not of 0" in found.problem


def test_what_changed_of_the_inputs_is_named(scenario):
    found = judge(scenario, Tolerance("relative", 0.0), [1.0], [2.0], **{"eviction.lru": "0123", "seed_of_old": 7})
    told = {one.field: one.was for one in found.changes}
    assert told == {"eviction.lru": "0123", "seed_of_old": 7}


# ---------------------------------------------------------------------------------------------------------- end to end


def test_from_nothing_to_a_regression_and_back(baseline, memhier, tmp_path):
    file = baseline()
    code, _, err = memhier("regress", file)
    assert code == 2 and err.count("no recorded values; --update records them") == 2  # a line for each run
    code, out, _ = memhier("regress", file, "--update", "--json")
    assert code == 0 and len(json.loads(out)["changes"]) == 4
    first = recorded.place_of(file).read_bytes()
    assert memhier("regress", file)[:2] == (0, "4 within tolerance\n")
    memhier("regress", file, "--update")
    assert recorded.place_of(file).read_bytes() == first  # the same values, the same bytes

    content = json.loads(first)
    lru = content["scenarios"]["zipf"]["lru"]
    lru["metrics"]["latency_p99_ns"]["1"] *= 0.9
    lru["metrics"]["hit_ratio"]["1"] *= 0.9
    lru["inputs"]["eviction.lru"] = "another"
    recorded.place_of(file).write_text(json.dumps(content))
    code, out, _ = memhier("regress", file, "--junit", tmp_path / "r.xml", "--markdown", tmp_path / "r.md")
    assert code == 1 and "1 regression, 1 improvement, 2 within tolerance" in out
    assert "eviction.lru: another ->" in out and "--update would record it" in out
    assert max(map(len, out.splitlines())) <= 80
    failed = ElementTree.parse(tmp_path / "r.xml").findall(".//failure")
    assert len(failed) == 1 and "+11.1 %" in failed[0].get("message")
    assert "| regression | small: zipf lru | latency" in (tmp_path / "r.md").read_text()
    rows = list(csv.DictReader(io.StringIO(memhier("regress", file, "--csv")[1])))
    assert [row["status"] for row in rows] == [WITHIN, WITHIN, IMPROVEMENT, REGRESSION]
    memhier("regress", file, "--update")
    assert recorded.place_of(file).read_bytes() == first


def test_a_run_that_fails_is_an_error_and_records_nothing(baseline, memhier, tmp_path):
    file = baseline(("[hit_ratio, latency_p99_ns]", "[hit_ratio, tier.hmb.hit_ratio]"), ("[fifo, lru]", "[lru]"))
    code, _, err = memhier("regress", file, "--update")
    assert code == 2 and "no such metric of the run: 'tier.hmb.hit_ratio'; did you mean 'tier.hbm.hit_ratio'" in err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("zipf_three_tier", "zipf_three_tear", "did you mean 'zipf_three_tier'?"),
        ("hit_ratio,", "hit_rato,", "did you mean 'hit_ratio'?"),
        ("[fifo, lru]", "[fifo, lur]", "did you mean 'lru'?"),
        ("requests: 300", "requests: many", "zipf"),
        ("relative: 1e-9", "relative: lots", "not a share: 'lots'"),
        ("relative: 1e-9", "relative: 1%, absolute: 3", "more than one tolerance"),
        ("tolerance: {relative: 1e-9}\n", "", "no tolerance"),
        ("relative: 1e-9", "statistical: 95%", "a statistical tolerance over one seed"),
        ("[hit_ratio, latency_p99_ns]", "{hit_ratio: {absolute: 2 ms}}", "not a share: '2 ms'"),
        ("[hit_ratio, latency_p99_ns]", "{latency_p99_ns: {absolute: 2 MB}}", "unknown unit"),
        ("[hit_ratio, latency_p99_ns]", "{hit_ratio: {better: more}}", "not a direction: 'more'"),
        ("[hit_ratio, latency_p99_ns]", "[]", "no metrics"),
        ("metrics:", "metrix:", "did you mean 'metrics'?"),
        ("compare: [fifo, lru]", "seeds: [1, 1]", "each seed once"),
        ("name: small", "name: 'x y'", "not a name"),
    ],
)
def test_bad_baselines_are_told_before_anything_runs(baseline, memhier, old, new, said):
    code, out, err = memhier("regress", baseline((old, new)))
    assert (code, out) == (2, "") and said in err and "Traceback" not in err
    assert all(line.startswith("error: ") for line in err.splitlines())


def test_files_that_are_not_there_or_not_ours_are_told(baseline, memhier, tmp_path):
    assert "no such file" in memhier("regress", tmp_path / "none.yaml")[2]
    file = baseline()
    for content, said in (("{}", "not recorded values of this version"), ("{", "not readable")):
        recorded.place_of(file).write_text(content)
        code, _, err = memhier("regress", file, "--update")
        assert code == 2 and said in err and recorded.place_of(file).read_text() == content
    recorded.place_of(file).write_text(json.dumps({"format": recorded.FORMAT, "scenarios": {"zipf": {"lru": {}}}}))
    assert "damaged" in memhier("regress", file)[2]
    recorded.place_of(file).unlink()
    assert "no such folder to write to" in memhier("regress", file, "--junit", tmp_path / "none" / "r.xml")[2]
    other = baseline(name="other.yaml")
    assert "a baseline's name twice" in memhier("regress", file, other)[2]


numbers = st.floats(allow_nan=False, allow_infinity=False)
records = st.dictionaries(
    st.text(max_size=5),
    st.dictionaries(
        st.text(max_size=5),
        st.builds(
            Record,
            st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)),
            st.dictionaries(st.integers(0, 9), st.none() | st.text(max_size=3)),
            st.dictionaries(st.text(max_size=3), st.dictionaries(st.integers(0, 9), numbers)),
        ),
        max_size=2,
    ),
    max_size=2,
)


@given(records)
def test_records_are_read_back_as_they_were(tmp_path_factory, kept):
    file = tmp_path_factory.getbasetemp() / "kept.yaml"
    recorded.place_of(file).write_text(recorded.written(kept), encoding="utf-8")
    assert recorded.read(file) == kept


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("latency_p99_ns", "2 ms", 2e6),
        ("duration_s", "2 ms", 2e-3),
        ("hit_ratio", "5%", 0.05),
        ("bytes_moved", "1 KiB", 1024),
        ("throughput_bytes_per_s", "2 GB/s", 2e9),
        ("cost_usd_per_hour", "3 $/h", 3),
        ("energy_j", 7, 7),
    ],
)
def test_values_have_the_units_of_their_metric(metric, value, expected):
    assert parse_value(metrics.declaration(metric), value) == pytest.approx(expected)
    with pytest.raises(InputError):
        parse_value(metrics.declaration(metric), "3 parsecs")


# -------------------------------------------------------------------------------------------------------------- reports

anything = st.text(max_size=20)
findings = st.builds(
    Finding,
    *(anything for _ in range(6)),
    st.sampled_from((ERROR, REGRESSION, IMPROVEMENT, WITHIN)),
    *(st.floats() for _ in range(3)),
    anything,
    anything,
    st.lists(st.builds(Change, anything, anything, anything), max_size=2).map(tuple),
)


@given(st.lists(findings, max_size=4))
def test_whatever_names_there_are_the_xml_is_xml_and_counts_right(found):
    root = ElementTree.fromstring(junit(found))
    assert int(root.get("tests")) == len(found) == len(root.findall(".//testcase"))
    assert int(root.get("failures")) == len(root.findall(".//failure")) == headline_count(found, REGRESSION)
    assert int(root.get("errors")) == len(root.findall(".//error")) == headline_count(found, ERROR)


def headline_count(found, status):
    return sum(one.status == status for one in found)


@given(st.lists(findings, max_size=4))
def test_whatever_names_there_are_the_table_is_a_table(found):
    text = markdown(found)
    rows = [line for line in text.splitlines() if re.match(r"\| (regression|error|improvement) ", line)]
    assert len(rows) == sum(one.status != WITHIN for one in found)
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 8 for row in rows) and "<" not in text.replace("\\<", "")
    assert headline(found) in text


# ------------------------------------------------------------------------------------------ this project's, and yours


def test_this_projects_baselines_are_recorded_in_full():
    files = sorted((ROOT / "tests" / "baselines").glob("*.yaml"))
    assert files
    for file in files:
        asked, kept = load_baseline(file), recorded.read(file)
        assert {guard.name for guard in asked.guards} == set(kept)
        assert {guard.kind.name for guard in asked.guards} == {"hierarchy", "serving", "allocation"}
        for guard in asked.guards:
            assert set(kept[guard.name]) == set(guard.runs)
            for record in kept[guard.name].values():
                assert set(record.metrics) == {one.name for one in guard.watched}


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))


def test_the_workflow_is_one(workflow):
    assert set(workflow) == {"name", True, "env", "jobs"}  # YAML reads the key `on` as true
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    assert "memhier regress" in " ".join(step.get("run", "") for step in steps)


def of_page(name):
    """The fenced block on docs/ci.md that begins with a comment of this name."""
    return re.search(rf"(?s)```yaml\n# {re.escape(name)}\n(.*?)```", CI_PAGE.read_text(encoding="utf-8"))[1]


def test_the_workflow_guards_somebodys_policies(workflow, tmp_path):
    """Its commands on the example package: nothing is worse, then a change makes the policy worse, and it says so."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(ROOT / "tests" / "third_party" / "memhier_example_policy", source)
    (source / "baselines").mkdir()
    (source / "baselines" / "policies.yaml").write_text(of_page("policies.yaml").replace("sieve", "scan_aware"))
    programs = source / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "memhier").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "run_sim.py"}" "$@"\n')
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "NUMBA_CACHE_DIR": str(ROOT / ".pytest_cache" / "numba_guard"),
        **{"PIP_TARGET": str(installed), "PIP_UPGRADE": "1", "PIP_NO_INDEX": "1"},
        **{"PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    }

    def run(command):
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    commands = {step["name"]: step["run"] for step in steps}
    assert list(commands) == ["Install memhier", "Install this package", "Compare with the baselines", "Show it"]
    install, compare, show = list(commands.values())[1:]
    assert run(install)[0] == 0
    assert run(".venv/bin/memhier regress baselines/*.yaml --update")[0] == 0
    code, said = run(compare)
    assert code == 0 and "within tolerance" in said, said

    policy = source / "memhier_example_policy.py"
    changed = policy.read_text().replace("if scanning else oldest", "if True else oldest")
    assert changed != policy.read_text()
    policy.write_text(changed)
    assert run(install)[0] == 0
    code, said = run(compare)
    assert code == 1 and "regression" in said and "eviction.scan_aware: " in said, said
    assert run(show)[0] == 0
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("### memhier: ") and "| regression | " in summary
    assert ElementTree.parse(source / "regress.xml").findall(".//failure")
