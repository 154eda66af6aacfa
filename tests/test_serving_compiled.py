"""Compiled engines: the same bytes as without compilation, and one line where a hook does not compile."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config

from policies.scheduling import fcfs
from sim.errors import InputError
from sim.serving import simulation
from tests.serving_engines import make_setup, options_of, tiers_of
from tests.serving_workloads import random_calls
from tests.switchable_offload import MODES, Given, offload
from tests.test_serving_engine import digest_of

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="is about compiled engines")


def digests():
    """Of the same two tiers that the reference's table is served with, so that they are compiled once for both."""
    told = []
    for seed, mode in enumerate(MODES):
        trace, prompts, block_tokens = random_calls(np.random.default_rng([seed, 21]))
        largest = max(-(-(given + made) // block_tokens) for given, made, _ in prompts)
        below = tiers_of(30, block_tokens=block_tokens, offload=offload(mode))
        chosen = options_of(block_tokens=block_tokens, kv_blocks=largest + 4, tiers=below)
        told.append(digest_of(simulation.run(make_setup(trace, chosen, monitor_every_ns=2e8))))
    return told


def test_compiled_engines_do_what_python_does():
    folder = Path(__file__).parent.parent
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_DISABLE_JIT": "1"}
    script = "from tests.test_serving_compiled import digests; print(*digests())"
    told = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert told.stdout.split() == digests(), told.stderr[-2000:]


def _rank(state, call):
    return call.no_such_field


def test_a_hook_that_does_not_compile_is_one_line():
    broken = dataclasses.replace(fcfs.POLICY, name="broken", rank=_rank)
    trace, _, block_tokens = random_calls(np.random.default_rng(1))
    chosen = options_of(block_tokens=block_tokens, scheduling=Given("broken", given=broken))
    with pytest.raises(InputError, match=r"broken.*rank.*no_such_field") as failure:
        simulation.run(make_setup(trace, chosen))
    assert "\n" not in str(failure.value)
