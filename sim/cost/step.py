"""How long one iteration of a serving engine takes: a model on an accelerator under tensor parallelism.

This is what an engine builds on. `make_step` puts shapes and constants together once; compiled code then asks for

    tokens_ns(step, tokens)         all layers but attention, for all tokens of the batch, and the embedding
    outputs_ns(step, sequences)     the head and sampling, for the sequences that give a token
    add_step_chunk(step, work, new_tokens, context)     one chunk of prefill into work, float64[2, WORK], zeroed before
    step_attention_ns(step, work, sequences, tokens, window_tokens)    attention of chunks and decoding sequences
    iteration_ns(step, tokens, outputs, work, sequences, decode_tokens, window_tokens)     all of it, with the overhead

sequences: those that decode; decode_tokens: cached tokens that they attend to, all together; window_tokens: the same
with each sequence counted to the model's window at most (the same number where the model has none). Called from Python
they run uncompiled, for tables. The sizes of a batch are float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.cost import kernels
from sim.cost.calibration import Calibration, Gpu
from sim.cost.kernels import (
    add_chunk,
    all_reduce_ns,
    attention_ns,
    elementwise_ns,
    factor,
    product_ns,
    product_sizes,
)
from sim.cost.timings import moved_numbers
from sim.errors import InputError
from sim.kernels.compile import subroutine
from sim.llm import operators
from sim.llm.models import Model

K, N, LAYERS, WEIGHT_BYTES, EXPERTS, LOG_UNTOUCHED, ACTIVE, OUTPUT = range(8)  # columns of Step.products
BYTES, CALLS, PER_OUTPUT, CONSTANTS = range(4)  # columns of Step.moves, then those of Elementwise
FULL, WINDOWED = range(2)  # rows of work
_EMPTY = kernels.AllReduce(0.0, 0.0, 1.0)
_SEPARATE = kernels.Mixed(0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0)


class Step(NamedTuple):
    """One device's share of a model. products float64[products, 8], moves float64[operators, 7]: see the constants
    above; move_sizes float64[operators, nodes], move_factors float64[operators, nodes, 1], one float64[1]: the
    corrections of the operators, the last node repeated where one has fewer, and their only column; full_layers,
    window_layers: of attention; window: what the latter see.
    """

    machine: kernels.Machine
    linear: kernels.Linear
    prefill: kernels.Prefill
    decode: kernels.Decode
    mixed: kernels.Mixed
    reduce: kernels.AllReduce
    tables: kernels.Tables
    heads: kernels.Heads
    products: np.ndarray
    moves: np.ndarray
    move_sizes: np.ndarray
    move_factors: np.ndarray
    one: np.ndarray
    full_layers: float
    window_layers: float
    window: float
    activation_bytes: float
    devices: float
    link_bytes_per_ns: float
    reduces: float
    reduced_bytes: float
    overhead_ns: float


def make_step(
    model: Model, gpu: Gpu, calibration: Calibration, tp: int = 1, link_bytes_per_ns: float | None = None
) -> Step:
    """link_bytes_per_ns: of one device to its peers, one way; the accelerator's own where None.

    Raises InputError for a model that cannot be split so, and for kernels that the calibration has no constants of.
    """
    _check(model, calibration, tp)
    link = link_bytes_per_ns if link_bytes_per_ns is not None else gpu.link_bytes_per_ns
    if tp > 1 and link is None:
        raise InputError("tensor parallelism on a GPU without a link:", value=gpu.name, expected="'link' in its file")
    products = [_product_row(one) for one in operators.products(model, tp)]
    wanted = timed(model, calibration)
    moves = [_move_row(name, calls, model, calibration, tp) for name, calls in wanted]
    move_sizes, move_factors = _move_tables([name for name, _ in wanted], calibration)
    return Step(
        machine=gpu.machine,
        linear=calibration.linear,
        prefill=calibration.prefill,
        decode=calibration.decode,
        mixed=calibration.mixed or _SEPARATE,
        reduce=calibration.all_reduce or _EMPTY,
        tables=kernels.Tables(*(calibration.correction(family).arrays for family in kernels.Tables._fields)),
        heads=_heads(model, tp),
        products=np.array(products),
        moves=np.array(moves).reshape(-1, CONSTANTS + len(kernels.Elementwise._fields)),
        move_sizes=move_sizes,
        move_factors=move_factors,
        one=np.zeros(1),
        full_layers=float(model.full_layers),
        window_layers=float(model.window_layers),
        window=float(model.window_tokens),
        activation_bytes=float(model.dtype_bytes),
        devices=float(tp),
        link_bytes_per_ns=float(link or 1.0),
        reduces=2.0 * model.layers,
        reduced_bytes=float(model.hidden * model.dtype_bytes),
        overhead_ns=calibration.iteration_overhead_ns,
    )


def _check(model: Model, calibration: Calibration, tp: int) -> None:
    if tp < 1:
        raise InputError("tensor parallelism of", value=tp, expected="at least 1 device")
    needed = ["linear", "prefill", "decode", *(["all_reduce"] if tp > 1 else [])]
    missing = [family for family in needed if getattr(calibration, family) is None]
    if missing:
        raise InputError(f"calibration {calibration.name!r} has no constants of {', '.join(missing)}")
    if model.ssm_layers:
        raise InputError("no kernel times of Mamba layers are known, so that there is no time of", value=model.name)


def _product_row(one: operators.Product) -> list[float]:
    untouched = np.log1p(-one.active / one.experts) if one.experts > one.active else -np.inf
    last = [one.experts, untouched, one.active, one.output]
    return [float(value) for value in (one.k, one.n, one.layers, one.bytes_each, *last)]


def _heads(model: Model, tp: int) -> kernels.Heads:
    """Of MLA, decoding has one key-value head, the latent, which all query heads use."""
    heads, each = operators.heads_each(model, tp), operators.kv_bytes_per_token_layer(model, tp)
    if model.mla is None:
        kv, dims = operators.kv_heads_each(model, tp), 2.0 * model.attention.head_dim
        return kernels.Heads(heads, kv, dims, dims, each / kv)
    m = model.mla
    scores = m.nope_dim + m.rope_dim + m.value_dim
    return kernels.Heads(heads, 1.0, scores, 2.0 * m.kv_rank + m.rope_dim, each)


def untimed(model: Model, calibration: Calibration) -> tuple[str, ...]:
    """Elementwise operators of a model that the calibration has no constants of: they count as taking no time."""
    return tuple(name for name, _ in _wanted(model, calibration) if _measured(name) not in calibration.elementwise)


def timed(model: Model, calibration: Calibration) -> list[tuple[str, float]]:
    """Elementwise operators of a model that have a time, and how often each runs in an iteration."""
    wanted = _wanted(model, calibration)
    return [(name, float(calls)) for name, calls in wanted if _measured(name) in calibration.elementwise]


def _wanted(model: Model, calibration: Calibration) -> list[tuple[str, int]]:
    """Elementwise operators of one iteration and how often each runs; what was measured fused is taken fused."""
    norms = model.layers * (4 if model.norms.after else 2)
    fused = "add_norm" in calibration.elementwise
    found = [("embedding", 1), ("activation", model.dense_layers), ("expert_activation", model.expert_layers)]
    found += [("add_norm", norms), ("final_norm", 1)] if fused else [("norm", norms + 1), ("add", norms)]
    found += [("rope", model.attention_layers if model.attention.rope else 0)]
    found += [("head_norm", 2 * model.attention_layers if model.norms.of_heads else 0), ("sample", 1)]
    return [(name, calls) for name, calls in found if calls]


def _measured(operator: str) -> str:
    return "activation" if operator == "expert_activation" else operator


def _move_row(name: str, calls: float, model: Model, calibration: Calibration, tp: int) -> list[float]:
    if name == "expert_activation":
        each = 3.0 * model.experts.size / tp * (model.experts.active + model.experts.shared)
    else:
        each = moved_numbers(name, model, tp)
    return [each * model.dtype_bytes, calls, float(name == "sample"), *calibration.elementwise[_measured(name)]]


def _move_tables(operators: list[str], calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Step.move_sizes and Step.move_factors."""
    tables = [calibration.correction(f"elementwise.{_measured(name)}").arrays for name in operators]
    most = max((len(table.rows) for table in tables), default=1)
    sizes, factors = np.zeros((len(tables), most)), np.ones((len(tables), most, 1))
    for at, table in enumerate(tables):
        sizes[at], factors[at] = table.rows[-1], table.factors[-1]
        sizes[at, : len(table.rows)], factors[at, : len(table.rows)] = table.rows, table.factors
    return sizes, factors


# --- times of an iteration, compiled or not --------------------------------------------------------------------------


@subroutine
def step_product_ns(step, row, tokens):
    """All layers of one product, for so many tokens (of the head: sequences)."""
    experts, active = step.products[row, EXPERTS], step.products[row, ACTIVE]
    touched = 1.0
    if experts > 1.0:
        touched = max(-np.expm1(tokens * step.products[row, LOG_UNTOUCHED]) * experts, active)
    k, n, weight_bytes = step.products[row, K], step.products[row, N], step.products[row, WEIGHT_BYTES]
    once = product_ns(step.machine, step.linear, tokens * active, k, n, touched, weight_bytes, step.activation_bytes)
    rows, numbers = product_sizes(tokens * active, k, n, touched)
    return once * factor(step.tables.linear, rows, numbers) * step.products[row, LAYERS]


@subroutine
def step_moves_ns(step, row, tokens):
    """All calls of one elementwise operator."""
    m = step.moves
    constants = kernels.Elementwise(
        m[row, CONSTANTS], m[row, CONSTANTS + 1], m[row, CONSTANTS + 2], m[row, CONSTANTS + 3]
    )
    moved = m[row, BYTES] * tokens
    table = kernels.Factors(step.move_sizes[row], step.one, step.move_factors[row])
    return elementwise_ns(step.machine, constants, moved) * factor(table, moved, 1.0) * m[row, CALLS]


@subroutine
def _of_kind(step, output, tokens):
    total_ns = 0.0
    for row in range(len(step.products)):
        if step.products[row, OUTPUT] == output:
            total_ns += step_product_ns(step, row, tokens)
    for row in range(len(step.moves)):
        if step.moves[row, PER_OUTPUT] == output:
            total_ns += step_moves_ns(step, row, tokens)
    return total_ns


@subroutine
def tokens_ns(step, tokens):
    """All layers without attention, their all-reduces, and the embedding, for all tokens of a batch."""
    if tokens <= 0.0:
        return 0.0
    reduced = 0.0
    if step.devices > 1.0:
        size = step.reduced_bytes * tokens
        reduced = all_reduce_ns(step.reduce, step.link_bytes_per_ns, step.devices, size)
        reduced *= factor(step.tables.all_reduce, size, step.devices)
    return _of_kind(step, 0.0, tokens) + step.reduces * reduced


@subroutine
def outputs_ns(step, sequences):
    """The head and sampling, for the sequences that give a token."""
    return _of_kind(step, 1.0, sequences) if sequences > 0.0 else 0.0


@subroutine
def add_step_chunk(step, work, new_tokens, context):
    """Add `new_tokens` after `context` tokens to work float64[2, WORK]."""
    add_chunk(work[FULL], step.heads.heads, new_tokens, context, new_tokens + context)
    if step.window_layers > 0.0:
        add_chunk(work[WINDOWED], step.heads.heads, new_tokens, context, step.window)


@subroutine
def step_attention_ns(step, work, sequences, tokens, window_tokens):
    """Attention of all layers."""
    total_ns = 0.0
    if step.full_layers > 0.0:
        total_ns += step.full_layers * attention_ns(
            step.machine, step.prefill, step.decode, step.mixed, step.tables, step.heads, work[FULL], sequences, tokens
        )
    if step.window_layers > 0.0:
        total_ns += step.window_layers * attention_ns(
            step.machine,
            step.prefill,
            step.decode,
            step.mixed,
            step.tables,
            step.heads,
            work[WINDOWED],
            sequences,
            window_tokens,
        )
    return total_ns


@subroutine
def iteration_ns(step, tokens, outputs, work, sequences, decode_tokens, window_tokens):
    """One iteration: `tokens` of chunks and decoding sequences together, of which `outputs` sequences give one more."""
    attention = step_attention_ns(step, work, sequences, decode_tokens, window_tokens)
    return step.overhead_ns + tokens_ns(step, tokens) + outputs_ns(step, outputs) + attention
