"""Speed and memory of serving runs: the Mooncake conversation by tiers and length of block, and a million requests.

    python benchmarks/serving.py [--rounds 3] [--million 1000000] [--only NAME]

The conversation is replayed at its own load on four H100 with Llama 3.1 8B (`scenarios/serving_mooncake.yaml`), with
HBM alone and with DRAM and a drive below it, in blocks of 512 tokens, which the trace has, and of 16, which vLLM has.
Each case is a process of its own: its first run compiles, or finds the kernels on disk, and is not counted; then come
the rounds. The million requests are of the `chat` generator, half as many a second, over the same engine.

Prints of each case the requests a second of processor time: of the best round, the simulation alone, all state but the
engines' made before; and of another process that does a single run, from Python's start on, reading or making the trace
and reading compiled kernels from disk. Then the most memory (of the first process, compiling included where it had to),
and the share of prompt tokens found. Traces are looked for as the catalogue says (MEMHIER_TRACE_PATH).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

SCENARIO = "serving_mooncake"
THREE = ("hbm", "dram", "ssd")
CASES = {  # tiers, tokens in a block
    "hbm, 512 tokens a block": (THREE[:1], 512),
    "three tiers, 512": (THREE, 512),
    "hbm, 16": (THREE[:1], 16),
    "three tiers, 16": (THREE, 16),
}
MILLION = {"hbm, 512 tokens a block": "a million, hbm, 512", "three tiers, 512": "a million, three tiers, 512"}
_KIB = 1024


def scenario_of(case: str, calls: int):
    """The scenario of a case; calls: of the generator, 0 for the recorded trace."""
    from sim.serving.scenario import load_serving_scenario

    tiers, block_tokens = CASES[case]
    overrides = {"serving.options.block_tokens": block_tokens}
    if calls:
        overrides |= {"workload.generator": "chat"}
        overrides |= {"workload.parameters.requests": calls, "workload.parameters.sessions_per_s": 1.0}
    whole = load_serving_scenario(SCENARIO, overrides)
    kept = tuple(tier for tier in whole.options.tiers if tier.name in tiers)
    return dataclasses.replace(whole, options=dataclasses.replace(whole.options, tiers=kept))


def measure(case: str, calls: int, rounds: int) -> dict[str, float]:
    """In this process: seconds of processor time of each round, and what the last run found."""
    from sim.serving.scenario import load_calls
    from sim.serving.simulation import prepared, run, simulate

    scenario = scenario_of(case, calls)
    trace = load_calls(scenario)
    setup = prepared(scenario, trace)
    if calls:  # nothing that is measured compiles
        few = dataclasses.replace(scenario.workload, parameters={**scenario.workload.parameters, "requests": 1000})
        simulate(dataclasses.replace(scenario, workload=few))
    else:
        run(setup)
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        record = run(setup)
        seconds.append(time.process_time() - began)
    served = int((record.calls["status"] == 0).sum())
    return {
        "requests": int(record.calls["status"].size),
        "completed": served,
        "seconds": min(seconds),
        "found": float(record.calls["hit_tokens"].sum() / record.calls["input_tokens"].sum()),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
    }


def alone(case: str, calls: int, rounds: int) -> dict[str, float]:
    """The same in a process of its own, with the processor time of all of it for a single run."""
    command = [sys.executable, __file__, "--child", case, "--calls", str(calls), "--rounds"]
    told = json.loads(subprocess.run([*command, str(rounds)], check=True, capture_output=True, text=True).stdout)
    before = _children_seconds()
    subprocess.run([*command, "0"], check=True, capture_output=True, text=True)
    return {**told, "whole_seconds": _children_seconds() - before}


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(case: str, calls: int) -> None:
    """What `run` does without its tables: read or make the trace, and simulate."""
    from sim.serving.simulation import simulate

    simulate(scenario_of(case, calls))


def show(name: str, told: dict[str, float]) -> None:
    requests = told["requests"]
    print(
        f"{name:<30} {requests / told['seconds']:>12,.0f} {requests / told['whole_seconds']:>14,.0f} "
        f"{told['peak_bytes'] / 2**20:>10,.0f} {100 * told['found']:>8.1f} % {told['completed']:>11,}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", type=int, default=1_000_000, help="requests of the long runs; 0: none")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        if given.rounds:
            print(json.dumps(measure(given.child, given.calls, given.rounds)))
        else:
            once(given.child, given.calls)
        return
    heads = f"{'simulation':>12} {'whole process':>14} {'peak MiB':>10} {'found':>10} completed"
    print(f"{'requests per second of':<30} {heads}")
    for case in CASES:
        if given.only in case:
            show(case, alone(case, 0, given.rounds))
    for case, name in MILLION.items() if given.million else ():
        if given.only in name:
            show(name, alone(case, given.million, 1))


if __name__ == "__main__":
    main()
