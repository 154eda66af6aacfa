"""The report: what is in it, that charts hold the runs' own numbers, that nothing of results gets out of its place."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import itertools
import json
import math
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import sim
from sim.cli import main
from sim.errors import InputError
from sim.pareto import AT_MOST, Limit
from sim.report import charts, vega
from sim.report.cells import COUNTS, Shown
from sim.report.charts import Axis, Chart
from sim.report.draw_chart import draw_panels
from sim.report.hierarchy_charts import cumulative
from sim.report.page import page
from sim.report.sections import charts_of
from sim.report.sweep_charts import pareto, places_of
from sim.report.whole import MOST_COMPARED, MOST_DETAILED, report_of
from tests import report_folders
from tests.report_folders import HOSTILE

MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("reports")
    made = {"hierarchy": report_folders.compared(place / "hierarchy"), "serving": report_folders.served(place / "s")}
    made["allocation"] = report_folders.allocated(place / "allocation")
    made["sweep"] = report_folders.swept(made["hierarchy"] / "lru", place / "sweep")
    return made


@pytest.fixture(scope="module")
def reports(folders):
    return {name: report_of(sim.load_results(folder)) for name, folder in folders.items()}


class _Tags(html.parser.HTMLParser):
    """Names of all elements, in order, with their attributes."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def tags_of(text: str) -> _Tags:
    parser = _Tags()
    parser.feed(text)
    return parser


EXPECTED = {
    "hierarchy": {"side_by_side", "latency", "tiers", "over_time", "links", "fragmentation", "cost"},
    "serving": {"side_by_side", "latency", "time", "tiers", "over_time", "links", "fragmentation", "cost"},
    "allocation": {"side_by_side", "held", "over_time", "fragmentation", "map", "cost"},
    "sweep": {"side_by_side", "sweep", "trade", "misses", "latency", "over_time"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_kind_has_its_sections(reports, name):
    report = reports[name]
    names = [one.name for one in report.sections]
    assert EXPECTED[name] | {"verdict", "runs", "provenance"} <= set(names)
    assert names[0] == "verdict" and names[-1] == "provenance"
    assert report.verdict and all(line for line in report.verdict)
    drawn = [chart.name for chart in charts_of(report.sections)]
    assert len(set(drawn)) == len(drawn) and all(re.fullmatch(r"\w+", one, re.ASCII) for one in drawn)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_chart_is_drawn_by_both_and_is_the_same_data(reports, name):
    for chart in charts_of(reports[name].sections):
        lengths = {len(column) for column in chart.data.values()}
        assert lengths == {chart.rows} and chart.rows > 0 and chart.title and chart.summary.endswith(".")
        drawn = draw_panels(chart, Figure())
        assert len(drawn) == len(chart.one_each())
        assert json.dumps([vega.specification(one) for one in chart.one_each()], allow_nan=False)
        told = list(csv.DictReader(charts.csv_of(chart).splitlines()))
        assert len(told) == chart.rows and list(told[0]) == list(chart.data)


def test_a_page_is_one_file_of_landmarks_and_headings_in_order(reports):
    for report in reports.values():
        text = page(report, "1")
        assert len(text.encode()) < MOST_BYTES
        tags = tags_of(text).tags
        names = [tag for tag, _ in tags]
        assert all(names.count(one) == 1 for one in ("h1", "main", "nav", "header", "footer", "title"))
        levels = [int(tag[1]) for tag in names if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in tags:
            assert "src" not in attributes and not any(key.startswith("on") for key in attributes), tag
            if "href" in attributes:
                assert attributes["href"][0] == "#" and attributes["href"][1:] in ids
            for key in ("aria-labelledby", "aria-describedby"):
                assert key not in attributes or attributes[key] in ids
        assert names.count("caption") == names.count("table")


def test_the_same_results_make_the_same_page(folders, reports):
    assert page(reports["sweep"], "1") == page(report_of(sim.load_results(folders["sweep"])), "1")


def test_text_of_results_stays_text(folders, tmp_path):
    places = [report_folders.hostile(folders["hierarchy"] / "lru", tmp_path / name) for name in "ab"]
    results = sim.load_results(*places)
    report = report_of(results, title=HOSTILE)
    text = page(report, "1")
    parsed = tags_of(text)
    assert not {"img", "b"} & {tag for tag, _ in parsed.tags}
    assert [tag for tag, _ in parsed.tags].count("script") == 3
    assert HOSTILE in "".join(parsed.texts)
    embedded = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S).group(1)
    names = [
        name
        for chart in json.loads(embedded).values()
        for column in chart["columns"]
        for name in column.get("names", [])
    ]
    assert "<" not in embedded and any(HOSTILE in name for name in names)


def test_a_sweep_tells_of_all_its_points(reports, folders):
    results = sim.load_results(folders["sweep"])
    report = reports["sweep"]
    assert "1 failed, 1 not there yet" in report.subtitle
    text = page(report, "1")
    assert "tiers.hbm.capacity" in text and "too small &lt;img" in text
    sections = {one.name: one for one in report.sections}
    points = sections["sweep"].parts[-1]
    assert len(points.rows) == len(results) == 16 and points.sortable
    by_capacity = sections["sweep"].parts[0]
    assert (by_capacity.x.kind, by_capacity.series) == (charts.SHARE, "tiers.hbm.eviction")
    means = results.over_seeds(["hit_ratio"])
    assert sorted(by_capacity.data["hit_ratio"]) == pytest.approx(sorted(means["hit_ratio"]))
    assert [list(curve[by_capacity.x.column]) for _, curve in by_capacity.curves()] == [[0.04, 0.1, 0.2]] * 2


def test_of_many_runs_the_best_the_worst_and_the_baseline_are_drawn(reports, folders):
    summary = sim.load_results(folders["sweep"]).summary
    report = reports["sweep"]
    latency = next(one for one in charts_of(report.sections) if one.name == "latency_cdf")
    assert MOST_DETAILED <= MOST_COMPARED < len(summary) and 2 <= len(latency.names("run")) <= 3
    ends = [
        summary.loc[which, ["tiers.hbm.capacity", "tiers.hbm.eviction", "seed"]]
        for which in (summary["latency_mean_ns"].idxmin(), summary["latency_mean_ns"].idxmax())
    ]
    for capacity, policy, seed in ends:
        assert f"capacity {capacity}, eviction {policy}, seed {seed}" in latency.names("run")


def test_several_kinds_are_told_apart(folders):
    report = report_of(sim.load_results(folders["hierarchy"], folders["serving"], folders["allocation"]))
    text = page(report, "1")
    ids = [attributes["id"] for _, attributes in tags_of(text).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and len(report.verdict) >= 3


# --- charts ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=300), st.integers(4, 50))
def test_a_thinned_curve_lies_on_the_whole_one(values, most):
    values = np.array(values)
    at, share = cumulative(values, most)
    assert at[-1] == values.max() and share[-1] == 1.0
    assert (np.diff(share) > 0).all() and (np.diff(at) >= 0).all() and at.size <= most
    ranked = np.sort(values)
    assert (ranked[np.rint(share * values.size).astype(int) - 1] == at).all()


def test_the_front_of_a_study_keeps_to_its_limits():
    import pandas

    shown = [Shown(name, name, COUNTS, name, better) for name, better in (("a", "lower"), ("b", "higher"))]
    rows = {"label": list("pqrs"), "a": [1.0, 2.0, 3.0, 0.5], "b": [1.0, 5.0, 4.0, 9.0], "c": [1.0, 1.0, 1.0, 7.0]}
    chart = pareto(pandas.DataFrame(rows), *shown, limits=[Limit("c", AT_MOST, 2.0)])
    told = dict(zip(chart.data["setting"], chart.data["place"], strict=True))
    assert told == {"p": "on the front", "q": "on the front", "r": "beaten", "s": "beyond a limit"}


def test_the_verdict_of_a_study_names_nothing_that_breaks_a_limit(folders):
    swept = sim.load_results(folders["sweep"])
    cost, latency = "cost_usd_per_million_requests", "latency_mean_ns"
    ranked = sorted(swept, key=lambda run: run.result.summary[cost])
    least = ranked[1].result.summary["hit_ratio"]
    limit = {"metric": "hit_ratio", "kind": "at_least", "value": least}
    study = {"study": {"objectives": {cost: "lower", latency: "lower"}, "limits": [limit]}}
    results = dataclasses.replace(swept, manifests=(study,))
    good = [run for run in swept if run.result.summary["hit_ratio"] >= least]
    cheapest = min(good, key=lambda run: run.result.summary[cost])
    told = report_of(results).verdict
    assert f"{len(swept) - len(good)} break a limit (hit_ratio at least" in told[0]
    assert f"capacity {cheapest.values['tiers.hbm.capacity']}, eviction" in told[1] and "cost" in told[1]


def test_values_of_fields_stand_where_they_belong():
    assert places_of(["4%", "20%"])[0] == charts.SHARE
    kind, places = places_of(["1 GiB", "2 MiB"])
    assert kind == charts.BYTES and places.tolist() == [2**30, 2**21]
    assert places_of([1, 2.5])[1].tolist() == [1, 2.5]
    assert places_of(["5 us", "1 ms"])[1].tolist() == [5e3, 1e6]
    assert places_of(["lru", "4%"])[0] == charts.NAMES and places_of([True, False])[0] == charts.NAMES


def test_small_multiples_share_their_axes():
    data = {"x": [1.0, 2.0, 1.0, 2.0], "y": [1.0, 9.0, 3.0, 4.0], "of": ["a", "a", "b", "b"]}
    chart = Chart("c", "C", "c.", charts.LINES, Axis("x", "x"), Axis("y", "y"), data, panels="of")
    one, other = chart.one_each()
    assert (one.title, other.title) == ("a", "b") and one.rows == other.rows == 2
    assert (one.y.low, one.y.high) == (other.y.low, other.y.high) == (1.0, 9.0)


def test_no_name_out_of_results_is_part_of_an_expression():
    hostile = "']+alert(1)+['"
    data = {hostile: [1.0, 2.0], "y": [1.0, 2.0], "of": [hostile, "b"]}
    chart = Chart("c", "C", "c.", charts.LINES, Axis(hostile, hostile), Axis("y", "y"), data, series="of")
    spec = vega.specification(chart)
    expressions = [one["calculate"] for one in spec["transform"] if "calculate" in one]
    assert expressions and not any("alert" in one for one in expressions)


# --- the command -----------------------------------------------------------------------------------------------------


def run_command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    return ended.value.code


def test_the_command_writes_a_page_and_figures(folders, tmp_path, capsys):
    place, figures = tmp_path / "deep" / "page.html", tmp_path / "figures"
    lru = folders["hierarchy"] / "lru"
    assert run_command(lru, "--out", place, "--figures", figures, "--title", "A <title>", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(place) and told["runs"] == 1 and told["verdict"]
    assert "<h1>A &lt;title&gt;</h1>" in place.read_text()
    assert {path.suffix for path in figures.iterdir()} == {".png", ".svg", ".csv"}
    assert sorted(map(str, figures.iterdir())) == sorted(told["figures"])
    latency = list(csv.DictReader((figures / "latency_cdf.csv").open()))
    most = max(float(row["latency_ns"]) for row in latency if row["run"] == "lru")
    summary = json.loads((lru / "summary.json").read_text())
    assert most == summary["latency_max_ns"]


def test_the_page_goes_beside_the_only_results(folders, tmp_path, monkeypatch):
    shutil.copytree(folders["hierarchy"], tmp_path / "out")
    assert run_command(tmp_path / "out") == 0 and (tmp_path / "out" / "report.html").is_file()
    monkeypatch.chdir(tmp_path)
    assert run_command("out/lru", "out/fifo") == 0 and (tmp_path / "report.html").is_file()
    assert len(sim.load_results(tmp_path / "out")) == 2


def without(documents: dict, *keys: str) -> None:
    inner = documents
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]


@pytest.mark.parametrize("name", ["hierarchy", "serving", "allocation"])
@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda s, m: s.update({next(iter(s)): "<b>9</b>"}), "not a number"),
        (lambda s, m: s.update({next(iter(s)): math.nan}), "not a number"),
        (lambda s, m: s.update({next(iter(s)): True}), "not a number"),
        (lambda s, m: s.clear(), "a metric is missing"),
        (lambda s, m: without(m, "scenario"), "not the manifest of such results"),
        (lambda s, m: m.update(scenario=[1]), "scenario: not the manifest"),
        (lambda s, m: m.update(label=7), "label: not the manifest"),
        (lambda s, m: m.update(format="memhier result 1"), "format"),
    ],
)
def test_results_that_were_tampered_with_are_one_line_and_leave_nothing(folders, tmp_path, capsys, name, what, told):
    like = next(path for path in sorted(folders[name].iterdir()) if path.is_dir())
    shutil.copytree(like, tmp_path / "run")
    summary, manifest = (
        json.loads((tmp_path / "run" / f"{part}.json").read_text()) for part in ("summary", "manifest")
    )
    what(summary, manifest)
    report_folders.changed(tmp_path / "run", summary, manifest)
    assert run_command(tmp_path / "run", "--out", tmp_path / "x.html", "--figures", tmp_path / "f") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and (told in lines[0] or "not results of" in lines[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("name", ["hierarchy", "serving", "allocation"])
def test_tables_that_were_tampered_with_are_told(folders, tmp_path, capsys, name):
    import pyarrow
    import pyarrow.parquet

    like = next(path for path in sorted(folders[name].iterdir()) if path.is_dir())
    for table in like.glob("*.parquet"):
        if table.stem == "gaps":
            continue
        place = tmp_path / f"{name}_{table.stem}"
        shutil.copytree(like, place)
        pyarrow.parquet.write_table(pyarrow.table({"x": ["<b>"]}), place / table.name)
        assert run_command(place, "--out", tmp_path / "x.html") == 2
        (place / table.name).write_bytes(b"PAR1 not a table")
        assert run_command(place, "--out", tmp_path / "x.html") == 2
        (place / table.name).unlink()
        assert run_command(place, "--out", tmp_path / "x.html") == 2
    assert not (tmp_path / "x.html").exists() and "Traceback" not in capsys.readouterr().err


def test_what_cannot_be_written_is_told(folders, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run_command(folders["hierarchy"], "--out", tmp_path / "file" / "x.html") == 2
    assert run_command(folders["hierarchy"], "--figures", tmp_path / "file") == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert run_command(tmp_path / "none") == 2


def test_nothing_but_failures_is_told(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.error.json").write_text(json.dumps({"error": ["no room"]}))
    points = [{"name": "a", "values": {}, "seed": 0}]
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "memhier sweep 1", "name": "x", "points": points}))
    with pytest.raises(InputError, match="no finished run among the results: no room"):
        report_of(sim.load_results(tmp_path))


def test_the_extra_that_is_missing_is_named(reports, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(InputError, match=r"memhier\[report\]"):
        page(reports["hierarchy"], "1")
