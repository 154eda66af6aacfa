"""Which points a sweep has: laws of samples, ranges and constraints; what is told of a file before anything runs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import units
from sim.cli import main
from sim.errors import InputError
from sim.scenario_files import SWEEPS
from sim.sweep.amounts import amount_of, spelled_like
from sim.sweep.constraints import parse_constraint
from sim.sweep.effects import SEEDS, effects
from sim.sweep.fields import parse_field
from sim.sweep.planning import plan_of
from sim.sweep.sampling import GRID, LATIN_HYPERCUBE, RANDOM, ZIP, Sample, combinations
from sim.sweep.spec import check_sweep_file, load_sweep

ROOT = Path(__file__).parent.parent

# --------------------------------------------------------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("low", "high", "scale", "expected"),
    [
        ("1 GiB", "64 GiB", "log", ["1 GiB", "8 GiB", "64 GiB"]),
        ("1 GiB", "10 GiB", "linear", ["1 GiB", "5.5 GiB", "10 GiB"]),
        ("2%", "20%", "linear", ["2%", "11%", "20%"]),
        ("1 us", "1 ms", "log", ["1 us", "31.62 us", "1 ms"]),
        (1, 100, "log", [1, 10, 100]),
        (0, 1, "linear", None),
        (0.5, 1, "linear", [0.5, 0.75, 1.0]),
    ],
)
def test_ranges_are_spelled_as_their_ends(low, high, scale, expected):
    asked = {"from": low, "to": high, "steps": 3, "scale": scale}
    if expected is None:
        with pytest.raises(InputError, match="at most 2"):  # there are not three whole numbers
            parse_field(asked)
    else:
        assert list(parse_field(asked).levels()) == expected


@given(st.integers(1, 2**50), st.sampled_from(["1 GiB", "1 GB", "512 B"]))
def test_bytes_are_rounded_to_a_thousandth_and_stay_whole(number, example):
    assert units.parse_bytes(spelled_like(number, example)) == pytest.approx(number, rel=1e-3)


@given(st.integers(-50, 50), st.integers(1, 60), st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
def test_a_range_of_whole_numbers_stays_within_its_ends(low, span, shares):
    field = parse_field({"from": low, "to": low + span})
    values = [field.at(share) for share in sorted(shares)]
    assert values == sorted(values) and low <= values[0] and values[-1] <= low + span
    assert field.at(0.0) == low and field.at(math.nextafter(1, 0)) == low + span


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "empty list"),
        ([1, 2, 1], "a value twice"),
        (["5", 5], "a value twice"),
        ("lru", "a list of values, or a range"),
        ({"from": 1}, "without 'to'"),
        ({"from": 1, "to": 8, "step": 2}, "did you mean 'steps'"),
        ({"from": 8, "to": 1, "steps": 2}, "an empty range"),
        ({"from": "1 GiB", "to": "1 s", "steps": 2}, "not alike"),
        ({"from": "1%", "to": 2, "steps": 2}, "not alike"),
        ({"from": "a", "to": "b", "steps": 2}, "not a number or quantity"),
        ({"from": 0, "to": 8, "steps": 2, "scale": "log"}, "above zero"),
        ({"from": 1, "to": 8, "steps": 1}, "not a count of steps"),
        ({"from": 1, "to": 8, "steps": 2, "scale": "lin"}, "did you mean 'linear'"),
        ({"from": 1, "to": math.inf, "steps": 2}, "not a number"),
    ],
)
def test_bad_fields_are_told(value, told):
    with pytest.raises(InputError, match=told):
        parse_field(value)


# -------------------------------------------------------------------------------------------------------------- samples

LISTS = {"a": parse_field([1, 2, 3]), "b": parse_field(["x", "y"])}


def test_a_grid_has_all_combinations_and_varies_the_last_field_fastest():
    found = combinations(LISTS, Sample(GRID))
    assert [tuple(one.values()) for one in found] == list(itertools.product([1, 2, 3], ["x", "y"]))


def test_zip_takes_lists_of_one_length():
    fields = {"a": parse_field([1, 2]), "b": parse_field(["x", "y"])}
    assert combinations(fields, Sample(ZIP)) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(InputError, match="different lengths"):
        combinations(LISTS, Sample(ZIP))


@pytest.mark.parametrize("points", [5, 16, 100])
def test_a_latin_hypercube_has_one_point_in_each_part_of_each_field(points):
    fields = {name: parse_field({"from": 0.0, "to": 1.0}) for name in "abc"}
    found = combinations(fields, Sample(LATIN_HYPERCUBE, points, 3))
    for name in fields:
        strata = np.sort([one[name] * points for one in found])
        assert (np.abs(strata - (np.arange(points) + 0.5)) <= 0.5 + 1e-3 * points).all()  # values have four digits
    whole = combinations({"n": parse_field({"from": 1, "to": points})}, Sample(LATIN_HYPERCUBE, points, 3))
    assert sorted(one["n"] for one in whole) == list(range(1, points + 1))


@pytest.mark.parametrize("method", [RANDOM, LATIN_HYPERCUBE])
def test_lots_are_drawn_alike_for_one_seed_and_each_point_once(method):
    fields = {"a": parse_field({"from": "1 GiB", "to": "64 GiB", "scale": "log"}), "b": parse_field(["x", "y"])}
    found = combinations(fields, Sample(method, 40, 1))
    assert found == combinations(fields, Sample(method, 40, 1)) != combinations(fields, Sample(method, 40, 2))
    assert len(combinations(LISTS, Sample(method, 500, 1))) == 6
    below = sum(units.parse_bytes(one["a"]) < units.parse_bytes("8 GiB") for one in found)
    assert 12 <= below <= 28  # the middle of a log scale


# ---------------------------------------------------------------------------------------------------------- constraints

VALUES = {
    "tiers.hbm.capacity": "32 GiB",
    "tiers.dram.capacity": "64 GiB",
    "serving.options.page-size": 16,
    "tiers.hbm.eviction": "lru",
    "tiers.hbm.offload": {"policy": "write_back"},
    "share": "5%",
    "prefix": True,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("tiers.hbm.capacity < tiers.dram.capacity", True),
        ("tiers.hbm.capacity * 2 <= tiers.dram.capacity and not tiers.hbm.eviction == 'fifo'", True),
        ('tiers.hbm.capacity*2 < tiers.dram.capacity or tiers.hbm.eviction != "lru"', False),
        ("16 GiB < tiers.hbm.capacity < 64GiB", True),
        ("tiers.dram.capacity / tiers.hbm.capacity == 2", True),
        ("tiers.dram.capacity - tiers.hbm.capacity == 32 GiB", True),
        ("serving.options.page-size - 6 == 10", True),
        ("-serving.options.page-size < 0", True),
        ("share == 0.05 and share <= 5% and prefix", True),
        ("prefix == false", False),
        ("tiers.hbm.eviction == '32 GiB'", False),
    ],
)
def test_constraints_hold_or_do_not(text, holds):
    assert parse_constraint(text, VALUES).holds(VALUES) is holds


@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from(["<", "<=", "==", "!=", ">", ">="]),
    st.sampled_from(["+", "-", "*", "/"]),
)
def test_constraints_count_as_python_does(left, right, comparison, sign):
    text = f"a {sign} b {comparison} {left}"
    expected = eval(text, {"a": left, "b": right})
    assert parse_constraint(text, ["a", "b"]).holds({"a": left, "b": right}) is expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__[0].__subclasses__()",
        "tiers.hbm.capacity.__class__ == 1",
        "open('x')",
        "[x for x in (1,)]",
        "(lambda: 1)() == 1",
        "9**9**9**9 > 1",
        "f'{prefix}' == 'x'",
        "(prefix := 1) == 1",
        "prefix if prefix else prefix",
        "share in (1, 2)",
        "1 << 99999999 > 1",
        "~1 < 2",
        "None == None",
        "field0_ == 1",
        "known0_ == 1",
        "(" * 250 + "1" + ")" * 249,
        "-" * 499 + "1",
        "not " * 120,
        "1" * 400 + " > 1",
        "x" * 501,
        "share < 1; share > 2",
        "share <",
        "",
        3,
        "tiers.hbm.capacty < 1 GiB",
        "share == \x00",
        "share == 5 GiBB",
    ],
)
def test_nothing_but_constraints_is_taken(text):
    with pytest.raises(InputError) as caught:
        parse_constraint(text, VALUES).holds(VALUES)
    assert len(caught.value.lines) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tiers.hbm.capacity < 5", "a size is compared with a number"),
        ("tiers.hbm.capacity < 1 ms", "a size is compared with a time"),
        ("tiers.hbm.capacity + 1 > 2 GiB", "a size does not go with a number"),
        ("tiers.hbm.eviction < 'x'", "only numbers and quantities"),
        ("tiers.hbm.eviction * 2 == 'lrulru'", "not a number"),
        ("share / 0 > 1", "division by zero"),
        ("share and prefix", "neither true nor false"),
        ("share", "neither true nor false"),
        ("tiers.hbm.capacty < 1 GiB", "did you mean 'tiers.hbm.capacity'"),
    ],
)
def test_what_is_wrong_with_a_constraint_is_told(text, told):
    with pytest.raises(InputError, match=told):
        parse_constraint(text, VALUES).holds(VALUES)


def test_amounts_are_numbers_of_one_kind():
    assert amount_of("5%").number == 0.05 and amount_of("64 GiB").noun == "a size"
    assert amount_of("8").number == 8 and amount_of("lru") is None and amount_of(True) is None
    assert amount_of("2q") is None and amount_of(math.nan) is None


# ---------------------------------------------------------------------------------------------------------------- files


def written(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text("name: mine\ndescription: of a test\n" + text)
    return path


def errors_of(tmp_path, text):
    with pytest.raises(InputError) as caught:
        plan_of(load_sweep(written(tmp_path, text)))
    return caught.value.lines


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("scenario: zipf_three_tir\nfields: {seed: [1]}", 3, "did you mean 'zipf_three_tier'"),
        ("scenario: zipf_three_tier\nfields:\n  tiers.hmb.capacity: [1%]", 5, "did you mean 'tiers.hbm.capacity'"),
        ("scenario: zipf_three_tier\nfields:\n  tiers.hbm.capacity: [1%, 1 GXB]", 5, "GXB"),
        ("scenario: zipf_three_tier\nfields:\n  tiers.hbm.eviction: [lru, lrru]", 5, "did you mean 'lru'"),
        ("scenario: zipf_three_tier\nset:\n  tiers.hbm.evict: lru\nfields:\n  seed: [1]", 5, "tiers.hbm.evict"),
        ("scenario: zipf_three_tier\nfields:\n  overrides.tiers.hbm.capcity: [1 GiB]", 5, "tiers.hbm.capacity"),
        ("scenario: zipf_three_tier\nfields:\n  tiers.hbm.capacity: []", 5, "empty list"),
        ("scenario: zipf_three_tier\nfields: {}", None, "nothing varies"),
        ("scenario: zipf_three_tier\nfields: {seed: [1]}\nseeds: 3", 5, "seeds beside"),
        ("scenario: zipf_three_tier\nseeds: 0", 4, "not a count of seeds"),
        ("scenario: zipf_three_tier\nseeds: [1, 1]", 4, "not seeds"),
        ("scenario: zipf_three_tier\nseeds: 2\nsample: lhs", 5, "unknown method"),
        ("scenario: zipf_three_tier\nseeds: 2\nsample: random", 5, "without points"),
        ("scenario: zipf_three_tier\nseeds: 2\nsample: {method: grid, points: 3}", 5, "draws no lots"),
        ("scenario: zipf_three_tier\nseeds: 2\nmetrics: [hit_rato]", 5, "did you mean 'hit_ratio'"),
        ("scenario: zipf_three_tier\nfields:\n  seed: {from: 1, to: 9}", 5, "without steps"),
        ("scenario: zipf_three_tier\nfields: {seed: [1]}\nwhere: seed > 1", 5, "allow none"),
        ("scenario: zipf_three_tier\nfields: {seed: [1]}\nwhere: sed > 1", 5, "did you mean 'seed'"),
        ("scenario: zipf_three_tier\nfields: {seed: [1]}\nset: {seed: 2}", 5, "also set"),
        ("scenario: zipf_three_tier\nfieldz: {seed: [1]}\nseeds: 2", 4, "did you mean 'fields'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(tmp_path, text, line, told):
    lines = errors_of(tmp_path, text)
    assert len(lines) == 1 and told in lines[0]
    assert ("sweep.yaml:" if line is None else f"sweep.yaml:{line}:") in lines[0]


def test_all_faults_are_told_at_once_and_each_once(tmp_path):
    text = "scenario: zipf_three_tier\nfields:\n  tiers.hbm.eviction: [lrru, fifoo]\n  tiers.lpddr.capacity: [5%, 500%]"
    lines = errors_of(tmp_path, text)
    assert len(lines) == 3 and len(set(lines)) == 3
    both = errors_of(tmp_path, "scenario: zipf_three_tier\nseeds: -1\nsample: lhs\nfields: {seed: 3}")
    assert len(both) == 3


def test_seeds_are_of_every_combination_and_the_fastest(tmp_path):
    plan = plan_of(
        load_sweep(written(tmp_path, "scenario: zipf_three_tier\nfields: {tiers.hbm.capacity: [1%, 2%]}\nseeds: 2"))
    )
    assert [(one.values["tiers.hbm.capacity"], one.seed) for one in plan.points] == [
        ("1%", 1),
        ("1%", 2),
        ("2%", 1),
        ("2%", 2),
    ]
    listed = plan_of(load_sweep(written(tmp_path, "scenario: zipf_three_tier\nseeds: [7, 3]")))
    assert [one.scenario.seed for one in listed.points] == [7, 3] and listed.combinations == 1


def test_constraints_know_what_is_set(tmp_path):
    text = "scenario: zipf_three_tier\nset: {tiers.lpddr.capacity: 10%}\nfields: {tiers.hbm.capacity: [5%, 10%]}\n"
    plan = plan_of(load_sweep(written(tmp_path, text + "where: tiers.hbm.capacity < tiers.lpddr.capacity")))
    assert [one.values for one in plan.points] == [{"tiers.hbm.capacity": "5%"}] and plan.removed == 1


def test_a_field_may_hold_a_policy_with_parameters(tmp_path):
    text = "scenario: zipf_three_tier\nfields:\n  tiers.hbm.eviction: [{policy: s3fifo, small_ratio: 0.2}, lru]"
    plan = plan_of(load_sweep(written(tmp_path, text)))
    assert plan.points[0].scenario.tiers["hbm"].eviction.parameters == {"small_ratio": 0.2}
    assert plan.points[0].label == "eviction s3fifo:small_ratio=0.2"


def test_a_scenario_beside_the_sweep_is_found(tmp_path):
    (tmp_path / "own.yaml").write_bytes((ROOT / "scenarios" / "zipf_three_tier.yaml").read_bytes())
    assert len(plan_of(load_sweep(written(tmp_path, "scenario: ./own.yaml\nseeds: 2"))).points) == 2


@pytest.mark.parametrize("name", SWEEPS.names())
def test_shipped_sweeps_are_good(name):
    assert 10 <= len(plan_of(load_sweep(name)).points) <= 50


def refused(capsys, *arguments):
    """The only line that the command line prints before it ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.out == "" and told.err.count("\n") == 1 and told.err.startswith("error: ")
    return told.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no_such"], "unknown sweep"),
        (["dram_size_and_policy", "--executor", "slurm"], "unknown executor"),
        (["dram_size_and_policy", "--executor", "dask"], "without --scheduler"),
        (["dram_size_and_policy", "--scheduler", "tcp://127.0.0.1:1"], "without --executor dask"),
        (["dram_size_and_policy", "--set", "tiers.lpddr.capacity=5%"], "also set"),
        (["dram_size_and_policy", "--set", "tiers.hmb.capacity=5%"], "error: --set tiers.hmb.capacity: unknown field"),
        (["dram_size_and_policy", "--json", "--csv"], "both --json and --csv"),
        (["dram_size_and_policy", "--jobs", "0"], "jobs"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_a_line(arguments, told, capsys, tmp_path):
    assert told in refused(capsys, "sweep", *arguments, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_validate_knows_sweeps(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(ROOT / "scenarios" / "sweeps" / "dram_size_and_policy.yaml")])
    assert ended.value.code == 0 and "good" in capsys.readouterr().out
    bad = written(tmp_path, "scenario: zipf_three_tier\nfields: {tiers.hbm.capcity: [1%]}")
    assert [one.field for one in check_sweep_file(bad)] == ["fields.tiers.hbm.capcity"]


# -------------------------------------------------------------------------------------------------------------- effects


class _Result:
    def __init__(self, value):
        self.summary = {"metric": value}


def results_of(rows):
    from sim.result_set import ResultSet, Run

    return ResultSet(tuple(Run(str(at), _Result(value), values, seed) for at, (values, seed, value) in enumerate(rows)))


def test_main_effects_are_the_shares_of_the_variance():
    grid = [
        ({"a": a, "b": b}, s, 10.0 * a + b + noise)
        for a in (0, 1)
        for b in (0, 1)
        for s, noise in ((0, -0.5), (1, 0.5))
    ]
    shares = effects(results_of(grid), "metric")
    whole = np.var([value for *_, value in grid])
    assert shares == pytest.approx({"a": 25 / whole, "b": 0.25 / whole, SEEDS: 0.25 / whole})
    assert sum(shares.values()) == pytest.approx(1)


def test_effects_are_not_told_where_they_cannot_be():
    zipped = [({"a": a, "b": a}, s, float(a + s)) for a in (0, 1, 2) for s in (0, 1)]
    assert effects(results_of(zipped), "metric") == {}
    some = [({"a": a, "b": b}, s, float(a + s)) for a in (0, 1, 2) for b in (0, 1) if a < 2 or b for s in (0, 1)]
    assert effects(results_of(some), "metric") == {}
    alike = [({"a": a, "b": b}, 0, 1.0) for a in (0, 1) for b in (0, 1)]
    assert effects(results_of(alike), "metric") == {}
    assert effects(results_of([({"a": a}, s, float(a * s)) for a in (0, 1) for s in (1, 2)]), "metric") == {}


def test_drawn_numbers_are_taken_in_parts():
    rng = np.random.default_rng(4)
    drawn = [({"a": float(a), "b": float(b)}, 0, float(a)) for a, b in rng.random((200, 2))]
    shares = effects(results_of(drawn), "metric")
    assert shares["a"] == pytest.approx(15 / 16, abs=0.02) and shares["b"] < 0.05
