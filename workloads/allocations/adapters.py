"""Requests to a language model with many LoRA adapters, as S-LoRA's benchmark makes them, and what they allocate.

A request needs its adapter and a KV cache that grows a token at a time until its answer ends. An adapter is loaded with
the first request that needs it and dropped when no request does, the one unused for longest first, as far as
`idle_bytes` allow none of them (S-LoRA fetches those of running requests: 0). All requests start as they come: memory
is not scheduled here, so what a stream asks for at once may be more than a memory has.

Defaults are those of S-LoRA (Sheng et al., MLSys 2024, arXiv 2311.03285), benchmarks/exp_suite.py and trace.py of its
repository: setting S2 with ranks of 8 to 64 on Llama-7B, whose shape Llama 2 7B has, two requests a second, prompts and
answers uniform from 8 to 511 tokens, and adapters by NumPy's power distribution: the one of number floor(n x) with x
distributed as alpha x^(alpha - 1), uniform for 1. An adapter has, for each of `matrices` projections of each layer, A
and B of rank times hidden numbers each, in the model's type (4: q, k, v and the output).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, RESIZE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.llm.models import Model, load_model
from sim.llm.operators import kv_bytes_per_token
from sim.trace_options import BYTES, Option
from workloads.allocations._tensors import MODEL

_ADAPTER, _KV = 0, 1
_KINDS = ("adapter", "kv")

OPTIONS = {
    "model": Option("llama2_7b", MODEL),
    "adapters": Option(200, "how many there are, their ranks in turn (S-LoRA: 1 to 2,000)", at_least=1, at_most=10**6),
    "ranks": Option([64, 32, 16, 8], "ranks of the adapters (setting S2 of S-LoRA)"),
    "matrices": Option(4, "projections of a layer that have an adapter (S-LoRA: q, k, v, output)", at_least=1),
    "alpha": Option(1.0, "popularity of adapters, 1 for uniform (S-LoRA: 0.1 to 1)", at_least=1e-3, at_most=1e3),
    "requests": Option(600, "how many (S-LoRA: five minutes at its rate)", at_least=1, at_most=10**7),
    "rate_per_s": Option(2.0, "mean requests a second (S-LoRA: 2 on an A10G)", at_least=1e-6, at_most=1e6),
    "cv": Option(1.0, "coefficient of variation of the gaps between them; 1 is Poisson", at_least=1e-3, at_most=1e3),
    "prompt_low": Option(8, "least tokens of a prompt", at_least=1),
    "prompt_high": Option(512, "a prompt has fewer tokens", at_least=2),
    "answer_low": Option(8, "least tokens of an answer", at_least=1),
    "answer_high": Option(512, "an answer has fewer tokens", at_least=2),
    "token_ns": Option(25e6, "time of a token of an answer (ours: 40 tokens a second)", at_least=1.0, at_most=1e12),
    "idle_bytes": Option(0, "adapters kept though no request needs them", kind=BYTES, at_least=0),
    "seed": Option(0, "of all that is drawn", at_least=0),
}


def adapter_bytes(model: Model, rank: int, matrices: int = 4) -> int:
    return matrices * 2 * rank * model.hidden * model.layers * model.dtype_bytes


def generate(options: dict[str, Any]) -> Operations:
    model = load_model(options["model"])
    ranks = _ranks(options["ranks"])
    requests = _draw(options)
    sizes = np.array([adapter_bytes(model, rank, options["matrices"]) for rank in ranks])
    adapter_size = sizes[np.arange(options["adapters"]) % sizes.size]
    rows = [_kv_rows(requests, kv_bytes_per_token(model), options["token_ns"])]
    rows.append(_adapter_rows(requests, adapter_size, options["idle_bytes"], options["token_ns"]))
    time_ns, op, number, size = (np.concatenate(columns) for columns in zip(*rows, strict=True))
    order = np.lexsort((number, op != RELEASE, time_ns))  # what is released makes room for what comes at that moment
    time_ns, op, number, size = time_ns[order], op[order], number[order], size[order]
    born = number[op == ALLOCATE]
    kind = np.where(born < options["requests"], _KV, _ADAPTER)
    token = kv_bytes_per_token(model)
    request = np.where(kind == _KV, born, 0)
    most_kv = (requests["prompt"][request] + options["answer_high"] - 1) * token
    most = np.where(kind == _KV, most_kv, size[op == ALLOCATE])
    unit = np.where(kind == _KV, token, size[op == ALLOCATE])
    return build_operations(
        "adapters", time_ns, op, number, size, kind=kind, kinds=_KINDS, most_bytes=most, unit_bytes=unit
    )


def _ranks(given: list) -> list[int]:
    if not given or not all(isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 for rank in given):
        raise InputError("bad value", field="ranks", value=given, expected="a list of whole numbers from 1")
    return given


def _draw(options: dict[str, Any]) -> dict[str, np.ndarray]:
    """Of each request: when it comes, which adapter it needs, tokens of its prompt and answer."""
    for what in ("prompt", "answer"):
        if options[f"{what}_high"] <= options[f"{what}_low"]:
            expected = f"more than {what}_low, {options[f'{what}_low']}"
            raise InputError("bad value", field=f"{what}_high", value=options[f"{what}_high"], expected=expected)
    rng, count = np.random.default_rng(options["seed"]), options["requests"]
    shape = 1 / options["cv"] ** 2
    gaps_s = rng.gamma(shape, 1 / (shape * options["rate_per_s"]), count)
    return {
        "arrival_ns": 1e9 * np.cumsum(gaps_s),
        "adapter": np.minimum(rng.power(options["alpha"], count) * options["adapters"], options["adapters"] - 1).astype(
            int
        ),
        "prompt": rng.integers(options["prompt_low"], options["prompt_high"], count),
        "answer": rng.integers(options["answer_low"], options["answer_high"], count),
    }


class _Resident:
    """Adapters that are there, each under the number of its load; those that nobody uses, least recently used first."""

    def __init__(self, sizes: np.ndarray, idle_bytes: int):
        self.sizes, self.room = sizes.tolist(), idle_bytes
        self.users = [0] * len(self.sizes)
        self.load: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()

    def enter(self, adapter: int, load: int) -> bool:
        """A request uses an adapter; whether that has to be loaded."""
        self.users[adapter] += 1
        if adapter in self.idle:
            del self.idle[adapter]
            self.room += self.sizes[adapter]
        return self.load.setdefault(adapter, load) == load

    def leave(self, adapter: int) -> Iterator[int]:
        """A request has ended; the loads that are dropped."""
        self.users[adapter] -= 1
        if self.users[adapter]:
            return
        self.idle[adapter] = None
        self.room -= self.sizes[adapter]
        while self.room < 0:
            gone, _ = self.idle.popitem(last=False)
            self.room += self.sizes[gone]
            yield self.load.pop(gone)


def _kv_rows(requests: dict[str, np.ndarray], token_bytes: int, token_ns: float):
    """Columns of the KV caches' operations; a request's number is its cache's. The last token is never cached."""
    answer = requests["answer"]
    number = np.repeat(np.arange(answer.size), answer + 1)
    step = np.arange(number.size) - np.repeat(np.cumsum(answer + 1) - (answer + 1), answer + 1)
    time_ns = requests["arrival_ns"][number] + step * token_ns
    op = np.where(step == 0, ALLOCATE, np.where(step == answer[number], RELEASE, RESIZE))
    return time_ns, op, number, (requests["prompt"][number] + step) * token_bytes


def _adapter_rows(requests: dict[str, np.ndarray], sizes: np.ndarray, idle_bytes: int, token_ns: float):
    """Columns of the adapters' operations, each load an object, numbered after the requests."""
    rows, ends = [], []
    resident = _Resident(sizes, idle_bytes)
    loads = count = requests["answer"].size

    def finish(until_ns: float) -> None:
        while ends and ends[0][0] <= until_ns:
            now_ns, adapter = heapq.heappop(ends)
            rows.extend((now_ns, RELEASE, gone, 1) for gone in resident.leave(adapter))

    for request in range(count):
        now_ns, adapter = float(requests["arrival_ns"][request]), int(requests["adapter"][request])
        finish(now_ns)
        if resident.enter(adapter, loads):
            rows.append((now_ns, ALLOCATE, loads, int(sizes[adapter])))
            loads += 1
        heapq.heappush(ends, (now_ns + float(requests["answer"][request]) * token_ns, adapter))
    finish(float("inf"))
    time_ns, op, number, size = (np.array(column) for column in zip(*rows, strict=True))
    return time_ns, op, number, size


SOURCE = AllocationSource(
    name="adapters",
    description="LoRA adapters and KV caches of requests, as S-LoRA's benchmark",
    options=OPTIONS,
    generate=generate,
)
