"""Several serving engines: routers, prefilling apart from decoding, and tiers that all of them share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sim.cost.calibration import load_calibration, load_gpu
from sim.errors import InputError
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token
from sim.profile import load_profile
from sim.serving import record as r
from sim.serving.laws import check_run
from sim.serving.options import ROUTERS, Cluster, KvTier, ServingOptions
from sim.serving.record import COMPLETED, ServingRun
from sim.serving.scenario import check_serving_file
from sim.serving.simulation import run, setup_of
from sim.trace import Calls, Trace
from sim.trace_loading import generate

SYSTEM, MODEL, GPU = "dgx_a100_rdma", "llama31_8b", "a100_sxm_80g"
BLOCK = 16
HBM = (KvTier("hbm"),)
POOL = (*HBM, KvTier("pool", capacity_bytes=64 << 30))
APART = Cluster(2, prefill=1, link="nic")


def made(arrival_ns, inputs, outputs, ids) -> Trace:
    """A trace of calls with hashed blocks of BLOCK tokens."""
    first_row = np.concatenate([[0], np.cumsum([len(listed) for listed in ids])])
    n = len(inputs)
    calls = Calls(
        np.asarray(arrival_ns, float), np.asarray(inputs), np.asarray(outputs), first_row, np.zeros(n, int), BLOCK
    )
    return Trace.from_columns("made", ids=np.concatenate([np.asarray(one, int) for one in ids]), calls=calls)


def fresh(call: int, tokens: int) -> list[int]:
    """Hashes of a prompt that no other call shares."""
    return [call * 10_000 + at for at in range(tokens // BLOCK)]


def alone(arrival_ns, inputs, outputs) -> Trace:
    return made(arrival_ns, inputs, outputs, [fresh(call, tokens) for call, tokens in enumerate(inputs)])


def drawn(seed: int, calls: int = 60, gap_ns: float = 3e7) -> Trace:
    """Calls of a few prefixes, some of one token, some longer than a small cache."""
    rng = np.random.default_rng(seed)
    shared, own = rng.integers(0, 12, calls), rng.integers(1, 40, calls)
    family = rng.integers(0, 4, calls)
    ids = [
        [int(family[i]) * 1000 + at for at in range(shared[i])] + [100_000 + i * 1000 + at for at in range(own[i])]
        for i in range(calls)
    ]
    outputs = np.where(rng.random(calls) < 0.2, 1, rng.integers(2, 120, calls))
    inputs = np.array([len(one) * BLOCK for one in ids]) + rng.integers(0, BLOCK, calls)
    return made(np.cumsum(rng.exponential(gap_ns, calls)).round(), inputs, outputs, ids)


def part_of(trace: Trace, keep: np.ndarray) -> Trace:
    """Some calls of a trace."""
    calls, column = trace.calls, trace.column("block")
    rows = [column[calls.first_row[i] : calls.first_row[i + 1]] for i in keep]
    return made(calls.arrival_ns[keep], calls.input_tokens[keep], calls.output_tokens[keep], rows)


def served(
    trace: Trace, cluster: Cluster, tiers=HBM, every_ns: float | None = None, changed=None, **options
) -> ServingRun:
    """A run that keeps all laws."""
    setup = setup_of(
        load_profile(SYSTEM, changed),
        load_model(MODEL),
        load_gpu(GPU),
        load_calibration(GPU),
        ServingOptions(**{"block_tokens": BLOCK, "tiers": tiers, **options}),
        trace,
        cluster=cluster,
        monitor_every_ns=every_ns,
    )
    ended = run(setup)
    check_run(ended)
    return ended


def assert_same_calls(one: ServingRun, other: ServingRun) -> None:
    """In all but the rounding of parts, which are sums that a look may cut in two."""
    for name, column in one.calls.items():
        np.testing.assert_allclose(column, other.calls[name], rtol=0, atol=1e-3 * (name == "parts_ns"), err_msg=name)


def ttft_ns(ended: ServingRun) -> np.ndarray:
    return ended.calls["first_token_ns"] - ended.calls["arrival_ns"]


def part_ns(ended: ServingRun, part: int) -> np.ndarray:
    return ended.calls["parts_ns"][:, part]


# --- laws ------------------------------------------------------------------------------------------------------------

CLUSTERS = {
    **{router: Cluster(3, router) for router in ROUTERS},
    "apart": APART,
    "two_to_two": Cluster(4, "least_loaded", prefill=2, link="nic"),
    "one_to_three": Cluster(4, prefill=1, link="nic"),
    "three_to_one": Cluster(4, "prefix_aware", prefill=3, link="nic"),
}


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("tiers", [HBM, POOL], ids=["hbm", "pool"])
def test_laws_hold_however_scarce_memory_is_and_however_often_anyone_looks(cluster, tiers):
    if len(tiers) > 1:
        cluster = dataclasses.replace(cluster, shared=("pool",))
    for seed, kv_blocks in ((1, 4000), (2, 90), (3, 61)):
        trace = drawn(seed)
        first = served(trace, cluster, tiers, every_ns=1e9, kv_blocks=kv_blocks, max_num_seqs=16)
        assert_same_calls(first, served(trace, cluster, tiers, every_ns=1e9, kv_blocks=kv_blocks, max_num_seqs=16))
        assert_same_calls(first, served(trace, cluster, tiers, every_ns=7e6, kv_blocks=kv_blocks, max_num_seqs=16))
        ended = first.calls["status"] == COMPLETED
        assert (first.calls["reason"][~ended] == r.LARGER_THAN_KV).all()
        assert set(first.calls["replica"]) <= set(range(cluster.replicas))
        assert kv_blocks < 4000 or ended.all()


def test_prefilling_apart_keeps_its_laws_under_other_rules():
    """Blocks entered at admission, partial blocks, a watermark, one call at a time, whole prompts."""
    trace = drawn(5)
    rules = (
        {"prefix_caching": False},
        {"commit": "prompt"},
        {"partial_blocks": True},
        {"watermark": 0.1},
        {"max_num_seqs": 1},
        {"chunked_prefill": False, "max_num_batched_tokens": 8192},
    )
    for rule in rules:
        served(trace, Cluster(3, prefill=1, link="nic"), kv_blocks=80, **rule)


def test_many_replicas_finish():
    trace = generate("chat", {"requests": 300, "block_tokens": 64, "sessions_per_s": 20.0}, seed=3)
    for router in ROUTERS:
        ended = served(trace, Cluster(8, router), block_tokens=64)
        assert (ended.calls["status"] == COMPLETED).all() and ended.replicas == 8
        assert np.bincount(ended.calls["replica"], minlength=8).min() > 0


# --- replicas --------------------------------------------------------------------------------------------------------


def test_in_turn_each_replica_is_an_engine_with_its_share_of_the_calls():
    trace = drawn(7, calls=90)
    together = served(trace, Cluster(3, "round_robin"), kv_blocks=100)
    for number in range(3):
        keep = np.arange(number, 90, 3)
        single = served(part_of(trace, keep), Cluster(), kv_blocks=100)
        for name, column in single.calls.items():
            if name != "replica":
                np.testing.assert_array_equal(together.calls[name][keep], column, err_msg=name)


def test_replicas_under_a_periodic_load_are_one_under_a_part_of_it():
    n = 24
    together = served(alone(np.arange(n) // 4 * 1e9, [640] * n, [30] * n), Cluster(4, "round_robin"))
    single = served(alone(np.arange(n // 4) * 1e9, [640] * (n // 4), [30] * (n // 4)), Cluster())
    for name in ("first_token_ns", "finish_ns", "parts_ns"):
        np.testing.assert_array_equal(together.calls[name], np.repeat(single.calls[name], 4, axis=0))
    assert together.iterations == 4 * single.iterations
    assert together.gaps.total_ns == 4 * single.gaps.total_ns


# --- routers ---------------------------------------------------------------------------------------------------------


def test_in_turn():
    ended = served(drawn(1, calls=20), Cluster(3, "round_robin"))
    np.testing.assert_array_equal(ended.calls["replica"], np.arange(20) % 3)


def test_least_loaded_counts_tokens_of_calls_that_are_there():
    rng = np.random.default_rng(4)
    inputs, outputs = rng.integers(50, 2000, 30), rng.integers(2, 400, 30)
    ended = served(alone(np.zeros(30), inputs, outputs), Cluster(3, "least_loaded"))
    tokens, expected = np.zeros(3), []
    for call in range(30):  # nothing has been computed yet
        expected.append(int(tokens.argmin()))
        tokens[expected[-1]] += inputs[call] + outputs[call]
    assert ended.calls["replica"].tolist() == expected
    later = served(alone(np.arange(30) * 60e9, inputs, outputs), Cluster(3, "least_loaded"))
    assert not later.calls["replica"].any()  # all are idle whenever one comes


def test_a_rejected_call_is_no_load():
    trace = alone([0, 60e9, 120e9], [3200, 320, 320], [5, 5, 5])
    ended = served(trace, Cluster(2, "least_loaded"), kv_blocks=100)
    assert ended.calls["reason"].tolist() == [r.LARGER_THAN_KV, 0, 0]
    assert ended.calls["replica"].tolist() == [0, 0, 0]


def test_a_prefix_draws_calls_until_its_engine_is_behind_by_more_than_it_saves():
    prefix = [1, 2, 3, 4, 5, 6, 7, 8]
    seconds = [0, 10, 20, 20, 20]
    ids = [fresh(9, 3200), [*prefix, 20], [*prefix, 30], [*prefix, 40], [*prefix, 50]]
    inputs = [len(one) * BLOCK for one in ids]
    trace = made(np.array(seconds) * 1e9, inputs, [2, 2, 2, 2, 2], ids)
    # At 20 s: the third call and those after it find 128 tokens at engine 0; 146 are left there once the third is sent.
    for router in ("prefix_aware", "prompt_tree"):
        ended = served(trace, Cluster(2, router))
        assert ended.calls["replica"].tolist() == [0, 0, 0, 1, 0], router
        assert ended.calls["hit_tokens"][2, 0] == 128


def test_the_prompt_tree_goes_by_memory_and_prefix_aware_looks():
    """A prefix that has been evicted since, though fewer blocks were sent than there is room for with the outputs."""
    first, other = fresh(1, 640), fresh(2, 480)
    ids = [first, other, first]
    trace = made([0, 20e9, 40e9], [640, 480, 640], [2, 480, 2], ids)
    remembered = served(trace, Cluster(1), kv_blocks=75)
    assert remembered.calls["hit_tokens"][2, 0] < 640 - BLOCK  # that much was evicted
    ended = served(trace, Cluster(2, "prompt_tree"), kv_blocks=75)
    assert ended.calls["replica"].tolist() == [0, 0, 0]
    small = served(trace, Cluster(2, "prompt_tree"), kv_blocks=68)
    assert small.calls["replica"].tolist() == [
        0,
        0,
        0,
    ]  # 70 blocks were sent: its first are forgotten, so all are equal


def test_routers_that_know_of_prefixes_find_more_in_chats():
    parameters = {"requests": 400, "block_tokens": 64, "sessions_per_s": 4.0, "single_turn_share": 0.2}
    trace = generate("chat", {**parameters, "think_s": 20.0}, seed=11)
    hits = {router: served(trace, Cluster(4, router), block_tokens=64).calls["hit_tokens"].sum() for router in ROUTERS}
    assert hits["prefix_aware"] > 1.2 * hits["round_robin"]
    assert hits["prompt_tree"] > 1.2 * hits["round_robin"]


# --- prefilling apart from decoding ----------------------------------------------------------------------------------


def linked(bandwidth: str, latency: str = "880 ns") -> dict[str, object]:
    ways = ("up", "down")
    fields = {"bandwidth": bandwidth, "latency": latency}
    return {f"links.nic.{way}.{field}": value for way in ways for field, value in fields.items()}


def test_a_call_takes_as_long_as_in_one_engine_and_its_copy():
    """Calls so far apart that no engine has two, with a copy of ceil(tokens / block) blocks over both cards."""
    inputs, outputs = [640, 1000, 33, 5000], [40, 2, 1, 300]
    trace = alone(np.arange(4) * 100e9, inputs, outputs)
    together, apart = served(trace, Cluster()), served(trace, APART)
    nic, each = load_profile(SYSTEM).links["nic"], kv_bytes_per_token(load_model(MODEL), 1) * BLOCK
    copy_ns = 2 * nic.read.latency_ns + np.ceil(np.array(inputs) / BLOCK) * each / nic.read.bandwidth_bytes_per_ns
    copy_ns[2] = 0.0  # its only token is made where it was prefilled
    np.testing.assert_array_equal(apart.calls["first_token_ns"], together.calls["first_token_ns"])
    np.testing.assert_allclose(apart.calls["finish_ns"] - together.calls["finish_ns"], copy_ns, atol=1.0)
    np.testing.assert_allclose(part_ns(apart, r.TRANSFER), copy_ns, atol=1.0)
    for part in (r.PREFILL, r.DECODE):
        np.testing.assert_allclose(part_ns(apart, part), part_ns(together, part), atol=1.0)
    assert apart.calls["replica"].tolist() == [1, 1, 0, 1]
    moved = int(np.ceil(np.array(inputs) / BLOCK)[[0, 1, 3]].sum()) * each
    assert apart.loads["handed_bytes"] == moved
    assert apart.traffic_bytes["link.nic.up"] == apart.traffic_bytes["link.nic.down"] == moved


def test_over_an_infinitely_fast_link_nothing_is_lost():
    trace = alone(np.arange(4) * 100e9, [640, 1000, 33, 5000], [40, 2, 1, 300])
    together, apart = served(trace, Cluster()), served(trace, APART, changed=linked("1000000 TB/s", "0 ns"))
    np.testing.assert_allclose(apart.calls["finish_ns"], together.calls["finish_ns"], atol=1.0)


def test_blocks_stay_where_they_were_computed_until_the_copy_has_come():
    trace = alone([0.0], [1600], [20])
    ended = served(trace, APART, every_ns=1e6, changed=linked("1 GB/s"))
    first_ns, transfer_ns = ended.calls["first_token_ns"][0], part_ns(ended, r.TRANSFER)[0]
    assert transfer_ns > 50e6
    time_ns, used = ended.samples["time_ns"], ended.samples["kv_blocks_in_use"]
    under_way = (time_ns > first_ns) & (time_ns <= first_ns + transfer_ns)
    assert (used[under_way] == 100).all() and np.count_nonzero(under_way) > 50  # in both engines
    after = time_ns > first_ns + transfer_ns
    assert not used[after, 0].any() and used[after, 1][0] >= 100


def test_a_decoding_engine_without_room_holds_up_those_that_prefill():
    """100 blocks each: one call at a time decodes, one waits for blocks, and the next is not even admitted."""
    trace = alone(np.zeros(6), [1200] * 6, [300] * 6)
    ended = served(trace, APART, kv_blocks=100)
    order = np.argsort(ended.calls["finish_ns"])
    waits_ns = ended.calls["parts_ns"][:, [r.BLOCK_WAIT, r.QUEUE]].sum(axis=1)[order]
    assert (np.diff(waits_ns) > 0).all()
    assert (ttft_ns(ended)[order][3:] > ended.calls["finish_ns"][order][:-3]).all()
    roomy = served(trace, APART, kv_blocks=10_000)
    assert ttft_ns(ended)[order[-1]] > 2 * ttft_ns(roomy).max()


def test_a_slower_link_never_makes_the_first_token_sooner():
    for seed in (1, 2):
        trace = drawn(seed, gap_ns=1e7)
        means = [
            ttft_ns(served(trace, APART, kv_blocks=150, changed=linked(bandwidth))).mean()
            for bandwidth in ("0.5 GB/s", "2 GB/s", "20 GB/s", "1000 GB/s")
        ]
        assert means == sorted(means, reverse=True)


def test_what_is_preempted_after_the_copy_is_computed_again_where_it_decodes():
    trace = alone(np.arange(6) * 1e8, [160] * 6, [400] * 6)
    ended = served(trace, APART, kv_blocks=70)
    again = ended.calls["preemptions"] > 0
    assert again.any() and (ended.calls["recomputed_tokens"][again] > 0).all()
    assert (ended.calls["computed_tokens"] == 160).all()
    assert (part_ns(ended, r.PREEMPTED)[again] > 0).all() and not part_ns(ended, r.PREEMPTED)[~again].any()


def test_a_prefix_that_the_decoding_engine_holds_is_not_copied_again():
    ids = [[1, 2, 3, 4, 5, 6, 7, 8, 100], [1, 2, 3, 4, 5, 6, 7, 8, 200]]
    trace = made([0, 10e9], [144, 144], [4, 4], ids)
    each = kv_bytes_per_token(load_model(MODEL), 1) * BLOCK
    assert served(trace, APART).loads["handed_bytes"] == (9 + 1) * each
    assert served(trace, APART, prefix_caching=False).loads["handed_bytes"] == 18 * each


# --- a shared tier ---------------------------------------------------------------------------------------------------


def test_a_block_that_one_replica_stored_is_found_by_another():
    prompt = list(range(40))
    trace = made([0, 20e9, 40e9], [645] * 3, [3] * 3, [prompt] * 3)
    cluster = Cluster(3, "round_robin", shared=("pool",))
    ended = served(trace, cluster, POOL)
    assert ended.calls["hit_tokens"].tolist() == [[0, 0], [0, 640], [0, 640]]
    counts = ended.tier_counts["pool"]
    assert counts["insertions"] == counts["copies"] == 40  # once, whoever has it
    assert (counts["lookups"], counts["hits"]) == (120, 80)
    assert ended.samples["tier_blocks"][-1, :, 1].tolist() == [40, 40, 40]
    each = kv_bytes_per_token(load_model(MODEL), 1) * BLOCK
    assert ended.traffic_bytes["tier.pool.write"] == 40 * each and ended.traffic_bytes["tier.pool.read"] == 80 * each
    own = served(trace, dataclasses.replace(cluster, shared=()), POOL)
    assert not own.calls["hit_tokens"].any() and own.tier_counts["pool"]["insertions"] == 120


def test_engines_queue_at_what_they_share():
    """Two replicas load each the other's prompt: at the same moment the second waits until the pool is free."""
    prompts = [list(range(400)), list(range(1000, 1400))]

    def loads_ns(last_ns):
        ids = [prompts[0], prompts[1], prompts[1], prompts[0]]
        trace = made([0, 20e9, 40e9, last_ns], [6405] * 4, [3] * 4, ids)
        cluster = Cluster(2, "round_robin", shared=("pool",))
        ended = served(trace, cluster, POOL, changed=linked("100000 GB/s"))
        assert ended.calls["hit_tokens"][2:, 1].tolist() == [6400, 6400]
        return np.sort(part_ns(ended, r.LOAD)[2:])

    apart_ns, together_ns = loads_ns(60e9), loads_ns(40e9)
    np.testing.assert_allclose(apart_ns[0], apart_ns[1], rtol=1e-6)
    np.testing.assert_allclose(together_ns / apart_ns, [1, 2], rtol=0.01)


# --- bad input -------------------------------------------------------------------------------------------------------

FILE = """
name: small
description: a test
system: dgx_a100_rdma
workload: {generator: chat, parameters: {requests: 10, block_tokens: 64}}
serving:
  model: llama31_8b
  tiers: {hbm: {}, pool: {}}
  cluster: CLUSTER
"""
BAD = {
    "{replicas: 2, prefill: 2, link: nic}": "serving.cluster.prefill: too many that only prefill: 2",
    "{replicas: 2, prefill: 1}": "serving.cluster.prefill: engines that only prefill need a link",
    "{replicas: 2, prefill: 1, link: nick}": "serving.cluster.link: unknown link of system 'dgx_a100_rdma': 'nick'",
    "{replicas: 2, shared: [hbm]}": "serving.cluster.shared: each engine has the first tier for itself: 'hbm'",
    "{replicas: 2, shared: [dram]}": "serving.cluster.shared: unknown tier of the KV cache: 'dram'",
    "{replicas: 2, shared: [pool, pool]}": "serving.cluster.shared: a tier twice: 'pool'",
    "{replicas: 2, router: random}": "serving.cluster.router: unknown value 'random'",
}


@pytest.mark.parametrize("cluster", BAD)
def test_bad_clusters_are_told(cluster, tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(FILE.replace("CLUSTER", cluster), encoding="utf-8")
    errors = [line for error in check_serving_file(path) for line in error.lines]
    assert len(errors) == 1 and BAD[cluster] in errors[0], errors


def test_an_unknown_router_is_told():
    with pytest.raises(InputError, match="unknown router"):
        served(drawn(1, calls=3), Cluster(2, "prefix"))
