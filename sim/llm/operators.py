"""What a model computes: its matrix products on one of `tp` devices, and from these parameters, bytes and FLOPs.

One list serves all: a product of k x n holds k * n weights and takes 2 * k * n FLOPs for each token. Tensor parallelism
splits columns (n) or rows (k) as Megatron-LM does: q, k, v and the way up by columns, the output and the way down by
rows, so that a layer has two all-reduces. Fewer key-value heads than devices are kept on several of them. Mamba's inner
channels are split likewise; what makes latents and chooses experts is kept whole on each device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim.errors import InputError
from sim.llm.models import Model


@dataclass(frozen=True)
class Product:
    """`layers` layers have this product of k x n. experts: of each of so many, `active` are used by a token; output:
    computed for the last token of a sequence only. bias: numbers added, of one product; bytes_each: of one weight.
    """

    name: str
    k: int
    n: int
    layers: int
    bytes_each: float
    bias: int = 0
    experts: int = 1
    active: int = 1
    output: bool = False

    @property
    def weights(self) -> int:
        """Of all layers and experts, biases included."""
        return (self.k * self.n + self.bias) * self.layers * self.experts

    @property
    def active_weights(self) -> int:
        """Of what one token uses."""
        return (self.k * self.n + self.bias) * self.layers * self.active

    @property
    def weight_bytes(self) -> float:
        return self.weights * self.bytes_each

    @property
    def flops_per_token(self) -> int:
        return 2 * self.k * self.n * self.layers * self.active

    def experts_touched(self, tokens: float) -> float:
        """Of one layer, expected where each token chooses its experts uniformly and independently of the others."""
        return self.experts * -math.expm1(tokens * math.log1p(-self.active / self.experts)) if self.experts > 1 else 1.0


def products(model: Model, tp: int = 1) -> tuple[Product, ...]:
    """All products of one device of `tp`, in the order of a layer. Raises InputError where a split leaves a rest."""
    return (*_attention(model, tp), *_dense(model, tp), *_expert(model, tp), *_ssm(model, tp), _head(model, tp))


def kv_heads_each(model: Model, tp: int) -> int:
    """Key-value heads on one device."""
    kv_heads = model.attention.kv_heads
    if kv_heads < tp and tp % kv_heads == 0:
        return 1
    return _split(kv_heads, tp, "kv_heads", model)


def heads_each(model: Model, tp: int) -> int:
    return _split(model.attention.heads, tp, "heads", model)


def _split(whole: int, tp: int, what: str, model: Model) -> int:
    if whole % tp:
        raise InputError(f"{model.name}: {what}, {whole}, cannot be split over", value=tp, expected="a divisor")
    return whole // tp


def _attention(model: Model, tp: int) -> tuple[Product, ...]:
    a, count, each = model.attention, model.attention_layers, model.weight_bytes_each
    heads = heads_each(model, tp)
    if model.mla:
        return _latent(model, heads, count, each)
    kv = kv_heads_each(model, tp)
    n = (heads + 2 * kv) * a.head_dim
    qkv = Product("qkv", model.hidden, n, count, each, bias=n if a.bias != "none" else 0)
    bias = model.hidden if a.bias == "all" else 0
    return qkv, Product("out", heads * a.head_dim, model.hidden, count, each, bias=bias)


def _latent(model: Model, heads: int, count: int, each: float) -> tuple[Product, ...]:
    """Of MLA. In decoding, kv_up is applied to queries and outputs in place of keys and values: as many FLOPs."""
    m, hidden = model.mla, model.hidden
    q_dim, latent = heads * (m.nope_dim + m.rope_dim), m.kv_rank + m.rope_dim
    if m.q_rank:
        query = (
            Product("latents", hidden, m.q_rank + latent, count, each),
            Product("q_up", m.q_rank, q_dim, count, each),
        )
    else:
        query = (Product("latents", hidden, latent, count, each), Product("q_up", hidden, q_dim, count, each))
    kv_up = Product("kv_up", m.kv_rank, heads * (m.nope_dim + m.value_dim), count, each)
    return *query, kv_up, Product("out", heads * m.value_dim, hidden, count, each)


def _dense(model: Model, tp: int) -> tuple[Product, ...]:
    if not model.dense_layers:
        return ()
    ffn, each, count = model.ffn, model.weight_bytes_each, model.dense_layers
    size = _split(ffn.size, tp, "ffn.size", model)
    up = (2 if ffn.gated else 1) * size
    return (
        Product("up", model.hidden, up, count, each, bias=up if ffn.bias else 0),
        Product("down", size, model.hidden, count, each, bias=model.hidden if ffn.bias else 0),
    )


def _expert(model: Model, tp: int) -> tuple[Product, ...]:
    if not model.expert_layers:
        return ()
    e, hidden, count, each = model.experts, model.hidden, model.expert_layers, model.expert_bytes_each
    size = _split(e.size, tp, "experts.size", model)
    of_experts = {"experts": e.count, "active": e.active}
    found = [
        Product("router", hidden, e.count, count, model.weight_bytes_each, bias=e.count if e.bias else 0),
        Product("expert_up", hidden, 2 * size, count, each, bias=2 * size if e.bias else 0, **of_experts),
        Product("expert_down", size, hidden, count, each, bias=hidden if e.bias else 0, **of_experts),
    ]
    if e.shared:
        found += [
            Product("shared_up", hidden, 2 * e.shared * size, count, each),
            Product("shared_down", e.shared * size, hidden, count, each),
        ]
    return tuple(found)


def _ssm(model: Model, tp: int) -> tuple[Product, ...]:
    """Of Mamba. The numbers of its convolution, of A, D and of the time step's bias are the bias of `ssm_step`."""
    if not model.ssm_layers:
        return ()
    s, each, count = model.ssm, model.weight_bytes_each, model.ssm_layers
    inner = _split(s.expand * model.hidden, tp, "ssm.expand * hidden", model)
    others = inner * (s.convolution + 1) + inner * s.state + inner + inner
    return (
        Product("ssm_in", model.hidden, 2 * inner, count, each),
        Product("ssm_parameters", inner, s.rank + 2 * s.state, count, each, bias=s.rank + 2 * s.state),
        Product("ssm_step", s.rank, inner, count, each, bias=others),
        Product("ssm_out", inner, model.hidden, count, each),
    )


def _head(model: Model, tp: int) -> Product:
    """A vocabulary that leaves a rest is padded, as engines pad it."""
    return Product("lm_head", model.hidden, -(-model.vocab // tp), 1, model.weight_bytes_each, output=True)


# --- weights ---------------------------------------------------------------------------------------------------------


def _norm_numbers(model: Model) -> int:
    a, norms = model.attention, model.norms
    per_number = 2 if norms.kind == "layer_norm" else 1
    layers = model.layers * model.hidden * (4 if norms.after else 2)
    of_heads = model.attention_layers * 2 * a.head_dim if norms.of_heads else 0
    latent = model.attention_layers * (model.mla.q_rank + model.mla.kv_rank) if model.mla else 0
    return per_number * (layers + model.hidden + of_heads) + latent


def _embedding_numbers(model: Model) -> int:
    """Tables besides the head; a head that is tied to the table counts there."""
    own_table = 0 if model.tied_embeddings else model.vocab * model.hidden
    return own_table + model.learned_positions * model.hidden


def parameters(model: Model) -> int:
    """All numbers that are trained."""
    return sum(one.weights for one in products(model)) + _norm_numbers(model) + _embedding_numbers(model)


def active_parameters(model: Model) -> int:
    """Of which one token uses so many, counting all of the embedding, as publications do."""
    return sum(one.active_weights for one in products(model)) + _norm_numbers(model) + _embedding_numbers(model)


def weight_bytes(model: Model, tp: int = 1) -> float:
    """Bytes of the weights on one of `tp` devices; norms are whole on each, the embedding is split by rows."""
    others = _norm_numbers(model) + _embedding_numbers(model) / tp
    return sum(one.weight_bytes for one in products(model, tp)) + others * model.weight_bytes_each


def active_weight_bytes(model: Model, tp: int = 1) -> float:
    """Bytes of the products that one token uses on one device: what a decoding step of one sequence reads."""
    return sum(one.active_weights * one.bytes_each for one in products(model, tp))


# --- KV cache --------------------------------------------------------------------------------------------------------


def kv_bytes_per_token_layer(model: Model, tp: int = 1) -> int:
    """Bytes of one token in one layer of attention on one device. A latent is whole on each."""
    if model.mla:
        return (model.mla.kv_rank + model.mla.rope_dim) * model.dtype_bytes
    return 2 * kv_heads_each(model, tp) * model.attention.head_dim * model.dtype_bytes


def kv_bytes_per_token(model: Model, tp: int = 1) -> int:
    """Bytes that one more token adds on one device while no window is full."""
    return model.attention_layers * kv_bytes_per_token_layer(model, tp)


def kv_bytes(model: Model, tokens: int, tp: int = 1) -> int:
    """Bytes of a sequence of so many tokens on one device: windowed layers keep the last of them, Mamba its state."""
    kept = model.full_layers * tokens + model.window_layers * min(tokens, model.window_tokens)
    return kept * kv_bytes_per_token_layer(model, tp) + state_bytes(model, tp)


def state_bytes(model: Model, tp: int = 1) -> int:
    """Bytes of Mamba's states of one sequence, however long, on one device."""
    if not model.ssm_layers:
        return 0
    s = model.ssm
    inner = _split(s.expand * model.hidden, tp, "ssm.expand * hidden", model)
    return model.ssm_layers * inner * (s.state + s.convolution - 1) * model.dtype_bytes


# --- FLOPs -----------------------------------------------------------------------------------------------------------


def attention_flops(model: Model, new_tokens: int, context: int, tp: int = 1) -> int:
    """FLOPs of scores and of weighted sums, all layers of one device: `new_tokens` after `context` others, causal."""
    pairs = model.full_layers * causal_pairs(new_tokens, context, new_tokens + context)
    pairs += model.window_layers * causal_pairs(new_tokens, context, model.window_tokens)
    heads = heads_each(model, tp)
    if not model.mla:
        return 4 * heads * model.attention.head_dim * pairs
    m = model.mla
    if new_tokens == 1:  # keys and values are used as latents
        return 2 * heads * (2 * m.kv_rank + m.rope_dim) * pairs
    return 2 * heads * (m.nope_dim + m.rope_dim + m.value_dim) * pairs


def causal_pairs(new_tokens: int, context: int, window: int) -> int:
    """Pairs of a new token and one that it sees, at most the last `window`, itself included."""
    growing = min(max(window - context, 0), new_tokens)  # tokens that see all before them
    seen_first, seen_last = context + 1, context + growing
    return growing * (seen_first + seen_last) // 2 + (new_tokens - growing) * window


def product_flops(model: Model, tokens: int, sequences: int, tp: int = 1) -> int:
    """FLOPs of all products of one device, for so many tokens, of which `sequences` give an output."""
    return sum(one.flops_per_token * (sequences if one.output else tokens) for one in products(model, tp))
