"""Prefix hit ratios and the two-tier table of Mooncake's conversation trace, to the last digit of the reference."""

import csv

import pytest

from sim.engines.prefix import replay_calls
from sim.hierarchy import Choice, TierPlan
from sim.trace_loading import load_trace


@pytest.fixture(scope="module")
def conversation(shared_file):
    return load_trace(shared_file("mooncake_conversation.jsonl"))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tier(name, blocks, trace, eviction="lru", offload="write_back"):
    size = int(trace.block_bytes[0])
    paged = Choice("paged", {"page_bytes": size})
    return TierPlan(name, blocks * size, eviction=Choice(eviction), offload=Choice(offload), allocator=paged)


POLICIES = {
    "lru_fwd": ("lru", "forward"),
    "lru_rev": ("lru", "backward"),
    "lfu": ("lfu", "forward"),
    "lengthaware": ("length_aware", "forward"),
}


@pytest.mark.parametrize("reference_policy", POLICIES)
def test_hit_ratios_of_one_tier(conversation, reference_file, reference_policy):
    eviction, order = POLICIES[reference_policy]
    rows = rows_of(reference_file("kvcache/mooncake_conversation_hit_ratios.csv"))
    rows = [row for row in rows if row["policy"] == reference_policy]
    assert rows
    for row in rows:
        capacity = conversation.n_blocks if row["capacity_blocks"] == "inf" else int(row["capacity_blocks"])
        result = replay_calls(conversation, [tier("hbm", capacity, conversation, eviction)], order)
        for column in ("hit_any", "hit_prefix", "hit_tokens"):
            assert round(getattr(result, column)[0], 6) == float(row[column]), (row, column)


def test_block_by_block(conversation, reference_file):
    from sim.engines.replay import replay

    rows = rows_of(reference_file("kvcache/mooncake_conversation_hit_ratios.csv"))
    rows = [row for row in rows if row["policy"] == "lru_seq"]
    assert rows
    for row in rows:
        capacity = conversation.n_blocks if row["capacity_blocks"] == "inf" else int(row["capacity_blocks"])
        result = replay(conversation, policy="lru", capacity=capacity, ignore_object_size=True)
        assert round(result.hit_ratio, 6) == float(row["hit_any"])


def test_two_tier_table(conversation, reference_file):
    rows = rows_of(reference_file("kvcache/mooncake_conversation_two_tier.csv"))
    assert len(rows) == 20
    for row in rows:
        plans = [
            tier("hbm", int(row["D"]), conversation),
            tier("dram", int(row["H"]), conversation, offload=row["mode"]),
        ]
        result = replay_calls(conversation, plans, "backward")
        held = result.resident
        assert round(result.hit_prefix[0], 6) == float(row["l1_hit"])
        assert round(result.hit_prefix[1], 6) == float(row["l1_l2_hit"])
        assert result.prefix_blocks[1] - result.prefix_blocks[0] == int(row["l2_promoted_blocks"])
        assert result.insertions[1] == int(row["writes_to_l2_blocks"])
        assert (held[:, 0] & held[:, 1]).sum() == int(row["dup_blocks"])
        assert held.any(axis=1).sum() == int(row["unique_resident"])


@pytest.mark.parametrize(("small", "large"), [(500, 500), (300, 2000), (6000, 9000)])
def test_two_tiers_that_are_one(conversation, small, large):
    """Write-through with a second tier no smaller than the first is LRU of the second; exclusive is LRU of both."""
    through = [tier("hbm", small, conversation), tier("dram", large, conversation, offload="write_through")]
    exclusive = [tier("hbm", small, conversation), tier("dram", large, conversation, offload="exclusive")]
    one_large = [tier("hbm", large, conversation)]
    one_both = [tier("hbm", small + large, conversation)]
    assert replay_calls(conversation, through).hit_any[1] == replay_calls(conversation, one_large).hit_any[0]
    assert replay_calls(conversation, exclusive).hit_any[1] == replay_calls(conversation, one_both).hit_any[0]
