"""Miss-ratio curves: how often a cache misses, by its size.

exact: LRU over objects that count alike has all sizes from one pass of stack distances (Mattson et al. 1970); any other
policy is replayed at each size, all of them at once on all cores.
shards: LRU from the distances of a sample of the objects, chosen by a hash of their numbers (Waldspurger et al., FAST
2015), with the correction for having drawn too many or too few requests (SHARDS-adj).
minisim: any policy, replayed on that sample in a cache scaled down as much (Waldspurger et al., ATC 2017), corrected
likewise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np

from sim import registry
from sim.capacity import parse_capacity
from sim.choice import parse_choice
from sim.engines.replay import plugin_of, replay, with_columns
from sim.errors import InputError
from sim.kernels.compile import kernel
from sim.kernels.random import following, make_rng, unit_of
from sim.kernels.stack_distance import stack_distance_histogram
from sim.trace import Trace

METHODS = ("exact", "shards", "minisim")
_SMALLEST_SHARE = 0.001  # of the footprint, where the sizes are left to us
_SEEDS_APART = 0xD1342543DE82EF95  # odd, and not the generator's own step: samples of two seeds share nothing

Progress = Callable[[int, int], None]  # sizes done, sizes in all


@dataclass(frozen=True)
class Point:
    """One size of one policy. capacity: objects where sizes are ignored, else bytes; share: of all that there are."""

    policy: str
    capacity: int
    share: float
    miss_ratio: float
    byte_miss_ratio: float  # NaN where the method counts objects alone


def miss_ratio_curves(
    trace: Trace | str | os.PathLike,
    policies: Sequence[str] = ("lru",),
    sizes: Iterable[str | int] = (),
    points: int = 20,
    method: str = "exact",
    rate: float = 0.01,
    ignore_object_size: bool = False,
    seed: int = 0,
    reader: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Point]:
    """The curve of each policy in turn, each from the smallest size to the largest.

    sizes: as a replay takes its capacity; by default `points` of them, evenly spaced on a log scale from a thousandth
    of the objects (bytes) to all. rate: share of the objects that the sampling methods look at; seed: of the sample and
    of policies that draw lots. workers: threads, by default a core each.
    Raises InputError for what cannot be replayed so, and for a sample without a request.
    """
    if method not in METHODS:
        raise InputError("unknown method", value=method, candidates=METHODS)
    if not 0 < rate <= 1:
        raise InputError("bad rate", value=rate, expected="more than 0, at most 1")
    if points < 1:
        raise InputError("bad number of points", value=points, expected="at least 1")
    plugins = tuple(plugin_of(registry.EVICTION, policy)[0] for policy in policies)
    if not plugins:
        raise InputError("no policies", expected="at least one, such as lru")
    loaded = with_columns(trace, ignore_object_size, reader, plugins)
    unit_size = ignore_object_size or "size_bytes" not in loaded.columns
    footprint = _footprint(loaded, unit_size)
    capacities = _capacities(loaded, sizes, points, unit_size, footprint)
    if method == "shards":
        _check_shards(policies, unit_size)
        return _points("lru", capacities, footprint, _shards(loaded, capacities, rate, seed))
    sampled, scale, corrections = loaded, 1.0, (1.0, 1.0)
    if method == "minisim":
        sampled, scale = sample(loaded, rate, seed), rate
        drawn, whole = _requested(sampled), _requested(loaded)
        corrections = drawn[0] / (rate * whole[0]), drawn[1] / (rate * whole[1])
    one_pass = {policy for policy in policies if method == "exact" and unit_size and policy == "lru"}
    tasks = [(policy, capacity) for policy in policies if policy not in one_pass for capacity in capacities]
    found = _replays(sampled, tasks, scale, ignore_object_size, seed, workers, progress)
    curves = []
    for policy in policies:
        if policy in one_pass:
            ratios = _stack_curve(loaded, capacities)
        else:
            ratios = [_corrected(found[policy, capacity], corrections) for capacity in capacities]
        curves += _points(parse_choice(policy).label, capacities, footprint, ratios)
    return curves


def _requested(trace: Trace) -> tuple[int, int]:
    """Requests, and bytes that they ask for."""
    if "size_bytes" not in trace.columns:
        return trace.n_requests, trace.n_requests
    return trace.n_requests, sum(int(size.sum()) for (size,) in trace.chunks("size_bytes"))


def _corrected(ratios: tuple[float, float], corrections: Sequence[float]) -> tuple[float, float]:
    """Misses over what a fair sample would have been: what was drawn too much or too little are the hottest objects."""
    misses, byte_misses = (min(1.0, ratio * by) for ratio, by in zip(ratios, corrections, strict=True))
    return misses, byte_misses


def _replays(
    trace: Trace,
    tasks: Sequence[tuple[str, int]],
    scale: float,
    ignore_size: bool,
    seed: int,
    workers: int | None,
    progress: Progress | None,
) -> dict[tuple[str, int], tuple[float, float]]:
    """Miss ratio and byte miss ratio of each policy and capacity, the capacities scaled; one replay a thread."""
    found = {}
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = {
            pool.submit(_replayed, trace, task[0], round(task[1] * scale), ignore_size, seed): task for task in tasks
        }
        try:
            for job in as_completed(jobs):
                found[jobs[job]] = job.result()
                if progress is not None:
                    progress(len(found), len(tasks))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def errors_against(exact: Sequence[Point], approximate: Sequence[Point]) -> dict[str, tuple[float, float]]:
    """Of each policy, the mean and the largest absolute difference of the miss ratios over the curve."""
    off: dict[str, list[float]] = {}
    for true, found in zip(exact, approximate, strict=True):
        off.setdefault(found.policy, []).append(abs(true.miss_ratio - found.miss_ratio))
    return {policy: (sum(all_) / len(all_), max(all_)) for policy, all_ in off.items()}


def _points(label: str, capacities: list[int], footprint: int, ratios: Iterable[tuple[float, float]]) -> list[Point]:
    return [Point(label, c, c / footprint, *both) for c, both in zip(capacities, ratios, strict=True)]


def _footprint(trace: Trace, unit_size: bool) -> int:
    return trace.n_blocks if unit_size else int(trace.block_bytes.sum())


def _capacities(trace: Trace, sizes: Iterable[str | int], points: int, unit_size: bool, footprint: int) -> list[int]:
    asked = [parse_capacity(size, trace, unit_size, within_footprint=True) for size in sizes]
    if not asked:
        first = max(_smallest(trace, unit_size), footprint * _SMALLEST_SHARE)
        asked = [round(float(size)) for size in np.geomspace(first, footprint, points)]
    return sorted(set(asked))


def _smallest(trace: Trace, unit_size: bool) -> int:
    """The least capacity that holds an object."""
    return 1 if unit_size else int(trace.block_bytes.min())


def _check_shards(policies: Sequence[str], unit_size: bool) -> None:
    for policy in policies:
        if policy != "lru":
            raise InputError("the method shards takes lru alone, minisim any policy:", value=policy, expected="lru")
    if not unit_size:
        raise InputError("the method shards counts objects; ignore their sizes (--ignore-object-size) or use minisim")


def _replayed(trace: Trace, policy: str, capacity: int, ignore_size: bool, seed: int) -> tuple[float, float]:
    unit_size = ignore_size or "size_bytes" not in trace.columns
    # scaled down to a sample it may be too small or too large for it
    capacity = min(max(capacity, _smallest(trace, unit_size)), _footprint(trace, unit_size))
    run = replay(trace, policy, capacity, ignore_size, seed=seed)
    return run.misses / run.requests, 1 - run.byte_hit_ratio


def _stack_curve(trace: Trace, capacities: list[int]) -> list[tuple[float, float]]:
    blocks = (block for (block,) in trace.chunks("block"))
    hits = np.cumsum(stack_distance_histogram(blocks, trace.n_blocks).count)
    ratios = [1 - hits[min(capacity, hits.size) - 1] / trace.n_requests for capacity in capacities]
    return [(float(ratio), float(ratio)) for ratio in ratios]


# ---------------------------------------------------------------------------------------------------------- by sampling


def in_sample(address: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """bool[blocks]: which of these numbers a hash puts into the sample."""
    chosen = np.empty(address.size, np.bool_)
    _choose(address, make_rng((seed + 1) * _SEEDS_APART)[0], rate, chosen)
    return chosen


@kernel
def _choose(address, offset, rate, chosen):
    for block in range(address.size):
        chosen[block] = unit_of(following(np.uint64(address[block]) + offset)) < rate


def _sampled_blocks(trace: Trace, rate: float, seed: int) -> tuple[np.ndarray, int]:
    """int32[blocks]: the new number of each block of the sample, -1 for the others; and how many there are."""
    chosen = in_sample(trace.address, rate, seed)
    number = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)
    count = int(chosen.sum())
    if not count:
        expected = f"a rate well above 1 in {trace.n_blocks} objects, or another seed"
        raise InputError("the sample has no object:", value=rate, expected=expected)
    return number, count


def sample(trace: Trace, rate: float, seed: int) -> Trace:
    """The requests for a share `rate` of the objects, in order; a new trace with the same columns.

    Raises InputError for a trace of LLM calls, whose blocks would lose their places in their calls.
    """
    if trace.calls is not None:
        problem = f"trace {trace.name!r} has LLM calls, of which a sample of the blocks would leave pieces;"
        raise InputError(problem, expected="the method exact, or shards for lru")
    number, _ = _sampled_blocks(trace, rate, seed)
    derived = ("next_access", "previous_access")
    names = sorted(trace.columns - {"block", *derived})
    kept: dict[str, list[np.ndarray]] = {name: [] for name in ("block", *names)}
    for block, *columns in trace.chunks("block", *names):
        here = number[block] >= 0
        for name, column in zip(kept, (block, *columns), strict=True):
            kept[name].append(column[here])
    whole = {name: np.concatenate(pieces) for name, pieces in kept.items()}
    made = Trace.from_columns(f"{trace.name} at {rate:g}", ids=trace.address[whole.pop("block")], **whole)
    return made.with_next_access() if "next_access" in trace.columns else made


def _shards(trace: Trace, capacities: list[int], rate: float, seed: int) -> list[tuple[float, float]]:
    number, count = _sampled_blocks(trace, rate, seed)
    blocks = (numbers[numbers >= 0] for numbers in (number[block] for (block,) in trace.chunks("block")))
    found = stack_distance_histogram(blocks, count)
    drawn = int(found.count.sum()) + found.first
    expected = trace.n_requests * rate
    hits = np.concatenate([[0.0], np.cumsum(found.count)])
    hits[1:] += expected - drawn  # SHARDS-adj: what was drawn too much or too little are the most popular objects
    ratios = (1 - hits[min(count, max(1, round(capacity * rate)))] / expected for capacity in capacities)
    return [(min(1.0, max(0.0, float(ratio))), float("nan")) for ratio in ratios]
