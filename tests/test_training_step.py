"""The stream of a training step against published counts of bytes, and against the model's own numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sim.errors import InputError
from sim.fragmentation.operations import ALLOCATE, RELEASE
from sim.hook_arguments import NEVER
from sim.llm.models import load_model
from sim.registry import ALLOCATION_SOURCE, load
from sim.trace_options import check_options

pytestmark = pytest.mark.uncompiled

SOURCE = load(ALLOCATION_SOURCE, "training_step")
MODEL = """
name: tiny
description: "for tests"
source: "made up"
dtype: bfloat16
layers: 3
hidden: 64
vocab: 1000
context: 128
norms: {kind: layer_norm}
tied_embeddings: %s
attention: {heads: 4, kv_heads: 4, head_dim: 16, rope: %s}
ffn: {size: 256, gated: %s}
"""


def stream(**options):
    return SOURCE.generate(check_options(SOURCE.options, options, "source training_step"))


@pytest.fixture
def tiny(tmp_path):
    def write(tied=False, rope=False, gated=False):
        path = tmp_path / "tiny.yaml"
        path.write_text(MODEL % tuple(str(flag).lower() for flag in (tied, rope, gated)))
        return str(path)

    return write


def kept_of_layer(ops, number: int) -> int:
    """Bytes of one layer's activations that live when the forward pass is over: where the logits are allocated."""
    turn = next(row for row in range(ops.count) if ops.op[row] == ALLOCATE and ops.labels[ops.object[row]] == "logits")
    o = ops.objects
    live = (o.born < turn) & (o.dies > turn) & (o.kind == ops.kinds.index("activation"))
    return sum(int(o.first_bytes[i]) for i in np.flatnonzero(live) if ops.labels[i].startswith(f"layer {number} "))


@pytest.mark.parametrize("model", ["opt_6_7b", "opt_13b"])
@pytest.mark.parametrize("sequence", [512, 2048])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_layer_keeps_the_bytes_of_korthikanti_et_al(model, sequence, batch):
    shape = load_model(model)
    s, b, h, a = sequence, batch, shape.hidden, shape.attention.heads
    common = {"model": model, "sequence": s, "batch": b, "steps": 1}
    statistics, sums = 16 * s * b, 4 * a * s * b
    full = {"none": 34 * s * b * h + 5 * a * s * s * b, "selective": 34 * s * b * h}
    for recomputation, expected in full.items():
        ops = stream(**common, recomputation=recomputation)
        assert [kept_of_layer(ops, layer) for layer in (0, shape.layers - 1)] == [expected + statistics] * 2
    assert kept_of_layer(stream(**common, attention="flash"), 1) == 34 * s * b * h + statistics + sums
    assert kept_of_layer(stream(**common, recomputation="full"), 1) == 2 * s * b * h


@pytest.mark.parametrize("attention", ["eager", "flash"])
@pytest.mark.parametrize("recomputation", ["none", "selective", "full"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("gradients", ["freed", "kept"])
def test_only_what_is_meant_to_stay_stays(tiny, attention, recomputation, gated, dropout, gradients):
    ops = stream(
        model=tiny(rope=gated, gated=gated, tied=dropout),
        sequence=32,
        attention=attention,
        recomputation=recomputation,
        dropout=dropout,
        gradients=gradients,
    )
    stays = np.flatnonzero(ops.objects.dies == NEVER)
    kinds = {ops.kinds[ops.objects.kind[i]] for i in stays}
    assert kinds == {"weight", "optimizer", "workspace"} | ({"gradient"} if gradients == "kept" else set())
    assert [ops.labels[i] for i in stays if ops.objects.kind[i] == ops.kinds.index("workspace")] == ["cuBLAS workspace"]


def test_weights_gradients_and_states_are_16_bytes_a_parameter(tiny):
    ops = stream(model=tiny(), sequence=32)
    by_kind = {
        kind: int(ops.objects.first_bytes[(ops.objects.kind == code) & (ops.objects.dies == NEVER)].sum())
        for code, kind in enumerate(ops.kinds)
    }
    h, f, v, layers = 64, 256, 1000, 3
    parameters = 2 * v * h + layers * (4 * h * h + 2 * h * f + 4 * h) + 2 * h
    assert by_kind["weight"] == 2 * parameters and by_kind["optimizer"] == 12 * parameters
    is_gradient = ops.objects.kind == ops.kinds.index("gradient")
    assert ops.objects.first_bytes[is_gradient].sum() == 3 * 2 * parameters  # new ones in each of three steps


def test_llama_7b_has_its_parameters():
    ops = stream(steps=1, sequence=8)
    weights = ops.objects.first_bytes[ops.objects.kind == ops.kinds.index("weight")].sum()
    assert weights == 2 * 6_738_415_616  # of meta-llama/Llama-2-7b-hf, as its card counts them


def test_states_come_with_the_first_update_only(tiny):
    ops = stream(model=tiny(), sequence=32, steps=3)
    made = [row for row in range(ops.count) if ops.op[row] == ALLOCATE and "moment" in ops.labels[ops.object[row]]]
    updates = [row for row in range(ops.count) if ops.labels[ops.object[row]] == "head weight update"]
    assert max(made) < updates[0] and len(updates) == 6
    assert not any("moment" in label for label in stream(model=tiny(), sequence=32, optimizer="none").labels)


def test_recomputation_lowers_the_peak():
    options = {"steps": 1, "batch": 4, "optimizer": "none"}
    peaks = [stream(**options, recomputation=which).peak_live_bytes for which in ("none", "selective", "full")]
    assert peaks[0] > peaks[1] > peaks[2]


def test_lengths_vary_by_seed(tiny):
    same = [stream(model=tiny(), sequence=100, sequence_spread=0.5, steps=8, seed=3) for _ in range(2)]
    other = stream(model=tiny(), sequence=100, sequence_spread=0.5, steps=8, seed=4)
    assert same[0].digest == same[1].digest != other.digest
    tokens = [
        int(size) // 8 for size, label in zip(other.objects.first_bytes, other.labels, strict=True) if label == "tokens"
    ]
    assert len(set(tokens)) > 4 and min(tokens) >= 50 and max(tokens) <= 100
    fixed = stream(model=tiny(), sequence=100, steps=2)
    assert [size for size, label in zip(fixed.objects.first_bytes, fixed.labels, strict=True) if label == "tokens"] == [
        800
    ] * 2


def test_labels_say_what_it_is(tiny):
    ops = stream(model=tiny(), sequence=32, steps=1)
    assert "layer 2 attention scores" in ops.labels and "layer 0 queries weight gradient" in ops.labels
    assert all(re.match(r"[a-zA-Z]", label) for label in ops.labels)
    assert (np.bincount(ops.objects.kind) > 0).all() and (ops.op == RELEASE).any()


def test_what_is_not_modelled_is_refused():
    with pytest.raises(InputError, match="a model with 'experts' is not modelled"):
        stream(model="mixtral_8x7b")
    with pytest.raises(InputError, match="unknown model"):
        stream(model="nothing")
