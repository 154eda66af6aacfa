"""Weights that pass through a memory too small for all of them: experts by popularity, or layers in turn.

what: `experts`: each token chooses, in each layer of experts, the `active` ones of the model, by Zipf popularity, which
is drawn anew for each layer. An expert that is not there is loaded, its matrices one object each, and of a layer the
`resident` used last are kept, in the manner of Eliseev and Mazur (2023, arXiv 2312.17238), who keep 2 to 4 of Mixtral's
8 in GPUs of 12 to 16 GB. `layers`: the weights of all layers pass in turn, as in FlexGen (Sheng et al., ICML 2023,
arXiv 2303.06865) and ZeRO-Infinity (Rajbhandari et al., SC 2021): those of the next `ahead` layers are allocated while
one computes, and released after it has; FlexGen loads one ahead. A pass is a token of a batch.

The tensors are those of `workloads.allocations._tensors`. Times are of no consequence to most allocators: a layer takes
`layer_ns`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE, Operations, build_operations
from sim.fragmentation.source import AllocationSource
from sim.llm.models import load_model
from sim.trace_options import Option
from workloads.allocations._tensors import MODEL, Tensor, tensors

OPTIONS = {
    "model": Option("mixtral_8x7b", MODEL),
    "what": Option("experts", "what is moved", choices=("experts", "layers")),
    "passes": Option(200, "tokens, one after the other; each goes through all layers", at_least=1, at_most=10**7),
    "resident": Option(4, "experts: of a layer, kept (Eliseev and Mazur: 2 to 4 of 8)", at_least=1),
    "alpha": Option(
        0.5, "experts: Zipf exponent of their popularity (ours); 0 for uniform", at_least=0.0, at_most=20.0
    ),
    "ahead": Option(1, "layers: allocated before they are used (FlexGen: 1)", at_least=0),
    "tp": Option(1, "devices that share the matrices by tensor parallelism; one of them is shown", at_least=1),
    "layer_ns": Option(1e6, "time that a layer takes (ours)", at_least=1.0, at_most=1e12),
    "seed": Option(0, "of all that is drawn", at_least=0),
}


class _Rows:
    """Operations so far, tensors known by a number while they are there."""

    def __init__(self):
        self.rows, self.labels, self.kinds = [], [], []

    def load(self, now_ns: float, tensor: Tensor) -> int:
        self.rows.append((now_ns, ALLOCATE, len(self.labels), tensor.size_bytes))
        self.labels.append(f"layer {tensor.layer} {tensor.name}" + f" {tensor.expert}" * tensor.of_experts)
        self.kinds.append(tensor.name)
        return len(self.labels) - 1

    def drop(self, now_ns: float, number: int) -> None:
        self.rows.append((now_ns, RELEASE, number, 1))

    def operations(self) -> Operations:
        time_ns, op, number, size = (np.array(column) for column in zip(*self.rows, strict=True))
        names, kind = np.unique(self.kinds, return_inverse=True)
        known = {"kind": kind, "kinds": tuple(names.tolist()), "labels": self.labels}
        return build_operations("weights", time_ns, op, number, size, **known)


def generate(options: dict[str, Any]) -> Operations:
    model = load_model(options["model"])
    found = tensors(model, options["tp"])
    if options["what"] == "layers":
        return _layers(found, options)
    if model.experts is None:
        raise InputError("a model without experts:", field="model", value=options["model"], expected="what: layers")
    if options["resident"] < model.experts.active:
        expected = f"at least the {model.experts.active} that a token uses"
        raise InputError("too few", field="resident", value=options["resident"], expected=expected)
    return _experts([tensor for tensor in found if tensor.of_experts], model.experts, options)


def _layers(found: list[Tensor], options: dict[str, Any]) -> Operations:
    by_layer: dict[int, list[Tensor]] = {}
    for tensor in found:
        by_layer.setdefault(tensor.layer, []).append(tensor)
    order = [by_layer[layer] for layer in sorted(by_layer)] * options["passes"]
    rows, there, loaded = _Rows(), [], 0
    for at in range(len(order)):
        now_ns = at * options["layer_ns"]
        while loaded < min(len(order), at + 1 + options["ahead"]):
            there.append([rows.load(now_ns, tensor) for tensor in order[loaded]])
            loaded += 1
        for number in there.pop(0):
            rows.drop(now_ns + options["layer_ns"] / 2, number)
    return rows.operations()


def _experts(found: list[Tensor], experts, options: dict[str, Any]) -> Operations:
    rng, rows = np.random.default_rng(options["seed"]), _Rows()
    layers = sorted({tensor.layer for tensor in found})
    matrices: dict[tuple[int, int], list[Tensor]] = {}
    for tensor in found:
        matrices.setdefault((tensor.layer, tensor.expert), []).append(tensor)
    chosen = {layer: _chosen(rng, experts.count, experts.active, options) for layer in layers}
    there: dict[int, OrderedDict[int, list[int]]] = {layer: OrderedDict() for layer in layers}
    for token in range(options["passes"]):
        for at, layer in enumerate(layers):
            now_ns = (token * len(layers) + at) * options["layer_ns"]
            for expert in chosen[layer][token].tolist():
                _use(rows, there[layer], matrices[layer, expert], expert, options["resident"], now_ns)
    return rows.operations()


def _chosen(rng: np.random.Generator, count: int, active: int, options: dict[str, Any]) -> np.ndarray:
    """int64[passes, active] experts without repetition, in proportion to their popularity (Gumbel's highest keys)."""
    popularity = rng.permutation(np.arange(1, count + 1, dtype=float) ** -options["alpha"])
    keys = np.log(popularity) + rng.gumbel(size=(options["passes"], count))
    return np.argsort(-keys, axis=1)[:, :active]


def _use(rows: _Rows, there: OrderedDict, matrices: list[Tensor], expert: int, resident: int, now_ns: float) -> None:
    if expert in there:
        there.move_to_end(expert)
        return
    if len(there) == resident:
        _, numbers = there.popitem(last=False)
        for number in numbers:
            rows.drop(now_ns, number)
    there[expert] = [rows.load(now_ns, tensor) for tensor in matrices]


SOURCE = AllocationSource(
    name="weights",
    description="weights of experts or layers that are loaded and dropped",
    options=OPTIONS,
    generate=generate,
)
