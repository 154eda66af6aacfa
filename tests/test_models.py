"""Shapes of language models: what is derived from them is what was published, and bad files are told about in full."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import InputError
from sim.llm import operators
from sim.llm.models import load_model, model_names

# Billions of parameters, all and active, as published. Sources, all recalled, not re-read: the papers and model cards
# of Llama 2 (6.74, 13.0, 69.0), Llama 3 (8.03, 70.6, 405), Qwen 2.5 and 3, Mistral, Mixtral, DeepSeek V3 (671, 37),
# GPT-OSS (20.9 and 3.6, 116.8 and 5.1, the latter without the embedding), OPT, Yi, Phi-3, Gemma 2 and 3, Jamba.
PUBLISHED = {
    "llama2_7b": (6.738, None),
    "llama2_13b": (13.016, None),
    "llama2_70b": (68.977, None),
    "llama3_8b": (8.030, None),
    "llama31_8b": (8.030, None),
    "llama3_70b": (70.554, None),
    "llama31_70b": (70.554, None),
    "llama31_405b": (405.85, None),
    "qwen25_7b": (7.616, None),
    "qwen25_72b": (72.71, None),
    "qwen3_8b": (8.191, None),
    "qwen3_32b": (32.76, None),
    "qwen3_30b_a3b": (30.53, 3.35),
    "qwen3_coder_30b": (30.53, 3.35),
    "qwen3_235b_a22b": (235.09, 22.19),
    "mistral_7b": (7.242, None),
    "mixtral_8x7b": (46.70, 12.88),
    "mixtral_8x22b": (140.62, 39.15),
    "deepseek_v3": (671.03, 37.55),
    "gpt_oss_20b": (20.91, 3.61 + 0.579),
    "gpt_oss_120b": (116.83, 5.13 + 0.579),
    "opt_6_7b": (6.66, None),
    "opt_13b": (12.85, None),
    "opt_66b": (65.72, None),
    "yi_34b": (34.39, None),
    "phi3_mini": (3.821, None),
    "phi3_medium": (13.96, None),
    "gemma2_9b": (9.242, None),
    "gemma2_27b": (27.227, None),
    "gemma3_27b": (27.01, None),
    "jamba_52b": (51.57, 12.1),
}

# KiB of KV cache a token, by hand: 2 (K and V) x 2 bytes x layers of attention x kv_heads x head_dim; of DeepSeek
# 2 bytes x 61 x (512 + 64).
KV_KIB = {
    "opt_13b": 2 * 2 * 40 * 40 * 128 / 1024,  # 800
    "llama31_8b": 128,
    "llama2_7b": 512,
    "llama31_70b": 320,
    "llama31_405b": 504,
    "qwen25_7b": 56,
    "qwen3_30b_a3b": 96,
    "qwen3_coder_30b": 96,
    "gpt_oss_120b": 72,
    "deepseek_v3": 70272 / 1024,
    "jamba_52b": 16,
}


def test_every_shipped_model_is_checked():
    assert set(model_names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_derived_parameters_are_the_published_ones(name):
    model = load_model(name)
    whole, active = PUBLISHED[name]
    assert operators.parameters(model) == pytest.approx(whole * 1e9, rel=0.01)
    assert operators.active_parameters(model) == pytest.approx((active or whole) * 1e9, rel=0.01)


@pytest.mark.parametrize("name", KV_KIB)
def test_kv_bytes_per_token(name):
    assert operators.kv_bytes_per_token(load_model(name)) == KV_KIB[name] * 1024


def test_weight_bytes_follow_the_width_of_weights():
    assert operators.weight_bytes(load_model("llama31_8b")) == operators.parameters(load_model("llama31_8b")) * 2
    assert operators.weight_bytes(load_model("deepseek_v3")) == operators.parameters(load_model("deepseek_v3"))
    experts = 36 * 128 * (3 * 2880 * 2880 + 3 * 2880) * 4.25 / 8  # MXFP4, with biases
    assert experts < operators.weight_bytes(load_model("gpt_oss_120b")) < experts + 5e9


def test_windowed_layers_keep_a_window_and_mamba_keeps_a_state():
    gemma, jamba = load_model("gemma3_27b"), load_model("jamba_52b")
    assert (gemma.full_layers, gemma.window_layers) == (10, 52)
    token = operators.kv_bytes_per_token_layer(gemma)
    assert operators.kv_bytes(gemma, 10_000) == (10 * 10_000 + 52 * 1024) * token
    assert operators.kv_bytes(gemma, 1000) == 1000 * operators.kv_bytes_per_token(gemma)
    assert (jamba.attention_layers, jamba.ssm_layers, jamba.expert_layers) == (4, 28, 16)
    assert operators.state_bytes(jamba) == 28 * 8192 * (16 + 3) * 2
    assert operators.kv_bytes(jamba, 0) == operators.state_bytes(jamba)


@pytest.mark.parametrize(("new", "context", "window"), [(1, 0, 9), (7, 0, 99), (7, 5, 99), (20, 3, 8), (5, 100, 8)])
def test_causal_pairs_are_those_counted(new, context, window):
    counted = sum(min(context + at + 1, window) for at in range(new))
    assert operators.causal_pairs(new, context, window) == counted


def test_flops_of_a_dense_model_are_two_for_each_weight():
    model = load_model("llama31_8b")
    weights = sum(one.weights for one in operators.products(model))
    assert operators.product_flops(model, 100, 100) == 200 * weights
    assert operators.attention_flops(model, 1, 99) == 4 * 32 * 128 * 100 * 32
    chunked = sum(operators.attention_flops(model, 10, at) for at in range(0, 100, 10))
    assert chunked == operators.attention_flops(model, 100, 0)


@pytest.mark.parametrize("name", ["llama31_70b", "opt_66b", "mixtral_8x7b", "gpt_oss_120b", "jamba_52b"])
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_tensor_parallelism_conserves_flops(name, tp):
    model = load_model(name)
    whole, split = operators.products(model), operators.products(model, tp)
    for one, part in zip(whole, split, strict=True):
        copies = tp if part.name == "router" else 1  # each device chooses experts by itself
        padding = tp * part.k * part.n / (one.k * one.n) if part.name == "lm_head" else copies
        assert part.flops_per_token * tp == pytest.approx(one.flops_per_token * padding, rel=1e-12)
    attention = operators.attention_flops(model, 64, 100, tp) * tp
    assert attention == operators.attention_flops(model, 64, 100)
    assert operators.weight_bytes(model, tp) * tp == pytest.approx(operators.weight_bytes(model), rel=0.01)


def test_key_value_heads_are_copied_where_there_are_fewer_than_devices():
    model = load_model("qwen3_30b_a3b")  # 4 of them
    assert operators.kv_bytes_per_token(model, 8) == operators.kv_bytes_per_token(model, 4)
    assert operators.kv_bytes_per_token(model, 4) * 4 == operators.kv_bytes_per_token(model)


def test_experts_touched_are_those_of_a_draw():
    up = next(one for one in operators.products(load_model("qwen3_30b_a3b")) if one.name == "expert_up")
    random = np.random.default_rng(1)
    for tokens in (1, 10, 100):
        draws = [
            len({expert for _ in range(tokens) for expert in random.permutation(128)[:8].tolist()}) for _ in range(200)
        ]
        assert up.experts_touched(tokens) == pytest.approx(np.mean(draws), rel=0.03)


def bad(tmp_path, text: str, change: tuple[str, str] = ("", "")) -> str:
    good = (
        "name: small\ndescription: small\nsource: none\ndtype: bfloat16\nlayers: 2\nhidden: 64\nvocab: 100\n"
        "context: 128\nattention: {heads: 4, kv_heads: 2, head_dim: 16}\nffn: {size: 128}\n"
    )
    path = tmp_path / "small.yaml"
    path.write_text(good.replace(*change) + text)
    with pytest.raises(InputError) as told:
        load_model(path)
    return "\n".join(told.value.lines)


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        ("", ("layers: 2", "layers: -2"), "layers: not a count: -2"),
        ("", ("kv_heads: 2", "kv_heads: 3"), "kv_heads do not divide heads: 3"),
        ("", ("bfloat16", "bfloat61"), "did you mean 'bfloat16'"),
        ("", ("kv_heads: 2", "kvheads: 2"), "did you mean 'kv_heads'"),
        ("", ("ffn: {size: 128}\n", ""), "2 layers have no experts and there is no 'ffn'"),
        ("", ("name: small", "name: other"), "expected the file's own, 'small'"),
        ("experts: {count: 2, active: 3, size: 8}\n", ("", ""), "more experts active than there are: 3"),
        ("sliding_window: {tokens: 8, period: 2, full: 3}\n", ("", ""), "at most the period, 2"),
        ("weight_bits: 0\n", ("", ""), "weight_bits: not a width: 0"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, text, change, expected):
    told = bad(tmp_path, text, change)
    assert expected in told and "small.yaml" in told and len(told.splitlines()) <= 2


def test_all_faults_are_told_at_once(tmp_path):
    told = bad(tmp_path, "nonsense: 1\n", ("hidden: 64", "hidden: none"))
    assert "hidden" in told and "unknown key 'nonsense'" in told


def test_an_unknown_model_and_a_bad_split_are_refused():
    with pytest.raises(InputError, match="did you mean 'llama31_8b'"):
        load_model("llama31_8B")
    with pytest.raises(InputError, match="heads, 32, cannot be split over 3"):
        operators.products(load_model("llama31_8b"), 3)
