"""How fast the device models are when driven alone, on one core: requests a second of processor time.

    python benchmarks/devices.py [REQUESTS]

Ramulator 2.1 does 0.15 M a second of sequential and 0.10 M of random requests, DDR4 or one HBM3 channel (C++, -O3,
processor time, other machine load notwithstanding). The best of three; a column for one channel and one for forty. Then
a NAND drive, full, written in order and after long use: MQSim does 2 to 17 thousand requests a second. Last, a shipped
device of each other model under random reads.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from sim import registry
from sim.devices import dram, nand
from sim.dram.timing import dram_parameters
from sim.profile import load_device
from sim.traffic import Load, measure

REPEATS = 3
DEVICES = (("ddr4_3200", {}), ("hbm3_6400", {"read_queue": 64, "write_queue": 64}))
OTHERS = (("l2_a100_40m", 128, 64), ("pcie5_x16", 4096, 8), ("cxl_e3s_96g", 64, 64), ("csd_instinfer", 4096, 32))
TRAFFIC = (("seq", 1.0), ("rand", 1.0), ("rand", 0.7), ("mstream16", 1.0))


def rate(name: str, changes: dict, pattern: str, read_ratio: float, channels: int, requests: int) -> float:
    """Million requests a second, with 32 outstanding a channel."""
    p = dram_parameters(name, {**changes, "channels": channels})
    load = Load(pattern, read_ratio, p.transaction_bytes, outstanding=32 * channels, requests=requests)
    best = float("inf")
    for _ in range(REPEATS):
        state, start = dram.init(p), time.process_time()
        measure(dram.MODEL, state, load, p.capacity_bytes, p.clock_ns)
        best = min(best, time.process_time() - start)
    return requests / best / 1e6


def drive_rate(condition: str, read_ratio: float, requests: int) -> float:
    """Thousand 4 KiB requests a second of a drive that is full, without the time that preconditioning takes."""
    parameters = nand.of_device(load_device("mqsim_default"), {"condition": condition, "occupancy": 1.0})
    load = Load("rand", read_ratio, 4096, outstanding=32, requests=requests, warmup=0)
    state = nand.init(parameters)
    start = time.process_time()
    measure(nand.MODEL, state, load, parameters.capacity_bytes)
    return requests / (time.process_time() - start) / 1e3


def other_rate(name: str, size_bytes: int, outstanding: int, requests: int) -> float:
    """Million requests a second of a shipped device, driven as `probe` does."""
    part = load_device(name)
    model = registry.load(registry.DEVICE_MODEL, part.model)
    parameters = model.of_device(part, {})
    load = Load("rand", 1.0, size_bytes, outstanding=outstanding, requests=requests)
    state, start = model.init(parameters), time.process_time()
    measure(model, state, load, parameters.capacity_bytes, parameters.clock_ns)
    return requests / (time.process_time() - start) / 1e6


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    rate("ddr4_3200", {}, "seq", 1.0, 1, 1000)  # compiles
    print(f"{'device':12} {'traffic':16} {'1 channel':>10} {'40 channels':>12}  M requests/s")
    for name, changes in DEVICES:
        for pattern, read_ratio in TRAFFIC:
            one, forty = (rate(name, changes, pattern, read_ratio, channels, requests) for channels in (1, 40))
            print(f"{name:12} {pattern + f', {read_ratio:.0%}':16} {one:10.2f} {forty:12.2f}")
    print(f"\n{'mqsim_default':16} {'reads':>8} {'writes':>8}  thousand 4 KiB requests/s, 32 outstanding")
    drive_rate("filled", 1.0, 1000)  # compiles
    for condition in ("filled", "steady"):
        reads, writes = (drive_rate(condition, read_ratio, requests) for read_ratio in (1.0, 0.0))
        print(f"{condition:16} {reads:8.0f} {writes:8.0f}")
    print(f"\n{'device':16} {'model':6} {'bytes':>6} {'outstanding':>11}  M requests/s, random reads")
    for name, size_bytes, outstanding in OTHERS:
        other_rate(name, size_bytes, outstanding, 1000)  # compiles
        found = other_rate(name, size_bytes, outstanding, requests)
        print(f"{name:16} {load_device(name).model:6} {size_bytes:6} {outstanding:11} {found:6.2f}")


if __name__ == "__main__":
    main()
