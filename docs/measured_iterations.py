"""What an iteration takes by measured kernels alone, summed up as `sim.cost.step` does, to hold it against.

Between measured sizes times are linear in the sizes; beyond them there is no time. Only for the model that was
measured, on one device: nothing is scaled to other shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sim.cost.timings import Samples, Timings, moved_numbers
from sim.errors import InputError
from sim.llm import operators
from sim.llm.models import Model


class Batch(NamedTuple):
    """One chunk of prefill (0 tokens where there is none), and sequences that decode with `cached` tokens each."""

    chunk: float
    context: float
    sequences: float
    cached: float

    @property
    def tokens(self) -> float:
        return self.chunk + self.sequences

    @property
    def outputs(self) -> float:
        """Sequences that give a token; a chunk is taken to be its prompt's last."""
        return self.sequences + float(self.chunk > 0)


class Sums:
    """Sums over the tables of one model."""

    def __init__(self, timings: Timings, model: Model) -> None:
        """Raises InputError for a model with a product that was not measured."""
        self._model = model
        self._products = {one.name: _by_size(timings.samples["linear"], one.name) for one in operators.products(model)}
        moves = timings.samples["elementwise"]
        self._moves = {str(name): _by_size(moves, str(name)) for name in np.unique(moves.operator.astype(str))}
        self._attention = {
            family: _Grid(timings.samples[family], axes)
            for family, axes in (("prefill", 2), ("decode", 2), ("mixed", 4))
            if family in timings.samples
        }

    def iteration_ns(self, batch: Batch, moves: dict[str, float]) -> float:
        """moves: calls of each elementwise operator; nan where a kernel of this size was not measured."""
        total_ns = 0.0
        for one in operators.products(self._model):
            total_ns += one.layers * self._products[one.name](batch.outputs if one.output else batch.tokens)
        for name, calls in moves.items():
            each = moved_numbers(name, self._model) * self._model.dtype_bytes
            total_ns += calls * self._moves[name](each * (batch.outputs if name == "sample" else batch.tokens))
        return total_ns + self._model.full_layers * self.attention_ns(batch)

    def attention_ns(self, batch: Batch) -> float:
        """Of one layer."""
        if not batch.chunk:
            return self._attention["decode"](batch.sequences, batch.cached)
        if not batch.sequences:
            return self._attention["prefill"](batch.chunk, batch.context)
        return self._attention["mixed"](*batch)


def _by_size(samples: Samples, operator: str) -> Callable[[float], float]:
    own = samples.where(samples.operator == operator)
    if not len(own):
        raise InputError("not measured:", value=operator, candidates=map(str, np.unique(samples.operator.astype(str))))
    sizes, at = np.unique(own.values[:, 0], return_inverse=True)
    times = np.bincount(at, own.time_ns) / np.bincount(at)
    return lambda size: float(np.interp(size, sizes, times, left=np.nan, right=np.nan))


class _Grid:
    """Times by sizes; between powers of two (and 0), all of whose combinations are measured, from the corners."""

    def __init__(self, samples: Samples, axes: int) -> None:
        found: dict[tuple[float, ...], list[float]] = {}
        for row, time in zip(samples.values[:, :axes].tolist(), samples.time_ns.tolist(), strict=True):
            found.setdefault(tuple(row), []).append(time)
        self._times = {sizes: float(np.mean(times)) for sizes, times in found.items()}
        self._nodes = [np.array(sorted({sizes[at] for sizes in found if _is_node(sizes[at])})) for at in range(axes)]

    def __call__(self, *sizes: float) -> float:
        corners = [((), 1.0)]
        for size, nodes in zip(sizes, self._nodes, strict=True):
            corners = [
                ((*known, node), share * part) for known, share in corners for node, part in _around(size, nodes)
            ]
        return sum(share * self._times.get(known, np.nan) for known, share in corners)


def _around(size: float, nodes: np.ndarray) -> list[tuple[float, float]]:
    at = int(np.searchsorted(nodes, size))
    if at < len(nodes) and nodes[at] == size:
        return [(size, 1.0)]
    if at in (0, len(nodes)):
        return [(float("nan"), 1.0)]
    low, high = float(nodes[at - 1]), float(nodes[at])
    part = (size - low) / (high - low)
    return [(low, 1.0 - part), (high, part)]


def _is_node(size: float) -> bool:
    return size == 0 or math.log2(size).is_integer()
