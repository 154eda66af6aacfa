"""The weights of a language model as the tensors that are moved, layer by layer; shared by sources of such moves."""

from __future__ import annotations

from typing import NamedTuple

from sim.llm.models import Model
from sim.llm.operators import products

MODEL = "shape of the language model: one of `run_sim.py list models`, or a YAML file"


class Tensor(NamedTuple):
    name: str
    layer: int
    expert: int  # 0 where there is one only
    weights: int
    size_bytes: int
    of_experts: bool


def tensors(model: Model, tp: int = 1) -> list[Tensor]:
    """One for each matrix product of a layer on one of `tp` devices, the output's last; experts have their own.

    Products are as engines fuse them: q, k and v in one, gate and up in one. Where not all layers have a product, as
    with experts in every other layer, those that have it are taken to be spread evenly. Norms are left out, which no
    offloading moves (DeepSpeed leaves tensors below 1 MiB where they are), and the embedding, as large as the output.
    """
    found = []
    for product in products(model, tp):
        weights = product.k * product.n + product.bias
        size = max(1, round(weights * product.bytes_each))
        for number in range(product.layers):
            layer = model.layers if product.output else number * model.layers // product.layers
            many = product.experts > 1
            found += [Tensor(product.name, layer, expert, weights, size, many) for expert in range(product.experts)]
    return sorted(found, key=lambda tensor: tensor.layer)
