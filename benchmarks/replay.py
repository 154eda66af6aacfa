"""How fast each eviction policy replays: a Zipf trace in unit sizes, in-kernel requests a second, best and median."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import sim


def rates(trace, policy: str, capacity: str, rounds: int) -> dict:
    """M requests/s of `rounds` replays, and the hit ratio that they all have."""
    runs = [sim.replay(trace, policy, capacity, ignore_object_size=True) for _ in range(rounds)]
    speeds = [run.requests / run.kernel_seconds / 1e6 for run in runs]
    median = statistics.median(speeds)
    return {"policy": policy, "best": max(speeds), "median": median, "hit_ratio": runs[0].hit_ratio}


def suitable(trace) -> list[str]:
    """The policies that need no column which the trace lacks."""
    names = sim.registry.names(sim.registry.EVICTION)
    return [name for name in names if set(sim.registry.load(sim.registry.EVICTION, name).needs) <= trace.provides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--capacity", default="10%")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policies", default="", help="comma-separated; by default all that the trace suits")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    settings = {"requests": given.requests, "objects": given.objects, "alpha": given.alpha, "arrival": "none"}
    trace = sim.generate("zipf", settings, seed=1).with_next_access()
    policies = given.policies.split(",") if given.policies else suitable(trace)
    rows = []
    for policy in policies:
        rows.append(rates(trace, policy, given.capacity, given.rounds))
        if not given.json:
            best, median, hit_ratio = (rows[-1][key] for key in ("best", "median", "hit_ratio"))
            print(
                f"{policy:<14}{best:8.1f} best {median:8.1f} median M requests/s   hit ratio {hit_ratio:.4f}",
                flush=True,
            )
    if given.json:
        print(json.dumps({"requests": trace.n_requests, "objects": trace.n_blocks, "policies": rows}, indent=2))


if __name__ == "__main__":
    main()
