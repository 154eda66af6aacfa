"""Peak memory and time of a replay that streams a large trace from disk, measured in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
RECORD = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
CHUNK = 1 << 20

CHILD = """
import json, resource, sys, time
sys.path.insert(0, {root!r})
import sim
started = time.perf_counter()
result = sim.replay({path!r}, {policy!r}, "10%", ignore_object_size=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
print(json.dumps(dict(policy=result.policy, requests=result.requests, objects=result.objects,
    hit_ratio=result.hit_ratio, seconds=time.perf_counter() - started, kernel_seconds=result.kernel_seconds,
    peak_gib=peak)))
"""


def write_trace(path: Path, requests: int, objects: int) -> None:
    """Zipf(1.0) requests in libCacheSim's binary format, a chunk at a time."""
    rng = np.random.default_rng(1)
    cumulative = np.cumsum(1.0 / np.arange(1, objects + 1))
    with open(path, "wb") as file:
        for first in range(0, requests, CHUNK):
            rows = np.zeros(min(CHUNK, requests - first), RECORD)
            rows["time"] = (first + np.arange(rows.size)) // 1_000_000
            rows["id"] = np.searchsorted(cumulative, rng.random(rows.size) * cumulative[-1])
            rows["size"], rows["next"] = 4096, -1
            rows.tofile(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--policy", default="lru")
    parser.add_argument("--folder", help="where the trace goes while it is needed (24 bytes a request)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "zipf.oracleGeneral"
        write_trace(path, given.requests, given.objects)
        child = CHILD.format(root=str(ROOT), path=str(path), policy=given.policy)
        done = subprocess.run([sys.executable, "-c", child], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{found['requests']:,} requests over {found['objects']:,} objects, {found['policy']}: peak "
        f"{found['peak_gib']:.2f} GiB, {found['seconds']:.1f} s of which {found['kernel_seconds']:.1f} s in the kernel"
    )


if __name__ == "__main__":
    main()
