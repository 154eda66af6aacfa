"""KV caches of the calls of a language model, as the calls come, grow and end: from any trace of LLM calls.

A call allocates its prompt's KV cache when it arrives. Its prompt takes its tokens at `prompt_tokens_per_s`; then the
cache grows by `grow_tokens` tokens each `token_ns` times as many nanoseconds, up to its last output token, when it is
freed. A token's bytes are the model's (`sim.llm.operators.kv_bytes_per_token`: windows and states of Mamba layers are
taken as full attention is, or left out), on one of `tensor_parallel` devices. As an engine would, it leaves out calls
without prompt or output and those whose prompt alone has `max_model_len` tokens, which it warns of, and cuts outputs
that go beyond.

The loop is open: nothing waits, no call is refused or preempted, however much memory all of them take. Where memory
limits how many calls run at a time, the serving engine says what comes of an allocator (`reservation: grown`).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.llm.models import load_model
from sim.llm.operators import kv_bytes_per_token
from sim.trace import Trace
from sim.trace_loading import generate as generate_trace
from sim.trace_loading import load_trace
from sim.trace_options import Option

_S = 1e9

OPTIONS = {
    "trace": Option(None, "a trace of LLM calls: a file, or a name in the catalogue; default: generated", kind=str),
    "reader": Option(None, "of that file, where neither it nor the catalogue says its format", kind=str),
    "generator": Option("chat", "without a trace: what generates the calls"),
    "parameters": Option({}, "of the generator"),
    "seed": Option(0, "of the generator", at_least=0),
    "model": Option("llama31_8b", "whose KV cache it is: a model's name or file"),
    "tensor_parallel": Option(1, "devices that hold the model together", at_least=1, at_most=1024),
    "calls": Option(0, "only so many of the calls, the first ones; 0: all", at_least=0),
    "max_model_len": Option(0, "tokens that a call can have at most; 0: the model's context", at_least=0),
    "prompt_tokens_per_s": Option(8000.0, "tokens of a prompt that are computed in a second", at_least=1e-3),
    "token_ns": Option(25e6, "time from one output token to the next", at_least=0.0),
    "grow_tokens": Option(1, "tokens that a call's memory grows by at a time", at_least=1, at_most=1 << 30),
}


def generate(options: dict[str, Any]) -> Operations:
    """Raises InputError for a trace without LLM calls, or with none that the model can serve."""
    trace = _trace(options)
    model = load_model(options["model"])
    token_bytes = kv_bytes_per_token(model, options["tensor_parallel"])
    longest = options["max_model_len"] or model.context
    number, arrival_ns, inputs, outputs = _calls(trace, options["calls"], longest)
    grow = options["grow_tokens"]
    rows = 2 - (-outputs // grow)  # each growth, and the first and the last
    call = np.repeat(np.arange(number.size), rows)
    step = np.arange(call.size) - np.repeat(np.cumsum(rows) - rows, rows)
    last = step == rows[call] - 1
    generated = np.minimum(step * grow, outputs[call])
    began_ns = arrival_ns + inputs / options["prompt_tokens_per_s"] * _S
    time_ns = np.where(step == 0, arrival_ns[call], began_ns[call] + generated * options["token_ns"])
    op = np.where(step == 0, ALLOCATE, np.where(last, RELEASE, RESIZE))
    order = np.argsort(time_ns, kind="stable")
    return build_operations(
        f"kv_growth_{trace.name}",
        time_ns[order],
        op[order],
        call[order],
        ((inputs[call] + generated) * token_bytes)[order],
        most_bytes=np.full(number.size, longest * token_bytes),
        unit_bytes=np.full(number.size, token_bytes),
        kind=np.zeros(number.size, np.int64),
        kinds=("kv",),
        labels=[f"call {which}" for which in number],
    )


def _trace(options: dict[str, Any]) -> Trace:
    if options["trace"] is None:
        return generate_trace(options["generator"], options["parameters"], options["seed"])
    if options["parameters"]:
        problem = "parameters are of a generator, and the calls are those of a trace:"
        raise InputError(problem, field="parameters", value=options["parameters"], expected="none")
    return load_trace(options["trace"], options["reader"], needs=())


def _calls(trace: Trace, most: int, longest: int) -> tuple[np.ndarray, ...]:
    """Number in the trace, arrival, tokens of prompt and of output, of the calls that can be served."""
    if trace.calls is None:
        raise InputError(f"trace {trace.name!r} has no LLM calls", expected="a trace of LLM calls, such as mooncake's")
    few = slice(None, most or None)
    arrival_ns = np.asarray(trace.calls.arrival_ns, np.float64)[few]
    inputs, outputs = (np.asarray(of, np.int64)[few] for of in (trace.calls.input_tokens, trace.calls.output_tokens))
    number = np.flatnonzero((inputs > 0) & (outputs > 0) & (inputs < longest))
    if number.size == 0:
        problem = f"trace {trace.name!r} has no call that fits {longest} tokens with prompt and output"
        raise InputError(problem, expected="a larger max_model_len, or another trace")
    if number.size < inputs.size:
        of = f"{inputs.size - number.size:,} of {inputs.size:,} calls"
        told = f"{of} are left out, with no prompt, no output, or a prompt of {longest:,} tokens or more"
        warnings.warn(f"kv_growth of {trace.name}: {told}", stacklevel=2)
    number = number[np.argsort(arrival_ns[number], kind="stable")]
    return number, arrival_ns[number], inputs[number], np.minimum(outputs[number], longest - inputs[number])


SOURCE = AllocationSource(
    "kv_growth",
    "KV caches of a trace of LLM calls, each allocated with its prompt, grown by its output and freed (open loop)",
    OPTIONS,
    generate=generate,
)
