"""What a serving engine gets of a trace: against a slow model of it, call by call."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.serving import record, workload
from sim.serving.options import ServingOptions
from sim.serving.workload import make_workload
from sim.trace import Calls, Trace
from sim.trace_loading import load_trace

WIDE = {"max_model_len": 1 << 40, "capacity_blocks": 1 << 40, "seed": 0}


def make_trace(prompts, block_tokens=16, **known):
    """A trace of calls (input_tokens, output_tokens, ids), one a second."""
    n = len(prompts)
    first_row = np.concatenate([[0], np.cumsum([len(ids) for _, _, ids in prompts])])
    calls = Calls(
        np.arange(n) * 1e9,
        np.array([given for given, _, _ in prompts]),
        np.array([made for _, made, _ in prompts]),
        first_row,
        np.arange(n) % 3,
        block_tokens,
        **{name: np.array(values) for name, values in known.items()},
    )
    return Trace.from_columns("made", ids=np.concatenate([np.array(ids, int) for _, _, ids in prompts]), calls=calls)


def slow_model(trace, options, max_model_len, capacity_blocks):
    """(reason, output, hashed blocks, number of fresh blocks) of each call."""
    calls, column = trace.calls, trace.column("block").tolist()
    b = options.block_tokens or calls.block_tokens or 16
    k = calls.block_tokens // b if options.prefix_caching else 0
    for i in range(len(calls.arrival_ns)):
        listed = column[calls.first_row[i] : calls.first_row[i + 1]]
        i_tokens, o_tokens = int(calls.input_tokens[i]), int(calls.output_tokens[i])
        if i_tokens < max_model_len:
            o_tokens = min(o_tokens, max_model_len - i_tokens)
        if options.partial_blocks:
            prompt = math.ceil(i_tokens / b)
            whole = prompt + math.ceil(o_tokens / b)
        else:
            prompt, whole = i_tokens // b, math.ceil((i_tokens + o_tokens) / b)
        reason = record.NO_REASON
        if i_tokens == 0 or o_tokens == 0:
            reason = record.NO_TOKENS
        elif i_tokens >= max_model_len:
            reason = record.LONGER_THAN_MODEL
        elif not options.chunked_prefill and i_tokens > options.max_num_batched_tokens:
            reason = record.BATCH_TOO_SMALL
        elif whole > capacity_blocks:
            reason = record.LARGER_THAN_KV
        if reason:
            yield reason, o_tokens, [], 0
            continue
        parts = [h * k + j for h in listed for j in range(k)][:prompt]
        yield reason, o_tokens, parts, whole - len(parts)


@st.composite
def traces(draw):
    """Prompts that begin like one another, each block's id saying what all blocks up to it are."""
    block_tokens = draw(st.sampled_from((16, 48, 64)))
    prompts, numbers = [], {}
    for _ in range(draw(st.integers(1, 12))):
        tokens = draw(st.integers(0, 400))
        kinds = draw(st.lists(st.integers(0, 1), max_size=-(-tokens // block_tokens)))
        ids = [numbers.setdefault(tuple(kinds[: i + 1]), len(numbers)) for i in range(len(kinds))]
        prompts.append((tokens, draw(st.integers(0, 300)), ids))
    if not any(ids for _, _, ids in prompts):
        prompts.append((block_tokens, 1, [1 << 20]))
    return make_trace(prompts, block_tokens)


@settings(max_examples=300, deadline=None)
@given(
    trace=traces(),
    divide=st.sampled_from((1, 2, 4, 16)),
    max_model_len=st.integers(1, 900),
    capacity_blocks=st.integers(1, 200),
    group=st.sampled_from((1, 7, 1 << 20)),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_as_a_slow_model_has_it(trace, divide, max_model_len, capacity_blocks, group, flags):
    partial, chunked, caching = flags
    options = ServingOptions(
        block_tokens=trace.calls.block_tokens // divide,
        partial_blocks=partial,
        chunked_prefill=chunked,
        prefix_caching=caching,
        max_num_batched_tokens=150,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "_ROWS_AT_ONCE", group)
        made, blocks = make_workload(
            trace, options, max_model_len=max_model_len, capacity_blocks=capacity_blocks, seed=1
        )
    fresh = blocks.hashed
    assert blocks.hashed == (trace.n_blocks * divide if caching else 0)
    cut = 0
    for i, (reason, outputs, hashed, own) in enumerate(slow_model(trace, options, max_model_len, capacity_blocks)):
        assert made.reason[i] == reason
        assert made.output_tokens[i] == outputs
        assert made.block[made.first_row[i] : made.first_row[i + 1]].tolist() == hashed
        assert (made.fresh_first[i], made.fresh_first[i + 1]) == (fresh, fresh + own)
        fresh += own
        cut += outputs < trace.calls.output_tokens[i]
    assert (blocks.blocks, blocks.cut) == (fresh, cut)
    assert made.block.dtype == np.int32 and made.reason.dtype == np.int8 and made.fresh_first.dtype == np.int64


@given(
    shared=st.integers(0, 400),
    tails=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    divide=st.sampled_from((1, 2, 4)),
)
def test_prompts_share_the_blocks_of_what_their_hashes_share(shared, tails, divide):
    whole = shared // 64
    prompts = [
        (shared + tail, 1, [*range(whole), *range(100 + 50 * i, 100 + 50 * i + -(-(shared + tail) // 64) - whole)])
        for i, tail in enumerate(tails)
    ]
    made, _ = make_workload(make_trace(prompts, 64), ServingOptions(block_tokens=64 // divide), **WIDE)
    one, other = (set(made.block[made.first_row[i] : made.first_row[i + 1]]) for i in (0, 1))
    assert len(one & other) == whole * divide


def test_programs_and_what_is_known_of_calls():
    prompts = [(16, 1, [i]) for i in range(6)]
    known, _ = make_workload(
        make_trace(prompts, program=[7, 3, 7, 900, 3, 7], priority=[0, 2, -1, 0, 0, 5]), ServingOptions(), **WIDE
    )
    assert known.program.tolist() == [1, 0, 1, 2, 0, 1]
    assert known.program_arrival_ns.tolist() == [0.0, 1e9, 0.0, 3e9, 1e9, 0.0]
    assert known.has_next.tolist() == [True, True, True, False, False, False]
    assert known.priority.tolist() == [0, 2, -1, 0, 0, 5] and known.tenant.tolist() == [0, 1, 2, 0, 1, 2]
    bare, _ = make_workload(make_trace(prompts), ServingOptions(), **WIDE)
    assert bare.program.tolist() == list(range(6)) and not bare.has_next.any() and not bare.priority.any()
    assert bare.program_arrival_ns.tolist() == bare.arrival_ns.tolist()


def test_predictions_err_as_much_as_asked():
    trace = make_trace([(16, 100, [i]) for i in range(20_000)])
    exact, _ = make_workload(trace, ServingOptions(), **WIDE)
    assert (exact.predicted_tokens == 100).all()
    options = ServingOptions(prediction_error=0.4)
    first, again = (make_workload(trace, options, **WIDE)[0].predicted_tokens for _ in range(2))
    other, _ = make_workload(trace, options, **{**WIDE, "seed": 1})
    assert (first == again).all() and (first != other.predicted_tokens).any()
    logs = np.log(first / 100)
    assert (logs.mean(), logs.std()) == (pytest.approx(0, abs=0.012), pytest.approx(0.4, rel=0.02))


def test_a_trace_without_hashes():
    calls = Calls(np.zeros(2), np.array([40, 16]), np.array([1, 16]), np.arange(3), np.zeros(2), 0)
    trace = Trace.from_columns("azure", ids=[1, 2], calls=calls)
    with pytest.raises(InputError, match=r"no prefix hashes.*prefix_caching: false"):
        make_workload(trace, ServingOptions(), **WIDE)
    made, blocks = make_workload(trace, ServingOptions(prefix_caching=False), **WIDE)
    assert blocks == (0, 5, 16, 0) and made.fresh_first.tolist() == [0, 3, 5]


@pytest.mark.parametrize(
    ("block_tokens", "message"),
    [
        (32, r"block_tokens: .*blocks of 16 tokens, which are shorter.* 32; .*option block_tokens"),
        (12, r"block_tokens: .*blocks of 16 tokens.*do not divide 12; expected a divisor of 16"),
    ],
)
def test_blocks_that_do_not_fit(block_tokens, message):
    with pytest.raises(InputError, match=message):
        make_workload(make_trace([(16, 1, [1])]), ServingOptions(block_tokens=block_tokens), **WIDE)


def test_traces_that_cannot_be_served():
    with pytest.raises(InputError, match="no LLM calls"):
        make_workload(Trace.from_columns("t", ids=[1]), ServingOptions(), **WIDE)
    back = make_trace([(16, 1, [1]), (16, 1, [2])])
    back.calls.arrival_ns[1] = -1.0
    with pytest.raises(InputError, match=r"call 1: .*clocks run backwards.*-1.0; expected at least 0.0"):
        make_workload(back, ServingOptions(), **WIDE)
    back.calls.arrival_ns[1] = np.nan
    with pytest.raises(InputError, match="backwards"):
        make_workload(back, ServingOptions(), **WIDE)
    with pytest.raises(InputError, match=r"call 1: .*same block twice: 7"):
        make_workload(make_trace([(16, 1, [7]), (48, 1, [7, 8, 7])]), ServingOptions(), **WIDE)
    with pytest.raises(InputError, match=r"too many blocks.*2\^31"):
        make_workload(make_trace([(1 << 36, 1, [7])]), ServingOptions(), **WIDE)


def test_the_mooncake_conversation(shared_file):
    trace = load_trace(shared_file("mooncake_conversation.jsonl"))
    limits = {"max_model_len": 131072, "capacity_blocks": 1 << 20, "seed": 0}
    made, blocks = make_workload(trace, ServingOptions(block_tokens=16), **limits)
    assert made.block.size == int((trace.calls.input_tokens // 16).sum()) == 9_044_013
    assert made.block.nbytes < 40e6 and int(made.block.max()) < blocks.hashed == trace.n_blocks * 32
    total = -(-(trace.calls.input_tokens + trace.calls.output_tokens) // 16)
    assert blocks.blocks - blocks.hashed + made.block.size == total.sum()
    assert not made.reason.any()
    few, few_blocks = make_workload(trace, ServingOptions(), **{**limits, "max_model_len": 32768})
    refused = few.reason == record.LONGER_THAN_MODEL
    assert np.array_equal(refused, trace.calls.input_tokens >= 32768)
    assert (
        few_blocks.cut == np.count_nonzero(trace.calls.input_tokens + trace.calls.output_tokens > 32768) - refused.sum()
    )
    assert few_blocks.block_tokens == 512
