"""Deterministic policies against libCacheSim's own code on generated traces; needs the extra `oracle`."""

import pytest
from numba import config

import sim
from sim.trace_writing import write_oracle_general

libcachesim = pytest.importorskip("libcachesim", reason="pip install -e '.[oracle]'")
pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="long without compilation")

# where paper and library agree, or the policy has the library's form; slru's counts some of its misses as late hits
SAME = {
    "fifo": "FIFO",
    "lru": "LRU",
    "clock": "Clock",
    "sieve": "Sieve",
    "s3fifo:as_libcachesim=true": "S3FIFO",
    "2q": "TwoQ",
    "arc:as_libcachesim=true": "ARC",
    "lfu": "LFU",
    "belady": "Belady",
    "mq": "MQ",
    "clock2qplus:as_libcachesim=true": "Clock2QPlus",
}


@pytest.fixture(scope="module", params=["zipf", "scan_zipf", "drifting"])
def generated(request, tmp_path_factory):
    """A trace of ours, and a file of it that the library reads."""
    trace = sim.generate(request.param, {"requests": 40_000, "arrival": "none"}, seed=9).with_next_access()
    path = tmp_path_factory.mktemp("traces") / f"{request.param}.oracleGeneral"
    write_oracle_general(trace, path, "generated")
    return trace, path


@pytest.mark.parametrize("policy", SAME)
def test_the_same_number_of_misses(generated, policy):
    trace, path = generated
    for share in (0.01, 0.1):
        capacity = max(64, int(trace.n_blocks * share))
        unit = libcachesim.ReaderInitParam(ignore_obj_size=True)
        kind = libcachesim.TraceType.ORACLE_GENERAL_TRACE
        reader = libcachesim.TraceReader(trace=str(path), trace_type=kind, reader_init_params=unit)
        miss_ratio, _ = getattr(libcachesim, SAME[policy])(cache_size=capacity, hashpower=16).process_trace(reader)
        run = sim.replay(trace, policy, capacity, ignore_object_size=True)
        assert run.misses == round(miss_ratio * trace.n_requests)
