"""Results of a serving run: a folder that is read back as it was, tables on a page, figures that show what they say."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from sim.errors import InputError
from sim.profile import load_profile
from sim.report.drawing import Drawing
from sim.result_files import Coded
from sim.results import load_result
from sim.serving import charts, figures, metrics
from sim.serving.metrics import Accelerators
from sim.serving.options import Slo
from sim.serving.record import PARTS
from sim.serving.report import accounting, comparison_report, run_report
from sim.serving.results import ServingResult, load_serving_result, save
from tests.serving_runs import made_up_run, made_up_scenario, without_calls

FILES = {
    *("requests.parquet", "samples.parquet", "gaps.parquet"),
    *("summary.json", "manifest.json", "timing.json"),
}
PROFILE = load_profile("dgx_h100_cxl_ssd")


def result_of(run, label="tiers", **changes) -> ServingResult:
    known = {"slo": Slo(1e9, 2e7), "accelerators": Accelerators(1, 700.0, 3.0), "profile": PROFILE} | changes
    return ServingResult.from_run(run, made_up_scenario(run.tiers), label=label, **known)


@pytest.fixture(scope="module")
def run():
    return made_up_run()


@pytest.fixture(scope="module")
def result(run):
    return result_of(run)


@pytest.fixture(scope="module")
def alone():
    return result_of(made_up_run(seed=2, tiers=("hbm",), rejected=0), "hbm alone")


def test_what_is_read_back_is_what_was_computed(result, run, tmp_path):
    saved = save(result, tmp_path / "run")
    back = load_serving_result(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert saved.folder == back.folder == tmp_path / "run"
    assert (back.summary, back.manifest, back.label) == (result.summary, result.manifest, "tiers")
    assert list(back.summary) == list(result.summary)
    assert back.requests.equals(result.requests)
    assert back.samples.equals(result.samples)
    np.testing.assert_array_equal(back.gaps.counts, run.gaps.counts)
    assert back.gaps.quantile(0.9) == run.gaps.quantile(0.9) and back.gaps.mean_ns == run.gaps.mean_ns
    np.testing.assert_array_equal(back.parts_ns(), run.calls["parts_ns"])
    assert back.manifest["format"] == ServingResult.FORMAT


def test_a_column_is_the_same_from_memory_and_from_its_file(result, tmp_path):
    back = load_serving_result(save(result, tmp_path / "run").folder)
    for table, columns in result.columns.items():
        for name in columns:
            ours, theirs = result.column(table, name), back.column(table, name)
            if isinstance(ours, Coded):
                ours, theirs = (np.array(one.names)[one.codes] for one in (ours, theirs))
            np.testing.assert_array_equal(ours, theirs)


def test_tables_agree_with_the_summary(result):
    requests, summary = result.requests, result.summary
    done = requests[requests["status"] == "completed"]
    assert (len(requests), len(done)) == (summary["calls"], summary["completed"])
    assert (done["finish_ns"] - done["arrival_ns"]).mean() == pytest.approx(summary["latency_mean_ns"])
    for tier in result.tier_names:
        assert done[f"hit_tokens.{tier}"].sum() == summary[f"tier.{tier}.hit_tokens"]
    for part in PARTS:
        assert done[part].mean() == pytest.approx(summary[part.replace("_ns", "_mean_ns")])
    assert set(requests[requests["status"] == "rejected"]["reason"]) == {"longer_than_model"}
    assert result.samples["finished"].iloc[-1] == summary["completed"]


def test_samples_of_several_engines_are_rows(run):
    both = {
        name: column if name in ("time_ns", "link_bytes") else np.concatenate([column, 2 * column], axis=1)
        for name, column in run.samples.items()
    }
    result = result_of(dataclasses.replace(run, samples=both, replicas=2))
    np.testing.assert_array_equal(result.sampled("waiting"), both["waiting"])
    np.testing.assert_array_equal(result.sampled("blocks.dram"), both["tier_blocks"][:, :, 1])
    assert result.samples["replica"].tolist()[:4] == [0, 1, 0, 1]


def test_bytes_over_time_need_a_column_for_each_part(run):
    parts = len(run.traffic_bytes)
    looks = len(run.samples["time_ns"])
    so_far = np.arange(looks * parts, dtype=float).reshape(looks, parts)
    result = result_of(dataclasses.replace(run, samples=run.samples | {"link_bytes": so_far}))
    np.testing.assert_array_equal(result.sampled("bytes.link.pcie.up")[:, 0], so_far[:, -2])
    with pytest.raises(ValueError, match="samples of 1 parts' bytes"):
        result_of(dataclasses.replace(run, samples=run.samples | {"link_bytes": so_far[:, :1]}))


def test_the_manifest_says_what_made_it_and_why_a_metric_is_not_told(result, run):
    manifest = result_of(run, accelerators=None).manifest
    assert manifest["scenario"]["name"] == "made up"
    assert {"memhier", "python", "numpy"} <= manifest["versions"].keys()
    assert manifest["tiers"] == ["hbm", "dram", "ssd"] == list(manifest["capacity_blocks"])
    assert manifest["left_out"]["cost_usd_per_million_tokens"] == "the accelerator's price is not known"
    assert "cost_usd_per_million_tokens" in result.summary
    device, link = PROFILE.tier("ssd").device, PROFILE.links["pcie"]
    told = manifest["bandwidth_bytes_per_ns"]
    assert told["tier.ssd.write"] == device.write.bandwidth_bytes_per_ns
    assert told["link.pcie.up"] == link.read.bandwidth_bytes_per_ns


def test_the_same_run_gives_the_same_bytes(result, tmp_path):
    save(result, tmp_path / "a")
    save(result_of(made_up_run()), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_results_are_replaced_and_nothing_else_is(result, alone, tmp_path):
    save(result, tmp_path / "run")
    save(alone, tmp_path / "run")
    assert load_serving_result(tmp_path / "run").label == "hbm alone"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "manifest.json").write_text('{"format": "memhier dense trace"}')
    with pytest.raises(InputError, match="something else than results"):
        save(result, other)


def test_bad_folders_are_told(result, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_serving_result(tmp_path / "none")
    save(result, tmp_path / "run")
    with pytest.raises(InputError, match=r"another kind of run.*sim\.serving\.results\.load_serving_result"):
        load_result(tmp_path / "run")
    (tmp_path / "run" / "gaps.parquet").unlink()
    with pytest.raises(InputError, match=r"incomplete results: gaps\.parquet missing"):
        load_serving_result(tmp_path / "run")
    save(result, tmp_path / "old")
    (tmp_path / "old" / "manifest.json").write_text(json.dumps({"format": "memhier serving 0"}))
    with pytest.raises(InputError, match="not results of this version"):
        load_serving_result(tmp_path / "old")
    (tmp_path / "old" / "manifest.json").write_text(json.dumps({"format": "memhier result 2"}))
    with pytest.raises(InputError, match=r"another kind of run.*sim\.results\.load_result"):
        load_serving_result(tmp_path / "old")
    save(result, tmp_path / "bad")
    (tmp_path / "bad" / "samples.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a readable table"):
        _ = load_serving_result(tmp_path / "bad").samples


def test_a_run_without_calls_can_be_kept_and_shown(run, tmp_path):
    empty = result_of(without_calls(run))
    back = load_serving_result(save(empty, tmp_path / "run").folder)
    assert accounting(back) == "0 requests: 0 completed, 0 rejected"
    assert "first token" in "\n".join(printed(run_report(back)))
    assert figures.save_run_figures(figures.needed(back), tmp_path)


# --- tables ----------------------------------------------------------------------------------------------------------


def printed(renderable) -> list[str]:
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text().splitlines()


def test_every_call_is_accounted_for(result, alone):
    assert accounting(result) == "400 requests: 397 completed, 3 rejected (longer_than_model 3)"
    assert accounting(alone) == "400 requests: 400 completed, 0 rejected"


def test_a_run_is_a_page_of_80_columns(result, alone):
    for one in (result, alone):
        lines = printed(run_report(one))
        assert max(len(line) for line in lines) <= 80 and len(lines) <= 60
        assert not any("…" in line for line in lines)
    text = "\n".join(printed(run_report(result)))
    for told in ("no free KV blocks", "ssd", "pcie", "met the SLO", "$ a million tokens", "years of such writes"):
        assert told in text


def test_what_is_not_known_is_said(run):
    text = " ".join(" ".join(printed(run_report(result_of(run, accelerators=None)))).split())
    assert "no energy: the accelerator's power is not known" in text
    text = " ".join(" ".join(printed(run_report(result_of(run, profile=None)))).split())
    assert "no energy and price: no profile was given" in text


def test_the_comparison_marks_the_best(result, alone):
    lines = printed(comparison_report([result, alone]))
    text = "\n".join(lines)
    assert max(len(line) for line in lines) <= 80
    assert "*" in text and "Best:" in text and "3 rejected" in text
    assert "Best" not in "\n".join(printed(comparison_report([result])))
    without_price = result_of(made_up_run(), accelerators=None)
    assert "$/M" not in "\n".join(printed(comparison_report([without_price, result])))


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_the_curves_end_at_the_longest(result, alone, ax):
    figures.ttft_and_latency([result, alone], ax)
    assert [line.get_label() for line in ax.lines][:2] == ["tiers, first token", "tiers, last token"]
    done = result.completed()
    latency = metrics.latency_ns({name: result.column("requests", name)[done] for name in ("finish_ns", "arrival_ns")})
    assert ax.lines[1].get_xdata()[-1] == latency.max()
    assert all(line.get_ydata()[-1] == 1.0 for line in ax.lines)


def test_bars_add_up_to_the_mean_latency_of_their_group(result, ax):
    groups = charts.time_by_group(result)
    assert list(groups) == list(charts.GROUPS)
    sizes = [200 - 2, 159, 36, 4]  # of 397: rounded at 198.5, 357.3, 393.03
    whole = sum(size * parts.sum() for size, parts in zip(sizes, groups.values(), strict=True))
    assert whole / 397 == pytest.approx(result.summary["latency_mean_ns"])
    figures.where_time_goes(result, ax)
    ends = {bar.get_y(): bar.get_x() + bar.get_width() for bar in ax.patches}
    assert [end * 1e9 for end in ends.values()] == pytest.approx([parts.sum() for parts in groups.values()])
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in ax.patches}
    assert len(looks) == len(ax.get_legend().get_texts())


def test_hits_over_time_are_those_of_the_tiers(result, ax):
    figures.hits_over_time(result, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(result.tier_names)
    assert all(0 <= bar.get_y() + bar.get_height() <= 1 + 1e-9 for bar in ax.patches)


def test_series_follow_the_samples(result):
    above, middle, below = figures.engine_over_time(result, Figure())
    np.testing.assert_array_equal(above.lines[0].get_ydata(), result.sampled("running")[:, 0])
    assert [text.get_text() for text in middle.get_legend().get_texts()] == ["in use", "cached"]
    rates = below.lines[1].get_ydata()
    seconds = result.manifest["duration_ns"] / 1e9
    generated = result.summary["generated_tokens_per_s"] * result.summary["makespan_s"]
    assert rates.mean() * seconds == pytest.approx(generated)
    tiers, waste = figures.kv_over_time(result, Figure())
    assert [line.get_label() for line in tiers.lines] == ["hbm", "dram", "ssd"]
    assert [line.get_label() for line in waste.lines] == ["internal", "duplicated"]


def test_a_second_process_draws_the_same_files(result, alone, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    paths = figures.save_run_figures(result, tmp_path / "here")
    assert {path.name for path in paths} == {
        *("latency_cdf.png", "where_time_goes.png", "hit_tokens.png", "engine.png", "kv_cache.png"),
    }
    with Drawing() as drawing, drawing.drawn(figures.save_run_figures, figures.needed(result), tmp_path / "there"):
        figures.save_comparison_figure([result, alone], tmp_path / "compare.png")
    for path in paths:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="cannot write the figure"):
        figures.save_comparison_figure([result], tmp_path / "none" / "x.png")
