"""What `diff` says: nothing of what is the same, everything of what is not, and significance as often as it should."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

import sim
from sim import estimates
from sim.cli import app
from sim.comparing import BATCHES, EXACT, PAIRED_SEEDS, SEEDS, changes, configuration, diff
from sim.errors import InputError
from sim.result_set import ResultSet, Run, load_results

SMALL = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "out"
    sim.compare("zipf_three_tier", ["fifo", "lru"], overrides=SMALL, out=folder)
    return folder


@pytest.fixture(scope="module")
def seeded():
    """Makes a set of runs of the same scenario, a seed each."""

    def make(seeds, **overrides):
        asked = SMALL | {name.replace("__", "."): value for name, value in overrides.items()}
        results = [sim.run("zipf_three_tier", asked, seed) for seed in seeds]
        return ResultSet(tuple(Run(str(r.manifest["seed"]), r, {}, r.manifest["seed"]) for r in results))

    return make


def scores(found):
    return {score.name: score for pair in found.pairs for score in pair.scores}


def command(*arguments):
    done = CliRunner().invoke(app, ["diff", *map(str, arguments)], catch_exceptions=True)
    if isinstance(done.exception, InputError):
        return 2, str(done.exception)
    return done.exit_code, done.output


# --------------------------------------------------------------------------------------------------------- what is said


def test_the_same_inputs_give_no_difference(compared, tmp_path):
    sim.compare("zipf_three_tier", ["fifo", "lru"], overrides=SMALL, out=tmp_path / "again")
    found = diff(load_results(compared), load_results(tmp_path / "again"))
    assert found.same and [pair.label for pair in found.pairs] == ["fifo", "lru"]
    assert "no difference" in command(compared, tmp_path / "again")[1]


def test_a_byte_of_a_table_is_a_difference(compared, tmp_path):
    copy = shutil.copytree(compared / "lru", tmp_path / "copy")
    shutil.copy(compared / "fifo" / "requests.parquet", copy)
    found = diff(load_results(compared / "lru"), load_results(copy))
    assert not found.same and found.pairs[0].files == ("requests",)
    assert "requests.parquet differ" in command(compared / "lru", copy)[1]


def test_configuration_is_told_by_dotted_names(compared):
    found = diff(load_results(compared / "fifo"), load_results(compared / "lru"))
    told = {one.field: (one.was, one.now) for one in found.pairs[0].changes}
    assert told["tiers.hbm.eviction.policy"] == ("fifo", "lru")
    assert told["policies.eviction.lru"][0] is None and "policies.eviction.fifo" in told
    assert set(name.split(".")[0] for name in told) == {"tiers", "policies"}


@given(
    st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2)),
)
def test_changes_turn_one_configuration_into_the_other(was, now):
    turned = was | {one.field: one.now for one in changes(was, now)}
    assert {name: value for name, value in turned.items() if value is not None} == now


def test_a_run_without_a_partner_is_told(compared, tmp_path):
    both, one, other = (
        load_results(compared),
        load_results(compared / "lru"),
        called(compared / "lru", "mine", tmp_path),
    )
    found = diff(both, one)
    assert (found.only_was, found.only_now) == (("fifo",), ()) and found.pairs[0].same and not found.same
    assert "only in was: fifo" in command(compared, compared / "lru")[1]
    with pytest.raises(InputError, match="no run has a partner"):
        diff(both, other)


def called(folder, label, place):
    """The same results under another label."""
    copy = shutil.copytree(folder, place / label)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"label": label}))
    return load_results(copy)


def test_bad_questions_are_told(compared, tmp_path):
    assert command(compared / "lru", compared / "fifo", "--metrics", "hit_rato")[1].endswith(
        "did you mean 'hit_ratio'?"
    )
    assert command(compared / "lru", tmp_path / "none")[0] == 2
    sim.run("heap_allocators", out=tmp_path / "heap")
    assert "different kinds" in command(compared / "lru", tmp_path / "heap")[1]


def test_programs_get_the_same_answer(compared):
    document = json.loads(command(compared / "fifo", compared / "lru", "--json")[1])
    rows = list(csv.DictReader(io.StringIO(command(compared / "fifo", compared / "lru", "--csv")[1])))
    told = document["pairs"][0]["scores"]
    assert [row["metric"] for row in rows] == [one["metric"] for one in told]
    mean = next(one for one in told if one["metric"] == "latency_mean_ns")
    assert mean["change"] == pytest.approx(mean["now"] - mean["was"])
    assert mean["change_low"] < mean["change"] < mean["change_high"] and mean["p"] <= mean["p_holm"]


def test_tables_fit_a_terminal(compared):
    tables = command(compared / "fifo", compared / "lru")[1].split("Simulations repeat")[0]
    assert max(map(len, tables.splitlines()[3:])) <= 80


# --------------------------------------------------------------------------------------------------------- significance


def test_means_over_requests_are_the_metrics(compared):
    for run in load_results(compared):
        for name, values in run.kind.request_means(run.result).items():
            assert np.nanmean(values) == pytest.approx(run.result.summary[name], rel=1e-6), name


def test_each_method_where_it_holds(compared, seeded):
    one = scores(diff(load_results(compared / "fifo"), load_results(compared / "lru")))
    assert one["latency_mean_ns"].method == BATCHES and one["latency_p99_ns"].method == EXACT
    assert one["latency_p99_ns"].significant is None
    few, others, smaller = seeded([1, 2, 3]), seeded([4, 5, 6, 7]), seeded([1, 2, 3], tiers__hbm__capacity="20%")
    assert scores(diff(few, others))["latency_p99_ns"].method == SEEDS
    assert scores(diff(few, smaller))["latency_p99_ns"].method == PAIRED_SEEDS
    assert scores(diff(few, few))["latency_p99_ns"].difference.change == 0
    other_requests = scores(diff(seeded([1]), seeded([2])))
    assert {score.method for score in other_requests.values()} == {EXACT}


def test_a_clear_difference_is_seen(seeded):
    small, large = seeded(range(6), tiers__hbm__capacity="1%"), seeded(range(6), tiers__hbm__capacity="60%")
    score = scores(diff(small, large, ["hit_ratio", "tier.hbm.hit_ratio"]))["tier.hbm.hit_ratio"]
    assert score.significant and score.verdict == "better"
    one = [ResultSet(results.runs[:1]) for results in (small, large)]
    score = scores(diff(*one, ["hit_ratio", "latency_mean_ns"]))["latency_mean_ns"]
    assert score.method == BATCHES and score.significant and score.verdict == "better"


def test_the_other_way_round_says_the_opposite(compared, seeded):
    for was, now in (
        (load_results(compared / "fifo"), load_results(compared / "lru")),
        (seeded([1, 2]), seeded([3, 4, 5])),
    ):
        forth, back = scores(diff(was, now)), scores(diff(now, was))
        opposite = {"better": "worse", "worse": "better"}
        for name, score in forth.items():
            other = back[name]
            assert (score.was, score.now, score.method) == (other.now, other.was, other.method)
            assert other.verdict == opposite.get(score.verdict, score.verdict)
            assert other.difference.change == -score.difference.change
            assert other.significant == score.significant
            if score.method != EXACT:
                assert other.difference.low == pytest.approx(-score.difference.high)
                assert (other.difference.p, other.p) == (pytest.approx(score.difference.p), pytest.approx(score.p))


values = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=2, max_size=9)


@given(values, values)
def test_welch_is_scipys(was, now):
    if np.ptp(was) < 1e-2 or np.ptp(now) < 1e-2:
        return
    ours, theirs = estimates.welch(was, now), stats.ttest_ind(now, was, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)
    assert (ours.low, ours.high) == (
        pytest.approx(interval.low, rel=1e-6, abs=1e-6),
        pytest.approx(interval.high, rel=1e-6, abs=1e-6),
    )


@given(values)
def test_paired_is_scipys(differences):
    if np.ptp(differences) < 1e-2:
        return
    ours, theirs = estimates.paired(differences), stats.ttest_1samp(differences, 0)
    assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)


def test_what_never_differs_is_certain():
    assert estimates.welch([1, 1], [1, 1]) == (0, 0, 0, 1) and estimates.paired([3, 3]).p == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_holms_steps_reject(p):
    """The definition: go up the sorted probabilities as long as the k-th is below 5 % / (n - k)."""
    rejected, order = set(), sorted(range(len(p)), key=p.__getitem__)
    for rank, at in enumerate(order):
        if p[at] >= 0.05 / (len(p) - rank):
            break
        rejected.add(at)
    adjusted = estimates.holm(p)
    borderline = {at for at in range(len(p)) if any(abs(p[at] * k - 0.05) < 1e-12 for k in range(1, len(p) + 1))}
    assert {at for at in range(len(p)) if adjusted[at] < 0.05} - borderline == rejected - borderline


def in_a_row(rng, draws, length, memory):
    """float64[draws, length] stationary sequences of mean 0 in which each value remembers a share of the one before."""
    values = rng.normal(size=(draws, length))
    for at in range(1, length):
        values[:, at] = memory * values[:, at - 1] + np.sqrt(1 - memory**2) * values[:, at]
    return values


def share_found(tests):
    return np.mean([one.p < 0.05 for one in tests])


def test_no_difference_is_found_significant_as_often_as_said():
    rng = np.random.default_rng(3)
    assert share_found(estimates.welch(rng.normal(0, 1, 5), rng.normal(0, 3, 8)) for _ in range(3000)) == pytest.approx(
        0.05, abs=0.013
    )
    assert share_found(estimates.paired(rng.normal(0, 2, 5)) for _ in range(3000)) == pytest.approx(0.05, abs=0.013)
    remembered = in_a_row(rng, 2000, 3000, 0.8)  # nine requests on, an eighth of it is left; a batch has a hundred
    assert share_found(map(estimates.paired_batches, remembered)) == pytest.approx(0.05, abs=0.03)
    naive = share_found(map(estimates.paired, remembered))  # what batches are for
    assert naive > 0.4


def test_of_many_metrics_one_is_found_as_often_as_said():
    rng = np.random.default_rng(4)
    rounds = [estimates.holm([estimates.paired(rng.normal(0, 1, 5)).p for _ in range(12)]) for _ in range(800)]
    assert np.mean([min(one) < 0.05 for one in rounds]) == pytest.approx(0.05, abs=0.025)


def test_a_difference_as_large_as_the_noise_is_found():
    rng = np.random.default_rng(5)
    assert share_found(estimates.welch(rng.normal(0, 1, 10), rng.normal(2, 1, 10)) for _ in range(300)) > 0.95
    assert share_found(map(estimates.paired_batches, 0.5 + in_a_row(rng, 300, 3000, 0.8))) > 0.95


def test_the_next_mean_falls_where_it_is_predicted():
    rng = np.random.default_rng(6)
    told = [estimates.prediction(rng.normal(7, 2, 5), 3) for _ in range(3000)]
    inside = [one.low <= rng.normal(7, 2, 3).mean() <= one.high for one in told]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.013)


def test_serving_and_allocation_tell_what_they_are_of(tmp_path):
    result = sim.run("heap_allocators")
    told = configuration(result)
    assert told["allocation.allocator.policy"] == "best_fit" and told["trace.digest"] and "compare" not in told
