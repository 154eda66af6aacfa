"""Serving with an allocator that places the memory of calls and resizes it as they grow (`reservation: grown`)."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from sim.errors import InputError
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token
from tests.serving_engines import make_calls, options_of, policy, serve
from tests.test_serving_engine import assert_same

BLOCK_TOKENS, KV_BLOCKS = 4, 48
BLOCK_BYTES = kv_bytes_per_token(load_model("llama31_8b")) * BLOCK_TOKENS
FREE_OF_COST = {"map_ns": 0.0, "unmap_ns": 0.0}
ONE_BLOCK_A_GROUP = {"page_bytes": BLOCK_BYTES, "tensors": 1, "background": False, **FREE_OF_COST}


def busy_calls(seed, calls=40):
    """Calls that together want more memory than there is."""
    rng = np.random.default_rng(seed)
    arrival_ns = np.cumsum(rng.exponential(2e6, calls))
    lengths = rng.integers(1, 60, (calls, 2)).tolist()
    return make_calls([(given, made, [which]) for which, (given, made) in enumerate(lengths)], arrival_ns, BLOCK_TOKENS)


def options(reservation="grown", **parameters):
    chosen = {"allocator": policy("virtual_pages", **parameters)} if reservation == "grown" else {}
    chosen |= {"block_tokens": BLOCK_TOKENS, "kv_blocks": KV_BLOCKS, "prefix_caching": False}
    return options_of(reservation=reservation, **chosen)


@pytest.mark.parametrize("seed", range(4))
def test_where_an_allocator_gives_blocks_calls_run_as_with_pages(seed):
    """Bit for bit, preemptions and all."""
    paged = serve(busy_calls(seed), options("paged"))
    assert paged.calls["preemptions"].sum() > 0
    assert_same(paged, serve(busy_calls(seed), options(**ONE_BLOCK_A_GROUP)))


COSTLY = {"page_bytes": 8192, "tensors": 64, "map_ns": 2e4, "unmap_ns": 1e4, "eager_groups": 2}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("background", [True, False])
def test_iterations_in_one_go_are_those_one_by_one(seed, background):
    runs = [
        serve(busy_calls(seed), options(**COSTLY, background=background), jumps, monitor_every_ns=2e8)
        for jumps in (True, False)
    ]
    assert runs[0].loads["iterations_in_one_go"] > 0
    assert_same(*runs)


def test_an_iteration_waits_for_pages_that_nobody_has_mapped():
    """20 tokens of prompt and 13 of output, 8 tokens a group: of the 32 tokens that are computed, four groups."""
    trace = make_calls([(20, 13, [0])], [0.0], BLOCK_TOKENS)
    pages = {"page_bytes": 2 * BLOCK_BYTES // 64, "tensors": 64, "background": False, "unmap_ns": 0.0}
    free, costly = (serve(trace, options(**pages, map_ns=map_ns)) for map_ns in (0.0, 5e4))
    assert costly.duration_ns - free.duration_ns == pytest.approx(4 * 64 * 5e4)
    more_ns = costly.engine_parts_ns["overhead_ns"] - free.engine_parts_ns["overhead_ns"]
    assert more_ns == pytest.approx(4 * 64 * 5e4)
    first_ns = costly.calls["first_token_ns"][0] - free.calls["first_token_ns"][0]
    assert first_ns == pytest.approx(3 * 64 * 5e4)


def test_waste_is_what_the_allocator_says_and_the_rest_of_blocks():
    """A call alone, 33 tokens at its end in 9 blocks: 3 tokens' places, and those of the last group's other half."""
    trace = make_calls([(20, 13, [0])], [0.0], BLOCK_TOKENS)
    pages = {"page_bytes": 2 * BLOCK_BYTES // 64, "tensors": 64, **FREE_OF_COST}
    samples = serve(trace, options(**pages), monitor_every_ns=1e6).samples
    internal, reserved, used = (
        samples[name][:, 0] for name in ("kv_waste_internal_tokens", "kv_waste_reserved_tokens", "kv_blocks_in_use")
    )
    running = samples["running"][:, 0] > 0
    group = 2 * BLOCK_TOKENS
    needed = -(-used * BLOCK_TOKENS // group) * group
    computed = needed - internal
    assert (internal >= 0).all() and internal.max() > 0
    assert set(computed[running].tolist()) <= {0.0, *map(float, range(20, 33))}
    assert set(reserved.tolist()) == {0.0, group, 2 * group}  # 9 tokens further are in one of the next two groups


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="long without compilation")
def test_small_pages_let_a_fourth_more_calls_run():
    """Prabhu et al. 2025: batches 1.2 to 1.3 times as large with pages of 64 KiB as with 2 MiB. Yi-34B on two GPUs of
    80 GB, 2,048 tokens a page of 2 MiB; lengths about those of summaries of arXiv's papers, 4,096 tokens at most.
    """
    rng = np.random.default_rng(1)
    given = np.clip(rng.normal(2588, 945, 400), 100, 4000).astype(int)
    made = np.clip(rng.lognormal(5.2, 0.8, 400), 5, 4096 - given).astype(int)
    prompts = [
        (int(prompt), int(output), [which]) for which, (prompt, output) in enumerate(zip(given, made, strict=True))
    ]
    trace = make_calls(prompts, np.zeros(400), 16)
    chosen = {"block_tokens": 16, "kv_blocks": 19_000, "prefix_caching": False, "max_model_len": 4096}
    chosen |= {"tensor_parallel": 2, "max_num_batched_tokens": 4096, "reservation": "grown"}
    ran = []
    for page_bytes in (64 << 10, 2 << 20):
        pages = policy("virtual_pages", page_bytes=page_bytes, slots=400)
        samples = serve(trace, options_of(**chosen, allocator=pages), model="yi_34b", monitor_every_ns=1e8).samples
        ran.append(samples["running"][samples["waiting"] > 0].mean())
    assert 1.2 < ran[0] / ran[1] < 1.35


def test_an_allocator_that_cannot_resize_is_refused():
    with pytest.raises(InputError, match="needs an allocator that can resize"):
        serve(busy_calls(1), options_of(reservation="grown", prefix_caching=False, allocator=policy("first_fit")))
