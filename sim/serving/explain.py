"""Why a serving run took the time that it took: where it went, what held the engine up when, and whether tiers helped.

All of it is read from a saved result. What other tiers would have done is simulated: see `sim.serving.what_if`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.serving.record import ENGINE_PARTS, PARTS
from sim.serving.what_if import LARGE_G2, NO_LOWER, Outcome
from sim.units import format_time

if TYPE_CHECKING:
    from sim.serving.results import ServingResult

SLICES = {"median": (0.45, 0.55), "tail": (0.99, 1.0)}  # of the completed calls by latency
_WINDOWS = 48  # of a run, in each of which one resource is the bottleneck
_FULL = 0.95  # of G1's blocks in use: from there on a call that waits most probably waits for blocks
_ALIKE = 0.005  # a relative difference that is not worth a word
COMPUTE, DECODE_ATTENTION, HOST, LOADS, STORES, IDLE, KV_BLOCKS = (
    *("compute", "decode attention", "host overhead", "waiting for loads", "waiting for stores", "idle", "KV blocks"),
)
_ENGINE_GROUPS = {
    "linear_ns": COMPUTE,
    "prefill_attention_ns": COMPUTE,
    "head_ns": COMPUTE,
    "decode_attention_ns": DECODE_ATTENTION,
    "overhead_ns": HOST,
    "load_stall_ns": LOADS,
    "store_stall_ns": STORES,
}


# --- where the time of requests went ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """Some of the completed calls, by latency: how many, the one in their middle, and means over all of them."""

    name: str
    calls: int
    request: int
    latency_ns: float
    parts_ns: dict[str, float]
    hit_tokens: dict[str, float]


def slices(result: ServingResult) -> list[Slice]:
    """The median calls and those of the tail. None where no call was completed."""
    done = np.flatnonzero(result.completed())
    if not done.size:
        return []
    latency_ns = (result.column("requests", "finish_ns") - result.column("requests", "arrival_ns"))[done]
    order = np.argsort(latency_ns, kind="stable")
    parts_ns = result.parts_ns()[done]
    hits = {tier: result.column("requests", f"hit_tokens.{tier}")[done] for tier in result.tier_names}
    found = []
    for name, (low, high) in SLICES.items():
        first = min(int(low * done.size), done.size - 1)
        chosen = order[first : max(first + 1, int(np.ceil(high * done.size)))]
        found.append(
            Slice(
                name=name,
                calls=int(chosen.size),
                request=int(done[chosen[chosen.size // 2]]),
                latency_ns=float(latency_ns[chosen].mean()),
                parts_ns=dict(zip(PARTS, parts_ns[chosen].mean(axis=0).tolist(), strict=True)),
                hit_tokens={tier: float(tokens[chosen].mean()) for tier, tokens in hits.items()},
            )
        )
    return found


def request(result: ServingResult, number: int) -> dict[str, Any]:
    """Everything known of one call, by its place in the trace from 0 on. Raises InputError where there is none."""
    status = result.column("requests", "status")
    if not 0 <= number < status.codes.size:
        raise InputError("no such request", value=number, expected=f"a number from 0 to {status.codes.size - 1}")
    reason = result.column("requests", "reason")

    def value(name: str) -> Any:
        return result.column("requests", name)[number].item()

    told = {
        "request": number,
        "status": status.names[status.codes[number]],
        "reason": reason.names[reason.codes[number]],
        **{name: value(name) for name in ("arrival_ns", "input_tokens", "output_tokens", "replica")},
    }
    if told["status"] != "completed":
        return told
    latency_ns = result.column("requests", "finish_ns") - result.column("requests", "arrival_ns")
    faster = np.count_nonzero(latency_ns[result.completed()] < latency_ns[number])
    return {
        **told,
        "ttft_ns": value("first_token_ns") - told["arrival_ns"],
        "latency_ns": float(latency_ns[number]),
        "faster_share": faster / int(result.summary["completed"]),  # of the completed calls
        "preemptions": value("preemptions"),
        "computed_tokens": value("computed_tokens"),
        "recomputed_tokens": value("recomputed_tokens"),
        "hit_tokens": {tier: value(f"hit_tokens.{tier}") for tier in result.tier_names},
        "parts_ns": {name: value(name) for name in PARTS},
    }


# --- what held the engines up when -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """A time in which one resource was the bottleneck, and the share of it that it was in use."""

    from_ns: float
    to_ns: float
    resource: str
    share: float


def bottlenecks(result: ServingResult) -> list[Stretch]:
    """Which resource was the bottleneck when: of each window of the run the one that was in use for the most of it.

    Resources are the parts of the engines' time, their waiting for copies, being idle, links and devices that copies
    use, and G1's blocks: in use while at least _FULL of them are, and calls wait.
    """
    time_ns = result.sampled("time_ns")[:, 0]
    if time_ns.size < 2 or time_ns[-1] <= time_ns[0]:
        return []
    edges_ns = np.linspace(time_ns[0], time_ns[-1], min(_WINDOWS, time_ns.size - 1) + 1)
    shares = resource_shares(result, edges_ns)
    names = list(shares)
    table = np.array([shares[name] for name in names])
    largest = table.argmax(axis=0)
    starts = np.flatnonzero(np.diff(largest, prepend=-1))
    ends = [*starts[1:].tolist(), largest.size]
    return [
        Stretch(
            float(edges_ns[start]),
            float(edges_ns[end]),
            names[largest[start]],
            float(table[largest[start], start:end].mean()),
        )
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]


def resource_shares(result: ServingResult, edges_ns: np.ndarray) -> dict[str, np.ndarray]:
    """float64[windows] share of each window that each resource was in use; G1's blocks come first, and so win ties."""
    time_ns, widths_ns = result.sampled("time_ns")[:, 0], np.diff(edges_ns)

    def growth(so_far: np.ndarray) -> np.ndarray:
        return np.diff(np.interp(edges_ns, time_ns, so_far))

    shares = {KV_BLOCKS: growth(_time_so_far(time_ns, _is_blocked(result))) / widths_ns}
    for part in ENGINE_PARTS:
        own = growth(result.sampled(f"engine.{part}").mean(axis=1)) / widths_ns
        shares[_ENGINE_GROUPS[part]] = shares.get(_ENGINE_GROUPS[part], 0.0) + own
    shares[IDLE] = np.maximum(0.0, 1 - sum(own for name, own in shares.items() if name != KV_BLOCKS))
    for name, bytes_per_ns in result.manifest["bandwidth_bytes_per_ns"].items():
        if f"bytes.{name}" in result.table("samples").column_names:
            moved = result.sampled(f"bytes.{name}")[:, 0]
            shares[name] = growth(moved) / widths_ns / bytes_per_ns
    return shares


def _is_blocked(result: ServingResult) -> np.ndarray:
    """bool[s] whether calls wait while G1's blocks are as good as all in use, in any engine."""
    capacity = result.manifest["capacity_blocks"][result.tier_names[0]]
    full = result.sampled("kv_blocks_in_use") >= _FULL * capacity
    return ((result.sampled("waiting") > 0) & full).any(axis=1)


def _time_so_far(time_ns: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """float64[s] how long something held up to each sample; what a sample says holds until the next."""
    return np.concatenate([[0.0], np.cumsum(np.diff(time_ns) * holds[:-1])])


def shares_of_time(stretches: list[Stretch]) -> dict[str, float]:
    """For which share of the run each resource was the bottleneck, the largest first."""
    whole_ns = sum(one.to_ns - one.from_ns for one in stretches)
    shares: dict[str, float] = {}
    for one in stretches:
        shares[one.resource] = shares.get(one.resource, 0.0) + (one.to_ns - one.from_ns) / whole_ns
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


# --- whether lower tiers helped --------------------------------------------------------------------------------------


def estimate(result: ServingResult) -> str:
    """One sentence from the run alone: what loads took, against what computing the same tokens would have."""
    lower = result.tier_names[1:]
    if not lower:
        return (
            "There are no lower tiers, so nothing was offloaded; --what-if says what an infinite G2 would have bought."
        )
    summary = result.summary
    found, completed = sum(summary[f"tier.{tier}.hit_tokens"] for tier in lower), summary["completed"]
    if not found or not completed:
        return "Offloading brought nothing: no prompt token was found in a lower tier."
    done = result.completed()
    computed = int(result.column("requests", "computed_tokens")[done].sum())
    share = f"{100 * found / summary['prompt_tokens']:.3g} % of the prompt tokens were found in lower tiers"
    if not computed:
        return f"{share}; nothing was computed that says what that saved."
    loading_ns = summary["load_mean_ns"] + summary["prefetch_wait_mean_ns"] + summary["stall_mean_ns"]
    computing_ns = summary["prefill_mean_ns"] * found / computed
    verdict = "helped" if computing_ns > loading_ns else "did not help"
    return (
        f"By estimate offloading {verdict}: {share}, for {format_time(loading_ns, 3)} of waiting a request, where "
        f"computing them would have taken {format_time(computing_ns, 3)} at this run's pace (--what-if simulates it)."
    )


def verdict(has_lower_tiers: bool, ours: Outcome, others: Mapping[str, Outcome]) -> str:
    """One sentence from simulations: whether offloading helped, or what an infinite G2 would have bought."""
    if not has_lower_tiers:
        return f"There are no lower tiers, so nothing was offloaded; {_bought(ours, others.get(LARGE_G2))}."
    without = others[NO_LOWER]
    first, whole = _gain(ours.ttft_mean_ns, without.ttft_mean_ns), _gain(ours.latency_mean_ns, without.latency_mean_ns)
    if first is None or whole is None:
        return "Whether offloading helped cannot be told: a run completed no request."
    told = (
        f"mean TTFT {_against(ours.ttft_mean_ns, without.ttft_mean_ns)}, "
        f"mean latency {_against(ours.latency_mean_ns, without.latency_mean_ns)}"
    )
    return f"{_judgement(first, whole)}: {told}, with and without lower tiers."


def _judgement(first: float, whole: float) -> str:
    if abs(first) < _ALIKE and abs(whole) < _ALIKE:
        return "Offloading made no difference"
    if min(first, whole) > -_ALIKE:
        return "Offloading helped"
    if max(first, whole) < _ALIKE:
        return "Offloading hurt"
    if first > 0:
        return "Offloading helped the first token and hurt the rest"
    return "Offloading hurt the first token and helped the rest"


def _gain(ours_ns: float | None, theirs_ns: float | None) -> float | None:
    """By which share ours is less; None where either is not known."""
    return None if ours_ns is None or not theirs_ns else 1 - ours_ns / theirs_ns


def _against(ours_ns: float, theirs_ns: float) -> str:
    change = 100 * (ours_ns / theirs_ns - 1)
    return f"{format_time(ours_ns, 4)} against {format_time(theirs_ns, 4)} ({change:+.3g} %)"


def _bought(ours: Outcome, large: Outcome | None) -> str:
    if large is None:
        return "the system has no tier that could be G2"
    if ours.ttft_mean_ns is None or large.ttft_mean_ns is None:
        return "what an infinite G2 would have bought cannot be told, because a run completed no request"
    tokens = large.hit_tokens - ours.hit_tokens
    return (
        f"an infinite G2 would have given mean TTFT {_against(large.ttft_mean_ns, ours.ttft_mean_ns)}, "
        f"mean latency {_against(large.latency_mean_ns, ours.latency_mean_ns)} and {tokens:+,} tokens found"
    )
