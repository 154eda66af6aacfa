"""Lower tiers and everything else that can be chosen: against the slow model, and small cases worked by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim.choice import Choice
from sim.cost.kernels import WORK
from sim.cost.step import add_step_chunk, iteration_ns, make_step
from sim.errors import InputError
from sim.serving import record
from sim.serving.options import KvTier
from tests.serving_engines import make_calls, make_setup, options_of, parts, serve, tiers_of
from tests.serving_workloads import check_against_the_slow_model, random_setup

BLOCK = 524_288  # bytes of 4 tokens of llama31_8b
FAR_NS = 1e10


@pytest.mark.parametrize("tiers", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_against_a_slow_model(seed, tiers):
    for part in range(10):
        setup = random_setup(np.random.default_rng([seed, part]), tiers)
        run = check_against_the_slow_model(setup, jumps=part % 2 == 0)
        for direction, opposite in (("read", "write"), ("write", "read")):  # what leaves one end comes to another
            way = [run.traffic_bytes[f"tier.{tier}.{direction}"] for tier in run.tiers]
            back = [run.traffic_bytes[f"tier.{tier}.{opposite}"] for tier in run.tiers]
            assert sum(way) == sum(back)
        for name in ("load", "store", "lower"):
            assert run.loads[f"{name}_bytes"] % run.block_bytes == 0
        moved = sum(run.loads[f"{name}_bytes"] for name in ("load", "store", "lower"))
        assert moved == sum(run.traffic_bytes[f"tier.{tier}.read"] for tier in run.tiers)


# --- by hand ---------------------------------------------------------------------------------------------------------


class Clock:
    """What an iteration, and a copy, takes while nothing else happens."""

    def __init__(self, model="llama31_8b"):
        self.profile, shape, gpu, kernels = parts(model)
        self.step = make_step(shape, gpu, kernels, 1)
        self.layers = shape.layers

    def iteration_ns(self, *chunks, decoding=()):
        """Chunks: (new tokens, tokens before, whether it gives a token). decoding: tokens of each call, with the one
        that it adds."""
        work = np.zeros((2, WORK))
        for new, context, _ in chunks:
            add_step_chunk(self.step, work, float(new), float(context))
        tokens = float(sum(new for new, _, _ in chunks) + len(decoding))
        outputs = float(sum(gives for _, _, gives in chunks) + len(decoding))
        windowed = float(sum(min(one, self.step.window) for one in decoding))
        return iteration_ns(self.step, tokens, outputs, work, float(len(decoding)), float(sum(decoding)), windowed)

    def alone_ns(self, prompt, output, found=0):
        """A call that nobody disturbs, from its first iteration to its last."""
        first = self.iteration_ns((prompt - found, found, True))
        if prompt - found == 1 < prompt:  # a last token alone is like one that is generated
            first = self.iteration_ns(decoding=(prompt,))
        return first + sum(self.iteration_ns(decoding=(prompt + n,)) for n in range(1, output))

    def copy_ns(self, source, target, blocks):
        """The latencies on the way, the device's occupancy, and the bytes at the least bandwidth."""
        a, z = self.profile.tier(source), self.profile.tier(target)
        links = set(a.path) ^ set(z.path)
        down = len(z.path) > len(a.path)
        way = [
            a.device.access(False),
            *(self.profile.links[name].access(down) for name in links),
            z.device.access(True),
        ]
        slowest = min(one.bandwidth_bytes_per_ns for one in way)
        return sum(one.latency_ns + one.occupancy_ns for one in way) + blocks * BLOCK / slowest


@pytest.fixture(scope="module")
def clock():
    return Clock()


def close(value):
    return pytest.approx(value, rel=1e-9)


SAME = list(range(1, 9))  # hashes of 32 tokens
OTHER = list(range(101, 109))
THIRD = list(range(201, 209))


def again(*between, **fields):
    """A prompt of 33 tokens, others that drive it out of a G1 of 9 blocks, and the first again; and its latency."""
    prompts = [(33, 1, SAME), *((33, 1, ids) for ids in between or (OTHER,)), (33, 1, SAME)]
    trace = make_calls(prompts, FAR_NS * np.arange(len(prompts)))
    run = serve(trace, options_of(**{"kv_blocks": 9, "tiers": tiers_of(64), **fields}))
    return run, float(run.calls["finish_ns"][-1] - run.calls["arrival_ns"][-1])


def test_a_load_comes_before_the_prefill(clock):
    run, latency_ns = again()
    load_ns = clock.copy_ns("dram", "hbm", 8)
    assert run.calls["hit_tokens"][-1].tolist() == [0, 32]
    assert latency_ns == close(load_ns + clock.alone_ns(33, 1, found=32))
    assert run.calls["parts_ns"][-1, record.LOAD] == close(load_ns)


def test_a_load_that_the_iteration_waits_for(clock):
    run, latency_ns = again(overlap="blocking")
    load_ns = clock.copy_ns("dram", "hbm", 8)
    assert latency_ns == close(load_ns + clock.alone_ns(33, 1, found=32))
    assert run.calls["parts_ns"][-1, record.STALL] == close(load_ns)
    assert run.engine_parts_ns["load_stall_ns"] == close(load_ns)


def test_layers_that_are_computed_as_they_arrive(clock):
    """A load that is over before the last layer costs nothing; of a longer one the last layer comes after it."""
    _, latency_ns = again(overlap="layerwise")
    assert latency_ns == close(clock.alone_ns(33, 1, found=32))
    ids = list(range(1000, 1160))
    prompts = [(641, 1, ids), (641, 1, list(range(2000, 2160))), (641, 1, ids)]
    trace = make_calls(prompts, FAR_NS * np.arange(3))
    each = {"kv_blocks": 161, "max_num_batched_tokens": 1024, "overlap": "layerwise"}
    run = serve(trace, options_of(**each, tiers=tiers_of(1, 400)))
    took_ns = run.calls["finish_ns"][2] - run.calls["arrival_ns"][2]
    tiers = run.calls["hit_tokens"][2] // 4
    load_ns = max(clock.copy_ns("ssd", "hbm", tiers[2]), took_ns * 0)
    compute_ns = clock.alone_ns(641, 1, found=640)
    assert load_ns > compute_ns
    assert tiers.sum() == 160
    assert took_ns == pytest.approx(load_ns + compute_ns / clock.layers, rel=1e-4)  # a block of dram goes beside it


def test_a_victim_is_copied_away_before_the_iteration_begins(clock):
    run, _ = again(tiers=tiers_of(64, offload=Choice("write_back")))
    drained_ns, one_ns = clock.copy_ns("hbm", "dram", 8), clock.copy_ns("hbm", "dram", 1)
    assert run.calls["finish_ns"][1] - FAR_NS == close(drained_ns + clock.alone_ns(33, 1))
    # the third call loads in place of seven blocks, which leave meanwhile, and computes in place of one more
    assert run.engine_parts_ns["store_stall_ns"] == close(drained_ns + one_ns)


def test_copies_of_few_blocks_each_with_a_cost(clock):
    """One engine of copies starts them one after the other; their bytes follow as the path lets them pass."""
    _, plain_ns = again()
    _, quick_ns = again(copy_blocks=1, copy_overhead_ns=100.0)
    assert quick_ns == pytest.approx(plain_ns + 100.0, abs=1.0)
    _, slow_ns = again(copy_blocks=1, copy_overhead_ns=1e5)
    latency_ns = clock.copy_ns("dram", "hbm", 0)
    assert slow_ns == close(8 * 1e5 + latency_ns + clock.alone_ns(33, 1, found=32))
    _, paired_ns = again(copy_blocks=2, copy_overhead_ns=1e5)
    assert paired_ns == close(4 * 1e5 + latency_ns + clock.alone_ns(33, 1, found=32))


def test_loading_only_where_it_is_sooner(clock):
    """A copy with a cost of a second is later than 32 tokens; one without is not."""
    run, latency_ns = again(load="sooner", copy_overhead_ns=1e9)
    assert run.loads["recomputed_instead_tokens"] == 32
    assert run.calls["hit_tokens"][-1].sum() == 0
    assert latency_ns == close(clock.alone_ns(33, 1))
    run, latency_ns = again(load="never")
    assert run.loads["loads"] == 0 and latency_ns == close(clock.alone_ns(33, 1))
    run, _ = again(min_load_tokens=33)
    assert run.loads["loads"] == 0
    run, _ = again(max_load_tokens=12)
    assert run.calls["hit_tokens"][-1].tolist() == [0, 12]


@pytest.mark.filterwarnings("ignore:overflow")  # words wrap around, of which NumPy's own numbers warn
def test_loads_that_fail(clock):
    run, latency_ns = again(load_failure_rate=1.0)
    assert run.loads["failed"] == 1
    assert run.calls["hit_tokens"][-1].sum() == 0
    assert latency_ns == close(clock.copy_ns("dram", "hbm", 8) + clock.alone_ns(33, 1))
    run, _ = again(load_failure_rate=1.0, load_failure="fail")
    assert run.calls["status"].tolist() == [record.COMPLETED, record.COMPLETED, record.REJECTED]
    assert run.calls["reason"][-1] == record.LOAD_FAILED


def test_prefetches_into_the_second_tier(clock):
    """The prompt lies in the third tier: a second tier of 8 blocks has had two others since."""
    below = tiers_of(8, 64)
    stage_ns, load_ns = clock.copy_ns("ssd", "dram", 8), clock.copy_ns("dram", "hbm", 8)
    rest_ns = clock.alone_ns(33, 1, found=32)
    run, latency_ns = again(OTHER, THIRD, tiers=below)
    assert run.calls["hit_tokens"][-1].tolist() == [0, 0, 32]
    assert latency_ns == close(clock.copy_ns("ssd", "hbm", 8) + rest_ns)
    run, latency_ns = again(OTHER, THIRD, tiers=below, prefetch="wait_complete")
    assert run.calls["hit_tokens"][-1].tolist() == [0, 32, 0]
    assert latency_ns == close(stage_ns + load_ns + rest_ns)
    assert run.calls["parts_ns"][-1, record.PREFETCH_WAIT] == close(stage_ns)
    run, latency_ns = again(OTHER, THIRD, tiers=below, prefetch="best_effort")
    assert run.calls["hit_tokens"][-1].sum() == 0 and latency_ns == close(clock.alone_ns(33, 1))
    run, latency_ns = again(OTHER, THIRD, tiers=below, prefetch="timeout", prefetch_timeout_ns=stage_ns / 2)
    assert run.calls["hit_tokens"][-1].sum() == 0 and latency_ns == close(stage_ns / 2 + clock.alone_ns(33, 1))
    run, latency_ns = again(OTHER, THIRD, tiers=below, prefetch="timeout", prefetch_timeout_ns=stage_ns * 2)
    assert latency_ns == close(stage_ns + load_ns + rest_ns)
    run, _ = again(OTHER, THIRD, tiers=below, prefetch="wait_complete", prefetch_min_tokens=33)
    assert run.loads["staging_bytes"] == 0


def test_swap_in_place_of_computing_again(clock):
    """Two calls of 8 tokens that grow into 5 blocks: the second gives way and gets its three blocks back."""
    trace = make_calls([(8, 9, [1, 2]), (8, 9, [3, 4])], [0, 0])
    plain = {"kv_blocks": 6, "prefix_caching": False, "reserve_full_prompt": False, "tiers": tiers_of(64)}
    again_run = serve(trace, options_of(**plain))
    swap = serve(trace, options_of(**plain, preemption="swap", swap_bytes=64 * BLOCK))
    assert again_run.calls["preemptions"].tolist() == swap.calls["preemptions"].tolist() == [0, 1]
    assert again_run.calls["recomputed_tokens"][1] == 12 and swap.calls["recomputed_tokens"][1] == 0
    assert swap.loads["swap_out_bytes"] == swap.loads["swap_in_bytes"] == 3 * BLOCK
    together = clock.iteration_ns((8, 0, True), (8, 0, True))
    together += sum(clock.iteration_ns(decoding=(8 + n, 8 + n)) for n in range(1, 5))
    out_ns = clock.copy_ns("hbm", "dram", 3)
    first = together + out_ns + sum(clock.iteration_ns(decoding=(8 + n,)) for n in range(5, 9))
    assert swap.calls["finish_ns"][0] == close(first)
    back_ns = clock.copy_ns("dram", "hbm", 3)
    last = first + back_ns + sum(clock.iteration_ns(decoding=(8 + n,)) for n in range(5, 9))
    assert swap.calls["finish_ns"][1] == close(last)
    few = serve(trace, options_of(**plain, preemption="swap", swap_bytes=2 * BLOCK))
    assert few.loads["swap_out_bytes"] == 0 and few.calls["recomputed_tokens"][1] == 12


def test_a_tier_that_evicts_many_at_once():
    """A second tier of 20 blocks is emptied by 5 once 16 are in it: after 8 + 8 blocks one more makes it 12."""
    lower = dataclasses.replace(tiers_of(20)[1], evict_trigger=0.8, evict_ratio=0.25)
    prompts = [(33, 1, SAME), (33, 1, OTHER), (5, 1, [301])]
    trace = make_calls(prompts, FAR_NS * np.arange(3))
    run = serve(trace, options_of(kv_blocks=9, tiers=(KvTier("hbm"), lower)))
    assert run.tier_counts["dram"]["insertions"] == 17
    assert run.tier_counts["dram"]["evictions"] == 5
    assert run.samples["tier_blocks"][-1, 0, 1] == 12


@pytest.mark.parametrize(
    ("reservation", "blocks"), [("exact", 4), ("pow2", 4), ("max", 16)], ids=["exact", "pow2", "max"]
)
@pytest.mark.parametrize("allocator", ["first_fit", "buddy"])
def test_contiguous_reservations(clock, reservation, blocks, allocator):
    """Calls of 9 + 5 tokens in 32 blocks of 4: as many run at once as whole reservations fit."""
    trace = make_calls([(9, 5, [1])] * 12, np.zeros(12))
    chosen = {"reservation": reservation, "allocator": Choice(allocator), "prefix_caching": False, "max_model_len": 64}
    run = serve(trace, options_of(kv_blocks=32, max_num_batched_tokens=256, **chosen), monitor_every_ns=1e6)
    at_once = 32 // blocks
    assert run.samples["running"].max() == at_once
    assert run.samples["kv_blocks_in_use"].max() == 32
    first = clock.iteration_ns(*[(9, 0, True)] * at_once)
    assert run.calls["first_token_ns"][0] == close(first)
    assert at_once * (4 * blocks - 9) in run.samples["kv_waste_reserved_tokens"]  # once the prompts are computed
    assert not run.samples["kv_waste_external_tokens"].any()


def test_a_program_holds_its_blocks():
    """Of a program that goes on within its time to live, the other call that wants the memory has to wait.

    Beside a long call of 12 to 21 blocks there is no room for both of the others. Where nothing runs, holds end.
    """
    prompts = [(41, 40, list(range(50, 60))), (33, 1, SAME), (33, 1, OTHER), (33, 1, SAME)]
    trace = make_calls(prompts, [0, 0, 1e8, 1.5e8], program=[0, 1, 2, 1])
    holding = Choice("program_fcfs", {"ttl_ns": 1e9})
    kept = serve(trace, options_of(kv_blocks=30, max_num_batched_tokens=128, scheduling=holding))
    brief = Choice("program_fcfs", {"ttl_ns": 0.0})
    lost = serve(trace, options_of(kv_blocks=22, max_num_batched_tokens=128, scheduling=brief))
    assert kept.calls["hit_tokens"][3, 0] == 32
    assert kept.calls["first_scheduled_ns"][2] > kept.calls["first_scheduled_ns"][3]
    assert lost.calls["hit_tokens"][3, 0] < 32
    alone = make_calls([(33, 1, SAME), (33, 1, OTHER), (33, 1, SAME)], [0, 1e8, 1.5e8], program=[1, 2, 1])
    assert serve(alone, options_of(kv_blocks=12, scheduling=holding)).calls["first_scheduled_ns"][1] == 1e8


def test_priorities_say_who_gives_way():
    trace = make_calls([(8, 9, [1, 2]), (8, 9, [3, 4])], [0, 0], priority=[0, 1])
    fields = {"kv_blocks": 6, "prefix_caching": False, "reserve_full_prompt": False}
    run = serve(trace, options_of(**fields, scheduling=Choice("priority")))
    assert run.calls["preemptions"].tolist() == [1, 0]
    assert run.calls["finish_ns"][1] < run.calls["finish_ns"][0]


def test_fair_share_preempts_a_tenant_far_ahead():
    prompts = [(20, 60, [1, 2, 3, 4, 5]), (20, 4, [11, 12, 13, 14, 15])]
    trace = make_calls(prompts, [0, 2e8], tenant=[0, 1])
    fields = {"kv_blocks": 24, "max_num_seqs": 1}
    fair = serve(trace, options_of(**fields, scheduling=Choice("fair_share", {"quantum": 16.0})))
    never = serve(trace, options_of(**fields, scheduling=Choice("fair_share", {"quantum": 0.0})))
    assert fair.calls["preemptions"].tolist() == [1, 0] and never.calls["preemptions"].tolist() == [0, 0]
    assert fair.calls["finish_ns"][1] < never.calls["finish_ns"][1]


def test_without_chunks_a_prompt_waits_for_a_whole_budget(clock):
    trace = make_calls([(40, 1, [1]), (40, 1, [2])], [0, 0])
    run = serve(trace, options_of(chunked_prefill=False))
    one = clock.iteration_ns((40, 0, True))
    assert run.calls["finish_ns"].tolist() == [close(one), close(2 * one)]
    chunks = serve(trace, options_of())
    first = clock.iteration_ns((40, 0, True), (24, 0, False))
    second = first + clock.iteration_ns((16, 24, True))
    assert chunks.calls["finish_ns"].tolist() == [close(first), close(second)]


def test_without_prefix_caching_nothing_is_found(clock):
    run, latency_ns = again(SAME, prefix_caching=False, tiers=(KvTier("hbm"),))
    assert run.calls["hit_tokens"].sum() == 0 and latency_ns == close(clock.alone_ns(33, 1))
    assert run.samples["kv_blocks_cached"].max() == 0


@pytest.mark.parametrize("model", ["gemma3_27b", "deepseek_v3"])
def test_models_with_windows_latents_and_experts(model):
    """gemma3_27b sees 1024 tokens in most layers; deepseek_v3 has latents in place of heads, and experts."""
    clock = Clock(model)
    trace = make_calls([(1100, 4, []), (30, 3, [1])], [0, 1e12])
    large = KvTier("hbm", capacity_bytes=1 << 40)
    run = serve(trace, options_of(kv_blocks=400, max_num_batched_tokens=2048, tiers=(large,)), model=model)
    took_ns = run.calls["finish_ns"] - run.calls["arrival_ns"]
    assert took_ns[0] == close(clock.alone_ns(1100, 4))
    assert took_ns[1] == pytest.approx(clock.alone_ns(30, 3), rel=1e-6)  # the clock is at 1e12


# --- what cannot be --------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_fit():
    trace = make_calls([(8, 1, [1])], [0])
    with pytest.raises(InputError, match="does not fit"):
        make_setup(trace, options_of(kv_blocks=None), model="llama31_70b")


def test_calls_that_can_never_run_are_rejected():
    prompts = [(400, 1, [1]), (8, 1, [2]), (131_072, 1, [3]), (0, 1, [])]
    run = serve(make_calls(prompts, np.zeros(4)), options_of())
    reasons = [record.LARGER_THAN_KV, record.NO_REASON, record.LONGER_THAN_MODEL, record.NO_TOKENS]
    assert run.calls["reason"].tolist() == reasons


def test_a_policy_that_gives_nothing_up():
    """Leases without end on what is found again: the third call finds no room, ever."""
    first = KvTier("hbm", eviction=Choice("lease", {"lease_ns": 1e30}))
    prompts = [(33, 1, SAME), (33, 1, SAME), (33, 1, OTHER)]
    trace = make_calls(prompts, FAR_NS * np.arange(3))
    with pytest.raises(InputError, match=r"calls never end.*'hbm'"):
        serve(trace, options_of(kv_blocks=9, tiers=(first,)))


def test_an_exclusive_tier_whose_policy_cannot_forget():
    from policies.eviction import lru
    from tests.switchable_offload import Given

    stuck = dataclasses.replace(lru.POLICY, name="stuck", remove=None)
    tiers = tiers_of(64, offload=Choice("exclusive"), eviction=Given("stuck", given=stuck))
    with pytest.raises(InputError, match=r"tiers\.dram.*'stuck' has no remove hook"):
        again(tiers=tiers)


def test_three_levels_of_the_switchable_policy_are_the_shipped_ones():
    from tests.switchable_offload import MODES, offload

    for mode in MODES:
        shipped, _ = again(OTHER, THIRD, tiers=tiers_of(10, 20, offload=Choice(mode)))
        switched, _ = again(OTHER, THIRD, tiers=tiers_of(10, 20, offload=offload(mode)))
        assert shipped.calls["finish_ns"].tolist() == switched.calls["finish_ns"].tolist()
        assert shipped.tier_counts == switched.tier_counts
