"""What holds at the end of every serving run: calls, tokens, times and blocks are all accounted for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import numpy as np

from sim.serving import state as s
from sim.serving import tiers as t
from sim.serving.metrics import latency_ns
from sim.serving.network import DRAINING, STARTED
from sim.serving.record import COMPLETED, ENGINE_PARTS, REJECTED, SAMPLED, ServingRun


class BrokenLaw(RuntimeError):
    """A run that contradicts itself: a defect of the simulator, not of what it was given."""


def check_run(run: ServingRun) -> None:
    """Raises BrokenLaw, which says the law and, where it is one of calls, the first that breaks it."""
    for law in (_check_outcomes, _check_order, _check_parts, _check_tokens, _check_gaps, _check_samples, _check_engine):
        law(run)


def check_engines(engines: Iterable[s.Engine]) -> None:
    """That nothing is left of any call in engines that have come to rest. Raises BrokenLaw."""
    for engine in engines:
        tiers, count = engine.tiers, engine.count
        g1, moving = tiers.sizes[0], engine.network.counts
        left = {
            "blocks that calls have for themselves": g1[t.PRIVATE],
            "blocks in use": g1[t.PINNED],
            "users of blocks": np.abs(tiers.pins).sum(),
            "blocks that G1's policy has forgotten": g1[t.ORPHANS],
            "blocks held twice": count[s.DUPLICATES],
            "blocks swapped out": count[s.SWAP_USED],
            "transfers under way": moving[STARTED] + moving[DRAINING],
            "calls that hold blocks": count[s.HELD_CALLS],
            "blocks of calls": np.abs(engine.calls[:, (s.BLOCKS, s.OWNED, s.PENDING, s.SWAPPED)]).sum(),
        }
        _require(not any(left.values()), f"at rest there are none of {[name for name, of in left.items() if of]}")
        for held, sizes in zip(tiers.held, tiers.sizes, strict=True):
            counted = int(np.count_nonzero(held & t.HELD))
            _require(counted == sizes[t.COUNT], f"a tier counts {sizes[t.COUNT]} blocks and holds {counted}")
            _require(counted <= sizes[t.CAPACITY], f"a tier of {sizes[t.CAPACITY]} blocks holds {counted}")


def _hold(holds: np.ndarray, law: str, calls: np.ndarray | None = None) -> None:
    """Raises BrokenLaw, with the first call for which it does not hold."""
    if not np.all(holds):
        broken = np.flatnonzero(~np.asarray(holds))
        first = int(broken[0] if calls is None else calls[broken[0]])
        raise BrokenLaw(f"a serving run broke a law: {law} ({broken.size} times, first of call {first})")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise BrokenLaw(f"a serving run broke a law: {law}")


def _check_outcomes(run: ServingRun) -> None:
    status, reason = run.calls["status"], run.calls["reason"]
    _hold((status == COMPLETED) | (status == REJECTED), "every call is completed or rejected")
    _hold((status == REJECTED) == (reason != 0), "a rejected call has a reason, and no other has one")


def _completed(run: ServingRun) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    at = np.flatnonzero(run.calls["status"] == COMPLETED)
    return at, {name: column[at] for name, column in run.calls.items()}


def _check_order(run: ServingRun) -> None:
    at, calls = _completed(run)
    order = ("arrival_ns", "first_scheduled_ns", "first_token_ns", "finish_ns")
    for earlier, later in itertools.pairwise(order):
        _hold(calls[earlier] <= calls[later], f"{earlier} <= {later}", at)  # of NaN this is False, too
    latest_ns = float(calls["finish_ns"].max(initial=0.0))
    _require(latest_ns <= run.duration_ns * (1 + 1e-9) + 1, f"no call ends after the run: {latest_ns}")


def _check_parts(run: ServingRun) -> None:
    """The parts are sums of many differences of times, each rounded to 53 bits of the time."""
    at, calls = _completed(run)
    took_ns, parts_ns = latency_ns(calls), calls["parts_ns"]
    rounding_ns = 1 + 1e-6 * took_ns + 1e-9 * calls["finish_ns"]
    _hold((parts_ns >= -rounding_ns[:, None]).all(axis=1), "no part of a call's time is negative", at)
    _hold(np.abs(parts_ns.sum(axis=1) - took_ns) <= rounding_ns, "a call's parts add up to finish - arrival", at)


def _check_tokens(run: ServingRun) -> None:
    at, calls = _completed(run)
    hits, computed, asked = calls["hit_tokens"].sum(axis=1), calls["computed_tokens"], calls["input_tokens"]
    _hold(calls["generated_tokens"] == calls["output_tokens"], "generated == output tokens of a completed call", at)
    _hold((calls["hit_tokens"] >= 0).all(axis=1) & (hits <= asked), "0 <= tokens found <= tokens of the prompt", at)
    _hold((computed >= 0) & (computed <= asked), "0 <= tokens computed at first <= tokens of the prompt", at)
    _hold(hits + computed >= asked, "each token of a prompt was found or computed", at)


def _check_gaps(run: ServingRun) -> None:
    expected = int(np.maximum(run.calls["generated_tokens"] - 1, 0).sum())
    counted = int(run.gaps.counts.sum())
    _require(counted == expected, f"gaps between tokens: {counted}, of tokens that follow another: {expected}")


def _check_samples(run: ServingRun) -> None:
    samples, calls = run.samples, run.calls
    missing = [name for name in (*SAMPLED, "time_ns", "tier_blocks") if name not in samples]
    _require(not missing, f"samples of {', '.join(missing)}")
    _require(bool(np.all(np.diff(samples["time_ns"]) >= 0)), "samples are in order of time")
    used = samples["kv_blocks_in_use"] + samples["kv_blocks_cached"]
    _require(bool(np.all(used <= run.tier_capacity_blocks[0])), "no more blocks in G1 than it has")
    held = samples["tier_blocks"]
    _require(bool(np.all(held <= np.array(run.tier_capacity_blocks))), "no more blocks in a tier than it has")
    if not len(samples["time_ns"]):
        return
    for name in ("kv_blocks_in_use", "running", "waiting", "loading"):
        _require(not samples[name][-1].any(), f"at the end {name} is 0")
    totals = {
        "finished": int(np.count_nonzero(calls["status"] == COMPLETED)),
        "preemptions": int(calls["preemptions"].sum()),
        "generated_tokens": int(calls["generated_tokens"].sum()),
    }
    for name, expected in totals.items():
        counted = float(samples[name][-1].sum())
        _require(counted == expected, f"{name}: {counted:g} in the last sample, {expected} of all calls")


def _check_engine(run: ServingRun) -> None:
    _require(set(run.engine_parts_ns) == set(ENGINE_PARTS), "the engines' time has these parts alone")
    worked_ns, whole_ns = sum(run.engine_parts_ns.values()), run.duration_ns * run.replicas
    _require(worked_ns <= whole_ns * (1 + 1e-6) + 1, f"engines work {worked_ns:g} ns of {whole_ns:g}")
    _require(all(size >= 0 for size in run.traffic_bytes.values()), "no negative bytes")
    shaped = all(re.fullmatch(r"tier\.[^.]+\.(read|write)|link\.[^.]+\.(up|down)", name) for name in run.traffic_bytes)
    _require(shaped, f"traffic is of tier.NAME.read or write, link.NAME.up or down, not {list(run.traffic_bytes)}")
    shaped = all(re.fullmatch(r"tier\.[^.]+|link\.[^.]+\.(up|down)", name) for name in run.busy_ns)
    _require(shaped, f"busy times are of tier.NAME, link.NAME.up or down, not {list(run.busy_ns)}")
