"""From a trace of LLM calls to what a serving engine works on: arrays for compiled code, every block under a number.

Blocks are numbered by the engine's own block length b, whatever the trace's. A hashed block of the trace that is k
times as long becomes the blocks h * k, h * k + 1, ...: two prompts that share it share all of them. Of a trace's last,
partial block only what lies within the prompt is taken. It has a hash of its own in the traces that list it, so that a
longer prompt that goes on from there shares none of its blocks, though it may in truth share the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sim.errors import InputError
from sim.serving.options import ServingOptions
from sim.serving.record import BATCH_TOO_SMALL, LARGER_THAN_KV, LONGER_THAN_MODEL, NO_REASON, NO_TOKENS
from sim.trace import Calls, Trace

_BLOCK_TOKENS = 16  # where neither options nor trace say how many: vLLM's default
_ROWS_AT_ONCE = 1 << 20
_INT32_END = 1 << 31


class Workload(NamedTuple):
    """n calls. Dense block numbers: the hashed ones of the trace first, then those that one call alone has.

    Calls that cannot be served (`reason`) have no blocks at all.
    """

    arrival_ns: np.ndarray  # float64[n], non-decreasing
    input_tokens: np.ndarray  # int64[n]
    output_tokens: np.ndarray  # int64[n] cut to what the model's context leaves
    first_row: np.ndarray  # int64[n + 1] the hashed blocks of call i's prompt are block[first_row[i]:first_row[i + 1]]
    block: np.ndarray  # int32[rows] dense, < hashed
    fresh_first: np.ndarray  # int64[n + 1] call i's further blocks are fresh_first[i] to fresh_first[i + 1] - 1
    tenant: np.ndarray  # int32[n]
    priority: np.ndarray  # int32[n] 0 where the trace has none
    program: np.ndarray  # int32[n] session or agent, dense; a number of its own where the trace knows of none
    program_arrival_ns: np.ndarray  # float64[n] first call of its program
    has_next: np.ndarray  # bool[n] its program makes a further call
    predicted_tokens: np.ndarray  # float64[n] output length as predicted
    reason: np.ndarray  # int8[n] NO_REASON, or why the call cannot be served at all (`record.REASONS`)


class Blocks(NamedTuple):
    """How many blocks there are. cut: calls whose output was cut to what the model's context leaves."""

    hashed: int
    blocks: int
    block_tokens: int
    cut: int


def make_workload(
    trace: Trace, options: ServingOptions, *, max_model_len: int, capacity_blocks: int, seed: int
) -> tuple[Workload, Blocks]:
    """The calls of a trace as an engine with these options gets them.

    Without `partial_blocks` a call has ceil((in + out) / b) blocks, of which the first floor(in / b) are hashed; with
    them ceil(in / b) + ceil(out / b), the first ceil(in / b) hashed. Where the trace lists fewer, the rest of the
    prompt is the call's own. Without prefix caching all are.

    A prompt of max_model_len tokens or more is refused, and an output that would go beyond it is cut, as vLLM v1 does;
    so is a call without a prompt or without output (vLLM takes no `max_tokens` below 1). capacity_blocks: of G1; no
    call may have more. seed: of the prediction errors.

    Raises InputError for a trace without calls, times that go back, prefix caching of a trace without hashes, and
    block lengths that do not fit.
    """
    calls = _checked(trace)
    block_tokens = _block_tokens(trace, calls, options)
    inputs, output_tokens, cut = _lengths(calls, max_model_len)
    prompt_blocks, all_blocks = _block_counts(inputs, output_tokens, block_tokens, options.partial_blocks)
    needed = _needed_blocks(inputs + output_tokens, all_blocks, block_tokens, options, max_model_len)
    reason = _reasons(inputs, output_tokens, needed, options, max_model_len, capacity_blocks)
    all_blocks[reason != NO_REASON] = 0
    factor = calls.block_tokens // block_tokens if options.prefix_caching else 0
    hashed = trace.n_blocks * factor
    rows = np.minimum(np.minimum(prompt_blocks, all_blocks), np.diff(calls.first_row) * factor)
    fresh_first = hashed + _starts(all_blocks - rows)
    if fresh_first[-1] >= _INT32_END:
        raise InputError(
            f"too many blocks of {block_tokens} tokens:", value=int(fresh_first[-1]), expected="less than 2^31"
        )
    first_row = _starts(rows)
    program, program_arrival_ns, has_next = _programs(calls)
    workload = Workload(
        arrival_ns=np.array(calls.arrival_ns, np.float64),
        input_tokens=inputs,
        output_tokens=output_tokens,
        first_row=first_row,
        block=_expanded(trace, calls, first_row, factor),
        fresh_first=fresh_first,
        tenant=np.array(calls.tenant, np.int32),
        priority=np.zeros(inputs.size, np.int32) if calls.priority is None else np.array(calls.priority, np.int32),
        program=program,
        program_arrival_ns=program_arrival_ns,
        has_next=has_next,
        predicted_tokens=_predicted(output_tokens, options.prediction_error, seed),
        reason=reason,
    )
    return workload, Blocks(hashed, int(fresh_first[-1]), block_tokens, cut)


def _checked(trace: Trace) -> Calls:
    """The calls, in order of time."""
    calls = trace.calls
    if calls is None:
        raise InputError(f"trace {trace.name!r} has no LLM calls", expected="a trace of LLM calls, such as mooncake's")
    arrival_ns = np.asarray(calls.arrival_ns)
    if arrival_ns.size == 0:
        raise InputError(f"trace {trace.name!r} has no LLM calls", expected="at least one")
    good = np.isfinite(arrival_ns) & (arrival_ns >= 0)
    good[1:] &= arrival_ns[1:] >= arrival_ns[:-1]
    if not good.all():
        call = int(np.argmin(good))
        raise InputError(
            f"trace {trace.name!r}: clocks run backwards: arrival_ns",
            field=f"call {call}",
            value=float(arrival_ns[call]),
            expected=f"at least {float(arrival_ns[call - 1]) if call else 0.0}, the arrival before it",
        )
    return calls


def _block_tokens(trace: Trace, calls: Calls, options: ServingOptions) -> int:
    """Tokens in a block of the engine's. Raises InputError where the trace has no hashes, or none of such blocks."""
    theirs, ours = calls.block_tokens, options.block_tokens
    if not options.prefix_caching:
        return ours or theirs or _BLOCK_TOKENS
    if theirs == 0 or trace.n_requests == 0:
        raise InputError(
            f"trace {trace.name!r} has no prefix hashes, and prefix caching is asked for",
            expected="prefix_caching: false, or a trace with hashes of prompts (mooncake, agentic, token_ids)",
        )
    ours = ours or theirs
    if ours > theirs:
        raise InputError(
            f"trace {trace.name!r} has hashes of blocks of {theirs} tokens, which are shorter than the engine's",
            field="block_tokens",
            value=ours,
            expected=f"{theirs} or a divisor of it (of a trace with token ids, set the reader's option block_tokens)",
        )
    if theirs % ours:
        raise InputError(
            f"trace {trace.name!r} has hashes of blocks of {theirs} tokens, which the engine's do not divide",
            field="block_tokens",
            value=ours,
            expected=f"a divisor of {theirs}",
        )
    return ours


def _lengths(calls: Calls, max_model_len: int) -> tuple[np.ndarray, np.ndarray, int]:
    """int64[n] of prompts, int64[n] of outputs after the cut, and how many were cut."""
    inputs, wanted = np.array(calls.input_tokens, np.int64), np.array(calls.output_tokens, np.int64)
    left = max_model_len - inputs
    too_long = (left > 0) & (wanted > left)  # where nothing is left, the call is refused as it is
    return inputs, np.where(too_long, left, wanted), int(np.count_nonzero(too_long))


def _block_counts(
    inputs: np.ndarray, outputs: np.ndarray, block_tokens: int, partial: bool
) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] blocks of a prompt that may be hashed, int64[n] all blocks of the call."""
    if partial:
        prompt = -(-inputs // block_tokens)
        return prompt, prompt - (-outputs // block_tokens)
    return inputs // block_tokens, -(-(inputs + outputs) // block_tokens)


def _needed_blocks(
    tokens: np.ndarray, blocks: np.ndarray, block_tokens: int, options: ServingOptions, max_model_len: int
) -> np.ndarray:
    """int64[n] blocks of G1 that a call must be able to have: its own, or what is reserved for it."""
    if options.reservation == "max":
        return np.full(blocks.size, -(-max_model_len // block_tokens))
    if options.reservation == "pow2":
        doubled = 1 << np.ceil(np.log2(np.maximum(tokens, 1))).astype(np.int64)
        return -(-np.minimum(doubled, max_model_len) // block_tokens)
    return blocks


def _reasons(
    inputs: np.ndarray,
    outputs: np.ndarray,
    blocks: np.ndarray,
    options: ServingOptions,
    max_model_len: int,
    capacity_blocks: int,
) -> np.ndarray:
    """int8[n]; of several reasons, the one that an engine finds first."""
    whole_prompts = not options.chunked_prefill
    return np.select(
        [
            (inputs == 0) | (outputs == 0),
            inputs >= max_model_len,
            whole_prompts & (inputs > options.max_num_batched_tokens),
            blocks > capacity_blocks,
        ],
        [NO_TOKENS, LONGER_THAN_MODEL, BATCH_TOO_SMALL, LARGER_THAN_KV],
        NO_REASON,
    ).astype(np.int8)


def _starts(counts: np.ndarray) -> np.ndarray:
    """int64[n + 1] where each begins, and the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _expanded(trace: Trace, calls: Calls, first_row: np.ndarray, factor: int) -> np.ndarray:
    """int32[rows] the hashed blocks of all calls, each of the trace's giving up to `factor`."""
    blocks = np.empty(first_row[-1], np.int32)
    if blocks.size == 0:
        return blocks
    stored, theirs = trace.stored("block"), np.asarray(calls.first_row)
    for start, stop in _groups(first_row, theirs):
        listed = stored.read(int(theirs[start]), int(theirs[stop]))
        bounds, rows = theirs[start : stop + 1] - theirs[start], first_row[start : stop + 1] - first_row[start]
        _check_distinct(listed, np.diff(bounds), start, trace)
        counts = np.diff(rows)
        within = np.arange(rows[-1]) - np.repeat(rows[:-1], counts)
        source = listed[np.repeat(bounds[:-1], counts) + within // factor].astype(np.int64)
        blocks[first_row[start] : first_row[stop]] = source * factor + within % factor
    return blocks


def _groups(*first_rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Calls from, to: such that no group has many rows by any of the counts, or it is a single call."""
    start, calls = 0, first_rows[0].size - 1
    while start < calls:
        ends = (int(np.searchsorted(rows, rows[start] + _ROWS_AT_ONCE, side="right")) - 1 for rows in first_rows)
        stop = max(start + 1, min(calls, *ends))
        yield start, stop
        start = stop


def _check_distinct(listed: np.ndarray, counts: np.ndarray, first_call: int, trace: Trace) -> None:
    """A hash stands for all of a prompt up to its block, so that no prompt can have it twice."""
    keys = np.sort(np.repeat(np.arange(counts.size), counts) * trace.n_blocks + listed)
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if twice.size:
        call, block = divmod(int(keys[twice[0]]), trace.n_blocks)
        raise InputError(
            f"trace {trace.name!r}: a call has the same block twice:",
            field=f"call {first_call + call}",
            value=int(trace.address[block]),
            expected="hashes of prefixes, each of which a prompt can have once",
        )


def _programs(calls: Calls) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int32[n] programs by dense number, float64[n] arrival of each one's first call, bool[n] whether another comes."""
    arrival_ns, n = np.asarray(calls.arrival_ns, np.float64), len(calls.arrival_ns)
    if calls.program is None:
        return np.arange(n, dtype=np.int32), arrival_ns.copy(), np.zeros(n, bool)
    _, first, program = np.unique(calls.program, return_index=True, return_inverse=True)
    last = np.zeros(first.size, np.int64)
    np.maximum.at(last, program, np.arange(n))
    return program.astype(np.int32), arrival_ns[first][program], np.arange(n) < last[program]


def _predicted(output_tokens: np.ndarray, error: float, seed: int) -> np.ndarray:
    """float64[n] true length * exp(N(0, error)): as often too long by a factor as too short by it."""
    if error == 0.0:
        return output_tokens.astype(np.float64)
    return output_tokens * np.exp(np.random.default_rng(seed).normal(0.0, error, output_tokens.size))
