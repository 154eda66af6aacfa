"""How many operations a second each allocator does with a million live blocks.

    python benchmarks/allocation.py --operations 6000000

Sizes are log-normal (median 3 kB). Memory is filled with one block after another, then blocks chosen at random are
released and allocated again at another size, so every operation meets fragmented memory and cold caches. Processor time
of the compiled loop, compilation left out; the best of several rounds, because a busy machine only makes it slower.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from sim.kernels.compile import kernel
from sim.policy import Context
from sim.registry import ALLOCATOR, load, names


@kernel
def fill(allocator, state, sizes):
    for block in range(sizes.size):
        allocator.allocate(state, block, sizes[block])


@kernel
def churn(allocator, state, blocks, sizes):
    """Release each block and allocate it again; how often that was refused must be 0 for the next round."""
    refused = 0
    for i in range(blocks.size):
        allocator.release(state, blocks[i])
        refused += not allocator.allocate(state, blocks[i], sizes[i])
    return refused


def measure(name: str, live: int, operations: int, rounds: int) -> dict[str, float]:
    allocator = load(ALLOCATOR, name)
    rng = np.random.default_rng(1)
    sizes = np.maximum(1, rng.lognormal(8, 1.5, live + operations // 2)).astype(np.int64)
    capacity = 3 * int(sizes[:live].sum())
    compile_for(allocator)
    state = allocator.make_state(Context(capacity, live))
    fill(allocator, state, sizes[:live])
    blocks = rng.integers(0, live, operations // 2)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        if churn(allocator, state, blocks, sizes[live:]):
            raise SystemExit(f"{name}: memory is too small for this many blocks")
        seconds.append(time.process_time() - start)
    free = allocator.free_bytes(state)
    return {
        "operations_per_s": operations / min(seconds),
        "internal": allocator.internal_bytes(state) / (capacity - free),
        "external": 1 - min(1, allocator.largest_free_bytes(state) / free) if free else 0.0,
    }


def compile_for(allocator) -> None:
    state, one = allocator.make_state(Context(1 << 20, 1)), np.ones(1, np.int64)
    fill(allocator, state, one)
    churn(allocator, state, one - 1, one)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the allocators with many live blocks.")
    parser.add_argument("--operations", type=int, default=6_000_000, help="in each round (default: %(default)s)")
    parser.add_argument("--live", type=int, default=1_000_000, help="blocks (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts (default: %(default)s)")
    parser.add_argument("--allocators", default=",".join(names(ALLOCATOR)), help="default: %(default)s")
    given = parser.parse_args()
    print(f"{'allocator':<12} {'M operations/s':>14} {'internal':>9} {'external':>9}")
    for name in given.allocators.split(","):
        row = measure(name, given.live, given.operations, given.rounds)
        speed = row["operations_per_s"] / 1e6
        print(f"{name:<12} {speed:>14.2f} {row['internal']:>9.1%} {row['external']:>9.1%}")


if __name__ == "__main__":
    main()
