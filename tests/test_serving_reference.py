"""Mooncake's conversation trace through the whole timed engine, where timing cannot change hits: the reference's rows.

Calls generate one token, which is never written to the cache, and arrive so far apart that each one has ended and all
its copies have arrived before the next. The reference looks a whole prompt up, then touches its blocks one after the
other, and knows nothing of use after that: `commit: prompt`, `touch_on_release: false`, partial blocks cached. Its
policy `lru_seq` looks each block up after the one before it was touched, which no serving engine does.
"""

from __future__ import annotations

import csv

import numpy as np
import pytest

from sim.choice import Choice
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token
from sim.serving.options import KvTier
from sim.trace import Calls, Trace
from sim.trace_loading import load_trace
from tests.serving_engines import options_of, serve
from tests.switchable_offload import offload

APART_NS = 1e12
BLOCK_TOKENS = 512
BLOCK_BYTES = int(BLOCK_TOKENS * kv_bytes_per_token(load_model("llama31_8b")))


@pytest.fixture(scope="module")
def conversation(shared_file):
    """The trace, each call with one token of output, a quarter of an hour apart."""
    trace = load_trace(shared_file("mooncake_conversation.jsonl"))
    calls = trace.calls
    apart = Calls(
        np.arange(len(calls.arrival_ns)) * APART_NS,
        calls.input_tokens,
        np.ones(len(calls.arrival_ns), int),
        calls.first_row,
        calls.tenant,
        calls.block_tokens,
    )
    return Trace.from_columns("conversation", ids=trace.column("block"), calls=apart)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def options(blocks, order, **fields):
    settings = {"block_tokens": BLOCK_TOKENS, "kv_blocks": blocks, "max_num_batched_tokens": 1 << 17, "order": order}
    rules = {"commit": "prompt", "partial_blocks": True, "touch_on_release": False, "store_outputs": False}
    return options_of(**settings, **rules, **fields)


def served(conversation, chosen):
    run = serve(conversation, chosen, monitor_every_ns=1e16)
    done = run.calls["finish_ns"]
    assert (run.calls["status"] == 0).all()
    assert (done[:-1] + 1e11 < run.calls["arrival_ns"][1:]).all()  # what copies take after the end is far below that
    return run


@pytest.mark.parametrize(("policy", "order"), [("lru_fwd", "forward"), ("lru_rev", "backward")])
def test_one_tier(conversation, reference_file, policy, order):
    rows = rows_of(reference_file("kvcache/mooncake_conversation_hit_ratios.csv"))
    rows = [row for row in rows if row["policy"] == policy]
    assert rows
    for row in rows:
        capacity = conversation.n_blocks + 1 if row["capacity_blocks"] == "inf" else int(row["capacity_blocks"])
        counts = served(conversation, options(capacity, order)).tier_counts["hbm"]
        assert counts["lookups"] == conversation.n_requests
        assert round(counts["hits"] / counts["lookups"], 6) == float(row["hit_prefix"]), row


def test_two_tiers(conversation, reference_file):
    rows = rows_of(reference_file("kvcache/mooncake_conversation_two_tier.csv"))
    assert len(rows) == 20
    for row in rows:
        first, second = int(row["D"]), int(row["H"])
        below = KvTier(
            "dram", capacity_bytes=second * BLOCK_BYTES, eviction=Choice("lru"), offload=offload(row["mode"])
        )
        run = served(conversation, options(first, "backward", tiers=(KvTier("hbm"), below)))
        g1, g2 = run.tier_counts["hbm"], run.tier_counts["dram"]
        assert run.tier_capacity_blocks == (first, second)
        assert round(g1["hits"] / g1["lookups"], 6) == float(row["l1_hit"]), row
        assert round((g1["hits"] + g2["hits"]) / g1["lookups"], 6) == float(row["l1_l2_hit"]), row
        assert g2["hits"] == int(row["l2_promoted_blocks"]), row
        assert g2["insertions"] == int(row["writes_to_l2_blocks"]), row
