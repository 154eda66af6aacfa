"""Traces: numbering ids, chunks and spilling, digests, next accesses, capacities, and what is refused."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.capacity import parse_capacity
from sim.errors import InputError
from sim.kernels.idindex import IdIndex
from sim.trace import Calls, Trace, text_ids
from sim.trace_building import Clock, build_trace
from sim.trace_columns import NEVER
from sim.trace_loading import load_trace
from sim.trace_options import Option, check_options

INT64 = st.integers(-(2**63), 2**63 - 1)
IDS = st.lists(
    st.one_of(INT64, st.integers(0, 20), st.integers(0, 2**23).map(lambda i: (i << 40) - 2**62)), max_size=300
)


def numbered(ids):
    """The obvious form of densification: (dense ids, raw id of each)."""
    known = {}
    return [known.setdefault(raw, len(known)) for raw in ids], list(known)


@settings(deadline=None)
@given(st.lists(IDS, max_size=5))
def test_ids_are_numbered_in_order_of_first_appearance_across_chunks(chunks):
    index, blocks = IdIndex(), []
    for chunk in chunks:
        before = index.known
        dense, first_rows = index.densify(np.array(chunk, np.int64))
        blocks += dense.tolist()
        assert [chunk[row] for row in first_rows] == index.address[before:].tolist()
    expected, address = numbered([raw for chunk in chunks for raw in chunk])
    assert blocks == expected
    assert index.address.tolist() == address


@pytest.mark.parametrize("step", [1, 4096, 1 << 40, -3])
def test_numbering_survives_growth(step):
    ids = np.arange(20_000, dtype=np.int64) * np.int64(step)
    index = IdIndex()
    assert np.array_equal(index.densify(ids)[0], np.arange(ids.size))
    assert np.array_equal(index.densify(ids[::-1])[0], np.arange(ids.size)[::-1])
    assert np.array_equal(index.address, ids)


def sample(n=5000, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "id": rng.integers(0, 700, n),
        "arrival_ns": np.cumsum(rng.exponential(10, n)),
        "size_bytes": rng.integers(1, 9000, n),
        "op": rng.integers(0, 2, n).astype(np.uint8),
        "tenant": rng.integers(0, 4, n).astype(np.int32),
    }


def pieces(columns, sizes):
    start = 0
    while start < len(columns["id"]):
        stop = start + next(sizes)
        yield {name: column[start:stop] for name, column in columns.items()}
        start = stop


def in_pieces_of(rows, **options):
    return build_trace("t", pieces(sample(), iter(lambda: rows, None)), **options)


def test_chunking_and_spilling_change_nothing():
    whole = in_pieces_of(10_000)
    for rows, spill_bytes in [(1, 1 << 30), (999, 0), (64, 1000), (10_000, 0)]:
        with in_pieces_of(rows, spill_bytes=spill_bytes) as other:
            assert other.digest == whole.digest
            assert other.columns == whole.columns
            for name in whole.columns:
                assert np.array_equal(other.column(name), whole.column(name))
                assert other.column(name).dtype == whole.column(name).dtype
            assert np.array_equal(other.block_bytes, whole.block_bytes)
            with_next = other.with_next_access().column("next_access")
            assert np.array_equal(with_next, whole.with_next_access().column("next_access"))


@pytest.mark.parametrize("name", ["id", "arrival_ns", "size_bytes", "op", "tenant"])
def test_digest_sees_every_column(name):
    columns = sample()
    columns[name] = columns[name].copy()
    columns[name][-1] = {"op": 1 - columns["op"][-1]}.get(name, columns[name][-1] + 1)
    assert build_trace("t", [columns]).digest != build_trace("t", [sample()]).digest


def test_digest_ignores_next_access_which_follows_from_ids():
    trace = in_pieces_of(100)
    assert trace.with_next_access().digest == trace.digest


def test_chunks_are_aligned_and_in_order():
    trace = in_pieces_of(700, spill_bytes=0)
    parts = list(trace.chunks("block", "size_bytes", rows=256))
    assert [len(blocks) for blocks, _ in parts] == [256] * 19 + [136]
    for i, name in enumerate(("block", "size_bytes")):
        assert np.array_equal(np.concatenate([part[i] for part in parts]), trace.column(name))


def test_blocks_keep_address_and_first_size():
    trace = Trace.from_columns("t", ids=[9, -4, 9, 7], size_bytes=[10, 20, 30, 40])
    assert trace.column("block").tolist() == [0, 1, 0, 2]
    assert trace.address.tolist() == [9, -4, 7]
    assert trace.block_bytes.tolist() == [10, 20, 40]
    assert (trace.n_requests, trace.n_blocks) == (4, 3)


def test_blocks_of_a_trace_without_sizes_count_one():
    trace = Trace.from_columns("t", ids=[1, 2, 1])
    assert trace.block_bytes.tolist() == [1, 1]
    assert trace.columns == {"block"}


def test_text_ids_and_unsigned_ids():
    trace = Trace.from_columns("t", ids=["a", "b", "a"])
    assert trace.column("block").tolist() == [0, 1, 0]
    assert trace.address.tolist() == text_ids(["a", "b"]).tolist()
    assert Trace.from_columns("t", ids=np.array([2**64 - 1], np.uint64)).address.tolist() == [-1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=200))
def test_next_access_against_the_obvious_form(ids):
    expected = [next((j for j in range(i + 1, len(ids)) if ids[j] == ids[i]), NEVER) for i in range(len(ids))]
    trace = Trace.from_columns("t", ids=ids)
    found = trace.with_next_access()
    assert found.column("next_access").tolist() == expected
    assert found.with_next_access() is found
    assert "next_access" not in trace.columns
    given_whole = Trace.from_columns("t", ids=ids, next_access=expected)
    assert given_whole.column("next_access").tolist() == expected


def test_needs_limits_what_is_kept():
    trace = in_pieces_of(100, needs={"size_bytes"})
    assert trace.columns == {"block", "size_bytes"}
    with pytest.raises(InputError, match="did you mean 'arrival_ns'"):
        in_pieces_of(100, needs={"arrival"})
    with pytest.raises(InputError, match="no column 'arrival_ns'"):
        trace.column("arrival_ns")


def test_temporary_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with in_pieces_of(100, spill_bytes=0) as trace:
        assert len(os.listdir(tmp_path)) == 1
        trace.with_next_access()
    assert os.listdir(tmp_path) == []
    trace = in_pieces_of(100, spill_bytes=0).with_next_access()
    assert trace.column("next_access").size == 5000  # keeps the first trace's files alive
    del trace
    gc.collect()
    assert os.listdir(tmp_path) == []
    bad = sample()
    bad["size_bytes"][4999] = 0
    with pytest.raises(InputError):
        build_trace("t", pieces(bad, iter(lambda: 100, None)), spill_bytes=0)
    gc.collect()
    assert os.listdir(tmp_path) == []


def test_spilling_into_an_unwritable_folder_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="TMPDIR"):
        in_pieces_of(100, spill_bytes=0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"ids": []}, "empty"),
        ({"ids": [1.5]}, "whole numbers"),
        ({"ids": [[1]]}, "one dimension"),
        ({"ids": [1, 2], "size_bytes": [1]}, "size_bytes"),
        ({"ids": [1, 2], "size_bytes": [1, 0]}, "row 1: bad size_bytes 0"),
        ({"ids": [1, 2], "size_bytes": [-5, 1]}, "row 0: bad size_bytes -5"),
        ({"ids": [1, 2], "size_bytes": [1, 2**62]}, "row 1: bad size_bytes"),
        ({"ids": [1, 2], "size_bytes": [1.5, 2.5]}, "whole numbers"),
        ({"ids": [1, 2, 3], "arrival_ns": [1.0, 3.0, 2.5]}, "row 2: not sorted by time: arrival_ns 2.5.*at least 3.0"),
        ({"ids": [1, 2], "arrival_ns": [1.0, float("nan")]}, "row 1: bad arrival_ns nan"),
        ({"ids": [1], "arrival_ns": [-1.0]}, "bad arrival_ns -1.0"),
        ({"ids": [1], "op": [2]}, "bad op 2"),
        ({"ids": [1], "tenant": [-1]}, "bad tenant"),
        ({"ids": [1], "think_ns": [float("inf")]}, "bad think_ns"),
        ({"ids": [1], "op": ["read"]}, "numbers"),
        ({"ids": [1, 2], "next_access": [1, NEVER]}, "wrong next access"),
        ({"ids": [1, 1], "next_access": [0, NEVER]}, "wrong next access"),
        ({"ids": [1, 1], "next_access": [1, 2]}, "beyond the end"),
        ({"ids": [1, 1], "next_access": [-1, NEVER]}, "wrong next access"),
    ],
)
def test_bad_columns(columns, message):
    with pytest.raises(InputError, match=message):
        Trace.from_columns("t", **columns)


def test_order_is_checked_across_chunks():
    chunks = [{"id": np.array([1]), "arrival_ns": np.array([t])} for t in (5.0, 7.0, 6.0)]
    with pytest.raises(InputError, match=r"row 2: not sorted by time: arrival_ns 6\.0.*7\.0"):
        build_trace("t", chunks)


def test_calls_are_joined_over_chunks():
    def chunk(arrival, lengths):
        first_row = np.concatenate([[0], np.cumsum(lengths)])
        n = len(lengths)
        calls = Calls(np.full(n, arrival), np.arange(n), np.arange(n), first_row, np.zeros(n), 16)
        return {"id": np.arange(first_row[-1]), "arrival_ns": np.full(first_row[-1], arrival), "calls": calls}

    calls = build_trace("t", [chunk(1.0, [2, 0]), chunk(2.0, [0, 3])]).calls
    assert calls.first_row.tolist() == [0, 2, 2, 2, 5]
    assert calls.arrival_ns.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert (calls.block_tokens, calls.tenant.dtype, calls.input_tokens.dtype) == (16, np.int32, np.int64)
    with pytest.raises(InputError, match="cover"):
        bad = chunk(1.0, [2])
        bad["calls"] = bad["calls"]._replace(first_row=np.array([0, 1]))
        build_trace("t", [bad])


def test_clock_counts_from_the_first_time_exactly():
    clock = Clock(1.0, InputError)
    since_1970 = 1_700_000_000_000_000_000
    assert clock(np.array([since_1970, since_1970 + 1]), lambda row: {"line": row}).tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match=r"line 7.*17000000000000000000?.*at least 1700000000000000001"):
        clock(np.array([since_1970]), lambda row: {"line": 7})


TEN = Trace.from_columns("ten", ids=np.arange(10), size_bytes=np.full(10, 100))


@pytest.mark.parametrize(
    ("text", "ignore_size", "capacity"),
    [
        ("10%", True, 1),
        ("10%", False, 100),
        ("12.5%", False, 125),
        ("19.99 %", True, 1),
        ("100%", False, 1000),
        ("3", True, 3),
        ("250", False, 250),
        (7, True, 7),
        ("4 KiB", False, 4096),
        ("1 GB", False, 10**9),
        (" 5 ", True, 5),
        ("99999", True, 99999),
    ],
)
def test_capacity(text, ignore_size, capacity):
    assert parse_capacity(text, TEN, ignore_size) == capacity


BELOW_ONE = [("0", True), ("0", False), ("99", False), ("9%", True), ("9.99%", False), ("0%", True), ("50 B", False)]
NO_SHARES = ["100.01%", "-5%", "nan%", "1e2%", "%", "9" * 5000 + "%"]
NO_NUMBERS = ["-1", -1, "", "abc", "4 KiB", "4 KiBs", "1.5", 1.5, None, True, "9" * 5000, "inf", "\u0663", [1]]
BAD_CAPACITIES = [*BELOW_ONE, *((text, True) for text in NO_SHARES + NO_NUMBERS), ("1.5", False), ("-1", False)]


@pytest.mark.parametrize(
    ("text", "ignore_size"),
    BAD_CAPACITIES,
)
def test_bad_capacity(text, ignore_size):
    with pytest.raises(InputError):
        parse_capacity(text, TEN, ignore_size)


@settings(deadline=None)
@given(st.text(max_size=12), st.booleans())
def test_any_capacity_text_is_a_number_or_an_input_error(text, ignore_size):
    with contextlib.suppress(InputError):
        assert parse_capacity(text, TEN, ignore_size) >= 1


def test_options_are_checked():
    schema = {"size": Option(4, "", at_least=1, at_most=9), "kind": Option("a", "", choices=("a", "b"))}
    assert check_options(schema, {"size": 5.0}, "it") == {"size": 5, "kind": "a"}
    for bad in ({"sise": 1}, {"size": 0}, {"size": 10}, {"size": "4"}, {"size": True}, {"kind": "c"}, {"kind": 1}, [1]):
        with pytest.raises(InputError):
            check_options(schema, bad, "it")
    with pytest.raises(InputError, match="did you mean 'size'"):
        check_options(schema, {"sise": 1}, "it")


@pytest.mark.parametrize("name", ["no-such-trace", "/nowhere/at.csv", ".", "", "a\0b"])
def test_a_trace_that_is_not_there(name):
    with pytest.raises(InputError, match="no such trace"):
        load_trace(name)
