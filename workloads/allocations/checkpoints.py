"""Checkpoints of a model in training: its tensors are copied to pinned memory, written to storage, and released.

With each tensor of weights come its states of the optimizer: in training with Adam in mixed precision 2 bytes of
weight, and 4 each of the master copy, momentum and variance (Rajbhandari et al., ZeRO, SC 2020, section 3.1). Tensors
are copied one after the other, as long as no more than `staged_bytes` are there; `writers` write those that were
copied, each one tensor at a time, in the order in which they came, as asynchronous checkpointing does (Maurya et al.,
DataStates-LLM, HPDC 2024, arXiv 2406.10707). Tensors are those of `workloads.allocations._tensors`.

Defaults of ours: 24 GB/s, about what a link of PCIe 4.0 x16 gives; 4 GB/s, a fast NVMe SSD; ten checkpoints, one every
ten minutes.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.llm.models import load_model
from sim.trace_options import BYTES, Option
from workloads.allocations._tensors import MODEL, tensors

OPTIONS = {
    "model": Option("llama2_7b", MODEL),
    "tp": Option(1, "devices that share the matrices by tensor parallelism; one of them is shown", at_least=1),
    "checkpoints": Option(10, "how many (ours)", at_least=1, at_most=10**6),
    "interval_s": Option(
        600.0, "from the start of one to that of the next (ours); it waits for the one before", at_least=0.0
    ),
    "optimizer": Option("adam", "whose states are saved with the weights", choices=("adam", "none")),
    "copy_bytes_per_s": Option(24e9, "from the accelerator to the host (ours: PCIe 4.0 x16)", at_least=1.0),
    "write_bytes_per_s": Option(4e9, "to storage, all writers together (ours: an NVMe SSD)", at_least=1.0),
    "writers": Option(4, "tensors that are written at a time (ours)", at_least=1, at_most=10**4),
    "staged_bytes": Option("16 GiB", "copying waits while this many are there (ours)", kind=BYTES, at_least=1),
}
_STATES = {"none": {"weight": None}, "adam": {"weight": None, "master": 4, "momentum": 4, "variance": 4}}


def generate(options: dict[str, Any]) -> Operations:
    states = _STATES[options["optimizer"]]
    found = tensors(load_model(options["model"]), options["tp"])
    sizes, labels, kinds = [], [], []
    for tensor in found:
        for kind, (state, bytes_each) in enumerate(states.items()):
            sizes.append(tensor.size_bytes if bytes_each is None else tensor.weights * bytes_each)
            expert = f" {tensor.expert}" * tensor.of_experts
            labels.append(f"layer {tensor.layer} {tensor.name}{expert} {state}")
            kinds.append(kind)
    if max(sizes) > options["staged_bytes"]:
        expected = f"at least the {max(sizes)} of the largest tensor"
        raise InputError("too little", field="staged_bytes", value=options["staged_bytes"], expected=expected)
    rows, now_ns = [], 0.0
    for number in range(options["checkpoints"]):
        start_ns = max(now_ns, number * options["interval_s"] * 1e9)
        now_ns = _one(rows, number * len(sizes), sizes, start_ns, options)
    rows.sort(key=lambda row: row[:2])
    time_ns, op, number, size = (
        np.array(column) for column in zip(*[(t, o, n, s) for t, _, o, n, s in rows], strict=True)
    )
    count = options["checkpoints"]
    known = {"kind": np.tile(kinds, count), "kinds": tuple(states), "labels": labels * count}
    return build_operations("checkpoints", time_ns, op, number, size, **known)


def _one(rows: list, first: int, sizes: list[int], now_ns: float, options: dict[str, Any]) -> float:
    """Rows (time, rank at that time, operation, number, size) of one checkpoint; when its last tensor is written."""
    each_ns = 1e9 * options["writers"] / options["write_bytes_per_s"]
    free_ns = [now_ns] * options["writers"]  # when each writer is free; a heap
    writing: list[tuple[float, int]] = []  # when a tensor will have been written, and its size; a heap
    staged, last_ns = 0, now_ns
    for number, size in enumerate(sizes, first):
        while staged + size > options["staged_bytes"]:
            done_ns, gone = heapq.heappop(writing)
            staged, now_ns = staged - gone, max(now_ns, done_ns)
        rows.append((now_ns, 1, ALLOCATE, number, size))
        staged += size
        now_ns += 1e9 * size / options["copy_bytes_per_s"]
        done_ns = max(now_ns, heapq.heappop(free_ns)) + size * each_ns
        heapq.heappush(free_ns, done_ns)
        heapq.heappush(writing, (done_ns, size))
        rows.append((done_ns, 0, RELEASE, number, size))
        last_ns = max(last_ns, done_ns)
    return last_ns


SOURCE = AllocationSource(
    name="checkpoints",
    description="tensors of a model's checkpoints in pinned memory",
    options=OPTIONS,
    generate=generate,
)
