"""Streams of KV growth: every call allocates its prompt, grows to its last token and is freed, in order of time."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE
from sim.fragmentation.replay import make_player
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token
from sim.registry import ALLOCATION_SOURCE, ALLOCATOR, load
from sim.trace_options import check_options

pytestmark = pytest.mark.uncompiled

SOURCE = load(ALLOCATION_SOURCE, "kv_growth")
TOKEN = kv_bytes_per_token(load_model("llama31_8b"))
MS = 1e6
CALLS = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def stream(**options):
    return SOURCE.generate(check_options(SOURCE.options, options, "kv_growth"))


@pytest.fixture
def calls_in(tmp_path):
    def write(*calls):
        rows = [f"2023-11-16 18:15:46.{ms:03},{given},{made}\n" for ms, given, made in calls]
        (tmp_path / "calls.csv").write_text(CALLS + "".join(rows))
        return str(tmp_path / "calls.csv")

    return write


def rows(ops):
    tokens = (ops.size_bytes // TOKEN).tolist()
    return list(zip((ops.time_ns / MS).round(6).tolist(), ops.op.tolist(), ops.object.tolist(), tokens, strict=True))


def test_a_call_step_by_step(calls_in):
    trace = calls_in((0, 20, 3), (5, 10, 1))
    ops = stream(trace=trace, prompt_tokens_per_s=1000.0, token_ns=2 * MS)
    assert rows(ops) == [
        *((0, ALLOCATE, 0, 20), (5, ALLOCATE, 1, 10), (17, RESIZE, 1, 11), (17, RELEASE, 1, 11)),
        *((22, RESIZE, 0, 21), (24, RESIZE, 0, 22), (26, RESIZE, 0, 23), (26, RELEASE, 0, 23)),
    ]
    assert ops.label(1) == "call 1 #1" and ops.kinds == ("kv",)
    assert ops.objects.unit_bytes.tolist() == [TOKEN, TOKEN]
    assert ops.objects.final_bytes.tolist() == [23 * TOKEN, 11 * TOKEN]


def test_growth_by_several_tokens_ends_at_the_last(calls_in):
    ops = stream(trace=calls_in((0, 20, 10)), prompt_tokens_per_s=1000.0, token_ns=MS, grow_tokens=4)
    assert rows(ops) == [
        *((0, ALLOCATE, 0, 20), (24, RESIZE, 0, 24), (28, RESIZE, 0, 28)),
        *((30, RESIZE, 0, 30), (30, RELEASE, 0, 30)),
    ]


def test_what_an_engine_would_refuse_is_left_out_and_outputs_are_cut(calls_in):
    trace = calls_in((0, 100, 5), (1, 7, 0), (2, 40, 90), (3, 99, 9))
    ops = stream(trace=trace, max_model_len=100)
    assert ops.labels == ("call 2", "call 3")
    assert (ops.objects.final_bytes // TOKEN).tolist() == [100, 100]
    assert (ops.objects.most_bytes // TOKEN).tolist() == [100, 100]
    assert stream(trace=trace, max_model_len=100, calls=3).labels == ("call 2",)
    with pytest.raises(InputError, match="no call that fits 100 tokens"):
        stream(trace=trace, max_model_len=100, calls=2)


def test_bytes_of_a_token_are_the_models(calls_in):
    trace = calls_in((0, 20, 10))
    assert stream(trace=trace, model="opt_13b").objects.unit_bytes.tolist() == [800 * 1024]
    assert stream(trace=trace, tensor_parallel=2).objects.unit_bytes.tolist() == [TOKEN // 2]


def test_parameters_of_a_generator_are_none_of_a_trace(calls_in):
    with pytest.raises(InputError, match="parameters are of a generator"):
        stream(trace=calls_in((0, 20, 10)), parameters={"requests": 3})


def test_a_trace_without_calls_is_refused():
    with pytest.raises(InputError, match="has no LLM calls"):
        stream(generator="uniform", parameters={"requests": 10})


@pytest.mark.parametrize("parameters", [{"page_bytes": 1 << 16}, {"page_bytes": 2 << 20}])
def test_chats_in_virtual_pages_waste_at_most_a_group_each(parameters):
    ops = stream(parameters={"requests": 40}, grow_tokens=16)
    assert ops.objects.born.size == 40 and (np.diff(ops.time_ns) >= 0).all()
    player = make_player(ops, load(ALLOCATOR, "virtual_pages"), {**parameters, "tensors": 64}, 2 * ops.peak_live_bytes)
    player.advance(0, int(ops.live_bytes.argmax()) + 1)
    told, calls, _ = player.look()
    group = 64 * parameters["page_bytes"]
    live = int((player.board.size > 0).sum())
    assert 0 < told["internal_bytes"] < live * group
    assert calls["maps"] - calls["unmaps"] == 64 * told["held_bytes"] // group
