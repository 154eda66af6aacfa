"""Deterministic policies against libCacheSim's own code on generated traces; needs the extra `oracle`."""

import numpy as np
import pytest
from numba import config

import sim
from sim.trace import Trace
from sim.trace_writing import write_oracle_general

libcachesim = pytest.importorskip("libcachesim", reason="pip install -e '.[oracle]'")
pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="long without compilation")

# where paper and library agree, or the policy has the library's form
SAME = {
    "fifo": "FIFO",
    "lru": "LRU",
    "clock": "Clock",
    "sieve": "Sieve",
    "s3fifo:as_libcachesim=true": "S3FIFO",
    "2q": "TwoQ",
    "2q:as_libcachesim=true": "TwoQ",
    "arc:as_libcachesim=true": "ARC",
    "lfu": "LFU",
    "belady": "Belady",
    "mq": "MQ",
    "clock2qplus:as_libcachesim=true": "Clock2QPlus",
    "slru:as_libcachesim=true": "SLRU",
    "size:as_libcachesim=true": "Size",
    "gdsf:as_libcachesim=true": "GDSF",
    "lirs:as_libcachesim=true": "LIRS",
    "clockpro:as_libcachesim=true:cold_ratio=0.5": "ClockPro",
    "wtinylfu:as_libcachesim=true": "WTinyLFU",
}
UNIT_ONLY = {"2q"}


@pytest.fixture(scope="module", params=["zipf", "scan_zipf", "drifting"])
def generated(request, tmp_path_factory):
    """A trace of ours with sizes from one byte to 100 KB, and a file of it that the library reads."""
    made = sim.generate(request.param, {"requests": 40_000, "arrival": "none"}, seed=9)
    blocks = made.column("block")
    sizes = (np.random.default_rng(5).pareto(1.2, made.n_blocks) * 100 + 1).astype(np.int64).clip(1, 100_000)
    trace = Trace.from_columns(request.param, ids=made.address[blocks], size_bytes=sizes[blocks]).with_next_access()
    path = tmp_path_factory.mktemp("traces") / f"{request.param}.oracleGeneral"
    write_oracle_general(trace, path, "generated")
    return trace, path


@pytest.mark.parametrize("unit", [True, False], ids=["objects", "bytes"])
@pytest.mark.parametrize("policy", SAME)
def test_the_same_number_of_misses(generated, policy, unit):
    if policy in UNIT_ONLY and not unit:
        pytest.skip("differs there; its docstring says how")
    trace, path = generated
    for share in (0.01, 0.1, 0.4):
        capacity = max(64, int(share * (trace.n_blocks if unit else trace.block_bytes.sum())))
        options = libcachesim.ReaderInitParam(ignore_obj_size=unit)
        kind = libcachesim.TraceType.ORACLE_GENERAL_TRACE
        reader = libcachesim.TraceReader(trace=str(path), trace_type=kind, reader_init_params=options)
        miss_ratio, _ = getattr(libcachesim, SAME[policy])(cache_size=capacity, hashpower=16).process_trace(reader)
        run = sim.replay(trace, policy, capacity, ignore_object_size=unit)
        corrected = run.misses + run.counts.get("late_hits", 0) - run.counts.get("false_hits", 0)
        assert corrected == round(miss_ratio * trace.n_requests)
