"""Sessions of chats and agents: LLM calls whose prompts begin like one another, with the hashes of their blocks.

Sessions begin by themselves, each under one of a few system prompts. A turn's prompt is the prompt before it, the
answer to that, and new tokens; its arrival is that of the turn before it, the time that the answer is taken to need,
and a time to think (or, where an agent goes on by itself, of a tool). A rewritten turn keeps only a part of the prompt
before it, as where a user edits a message or an agent sums up what it has: as many tokens as ever, but others from
there on.

A block's id stands for all tokens of the prompt up to its end, and the partial block at the end of a prompt has an id
of its own, as in Mooncake's traces; so does the answer's text count as unseen until a prompt repeats it. Sessions start
from nothing at time 0, so that a longer trace has somewhat more calls of sessions that go on than a shorter one.

The defaults are fitted to the Mooncake conversation trace (12,031 calls in 3,537 s; `tests/test_chat_generator.py` says
how closely). In it, 69 % of the sessions have a single turn; all prompts are of 891 tokens or more, of which they share
the first block; new tokens are mostly few, but sometimes thousands; a turn comes 123 s (median) after the one before
it; a fifth of the answers has some 20 tokens, and the others about 390.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from sim.errors import InputError
from sim.trace import Trace
from sim.trace_building import Chunk, build_trace
from sim.trace_options import Generator, Option
from workloads.generators._common import COMMON, open_arrivals, zipf_draw
from workloads.readers._common import BYTES_PER_TOKEN, CallBuffer

_SESSIONS_AT_ONCE = 4096  # part of the meaning of a seed
_S, _MS = 1e9, 1e6


def _sigma(default: float) -> Option:
    return Option(default, "standard deviation of their logarithm", at_least=0.0, at_most=10.0)


def _tokens(default: int, meaning: str) -> Option:
    return Option(default, meaning, at_least=1, at_most=1 << 30)


def _share(default: float, meaning: str) -> Option:
    return Option(default, meaning, at_least=0.0, at_most=1.0)


PARAMETERS = {
    "requests": Option(12_031, "how many LLM calls, the first by time", at_least=1, at_most=1 << 30),
    "arrival": Option("poisson", "when sessions begin", choices=("poisson", "bursty")),
    "sessions_per_s": Option(2.04, "mean sessions that begin in a second", at_least=1e-9, at_most=1e9),
    "burst_factor": COMMON["burst_factor"],
    "burst_share": COMMON["burst_share"],
    "burst_s": Option(10.0, "bursty: mean length of a burst", at_least=1e-9, at_most=1e9),
    "tenants": Option(1, "tenants; a session is of one of them", at_least=1, at_most=1 << 20),
    "tenant_alpha": Option(1.0, "Zipf exponent of tenants by sessions", at_least=0.0, at_most=20.0),
    "system_prompts": Option(1, "system prompts; a session begins with one of them", at_least=1, at_most=1 << 20),
    "system_alpha": Option(1.0, "Zipf exponent of system prompts by sessions", at_least=0.0, at_most=20.0),
    "system_tokens": Option(880, "tokens of a system prompt", at_least=0, at_most=1 << 30),
    "single_turn_share": _share(0.67, "share of sessions with one turn"),
    "turns": Option(3.35, "mean turns of the other sessions (2 + geometric)", at_least=2.0, at_most=1e6),
    "first_tokens": _tokens(5150, "median of what a first prompt has beside the system prompt"),
    "first_sigma": _sigma(1.23),
    "new_tokens": _tokens(80, "median of what a later prompt adds to the prompt and answer before it"),
    "new_sigma": _sigma(2.15),
    "rewrite_share": _share(0.2, "share of later turns that keep only a part, evenly drawn, of the prompt before"),
    "output_tokens": _tokens(394, "median of answers that are not short"),
    "output_sigma": _sigma(0.364),
    "short_output_share": _share(0.2, "share of answers that are short"),
    "short_output_tokens": _tokens(20, "median of short answers"),
    "short_output_sigma": _sigma(0.8),
    "think_s": Option(105.0, "median time from an answer to the next turn", at_least=0.0, at_most=1e9),
    "think_sigma": _sigma(1.05),
    "tool_share": _share(0.0, "share of later turns that an agent makes by itself, after the time of a tool"),
    "tool_s": Option(2.0, "median time of a tool", at_least=0.0, at_most=1e9),
    "tool_sigma": _sigma(1.0),
    "answer_ms_per_token": Option(
        30.0, "time that an answer is taken to need before who reads it goes on", at_least=0.0, at_most=1e6
    ),
    "context_tokens": _tokens(128_000, "a session ends before prompt and answer exceed this; a first prompt is cut"),
    "block_tokens": Option(512, "tokens in a hashed block", at_least=1, at_most=1 << 20),
    "bytes_per_token": BYTES_PER_TOKEN,
}


class _Turns(NamedTuple):
    """Turns of some sessions, session by session; of each the columns that the calls need."""

    session: np.ndarray  # int64[n] from 0 in this group
    is_first: np.ndarray  # bool[n]
    arrival_ns: np.ndarray
    prompt: np.ndarray  # int64[n] tokens
    kept: np.ndarray  # int64[n] tokens that it shares with the prompt before it, or with the system prompt
    output: np.ndarray  # int64[n]


def build(seed: int, **given: Any) -> Trace:
    p = {name: given.get(name, option.default) for name, option in PARAMETERS.items()}
    if p["system_tokens"] + 2 > p["context_tokens"]:
        expected = f"at most context_tokens - 2 = {p['context_tokens'] - 2}"
        raise InputError("no room for a prompt: system_tokens", value=p["system_tokens"], expected=expected)
    return build_trace("chat", _chunks(seed, p))


def _chunks(seed: int, p: dict[str, Any]) -> Iterator[Chunk]:
    """Calls by time. What sessions drawn so far do after the last of them began waits for the next ones."""
    streams = np.random.SeedSequence(seed).spawn(3)
    for_starts, for_sessions, for_turns = (np.random.Generator(np.random.PCG64(stream)) for stream in streams)
    starts = open_arrivals(for_starts, _S / p["sessions_per_s"], {**p, "burst_ns": p["burst_s"] * _S})
    listing, buffer = _Listing(p), CallBuffer(p["block_tokens"], p["block_tokens"] * p["bytes_per_token"])
    waiting: list[tuple] = []
    drawn, left = 0, p["requests"]
    while left:
        start_ns = starts(_SESSIONS_AT_ONCE)
        tenant = zipf_draw(for_sessions, p["tenants"], p["tenant_alpha"])(0, _SESSIONS_AT_ONCE)
        system = zipf_draw(for_sessions, p["system_prompts"], p["system_alpha"])(0, _SESSIONS_AT_ONCE)
        turns = _draw_turns(for_turns, start_ns, p)
        for i, ids in enumerate(listing.of(turns, system)):
            session = int(turns.session[i])
            by_time = (turns.arrival_ns[i], drawn + session, i)
            waiting.append((by_time, ids, turns.prompt[i], turns.output[i], tenant[session]))
        drawn += _SESSIONS_AT_ONCE
        waiting.sort(key=lambda call: call[0])
        ready = min(left, sum(by_time[0] <= start_ns[-1] for by_time, *_ in waiting))
        for (arrival_ns, session, _), *call in waiting[:ready]:
            ids, prompt, output, owner = call
            if buffer.add(ids, arrival_ns, prompt, output, owner, 0, program=session):
                yield buffer.chunk()
        left -= ready
        del waiting[:ready]
    if buffer.fields:
        yield buffer.chunk()


def _draw_turns(rng: np.random.Generator, start_ns: np.ndarray, p: dict[str, Any]) -> _Turns:
    """The turns of sessions that begin then."""
    many = rng.random(start_ns.size) >= p["single_turn_share"]
    turns = np.where(many, 1 + rng.geometric(1 / (p["turns"] - 1), start_ns.size), 1)
    n = int(turns.sum())
    session = np.repeat(np.arange(start_ns.size), turns)
    first = np.cumsum(turns) - turns
    is_first = np.zeros(n, bool)
    is_first[first] = True
    output = _outputs(rng, n, p)
    new = _lognormal(rng, n, p["new_tokens"], p["new_sigma"])
    opening = p["system_tokens"] + _lognormal(rng, n, p["first_tokens"], p["first_sigma"])
    grown = np.where(is_first, np.minimum(opening, p["context_tokens"] - 1), new + np.roll(output, 1))
    prompt = _within(grown, first, turns)
    pause_ns = np.where(
        rng.random(n) < p["tool_share"],
        _spread(rng, n, p["tool_s"], p["tool_sigma"]),
        _spread(rng, n, p["think_s"], p["think_sigma"]),
    ) * _S + np.roll(output, 1) * (p["answer_ms_per_token"] * _MS)
    arrival_ns = _within(np.where(is_first, np.repeat(start_ns, turns), pause_ns), first, turns)
    before = np.roll(prompt, 1)
    rewritten, part = rng.random(n) < p["rewrite_share"], rng.random(n)
    kept = np.where(rewritten, (part * before).astype(np.int64), before)
    kept = np.where(is_first, p["system_tokens"], np.maximum(kept, p["system_tokens"]))
    output = np.where(is_first, np.minimum(output, p["context_tokens"] - prompt), output)
    too_long = (prompt + output > p["context_tokens"]) & ~is_first
    fits = _within(too_long.astype(np.int64), first, turns) == 0  # nor does what comes after one that does not
    return _Turns(*(column[fits] for column in (session, is_first, arrival_ns, prompt, kept, output)))


def _within(values: np.ndarray, first: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Sums so far, of each session by itself, exact to the last bit whatever the other sessions."""
    total = np.empty_like(values)
    total[first] = values[first]
    for turn in range(1, int(turns.max())):
        at = first[turns > turn] + turn
        total[at] = total[at - 1] + values[at]
    return total


def _outputs(rng: np.random.Generator, n: int, p: dict[str, Any]) -> np.ndarray:
    short = rng.random(n) < p["short_output_share"]
    long = _lognormal(rng, n, p["output_tokens"], p["output_sigma"])
    return np.where(short, _lognormal(rng, n, p["short_output_tokens"], p["short_output_sigma"]), long)


def _lognormal(rng: np.random.Generator, n: int, median: float, sigma: float) -> np.ndarray:
    """int64[n] tokens, 1 or more."""
    return np.clip(np.rint(_spread(rng, n, median, sigma)), 1, 1 << 40).astype(np.int64)


def _spread(rng: np.random.Generator, n: int, median: float, sigma: float) -> np.ndarray:
    return median * np.exp(sigma * rng.standard_normal(n))


class _Listing:
    """Numbers the blocks of prompts, as sessions come."""

    def __init__(self, p: dict[str, Any]):
        self.block_tokens = p["block_tokens"]
        self.system_blocks = p["system_tokens"] // self.block_tokens
        self.next_id = p["system_prompts"] * self.system_blocks

    def of(self, turns: _Turns, system: np.ndarray) -> list[np.ndarray]:
        """int64[blocks] ids of each turn's prompt."""
        b, listed, before = self.block_tokens, [], np.empty(0, np.int64)
        columns = (turns.session, turns.is_first, turns.prompt, turns.kept)
        for session, is_first, prompt, kept in zip(*(column.tolist() for column in columns), strict=True):
            if is_first:
                before = np.arange(self.system_blocks) + system[session] * self.system_blocks
            whole = prompt // b
            shared = before[: min(kept // b, whole)]
            last = self.next_id + -(-prompt // b) - shared.size
            ids = np.concatenate([shared, np.arange(self.next_id, last)])
            self.next_id = last
            before = ids[:whole]
            listed.append(ids)
        return listed


GENERATOR = Generator(
    "chat",
    "LLM calls of chat and agent sessions over shared system prompts, with prefix hashes; like Mooncake's conversation",
    build,
    PARAMETERS,
)
