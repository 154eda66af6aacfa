"""Presets: every option of the real systems sets what it says, or says why it is not modelled; none is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import registry
from sim.choice import Choice
from sim.errors import InputError
from sim.llm import operators
from sim.llm.models import load_model
from sim.serving import presets
from sim.serving.option_values import OPTIONS
from sim.serving.options import ServingOptions
from sim.serving.scenario import load_serving_scenario

GIB, GB = 1 << 30, 10**9
GOOD = """
name: small
description: a test
system: dgx_h100_cxl_ssd
workload: {generator: zipf}
serving:
  model: llama31_8b
  kernels: a100_sxm_80g
  preset: PRESET
  options: {}
  tiers: {hbm: {}, dram: {}, ssd: {}}
"""
REAL = {  # as the systems' documentation lists them
    "vllm": """spec_name cpu_bytes_to_use block_size eviction_policy store_threshold offload_prompt_only max_load_tokens
        secondary_tiers kv_load_failure_policy max_num_seqs max_num_batched_tokens gpu_memory_utilization
        enable_prefix_caching scheduling_policy watermark enable_chunked_prefill long_prefill_token_threshold""",
    "sglang": """radix-eviction-policy hicache-write-policy hicache-storage-prefetch-policy prefetch_threshold
        hicache-ratio hicache-size hicache-io-backend hicache-mem-layout""",
    "lmcache": """cache_policy eviction-policy trigger_watermark eviction_ratio store_policy prefetch_policy
        use_layerwise enable_async_loading save_decode_cache min_retrieve_tokens priority_limit
        pin_timeout_sec chunk_size""",
    "mooncake": """eviction_ratio eviction_high_watermark_ratio default_kv_lease_ttl default_kv_soft_pin_ttl
        allow_evict_soft_pinned_objects enable_offload offload_on_evict offload_force_evict promotion_on_hit
        promotion_admission_threshold allocation_strategy""",
    "kvbm": "DYN_KVBM_CPU_CACHE_GB DYN_KVBM_DISK_CACHE_GB DYN_KVBM_DISABLE_DISK_OFFLOAD_FILTER",
}
EVERY = [(name, option) for name in presets.names() for option in presets.preset(name).options]


@pytest.fixture
def load(tmp_path):
    def load(preset: str, *tiers: str, **options):
        text = GOOD.replace("PRESET", preset)
        if tiers:
            text = text.replace(
                "{hbm: {}, dram: {}, ssd: {}}", "{" + ", ".join(f"{tier}: {{}}" for tier in tiers) + "}"
            )
        path = tmp_path / "small.yaml"
        path.write_text(text, encoding="utf-8")
        return load_serving_scenario(
            path, {f"serving.options.{name}": value for name, value in options.items()}
        ).options

    return load


def lines_of(load, *arguments, **options) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(*arguments, **options)
    return caught.value.lines


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_the_options_that_the_systems_document_are_known(name):
    chosen = presets.preset(name)
    for option in REAL[name].split():
        assert chosen.option(option) is not None
        assert chosen.option(option.replace("_", "-")) == chosen.option(option.replace("-", "_")) != None  # noqa: E711


def test_every_option_says_what_it_does_and_every_default_where_it_is_from():
    for name, option in EVERY:
        assert option.says and "\n" not in option.says, (name, option.name)
        assert bool(option.source) == (option.default is not None), (name, option.name)
        assert option.convert is not None or option.default is None
    for name in presets.names():
        folded = [presets.folded(option.name) for option in presets.preset(name).options]
        assert len(folded) == len(set(folded))
        assert all(source for _, _, source in presets.preset(name).fixed)


def test_every_option_is_in_the_readme():
    text = (Path(__file__).parent.parent / "scenarios" / "README.md").read_text(encoding="utf-8")
    for _, option in EVERY:
        assert f"`{option.name}`" in text, option.name
    for option in OPTIONS:
        assert f"`{option}`" in text, option


@pytest.mark.parametrize("name", presets.names())
def test_defaults_are_good_alone(load, name):
    load(name)
    load(name, "hbm", "dram")


TRIED = (
    *(
        True,
        False,
        0,
        1,
        3,
        64,
        0.3,
        "1 GiB",
        "64 GiB",
        "1 s",
        "lru",
        "fifo",
        "arc",
        "priority",
        "lpm",
        "timeout",
        "fail",
    ),
    *("write_back", "default", "direct", "page_first", "TieringOffloadingSpec", "auto"),
)


@pytest.mark.parametrize("name", presets.names())
def test_none_is_ignored(name):
    """What is not modelled is refused; what is has values that come to different things, or allows but one value."""
    chosen, facts = presets.preset(name), presets.Facts(kinds=("hbm", "dram", "ssd"), kv_bytes=lambda settled: 40 * GIB)
    usual, faults = presets.settle(chosen, {}, facts)
    assert not faults
    for option in chosen.options:
        runs = [presets.settle(chosen, {option.name: value}, facts) for value in TRIED]
        effects = {repr(settled.values) for settled, faults in runs if not faults}
        if option.convert is None:
            assert not effects and all(f"'{option.name}' is not modelled: " in str(run[1][0][1]) for run in runs)
        else:
            only_one = effects == {repr(usual.values)} and sum(bool(faults) for _, faults in runs) >= len(TRIED) - 2
            assert len(effects) > 1 or only_one or effects - {repr(usual.values)}, option.name


# --- what each sets --------------------------------------------------------------------------------------------------


def test_vllm(load):
    alone = load("vllm", "hbm")
    ours = ServingOptions(block_tokens=16, load_failure="fail", store_outputs=False, copy_blocks=1)
    assert alone == ours
    options = load(
        "vllm",
        "hbm",
        "dram",
        cpu_bytes_to_use="64 GiB",
        tensor_parallel_size=2,
        eviction_policy="arc",
        store_threshold=3,
        offload_prompt_only=False,
        max_load_tokens=4096,
        kv_load_failure_policy="recompute",
        block_size=32,
        gpu_memory_utilization=0.8,
        scheduling_policy="priority",
        enable_chunked_prefill=True,
        blocks_per_chunk=4,
    )
    second = options.tiers[1]
    assert second.capacity_bytes == 32 * GIB  # of all accelerators together
    assert second.eviction == Choice("arc") and options.tiers[0].eviction == Choice("lru")
    assert second.offload == Choice("write_through_selective", {"threshold": 3})
    assert (options.store_outputs, options.max_load_tokens, options.load_failure) == (True, 4096, "recompute")
    assert (options.block_tokens, options.memory_utilization, options.copy_blocks) == (32, 0.8, 4)
    assert options.scheduling.name == "priority"
    assert load("vllm", max_load_tokens=0).load == "never"
    assert "vLLM refuses 2 and more" in lines_of(load, "vllm", store_threshold=2)[0]
    assert "'tiers' has 3" in lines_of(load, "vllm", spec_name="CPUOffloadingSpec")[0]
    load("vllm", spec_name="TieringOffloadingSpec")


def test_sglang(load):
    options = load("sglang")
    pool = int(0.88 * 80 * GIB - operators.weight_bytes(load_model("llama31_8b")))
    assert options.tiers[1].capacity_bytes == 2 * pool
    assert [tier.offload.name for tier in options.tiers[1:]] == ["write_through", "write_through"]
    assert (options.overlap, options.prefetch, options.prefetch_min_tokens) == ("layerwise", "best_effort", 256)
    assert load("sglang", "hbm", "dram").prefetch == "none"
    options = load(
        "sglang",
        **{
            "hicache-size": 30,
            "radix_eviction_policy": "slru",
            "hicache_write-policy": "write_through_selective",
            "hicache-storage-prefetch-policy": "timeout",
            "prefetch_timeout_base": 0.5,
            "schedule-policy": "lpm",
            "disable-radix-cache": False,
        },
    )
    assert options.tiers[1].capacity_bytes == 30 * GB
    assert [tier.eviction.name for tier in options.tiers] == ["slru", "slru", "lru"]
    assert [tier.offload.name for tier in options.tiers[1:]] == ["write_through_selective"] * 2
    assert (options.prefetch, options.prefetch_timeout_ns) == ("timeout", 5e8)


def test_sglangs_layouts_decide_how_many_copies_there_are(load):
    by_kernel = load("sglang")
    pages = load("sglang", **{"hicache-io-backend": "direct", "hicache-mem-layout": "page_first_direct"})
    layers = load("sglang", **{"hicache-io-backend": "direct"})
    assert by_kernel.copy_blocks == 0 and pages.copy_blocks == layers.copy_blocks == 1
    assert layers.copy_overhead_ns == load_model("llama31_8b").layers * pages.copy_overhead_ns > 0


def test_lmcache(load):
    options = load("lmcache")
    assert (options.block_tokens, options.overlap, options.store_outputs) == (256, "blocking", False)
    assert options.tiers[1].capacity_bytes == 5 * GIB
    assert (options.tiers[1].evict_trigger, options.tiers[1].evict_ratio) == (1.0, 0.0)
    assert load("lmcache", enable_async_loading=True).overlap == "async"
    assert load("lmcache", enable_async_loading=True, use_layerwise=True).overlap == "layerwise"
    options = load(
        "lmcache",
        **{"eviction-policy": "ARC", "eviction_ratio": 0.5, "max_local_disk_size": 100, "save_decode_cache": True},
        min_retrieve_tokens=512,
        prefetch_policy="default",
    )
    second, drive = options.tiers[1:]
    assert (second.eviction.name, drive.eviction.name) == ("arc", "lru")
    assert second.evict_trigger == 0.8 and second.evict_ratio == pytest.approx(0.4)  # half of what is there
    assert drive.capacity_bytes == 100 * GIB and options.store_outputs and options.min_load_tokens == 512
    assert options.prefetch == "wait_complete"
    assert "a cache shared out among users" in lines_of(load, "lmcache", **{"eviction-policy": "IsolatedLRU"})[0]
    assert [tier.eviction.name for tier in load("lmcache", cache_policy="MRU").tiers] == ["lru", "mru", "mru"]


def test_mooncake(load):
    second, drive = load("mooncake").tiers[1:]
    assert second.eviction == Choice("lease", {"lease_ns": 5e9})
    assert second.evict_trigger == 0.9 and second.evict_ratio == pytest.approx(0.045)
    assert (drive.eviction.name, drive.offload.name) == ("fifo", "write_through")
    options = load(
        "mooncake",
        global_segment_size="80 GB",
        default_kv_lease_ttl=10_000,
        default_kv_soft_pin_ttl="30 min",
        allow_evict_soft_pinned_objects=False,
        enable_offload=True,
        offload_on_evict=True,
    )
    pins = {"lease_ns": 1e10, "pin_ns": 1.8e12, "evict_pinned": False}
    assert options.tiers[1].eviction == Choice("soft_pin", pins)
    assert options.tiers[1].capacity_bytes == 80 * GB and options.tiers[2].offload.name == "write_back"
    assert (
        "is about a third tier, of which 'tiers' lists none"
        in lines_of(load, "mooncake", "hbm", "dram", enable_offload=True)[0]
    )
    assert (
        "not modelled: what is read from a lower tier" in lines_of(load, "mooncake", promotion_admission_threshold=2)[0]
    )


def test_kvbm(load):
    options = load("kvbm", DYN_KVBM_CPU_CACHE_GB=100, DYN_KVBM_DISK_CACHE_GB=500, tensor_parallel_size=4)
    second, drive = options.tiers[1:]
    assert (second.capacity_bytes, drive.capacity_bytes) == (25 * GB, 125 * GB)
    assert drive.admission == Choice("decayed_frequency") and second.admission == Choice("always")
    assert load("kvbm", DYN_KVBM_DISABLE_DISK_OFFLOAD_FILTER=True).tiers[2].admission == Choice("always")


@pytest.mark.parametrize("name", presets.names())
def test_policies_that_presets_name_exist_and_take_their_parameters(load, name):
    for tier in load(name).tiers:
        for key, kind in (
            ("eviction", registry.EVICTION),
            ("admission", registry.ADMISSION),
            ("offload", registry.OFFLOAD),
        ):
            choice = getattr(tier, key)
            registry.load(kind, choice.name).resolve(choice.parameters)


# --- whose option it is ----------------------------------------------------------------------------------------------


def test_an_option_of_another_preset_is_told_with_its_owner(load):
    told = lines_of(load, "vllm", **{"hicache-ratio": 2})
    assert len(told) == 1
    assert "'hicache-ratio' is an option of preset 'sglang', and the preset here is 'vllm'" in told[0]
    _, faults = presets.settle(None, {"chunk_size": 256}, presets.Facts())
    assert "is an option of preset 'lmcache', and no preset is set" in str(faults[0][1])
    assert "did you mean 'hicache-ratio'" in lines_of(load, "sglang", **{"hicache-ratios": 2})[0]


def test_our_own_names_are_good_under_a_preset_but_not_beside_theirs(load):
    assert load("lmcache", block_tokens=64).block_tokens == 64
    told = lines_of(load, "lmcache", block_tokens=64, chunk_size=128)
    problem = "serving.options.chunk_size: contradicts 'block_tokens', which sets the same: 'chunk_size'"
    assert told == [f"{problem}; expected one of the two"]
    assert load("lmcache", block_tokens=64, chunk_size=64).block_tokens == 64
    both = lines_of(load, "sglang", **{"hicache-ratio": 1, "hicache-size": 10})
    assert "contradicts 'hicache-ratio'" in both[0]


def test_two_spellings_are_one_option(load):
    _, faults = presets.settle(
        presets.preset("sglang"), {"page-size": 32, "page_size": 64}, presets.Facts(kinds=("hbm",))
    )
    assert "an option twice: 'page_size'; expected 'page-size' alone" in str(faults[0][1])


def test_an_option_about_a_tier_that_there_is_not(load):
    told = lines_of(load, "vllm", "hbm", cpu_bytes_to_use="1 GiB")
    assert "'cpu_bytes_to_use' is about a tier number 2 of the KV cache, which 'tiers' does not have" in told[0]
    told = lines_of(load, "kvbm", "hbm", "dram", DYN_KVBM_DISK_CACHE_GB=10)
    assert "is about a drive of the KV cache" in told[0]
    assert "preset 'kvbm' keeps the KV cache below the accelerator, too" in lines_of(load, "kvbm", "hbm")[0]


def test_what_a_tier_says_stands_and_contradictions_are_told(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(GOOD.replace("PRESET", "lmcache"), encoding="utf-8")
    tier = load_serving_scenario(path, {"serving.tiers.dram.capacity": "7 GiB"}).options.tiers[1]
    assert tier.capacity_bytes == 7 * GIB
    with pytest.raises(InputError, match=r"max_local_cpu_size: contradicts tiers\.dram\.capacity, which sets the same"):
        load_serving_scenario(path, {"serving.tiers.dram.capacity": "7 GiB", "serving.options.max_local_cpu_size": 6})


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(EVERY),
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 1 << 70), st.floats(), st.text(max_size=6), st.lists(st.none())
    ),
    st.sampled_from([("hbm",), ("hbm", "dram"), ("hbm", "dram", "ssd")]),
)
def test_whatever_an_option_is_set_to_only_input_errors_come_out(one, value, kinds):
    name, option = one
    facts = presets.Facts(kinds=kinds, layers=32, kv_bytes=lambda settled: 40 * GIB)
    settled, faults = presets.settle(presets.preset(name), {option.name: value}, facts)
    assert all(isinstance(error, InputError) for _, error in faults)
    assert all(place[0] == "options" or place[1] < len(kinds) for place in settled.values)
