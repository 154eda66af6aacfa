"""How many operations a second each allocator does with a million live blocks.

    python benchmarks/allocation.py --operations 6000000

Sizes are log-normal (median 3 kB). Memory is filled with one block after another, then blocks chosen at random are
released and allocated again at another size, so every operation meets fragmented memory and cold caches. Processor time
of the compiled loop; the best of several rounds, because a busy machine only makes it slower. The memory is three times
what is live. Refused: the share of allocations for which there was no place even so; such a block is tried again when
it is next chosen. The time to compile is told by itself, and is next to nothing where the machine code is on disk.
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

PARAMETERS = {"bump": {"chunk_bytes": 1 << 16}}  # one arena would never get anything back


@kernel
def fill(allocator, state, sizes, placed):
    for block in range(sizes.size):
        placed[block] = allocator.allocate(state, block, sizes[block])


@kernel
def churn(allocator, state, blocks, sizes, placed):
    """Release each block and allocate it again; how often that was refused."""
    refused = 0
    for i in range(blocks.size):
        block = blocks[i]
        if placed[block]:
            allocator.release(state, block)
        placed[block] = allocator.allocate(state, block, sizes[i])
        refused += not placed[block]
    return refused


def measure(name: str, live: int, operations: int, rounds: int) -> dict[str, float]:
    allocator = load(ALLOCATOR, name)
    rng = np.random.default_rng(1)
    sizes = np.maximum(1, rng.lognormal(8, 1.5, live + operations // 2)).astype(np.int64)
    capacity = 3 * int(sizes[:live].sum())
    compile_s = compile_for(allocator)
    state, placed = allocator.make_state(Context(capacity, live), PARAMETERS.get(name, {})), np.zeros(live, np.bool_)
    fill(allocator, state, sizes[:live], placed)
    blocks = rng.integers(0, live, operations // 2)
    seconds, refused = [], 0
    for _ in range(rounds):
        start = time.process_time()
        refused += churn(allocator, state, blocks, sizes[live:], placed)
        seconds.append(time.process_time() - start)
    free = allocator.free_bytes(state)
    return {
        "operations_per_s": operations / min(seconds),
        "refused": refused / (rounds * blocks.size),
        "internal": allocator.internal_bytes(state) / (capacity - free),
        "external": 1 - min(1, allocator.largest_free_bytes(state) / free) if free else 0.0,
        "compile_s": compile_s,
    }


def compile_for(allocator) -> float:
    start = time.process_time()
    state, one = allocator.make_state(Context(1 << 20, 1)), np.ones(1, np.int64)
    placed = np.zeros(1, np.bool_)
    fill(allocator, state, one, placed)
    churn(allocator, state, one - 1, one, placed)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the allocators with many live blocks.")
    parser.add_argument("--operations", type=int, default=6_000_000, help="in each round (default: %(default)s)")
    parser.add_argument("--live", type=int, default=1_000_000, help="blocks (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts (default: %(default)s)")
    parser.add_argument("--allocators", default=",".join(names(ALLOCATOR)), help="default: %(default)s")
    given = parser.parse_args()
    print(f"{'allocator':<14} {'M operations/s':>14} {'refused':>8} {'internal':>9} {'external':>9} {'compile s':>9}")
    for name in given.allocators.split(","):
        needs = load(ALLOCATOR, name).needs
        if needs:
            print(f"{name:<14} is left out: it needs to know {', '.join(sorted(needs))} of each object beforehand")
            continue
        row = measure(name, given.live, given.operations, given.rounds)
        speed, shares = row["operations_per_s"] / 1e6, f"{row['refused']:>8.1%} {row['internal']:>9.1%}"
        print(f"{name:<14} {speed:>14.2f} {shares} {row['external']:>9.1%} {row['compile_s']:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
