"""Folders of real serving runs: what is read from them, what may be missing, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.errors import InputError
from sim.serving.measured import load_measured
from sim.trace_loading import load_trace

META = {
    "model": "org/model",
    "engine_kwargs": {"max_num_seqs": 4, "max_num_batched_tokens": 64, "tensor_parallel_size": 2, "dtype": "bfloat16"},
    "dataset_path": "workloads/some-chat.1.jsonl",
}
SERIES = "t,prompt_throughput,gen_throughput,running,waiting,kv_cache_pct\n1.0,5.0,2.0,5,2,13.2\n2.0,0.0,1.0,1,0,3.5\n"


def call(number, queued=100.0, **changes):
    return {
        "request_id": f"bench-{number}",
        "input_toks": 20 + number,
        "output_toks": 3,
        "arrival_time": 1_700_000_000.0 + queued - 0.25,
        "queued_ts": queued,
        "scheduled_ts": queued + 0.5,
        "first_token_ts": queued + 1.0,
        "last_token_ts": queued + 2.0,
        **changes,
    }


def write(folder, calls, meta=META, series=SERIES):
    folder.mkdir(exist_ok=True)
    (folder / "requests.jsonl").write_text("".join(json.dumps(one) + "\n" for one in calls))
    (folder / "meta.json").write_text(json.dumps(meta))
    if series is not None:
        (folder / "timeseries.csv").write_text(series)
    return folder


def dataset(path, calls, shared=16):
    """A file of prompts that begin alike."""
    lines = []
    for i, one in enumerate(calls):
        n = one["input_toks"]
        tokens = [*range(shared), *range(1000 * (i + 1), 1000 * (i + 1) + n)][:n]
        lines.append(
            {**{k: one[k] for k in ("input_toks", "output_toks")}, "arrival_time_ns": i, "input_tok_ids": tokens}
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# ------------------------------------------------------------------------------------------------------- the real one


@pytest.fixture(scope="module")
def real(reference_file):
    return load_measured(reference_file("serving/vllm_rtx4090_llama31_8b"))


def test_the_real_engine(real):
    engine = real.engine
    assert (real.model, engine.version, engine.dtype) == ("meta-llama/Llama-3.1-8B", "0.19.0", "bfloat16")
    assert (engine.max_num_seqs, engine.max_num_batched_tokens, engine.max_model_len) == (256, 2048, 32768)
    assert (engine.num_gpu_blocks, engine.block_tokens, engine.memory_utilization) == (2588, 16, 0.9)
    assert (engine.prefix_caching, engine.async_scheduling, engine.reserve_full_prompt) == (True, True, True)
    assert (engine.tensor_parallel, engine.policy, engine.assumed) == (1, "fcfs", ())
    options = engine.options()
    assert (options.kv_blocks, options.scheduling.name, options.async_scheduling) == (2587, "fcfs", True)
    assert real.hardware["device_name"] == "NVIDIA GeForce RTX 4090"


def test_the_real_times(real):
    requests = real.requests
    assert requests.line.tolist() == list(range(300)) and requests.arrival_ns[0] == 0.0
    assert requests.ttft_ns.mean() == pytest.approx(65.4566e9, rel=1e-6)
    assert np.percentile(requests.ttft_ns, 90) == pytest.approx(121.1217e9, rel=1e-6)
    assert requests.tpot_ns.mean() == pytest.approx(32.4466e6, rel=1e-5)
    assert requests.latency_ns.mean() == pytest.approx(86.5783e9, rel=1e-6)
    assert requests.makespan_ns == pytest.approx(183.5675e9, rel=1e-6)
    waited_ns = requests.arrival_ns - requests.client_arrival_ns
    assert waited_ns.min() == pytest.approx(0.0, abs=1e3)  # what arrival_time resolves
    assert waited_ns.mean() == pytest.approx(29.77e6, rel=1e-3) and waited_ns.max() < 0.21e9
    assert (requests.client_ttft_ns - requests.ttft_ns) == pytest.approx(waited_ns, abs=1.0)
    assert real.series.t_s.tolist() == list(range(1, 185))
    assert -0.1e9 < real.series_start_ns < -0.08e9
    assert real.series.kv_cache_pct.max() > 99 and real.series.preempted is None


@pytest.mark.parametrize("arrivals", ["queued", "client"])
def test_the_real_prompts(real, arrivals, shared_file):
    path = shared_file("sharegpt_llama31_8b_300.jsonl")
    made = real.trace(arrivals)
    assert (made.dataset.resolve(), made.warning) == (path.resolve(), None)
    plain = load_trace(path)
    assert np.array_equal(made.trace.calls.first_row, plain.calls.first_row)
    assert np.array_equal(made.trace.column("block"), plain.column("block"))
    gap_ns = np.abs(made.trace.calls.arrival_ns - plain.calls.arrival_ns).max()
    assert gap_ns < (0.17e9 if arrivals == "queued" else 0.04e9)  # what the engine made of the schedule


# ----------------------------------------------------------------------------------------------------------- made ones


def test_what_may_be_missing(tmp_path):
    bare = [
        {k: v for k, v in call(i, 100.0 + i).items() if k not in ("scheduled_ts", "arrival_time")} for i in range(2)
    ]
    got = load_measured(write(tmp_path / "run", bare, series=None))
    assert got.series is None and got.requests.client_ttft_ns is None and got.requests.scheduled_ns is None
    assert got.requests.ttft_ns.tolist() == [1e9, 1e9] and got.series_start_ns is None
    assert (got.engine.num_gpu_blocks, got.engine.tensor_parallel, got.engine.block_tokens) == (None, 2, 16)
    assert got.engine.assumed == (
        "block_size: 16",
        "enable_prefix_caching: True",
        "async_scheduling: True",
        "scheduler_reserve_full_isl: True",
        "enable_chunked_prefill: True",
        "policy: fcfs",
    )
    with pytest.raises(InputError, match="no call has an arrival_time"):
        got.trace("client")


def test_what_not_all_calls_have_is_left_out(tmp_path):
    got = load_measured(write(tmp_path / "run", [call(0), call(1, scheduled_ts=None, arrival_time=None)])).requests
    assert got.scheduled_ns is None and got.client_arrival_ns is None and got.ttft_ns.tolist() == [1e9, 1e9]


def test_arrivals_of_the_client_alone(tmp_path):
    one_clock = [{**call(i, 100.0 + i), "arrival_time": 99.5 + i} for i in range(2)]
    both = load_measured(write(tmp_path / "both", one_clock)).requests
    assert both.ttft_ns.tolist() == [1e9, 1e9] and both.client_ttft_ns.tolist() == [1.5e9, 1.5e9]
    for one in one_clock:
        del one["queued_ts"]
    alone = load_measured(write(tmp_path / "alone", one_clock)).requests
    assert alone.ttft_ns.tolist() == alone.client_ttft_ns.tolist() == [1.5e9, 1.5e9]
    other_clock = [{k: v for k, v in call(0).items() if k != "queued_ts"}]
    with pytest.raises(InputError, match=r"arrival_time is on another clock .* 'queued_ts'"):
        load_measured(write(tmp_path / "other", other_clock))


def test_calls_are_in_order_of_arrival_and_keep_their_line(tmp_path):
    calls = [call(0, 103.0), call(1, 101.0, output_toks=1), call(2, 102.0)]
    got = load_measured(write(tmp_path / "run", calls)).requests
    assert got.line.tolist() == [1, 2, 0] and got.input_tokens.tolist() == [21, 22, 20]
    assert got.arrival_ns.tolist() == [0.0, 1e9, 2e9] and got.finish_ns.tolist() == [2e9, 3e9, 4e9]
    assert np.isnan(got.tpot_ns[0]) and got.tpot_ns[1:].tolist() == [0.5e9, 0.5e9]


@pytest.mark.parametrize("name", ["some_chat-1.jsonl", "some-chat.jsonl", "SomeChat1_long.jsonl"])
def test_the_dataset_is_found_by_its_name(tmp_path, monkeypatch, name):
    monkeypatch.delenv("MEMHIER_TRACE_PATH", raising=False)
    calls = [call(0, 103.0), call(1, 101.0), call(2, 102.0)]
    folder = write(tmp_path / "run", calls[:2])
    missing = load_measured(folder).trace()
    assert missing.dataset is None and "without the dataset some-chat.1.jsonl (no file" in missing.warning
    assert missing.trace.calls.block_tokens == 0 and missing.trace.n_blocks == 2
    dataset(tmp_path / name, calls)  # beside the folder, and longer than the run
    found = load_measured(folder).trace()
    assert (found.dataset.name, found.warning) == (name, None)
    assert found.trace.calls.first_row.tolist() == [0, 2, 4]
    assert found.trace.calls.input_tokens.tolist() == [21, 20]
    block = found.trace.column("block")
    assert block[0] == block[2] and block[1] != block[3]
    monkeypatch.setenv("MEMHIER_TRACE_PATH", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / name).rename(tmp_path / "data" / name)
    assert load_measured(folder).trace().dataset == tmp_path / "data" / name


def test_another_dataset_of_that_name_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.delenv("MEMHIER_TRACE_PATH", raising=False)
    calls = [call(0), call(1)]
    folder = write(tmp_path / "run", calls)
    path = dataset(tmp_path / "some-chat.1.jsonl", [calls[0], {**calls[1], "output_toks": 4}])
    got = load_measured(folder).trace()
    assert got.dataset is None and f"{path}: the lengths of call 2 are others" in got.warning
    dataset(path, calls[:1])
    assert "1 calls for 2" in load_measured(folder).trace().warning
    path.write_text('{"no": 1}\n')
    assert "missing field" in load_measured(folder).trace().warning
    unnamed = {k: v for k, v in META.items() if k != "dataset_path"}
    assert "names no dataset" in load_measured(write(tmp_path / "unnamed", calls, unnamed)).trace().warning


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_token_ts": None}, r"requests.jsonl:2: .*never finished \(no first_token_ts\): 'bench-1'"),
        ({"last_token_ts": 0.0}, r"never finished \(no last_token_ts\)"),
        (
            {"scheduled_ts": 99.0},
            r":2: clocks run backwards: scheduled_ts 99.0; expected at least 100.0, its queued_ts",
        ),
        ({"first_token_ts": 100.4}, "clocks run backwards: first_token_ts 100.4.*100.5, its scheduled_ts"),
        ({"last_token_ts": 100.9}, "clocks run backwards: last_token_ts"),
        ({"queued_ts": None}, ":2: some calls have it, others do not: 'queued_ts'"),
        ({"queued_ts": "now"}, "queued_ts: bad time 'now'"),
        ({"queued_ts": float("nan")}, "queued_ts: bad time nan"),
        ({"input_toks": 0}, "input_toks: bad number 0"),
        ({"output_toks": 2.5}, "output_toks: bad number 2.5"),
    ],
)
def test_calls_that_cannot_be(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_measured(write(tmp_path / "run", [call(0), call(1, **change)]))


def test_missing_fields_and_files(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_measured(tmp_path / "none")
    with pytest.raises(InputError, match=r"meta.json: cannot read the measured run"):
        (tmp_path / "empty").mkdir()
        load_measured(tmp_path / "empty")
    with pytest.raises(InputError, match=r"requests.jsonl: no calls"):
        load_measured(write(tmp_path / "no_calls", []))
    renamed = {("first_token" if k == "first_token_ts" else k): v for k, v in call(0).items()}
    with pytest.raises(InputError, match="missing field 'first_token_ts'; did you mean 'first_token'"):
        load_measured(write(tmp_path / "renamed", [renamed]))
    with pytest.raises(InputError, match="missing field 'input_toks'"):
        load_measured(write(tmp_path / "no_input", [{}]))
    with pytest.raises(InputError, match=r"meta.json: missing field .*max_num_seqs"):
        load_measured(write(tmp_path / "no_seqs", [call(0)], {"model": "m", "engine_kwargs": {}}))
    with pytest.raises(InputError, match=r"missing field 'model or"):
        load_measured(write(tmp_path / "no_model", [call(0)], {"engine_kwargs": META["engine_kwargs"]}))
    with pytest.raises(InputError, match=r"max_num_seqs: bad value 'many'; expected a whole number"):
        told = {**META["engine_kwargs"], "max_num_seqs": "many"}
        load_measured(write(tmp_path / "many", [call(0)], {**META, "engine_kwargs": told}))
    with pytest.raises(InputError, match="not as many calls as the run had: 1; expected 2"):
        load_measured(write(tmp_path / "fewer", [call(0)], {**META, "num_requests": 2}))
    with pytest.raises(InputError, match=r"meta\.json: not JSON"):
        (write(tmp_path / "cut", [call(0)]) / "meta.json").write_text('{"model"')
        load_measured(tmp_path / "cut")
    with pytest.raises(InputError, match="started_at: bad time 'noon'"):
        load_measured(write(tmp_path / "noon", [call(0)], {**META, "started_at": "noon"}))


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ("t,running\n1,2\n", "missing column 'waiting'"),
        ("t,running,waiting\n", "no rows"),
        ("t,running,waiting\n1,2,x\n", "timeseries.csv:2: waiting: bad number 'x'"),
        ("t,running,waiting\n1,2\n", "timeseries.csv:2: waiting: bad number ''"),
        ("t,running,waiting\n2,1,1\n1,1,1\n", "timeseries.csv:3: clocks run backwards: t 1.0"),
    ],
)
def test_bad_series(tmp_path, series, message):
    with pytest.raises(InputError, match=message):
        load_measured(write(tmp_path / "run", [call(0)], series=series))


def test_a_longer_series(tmp_path):
    text = "t,prompt_compute_throughput,running,waiting,preempted\n1.5,7,5,2,1\n"
    series = load_measured(write(tmp_path / "run", [call(0)], series=text)).series
    assert (series.t_s, series.prompt_compute_throughput, series.preempted) == ([1.5], [7.0], [1.0])
    assert series.kv_cache_pct is None and series.gen_throughput is None
