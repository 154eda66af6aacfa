"""`check-serving`: our own run, written down as a measured one, is found again; a real one is met; errors are clear."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sim.cli import main
from sim.cost.calibration import load_calibration, load_gpu
from sim.errors import InputError
from sim.llm.models import load_model
from sim.profile import load_profile
from sim.serving.checking import check_serving, known_model
from sim.serving.options import KvTier, ServingOptions
from sim.serving.simulation import run, setup_of
from sim.trace import Calls, Trace

_REAL = "serving/vllm_rtx4090_llama31_8b"
_BLOCKS = 600


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A run of ours, without prefix caching, in the files of a measured one."""
    rng = np.random.default_rng(3)
    n = 60
    inputs, outputs = rng.integers(20, 900, n), rng.integers(2, 200, n)
    arrival_ns = np.sort(rng.uniform(0, 8e9, n))
    arrival_ns -= arrival_ns[0]
    calls = Calls(arrival_ns, inputs, outputs, np.arange(n + 1), np.zeros(n), 0)
    trace = Trace.from_columns("made", ids=np.arange(n), arrival_ns=arrival_ns, size_bytes=inputs, calls=calls)
    options = ServingOptions(kv_blocks=_BLOCKS - 1, prefix_caching=False, block_tokens=16, tiers=(KvTier("vram"),))
    parts = load_profile("rtx4090_desktop"), load_model("llama31_8b"), load_gpu("rtx4090"), load_calibration("rtx4090")
    ended = run(setup_of(*parts, options, trace)).calls
    folder = tmp_path_factory.mktemp("measured")
    lines = [
        {
            "request_id": f"call-{i}",
            "input_toks": int(inputs[i]),
            "output_toks": int(outputs[i]),
            "arrival_time": 1e9 + arrival_ns[i] / 1e9,
            "queued_ts": 5e4 + arrival_ns[i] / 1e9,
            "first_token_ts": 5e4 + ended["first_token_ns"][i] / 1e9,
            "last_token_ts": 5e4 + ended["finish_ns"][i] / 1e9,
        }
        for i in range(n)
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    engine = {"max_num_seqs": 256, "max_num_batched_tokens": 2048, "max_model_len": 32768, "tensor_parallel_size": 1}
    cache = {"num_gpu_blocks": _BLOCKS, "block_size": 16, "enable_prefix_caching": False}
    meta = {
        "model": "meta-llama/Llama-3.1-8B",
        "engine_kwargs": engine,
        "kv_cache": cache,
        "dataset_path": "none.jsonl",
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_a_run_of_our_own_is_found_again(written):
    check = check_serving(written, "rtx4090_desktop", "llama31_8b")
    assert {one.name: round(one.error, 6) for one in check.figures} == {one.name: 0.0 for one in check.figures}
    assert check.series == ()


def test_the_command_prints_each_figure(written, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["check-serving", str(written), "--system", "rtx4090_desktop", "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "llama31_8b"
    assert set(told["figures"]["ttft_mean_ns"]) == {"ours", "measured", "error"}


def test_a_measured_run_is_met(reference_file, shared_file):
    """Means and makespan within 2 %, 90th percentiles within 4 %; series follow. Constants are of kernels alone."""
    shared_file("sharegpt_llama31_8b_300.jsonl")  # the prompts, which tell what is found in the cache
    check = check_serving(reference_file(_REAL), "rtx4090_desktop", "llama31_8b")
    errors = {one.name: one.error for one in check.figures}
    for name in ("ttft_mean_ns", "tpot_mean_ns", "latency_mean_ns", "makespan_ns"):
        assert abs(errors[name]) <= 0.02, name
    for name in ("ttft_p90_ns", "tpot_p90_ns", "latency_p90_ns"):
        assert abs(errors[name]) <= 0.04, name
    apart = {one.name: one.mean_difference for one in check.series}
    assert apart["running"] <= 2
    assert apart["waiting"] <= 4
    assert apart["kv_use"] <= 0.03


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "--system", "rtx4090_desktop"], "no such folder"),
        (["{folder}", "--system", "rtx4091_desktop"], "rtx4090_desktop"),
        (["{folder}", "--system", "upmem_server"], "does not say which accelerator"),
        (["{folder}", "--system", "rtx4090_desktop", "--model", "lama31_8b"], "llama31_8b"),
        (["{folder}", "--system", "rtx4090_desktop", "--model", "llama31_70b"], "does not fit"),
        (["{folder}", "--system", "dgx_h100"], "no constants of the kernels of"),
        (["{folder}", "--system", "rtx4090_desktop", "--arrivals", "never"], "unknown arrivals"),
    ],
)
def test_bad_input_is_one_line(written, capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        main(["check-serving", *(text.format(folder=written) for text in arguments)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


def test_models_are_known_by_their_public_names():
    assert known_model("meta-llama/Llama-3.1-8B-Instruct") == "llama31_8b"
    assert known_model("Qwen/Qwen3-32B") == "qwen3_32b"
    assert known_model("somebody/else") == "somebody/else"


def test_unknown_arrivals_are_refused(written):
    with pytest.raises(InputError, match="unknown arrivals"):
        check_serving(written, "rtx4090_desktop", "llama31_8b", arrivals="tomorrow")
