"""The section on links and CXL memory of docs/validation.md: measured figures beside what memhier gives.

    python docs/validate_links.py [--write]

prints the section alone, or puts it into the page, where it was or before what is not covered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from sim.probing import probe  # noqa: E402
from sim.traffic import Load  # noqa: E402

FIGURE = Path("images") / "validation_ddr5_loaded.png"
STREAMS = "mstream16"  # as threads that each read through a buffer of their own

# KiB to GB/s, host to device, Tesla V100 on PCIe 3.0 x16: repository te42kyfo/gpu-benches README, cuda-memcpy
COPIES = {
    4: 0.12, 16: 0.44, 64: 1.77, 128: 3.46, 256: 5.27, 512: 7.53, 1024: 9.25, 2048: 10.50, 4096: 11.41,
    8192: 11.86, 16384: 12.11, 65536: 12.29, 262144: 12.34, 1048576: 12.35,
}  # fmt: skip

# ns, GB/s: repository CXLMemSim artifact/mlc-sapphirerapids.txt (71c5979), loaded latency of one channel of DDR5-4800
LOADED = ((110, 0.7), (113, 3.6), (125, 14.6), (238, 28.0), (313, 28.3), (370, 28.4))
# GB/s by share of reads, the same file
LOCAL = {1.0: 28.6, 0.75: 25.1, 0.5: 24.0}
OUTSTANDING = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 128, 144, 164, 192)


class Expander(NamedTuple):
    """A measured expander. idle_ns: from a core; bandwidths in GB/s by share of reads; changes: of its parameters."""

    device: str
    idle_ns: float
    bandwidth: dict[float, float]
    changes: dict[str, int] = {}  # noqa: RUF012


# Sources: the devices' own files
EXPANDERS = (
    Expander("cxl_e3s_96g", 250, {1.0: 17.8, 0.75: 23.6, 2 / 3: 25.1, 0.5: 27.2}),
    Expander("cxl_node_293", 292.9, {1.0: 31.0, 0.75: 43.7, 0.5: 46.0}),
    Expander("cxl_melody_a", 214, {1.0: 24}),
    Expander("cxl_melody_b", 271, {1.0: 22}),
    Expander("cxl_melody_c", 394, {1.0: 18}),
    Expander("cxl_melody_d", 239, {1.0: 52}),
    Expander("cxl_fpga_spr", 437.5, {1.0: 19.2}),
    Expander("cxl_cmm_d_256g", float("nan"), {2 / 3: 36}),
    Expander("cxl_cmm_b_pool_2t", 596, {1.0: 60}, {"hosts": 1}),
)
_MIXES = {1.0: "reads", 0.75: "3:1", 2 / 3: "2:1", 0.5: "1:1"}
_ASIC_NS, _FPGA = 15.0, ("cxl_melody_c", "cxl_fpga_spr")
_FPGA_NS = 60.0


def copies() -> list[tuple[int, float, float]]:
    """KiB, measured and ours in GB/s: one copy after the other."""
    loads = [Load("seq", 1.0, kib * 1024, outstanding=1, requests=20, warmup=2) for kib in COPIES]
    ours = [reading.result.bandwidth_bytes_per_ns for reading in probe("pcie3_x16", loads)]
    return [(kib, theirs, mine) for (kib, theirs), mine in zip(COPIES.items(), ours, strict=True)]


def loaded() -> np.ndarray:
    """float64[loads, 2]: GB/s, and ns from a core to data, of one local channel with so many reads outstanding."""
    loads = [Load(STREAMS, 1.0, 64, outstanding=count) for count in OUTSTANDING]
    results = [reading.result for reading in probe("ddr5_4800_1ch", loads)]
    return np.array([(one.bandwidth_bytes_per_ns, one.total_mean_ns) for one in results])


def bandwidth(device: str, share: float, changes: dict, outstanding: int = 1024) -> float:
    """GB/s of so many accesses at once, this share of them reads."""
    load = Load(STREAMS, share, 64, outstanding=outstanding, requests=30_000, warmup=10_000)
    return probe(device, [load], changes)[0].result.bandwidth_bytes_per_ns


def idle(device: str, changes: dict | None = None) -> float:
    """ns of a read at a random place and time, the device at rest but for refreshing."""
    load = Load("rand", 1.0, 64, rate_bytes_per_ns=0.02, requests=5000, warmup=100)
    return probe(device, [load], changes)[0].result.mean_ns


def _copy_table(table) -> str:
    rows = copies()
    errors = np.array([abs(mine / theirs - 1) for _, theirs, mine in rows])
    cells = [(f"{kib:,}", f"{theirs:.2f}", f"{mine:.2f}", f"{mine / theirs - 1:+.1%}") for kib, theirs, mine in rows]
    median, p90 = np.percentile(errors, (50, 90))
    return f"""### Copies over PCI Express

`pcie3_x16` under one copy after the other, host to device, beside cudaMemcpy of a Tesla V100 (gpu-benches). The fixed
cost of 30 us is the time of its smallest copies, 1 and 2 kB, which are not in the table; everything else is packet
arithmetic: 8 GT/s x 16 x 128/130, less clock compensation, and 84 bytes on the line for each completion of 64 B.
Median error {median:.1%}, 90th percentile {p90:.1%}; the source prints two digits of the small ones.

{table(("KiB", "GB/s, measured", "ours", ""), cells, left=0)}
"""


def _expander_table(table) -> str:
    cells, errors = [], []
    for one in EXPANDERS:
        for share, theirs in one.bandwidth.items():
            mine = bandwidth(one.device, share, {"host_entries": 1024, **one.changes})
            errors.append(abs(mine / theirs - 1))
            cells.append((one.device, _MIXES[share], f"{theirs:.1f}", f"{mine:.1f}", f"{mine / theirs - 1:+.0%}"))
    median, p90 = np.percentile(errors, (50, 90))
    of_e3s = [float(cell[3]) for cell in cells if cell[0] == "cxl_e3s_96g"]
    shape = ["1", *(f"{rate / of_e3s[0]:.2f}" for rate in of_e3s[1:])]
    parts = []
    for one in EXPANDERS:
        if np.isnan(one.idle_ns) or one.device == "cxl_cmm_b_pool_2t":
            continue
        controller_ns = _FPGA_NS if one.device in _FPGA else _ASIC_NS
        summed, own = idle(one.device, {"controller_ns": controller_ns}), idle(one.device)
        parts.append(
            (one.device, f"{one.idle_ns:.0f}", f"{summed:.0f}", f"{summed / one.idle_ns - 1:+.0%}", f"{own:.0f}")
        )
    return f"""### CXL expanders

Accesses of 64 B, 16 sequential streams, 1,024 outstanding, by share of reads. Bandwidths follow from slots and flits,
from queues of 128 entries (CXL-DMSim) and from the DRAM behind the controller; none was fitted. Median error
{median:.0%}, 90th percentile {p90:.0%}. How many DRAM channels a device has, and of what, is an estimate where its
maker does not say; the pool is seen from one of its hosts.

{table(("device", "traffic", "GB/s, measured", "ours", ""), cells, left=2)}

A link of x8 at 32 GT/s carries 26.3 GB/s of data read, 23.7 GB/s of data written and 39 GB/s of both: what ours reach
unless the DRAM is slower. `cxl_e3s_96g` shows what of this can be trusted: its four mixes are to each other as ours are
(measured 1 : 1.33 : 1.41 : 1.53, ours {" : ".join(shape)}), which is the mechanism of flits, while their level
is some two thirds of what such a link carries at best. What holds that device back is not in the model: retries,
sparse flits or a controller slower than its link.

Idle latency is no prediction: `controller_ns` of each device is what its measured latency leaves. The sum of parts with
CXL-DMSim's controllers instead (15 ns, of an FPGA 60 ns) shows how much that is:

{table(("device", "ns, measured", "sum of parts", "", "with its controller_ns"), parts, left=1)}
"""


def _loaded_table(table, curve: np.ndarray) -> str:
    rising = np.maximum.accumulate(curve[:, 0])
    cells = []
    for latency_ns, rate in LOADED:
        at_rate = float(np.interp(rate, rising, curve[:, 1]))
        at_latency = float(np.interp(latency_ns, curve[:, 1], rising))
        by_rate = (f"{at_rate:.0f}", f"{at_rate / latency_ns - 1:+.0%}")
        by_latency = (f"{at_latency:.1f}", f"{at_latency / rate - 1:+.0%}")
        cells.append((f"{rate:.1f}", str(latency_ns), *by_rate, *by_latency))
    mixes = []
    for share, theirs in LOCAL.items():
        mine = bandwidth("ddr5_4800_1ch", share, {})
        mixes.append((_MIXES[share], f"{theirs:.1f}", f"{mine:.1f}", f"{mine / theirs - 1:+.0%}"))
    heads = ("GB/s, measured", "ns, measured", "ns, ours at this GB/s", "", "GB/s, ours at this ns", "")
    return f"""### Local DDR5 under load

`ddr5_4800_1ch`, one channel of DDR5-4800 seen from a core: the model `dram` with two sub-channels, 16 sequential
streams of reads in a closed loop, beside Intel's MLC on Sapphire Rapids (CXLMemSim's file). The way from core to
controller is a fixed adder, `path_latency_ns`, taken from the idle latency of 106.3 ns; it does not grow with load.
The curve's shape and its end are the DRAM model's. At its end it is nearly upright, so that bandwidth at equal latency
says more than latency at equal bandwidth. Other traffic ends elsewhere: uniformly random reads at 23.1 GB/s.

{table(heads, cells, left=0)}

The same streams as fast as they can, by share of reads:

{table(("traffic", "GB/s, measured", "ours", ""), mixes)}

![loaded latency of one DDR5 channel]({FIGURE.as_posix()})
"""


def draw(curve: np.ndarray, path: Path) -> None:
    """Latency against bandwidth, ours and measured."""
    from sim.report.figures import COLOURS, MARKERS, finished, new_figure, save_figure

    figure = new_figure(6.4, 4.0, "constrained")
    ax = figure.subplots()
    latency_ns, rate = zip(*LOADED, strict=True)
    ax.plot(rate, latency_ns, marker=MARKERS[0], color=COLOURS[0], label="MLC on Sapphire Rapids")
    ax.plot(curve[:, 0], curve[:, 1], marker=MARKERS[1], markersize=4, color=COLOURS[1], label="memhier")
    ax.set(xlabel="achieved GB/s", ylabel="latency from a core, ns", title="One channel of DDR5-4800, reads")
    finished(ax, legend="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def section(table, folder: Path | None = None) -> str:
    """Markdown; draws the figure into `folder` where one is given."""
    curve = loaded()
    if folder is not None:
        draw(curve, folder / FIGURE)
    return f"""## Links and CXL memory

{_copy_table(table)}
{_expander_table(table)}
{_loaded_table(table, curve)}"""


def main() -> int:
    from make_validation import table
    from validate_dram import put

    text = section(table, Path(__file__).parent)
    if "--write" in sys.argv[1:]:
        put(text, Path(__file__).parent / "validation.md")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
