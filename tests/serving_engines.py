"""Small serving experiments for tests: calls given by hand, a system of three tiers with plain numbers, one run."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from sim.choice import Choice
from sim.cost.calibration import load_calibration, load_gpu
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token
from sim.profile import load_profile
from sim.serving import simulation
from sim.serving.laws import check_run
from sim.serving.options import KvTier, ServingOptions
from sim.trace import Calls, Trace

SYSTEM, NAMES = "dgx_h100_cxl_ssd", ("hbm", "dram", "ssd")


@cache
def parts(model="llama31_8b", overrides=(), system=SYSTEM):
    return (
        load_profile(system, dict(overrides)),
        load_model(model),
        load_gpu("a100_sxm_80g"),
        load_calibration("a100_sxm_80g"),
    )


def make_calls(prompts, arrival_ns, block_tokens=4, **known):
    """A trace of calls (input_tokens, output_tokens, hashes of the prompt's blocks)."""
    first_row = np.concatenate([[0], np.cumsum([len(ids) for _, _, ids in prompts])])
    known.setdefault("tenant", np.zeros(len(prompts), int))
    tenant = np.array(known.pop("tenant"))
    calls = Calls(
        np.array(arrival_ns, float),
        np.array([given for given, _, _ in prompts]),
        np.array([made for _, made, _ in prompts]),
        first_row,
        tenant,
        block_tokens,
        **{name: np.array(values) for name, values in known.items()},
    )
    ids = np.concatenate([np.array(ids, int) for _, _, ids in prompts])
    return Trace.from_columns("made", ids=ids, calls=calls)


def tiers_of(*blocks, model="llama31_8b", block_tokens=4, **fields):
    """Lower tiers of so many blocks each, G1 before them. fields: of every lower tier."""
    each = kv_bytes_per_token(load_model(model)) * block_tokens
    lower = [KvTier(name, capacity_bytes=int(n * each), **fields) for name, n in zip(NAMES[1:], blocks, strict=False)]
    return (KvTier("hbm"), *lower)


def make_setup(trace, options, *, model="llama31_8b", overrides=(), cluster=None, monitor_every_ns=None, seed=0):
    profile, shape, gpu, kernels = parts(model, tuple(sorted(dict(overrides).items())))
    return simulation.setup_of(
        profile, shape, gpu, kernels, options, trace, cluster=cluster, seed=seed, monitor_every_ns=monitor_every_ns
    )


def serve(trace, options, jumps=True, **settings):
    """The run, whose laws hold."""
    run = simulation.run(make_setup(trace, options, **settings), jumps=jumps)
    check_run(run)
    return run


def options_of(**fields):
    return ServingOptions(**{"block_tokens": 4, "kv_blocks": 64, "max_num_batched_tokens": 64, **fields})


def policy(text, **parameters):
    return Choice(text, parameters)


def with_tiers(options, *tiers):
    return dataclasses.replace(options, tiers=tiers)
