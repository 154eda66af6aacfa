"""Results: one folder that appears whole or not at all, the same bytes for the same inputs, and reading it back."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from rich.console import Console

import sim.result_files as files_module
from sim.errors import InputError
from sim.report.table import comparison_report, explain, run_report
from sim.results import Coded, Result, load_result, save
from tests.test_metrics import runs  # noqa: F401

FILES = {"requests.parquet", "tiers.parquet", "parts.parquet", "summary.json", "manifest.json", "timing.json"}


@pytest.fixture(scope="module")
def results(runs):  # noqa: F811
    return [Result.from_simulation(run, label) for run, label in zip(runs, ("lru", "roomy"), strict=True)]


@pytest.fixture
def result(results):
    return results[0]


def test_what_is_read_back_is_what_was_computed(result, tmp_path):
    saved = save(result, tmp_path / "run")
    back = load_result(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert saved.folder == back.folder == tmp_path / "run"
    assert back.summary == result.summary
    assert list(back.summary) == list(result.summary)
    assert back.manifest == result.manifest
    assert back.requests.equals(result.requests)
    assert back.tiers.equals(result.tiers)
    assert (back.label, back.tier_names) == ("lru", ("hbm", "lpddr", "ssd"))


def test_a_column_is_the_same_from_memory_and_from_its_file(result, tmp_path):
    back = load_result(save(result, tmp_path / "run").folder)
    for table, columns in result.columns.items():
        for name in columns:
            ours, theirs = result.column(table, name), back.column(table, name)
            if isinstance(ours, Coded):
                ours, theirs = (np.array(one.names)[one.codes] for one in (ours, theirs))
            np.testing.assert_array_equal(ours, theirs)


def test_what_is_written_beside_appears_with_the_results(result, tmp_path):
    @contextmanager
    def beside(shown, folder):
        assert shown is result and not (tmp_path / "run").exists()
        yield
        (folder / "note.txt").write_text("x")

    save(result, tmp_path / "run", beside)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"note.txt"}


def test_results_are_written_without_pandas(result, tmp_path):
    fresh = Result(result.summary, result.manifest, result.timing, columns=result.columns)
    (tmp_path / "result.pickle").write_bytes(pickle.dumps(fresh))
    code = (
        "import pickle, sys; from pathlib import Path; from sim.results import save; "
        "save(pickle.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2]); print('pandas' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "result.pickle"), str(tmp_path / "run")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert load_result(tmp_path / "run").requests.equals(result.requests)


def test_tables_agree_with_the_summary(result):
    requests, tiers, summary = result.requests, result.tiers, result.summary
    assert len(requests) == summary["requests"]
    assert requests["latency_ns"].mean() == pytest.approx(summary["latency_mean_ns"])
    served = requests["served_by"].value_counts()
    assert {tier: int(served[tier]) for tier in served.index} == {
        tier: summary[f"tier.{tier}.hits"] for tier in result.tier_names
    }
    last = result.parts.groupby("part", observed=True).last()
    for part, told in last.iterrows():
        kind, name, way = part.split(".")
        assert told["bytes"] == summary[f"{kind}.{name}.{way}_bytes"]
    assert set(last.index) == {f"tier.{tier}.{way}" for tier in result.tier_names for way in ("read", "write")} | {
        f"link.{link}.{way}" for link in result.manifest["links"] for way in ("up", "down")
    }
    span_ns = summary["duration_s"] * 1e9
    for link in result.manifest["links"]:
        waited_ns = sum(last.loc[f"link.{link}.{way}", "wait_ns"] for way in ("up", "down"))
        assert waited_ns / span_ns == pytest.approx(summary[f"link.{link}.queue_length_mean"])
        assert last.loc[f"link.{link}.up", "busy_ns"] / span_ns == pytest.approx(summary[f"link.{link}.up_utilisation"])
    hbm = tiers[tiers["tier"] == "hbm"]
    assert hbm["used_bytes"].max() == summary["tier.hbm.occupancy_max_bytes"]
    assert hbm["hits"].iloc[-1] == summary["tier.hbm.hits"]
    assert hbm["hit_ratio"].dropna().between(0, 1).all()
    assert tiers["tier"].cat.categories.tolist() == ["hbm", "lpddr"]


def test_the_manifest_says_what_made_it(result):
    manifest = result.manifest
    assert manifest["scenario"]["name"] == "small"
    assert len(manifest["profile"]["digest"]) == len(manifest["trace"]["digest"]) == 64
    assert {"memhier", "python", "numpy", "numba", "simpy", "pandas", "pyarrow"} == set(manifest["versions"])
    assert {"eviction.lru", "allocator.buddy", "device_model.fixed", "prefetch.none"} <= set(manifest["policies"])
    assert manifest["seed"] == 5


def test_the_same_inputs_give_the_same_bytes(result, runs, tmp_path):  # noqa: F811
    from sim.simulation import simulate

    again = Result.from_simulation(simulate(runs[0].scenario), "lru")
    save(result, tmp_path / "a")
    save(again, tmp_path / "b")
    for name in FILES - {"timing.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_result_is_replaced_and_nothing_else(result, results, tmp_path):
    save(result, tmp_path / "run")
    (tmp_path / "run" / "figure.png").write_text("old")
    save(results[1], tmp_path / "run")
    assert load_result(tmp_path / "run").label == "roomy"
    assert not (tmp_path / "run" / "figure.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("content", [None, '{"name": "an extension"}', "not json"])
def test_another_folder_is_left_alone(result, tmp_path, content):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    if content is not None:
        (folder / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="something else than results"):
        save(result, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_empty_folder_may_be_used_and_a_file_not(result, tmp_path):
    (tmp_path / "empty").mkdir()
    save(result, tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError):
            save(result, place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder(result, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot write the results"):
        save(result, tmp_path / "locked" / "run")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["write_files", "_take_place"])
def test_nothing_half_written_stays(result, results, tmp_path, monkeypatch, failure, step):
    save(result, tmp_path / "run")
    whole = getattr(files_module, step)

    def fail(*arguments):
        if step == "write_files":
            whole(*arguments)
        raise failure

    monkeypatch.setattr(files_module, step, fail)
    for place in (tmp_path / "run", tmp_path / "new" / "deep"):
        with pytest.raises(InputError if isinstance(failure, OSError) else type(failure)):
            save(results[1], place)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert load_result(tmp_path / "run").label == "lru"


def test_incomplete_and_bad_folders(result, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_result(tmp_path / "none")
    save(result, tmp_path / "run")
    (tmp_path / "run" / "requests.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="not a readable table"):
        _ = load_result(tmp_path / "run").requests
    (tmp_path / "run" / "tiers.parquet").unlink()
    with pytest.raises(InputError, match=r"incomplete results: tiers\.parquet missing"):
        load_result(tmp_path / "run")
    save(result, tmp_path / "other")
    (tmp_path / "other" / "summary.json").write_text("{")
    with pytest.raises(InputError, match="not readable"):
        load_result(tmp_path / "other")
    (tmp_path / "other" / "summary.json").write_text("{}")
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({"format": "memhier result 0"}))
    with pytest.raises(InputError, match="not results of this version"):
        load_result(tmp_path / "other")


def printed(renderable) -> list[str]:
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text().splitlines()


def test_tables_fit_80_columns(results):
    for renderable in (run_report(results[0]), comparison_report(results)):
        lines = printed(renderable)
        assert max(len(line) for line in lines) <= 80
        assert not any("…" in line for line in lines)


def test_the_comparison_marks_the_best_and_says_why(results):
    text = "\n".join(printed(comparison_report(results)))
    assert "roomy" in text and "*" in text
    best_on, why, where = explain(results)
    assert best_on.startswith("Best: ")
    assert "mean latency" in why
    assert "% of all latency is" in where
    assert len(explain(results[:1])) == 1


def test_runs_that_are_alike_have_no_best(result):
    sentences = explain([result, result])
    assert sentences[0] == "None is alone the best on anything."
    assert "the same mean latency" in sentences[1]
