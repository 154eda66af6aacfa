"""The engine of one tier: against a slow model, one by one against in one go, and looked at more or less often."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim.choice import Choice
from sim.serving import simulation
from tests.serving_engines import make_calls, make_setup, options_of, serve, tiers_of
from tests.serving_workloads import check_against_the_slow_model, random_calls, random_setup

SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_against_a_slow_model(seed):
    preempted = 0
    for part in range(8):
        setup = random_setup(np.random.default_rng([seed, part]), tiers=1)
        preempted += check_against_the_slow_model(setup, jumps=part % 2 == 0).calls["preemptions"].sum()
    assert preempted


def all_of(run):
    """Everything that a run says, but for wall time and how many iterations were taken in one go."""
    told = {f"calls.{name}": column for name, column in run.calls.items()}
    told |= {f"samples.{name}": column for name, column in run.samples.items()}
    told |= {f"loads.{name}": value for name, value in run.loads.items() if name != "iterations_in_one_go"}
    told |= {f"traffic.{name}": value for name, value in run.traffic_bytes.items()}
    told |= {f"busy.{name}": value for name, value in run.busy_ns.items()}
    told |= {f"parts.{name}": value for name, value in run.engine_parts_ns.items()}
    told |= {f"{tier}.{name}": n for tier, counts in run.tier_counts.items() for name, n in counts.items()}
    rest = {"iterations": run.iterations, "duration_ns": run.duration_ns, "gap_ns": run.gaps.total_ns}
    told |= {**rest, "gaps": run.gaps.counts}
    return {name: np.asarray(value) for name, value in told.items()}


def assert_same(one, other, but=()):
    first, second = all_of(one), all_of(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if not name.startswith(tuple(but) or "\n"):
            assert value.tobytes() == second[name].tobytes(), name


POLICIES = ("fcfs", "priority", "shortest_predicted", "longest_prefix", "prefix_groups", "program_fcfs", "fair_share")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("model", ["llama31_8b", "gemma3_27b"])
def test_iterations_in_one_go_are_those_one_by_one(policy, model):
    """Bit for bit, whatever the policy; gemma3_27b has layers with a sliding window."""
    jumped = 0
    for seed in range(3):
        rng = np.random.default_rng([seed, len(policy)])
        trace, prompts, block_tokens = random_calls(rng, outputs=120)
        n = len(prompts)
        trace = make_calls(
            prompts,
            trace.calls.arrival_ns,
            block_tokens,
            tenant=rng.integers(0, 3, n),
            priority=rng.integers(0, 3, n),
            program=rng.integers(0, max(1, n // 2), n),
        )
        largest = max(-(-(given + made) // block_tokens) for given, made, _ in prompts)
        chosen = options_of(block_tokens=block_tokens, kv_blocks=largest + 6, scheduling=Choice(policy), max_num_seqs=5)
        setup = make_setup(trace, chosen, model=model, monitor_every_ns=2e8)
        runs = [simulation.run(setup, jumps=jumps) for jumps in (True, False)]
        jumped += runs[0].loads["iterations_in_one_go"]
        assert runs[1].loads["iterations_in_one_go"] == 0
        assert_same(*runs)
    assert jumped


def test_iterations_in_one_go_with_lower_tiers():
    jumped = 0
    for seed in range(12):
        setup = random_setup(np.random.default_rng([seed, 77]), tiers=1 + seed % 3)
        runs = [simulation.run(setup, jumps=jumps) for jumps in (True, False)]
        jumped += runs[0].loads["iterations_in_one_go"]
        assert_same(*runs)
    assert jumped


def test_looking_more_often_changes_nothing():
    for seed in range(6):
        rng = np.random.default_rng([seed, 5])
        trace, prompts, block_tokens = random_calls(rng)
        largest = max(-(-(given + made) // block_tokens) for given, made, _ in prompts)
        chosen = options_of(
            block_tokens=block_tokens, kv_blocks=largest + 5, tiers=tiers_of(40, block_tokens=block_tokens)
        )
        seldom, often = (serve(trace, chosen, monitor_every_ns=every) for every in (1e12, 1.7e6))
        assert often.samples["time_ns"].size > 10 * seldom.samples["time_ns"].size or often.duration_ns < 5e7
        assert_same(seldom, often, but=("samples.", "loads.iterations"))


DIGEST = """
import hashlib, sys
import numpy as np
from sim.serving import simulation
from tests.serving_workloads import random_setup
from tests.test_serving_engine import digest_of
print(digest_of(simulation.run(random_setup(np.random.default_rng([3, 3]), tiers=3))))
"""


def digest_of(run):
    return hashlib.sha256(b"".join(value.tobytes() for _, value in sorted(all_of(run).items()))).hexdigest()


def test_the_same_bytes_in_another_process():
    here = digest_of(simulation.run(random_setup(np.random.default_rng([3, 3]), tiers=3)))
    folder = Path(__file__).parent.parent
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    told = subprocess.run([sys.executable, "-c", DIGEST], cwd=folder, env=environment, capture_output=True, text=True)
    assert told.stdout.strip() == here, told.stderr
