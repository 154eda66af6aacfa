"""Random serving experiments that are small and scarce, and an engine's run against the slow model's."""

from __future__ import annotations

import dataclasses

import numpy as np

from sim.choice import Choice
from sim.cost.step import make_step
from sim.serving import simulation
from tests.oracles_serving import Engine
from tests.serving_engines import make_calls, make_setup, options_of, tiers_of, with_tiers

MODES = ("write_through", "write_through_selective", "write_back", "exclusive")


def random_calls(rng, most=14, outputs=30):
    """Prompts of 1 to 200 tokens that begin like one another, in blocks of 4 to 16; some arrive at one moment."""
    block_tokens = int(rng.choice([4, 8, 16]))
    prompts, numbers = [], {}
    for _ in range(int(rng.integers(2, most))):
        tokens = int(rng.integers(1, 201))
        kinds = [int(rng.random() < 0.08) for _ in range(tokens // block_tokens)]
        if rng.random() < 0.2:  # the trace does not list all of it
            kinds = kinds[: int(rng.integers(0, len(kinds) + 1))]
        ids = [numbers.setdefault(tuple(kinds[: at + 1]), len(numbers)) for at in range(len(kinds))]
        prompts.append((tokens, int(rng.integers(1, outputs)), ids))
    if not numbers:
        prompts.append((block_tokens, 1, [1]))
    span_ns = int(rng.choice([0, 1e6, 5e7, 1e8, 3e8, 1e9]))
    arrival_ns = np.sort(rng.integers(0, span_ns + 1, len(prompts)))
    if rng.random() < 0.3:
        arrival_ns = arrival_ns // 10_000_000 * 10_000_000
    return make_calls(prompts, arrival_ns, block_tokens), prompts, block_tokens


def random_setup(rng, tiers, **fields):
    """An experiment whose G1 holds hardly more than its largest call, with so many tiers."""
    trace, prompts, block_tokens = random_calls(rng)
    largest = max(-(-(given + made) // block_tokens) for given, made, _ in prompts)
    options = options_of(
        block_tokens=block_tokens,
        kv_blocks=largest + int(rng.integers(0, largest // 2 + 8)),
        max_num_batched_tokens=int(rng.choice([16, 64, 256])),
        max_num_seqs=int(rng.choice([1, 2, 4, 16])),
        watermark=float(rng.choice([0, 0, 0.1])),
        reserve_full_prompt=bool(rng.random() < 0.7),
        long_prefill_token_threshold=int(rng.choice([0, 0, 24])),
        **fields,
    )
    if tiers > 1:
        first, *lower = tiers_of(*(int(rng.integers(1, 60)) for _ in range(tiers - 1)), block_tokens=block_tokens)
        modes = [Choice(str(rng.choice(MODES))) for _ in lower]
        lower = [dataclasses.replace(tier, offload=mode) for tier, mode in zip(lower, modes, strict=True)]
        options = with_tiers(options, first, *lower)
        if rng.random() < 0.3:
            overhead_ns = float(rng.choice([0, 5000]))
            options = dataclasses.replace(options, copy_blocks=int(rng.integers(0, 4)), copy_overhead_ns=overhead_ns)
    return make_setup(trace, options, monitor_every_ns=2e8)  # else every iteration of so short a run is looked at


def check_against_the_slow_model(setup, jumps):
    """All times to the last bit, what was found where, preempted, computed again, evicted and moved. The run."""
    run = simulation.run(setup, jumps=jumps)
    refused = set(np.flatnonzero(run.calls["status"]).tolist())
    step = make_step(setup.model, setup.gpu, setup.calibration, setup.options.tensor_parallel)
    slow = Engine(setup).run(step, refused)
    assert run.iterations == slow.counts["iterations"]
    assert run.tier_counts["hbm"]["evictions"] == slow.counts["evictions"]
    assert run.calls["preemptions"].sum() == slow.counts["preemptions"]
    for call in slow.calls:
        if call.index in refused:
            continue
        times = [run.calls[f"{name}_ns"][call.index] for name in ("first_scheduled", "first_token", "finish")]
        assert times == [call.first_scheduled, call.first_token, call.finish], call.index
        assert run.calls["hit_tokens"][call.index].tolist() == call.hits, call.index
        assert run.calls["preemptions"][call.index] == call.preemptions
        assert run.calls["recomputed_tokens"][call.index] == call.recomputed
    for number, tier in enumerate(run.tiers):
        moved = run.traffic_bytes[f"tier.{tier}.read"] + run.traffic_bytes[f"tier.{tier}.write"]
        assert moved == slow.traffic.get(number, 0)
    return run
