"""GPU memories and level-2 caches beside what was measured on the cards.

    python docs/validate_gpu.py

prints the section of docs/validation.md alone. The measured figures are those of the repository te42kyfo/gpu-benches
(gpu-stream: read; gpu-latency: pointer chase; gpu-l2-cache: bandwidth over footprint), read there.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import numpy as np  # noqa: E402

from sim.probing import probe  # noqa: E402
from sim.profile import load_device  # noqa: E402
from sim.traffic import Load  # noqa: E402

# card: device of its memory, measured read GB/s, pointer chase of DRAM ns; nan where nobody measured it
_NONE = float("nan")
CARDS = {
    "V100": ("hbm2_v100_32g", 895.0, 317.0),
    "A100 40 GB": ("hbm2_a100_40g", 1503.0, 408.0),
    "A100 80 GB": ("hbm2e_a100_80g", 1880.0, 406.0),
    "H100 PCIe": ("hbm2e_h100_pcie_80g", 2016.0, 375.0),
    "H100 SXM": ("hbm3_h100_80g", _NONE, _NONE),
    "H200": ("hbm3e_h200_141g", 3890.0, _NONE),
    "GH200 96 GB": ("hbm3_gh200_96g", _NONE, _NONE),
    "GH200 144 GB": ("hbm3e_gh200_144g", _NONE, _NONE),
    "B200": ("hbm3e_b200_192g", _NONE, _NONE),
    "MI210": ("hbm2e_mi210_64g", 1526.0, 391.0),
    "MI300X": ("hbm3_mi300x_192g", _NONE, _NONE),
    "RX 6900 XT": ("gddr6_rx6900xt_16g", 499.0, 700.0),
    "L40": ("gddr6_l40_48g", 846.0, 254.0),
    "RTX A6000": ("gddr6_a6000_48g", _NONE, _NONE),
}
FIXED_CARDS = {
    "RTX 4090": ("gddr6x_rtx4090_24g", "GDDR6X sends four levels a pin; no public timing set"),
    "TPU v5e": ("hbm2_tpu_v5e_16g", "which HBM it is, and its latency, are not published"),
}
_BEFORE_NS = 5_000.0  # until as many refreshes are postponed as may be
_OWN_PATH = ("V100", "A100 40 GB", "H100 PCIe", "MI210", "RX 6900 XT", "L40")  # whose path is derived from their chase
# level-2 cache: its device, what is measured below half of it (ns, GB/s) and then KiB -> GB/s, MiB -> ns
L2 = {
    "A100": (
        "l2_a100_40m",
        {16896: 5448, 19968: 5325, 23552: 5427, 28160: 5171, 30720: 4000, 33792: 3622, 36864: 3004, 40448: 2462},
        {10230: 151.1, 18132: 151.3, 24136: 246.3, 29207: 290.5, 35343: 302.7, 38878: 301.8},
    ),
    "H100 PCIe": (
        "l2_h100_50m",
        {17408: 6939, 25088: 6863, 30208: 6907, 33152: 6884, 36352: 6473, 39936: 3344, 43904: 2516, 48256: 2076},
        {10230: 151.3, 21941: 152.6, 26551: 182.1, 32129: 263.0, 38878: 272.3, 47045: 266.0},
    ),
    "H200": (
        "l2_h200_50m",
        {16896: 9765, 25600: 9675, 30720: 9769, 36864: 9477, 40448: 9666, 44032: 9105, 48128: 7543},
        {},
    ),
}


def card_rows() -> list[tuple[str, ...]]:
    """Of each card: spec, measured, ours in sequence, of four streams, without refreshing; DRAM latency."""
    rows = []
    for card, (name, measured, chase_ns) in CARDS.items():
        device = load_device(name)
        spec = device.geometry["spec_bandwidth"]
        size, latency_ns = 128, device.read.latency_ns
        at_once, many, first = (int(ns * spec / size) for ns in (4 * latency_ns, 25_000.0, _BEFORE_NS))
        load = Load("seq", 1.0, size, outstanding=at_once, requests=many, warmup=first)
        stream, four, free = (
            probe(device, [Load(**{**vars(load), "pattern": pattern})], changes)[0].result.bandwidth_bytes_per_ns
            for pattern, changes in (("seq", {}), ("mstream4", {}), ("seq", {"refresh": "none"}))
        )
        line = Load("rand", 1.0, 32, rate_bytes_per_ns=32 / (10 * latency_ns), requests=40_000)
        alone_ns = probe(device, [line])[0].result.mean_ns
        note = "" if np.isnan(chase_ns) else "derived from it" if card in _OWN_PATH else "as the A100 of 40 GB"
        rows.append(
            (
                card,
                f"{spec:.0f}",
                _number(measured, ".0f"),
                f"{stream:.0f}",
                _error(stream, measured),
                f"{four:.0f}",
                f"{free:.0f}",
                _error(free, measured),
                _number(chase_ns, ".0f"),
                f"{alone_ns:.1f}",
                _error(alone_ns, chase_ns),
                note,
            )
        )
    return rows


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def _error(ours: float, theirs: float) -> str:
    return "" if np.isnan(theirs) else f"{ours / theirs - 1:+.1%}"


def l2_bandwidth(name: str, kib: int, **changes: object) -> float:
    """GB/s of lines within so many KiB, passed over again and again by both sides, as the benchmark does it."""
    load = Load("seq", 1.0, 128, outstanding=32_768, requests=150_000, warmup=2 * kib * 1024 // 128)
    return probe(name, [load], {"footprint": kib * 1024, **changes})[0].result.bandwidth_bytes_per_ns


def l2_latency_ns(name: str, kib: int) -> float:
    """One read after the other from one side, each line once a round, as in the pointer chase."""
    lines = kib * 1024 // 128
    load = Load("seq", 1.0, 128, outstanding=1, requests=lines, warmup=2 * lines)
    return probe(name, [load], {"footprint": kib * 1024, "one_sided": True})[0].result.mean_ns


def l2_rows() -> list[tuple]:
    """GPU, footprint MiB, GB/s measured, ours, error; of the A100 with the link at half and at twice the rate."""
    rows = []
    for gpu, (name, curve, _) in L2.items():
        link = load_device(name).parameters["link_bytes_per_cycle"]
        for kib, measured in curve.items():
            ours = l2_bandwidth(name, kib)
            others = ("", "")
            if gpu == "A100":
                others = (f"{l2_bandwidth(name, kib, link_bytes_per_cycle=link * f):.0f}" for f in (0.5, 2.0))
            cells = (f"{measured}", f"{ours:.0f}", f"{ours / measured - 1:+.1%}", *others)
            rows.append((gpu, f"{kib / 1024:.1f}", *cells))
    return rows


def latency_rows() -> list[tuple]:
    rows = []
    for gpu, (name, _, curve) in L2.items():
        for kib, measured_ns in curve.items():
            ours_ns = l2_latency_ns(name, kib)
            cells = (f"{measured_ns:.0f}", f"{ours_ns:.0f}", f"{ours_ns / measured_ns - 1:+.1%}")
            rows.append((gpu, f"{kib / 1024:.1f}", *cells))
    return rows


def section(table) -> str:
    """Markdown; `table` as in docs/make_validation.py."""
    cards, bandwidth, latency = card_rows(), l2_rows(), latency_rows()
    heads = ("card", "spec GB/s", "measured", "ours", "error", "ours, 4 streams", "ours, no refresh", "error")
    card_heads = (*heads, "DRAM ns", "ours", "error", "path latency")
    fixed = "; ".join(f"{card} ({name}): {why}" for card, (name, why) in FIXED_CARDS.items())
    seen, free = ([abs(float(row[i].rstrip("%"))) for row in cards if row[i]] for i in (4, 7))
    l2_heads = ("GPU", "MiB", "measured GB/s", "ours", "error", "link at half", "link at twice")
    return f"""## GPU memories and level-2 caches against the cards

Measured: repository te42kyfo/gpu-benches. Ours: the memory model with as many channels as the card has, a public
timing set of the same kind of memory at the card's pin rate, 128 B reads in sequence; four interleaved streams; and
without refreshing, the most that a controller could reach that hides all of it. On-chip network and
caches on the way are one latency, derived from a card's own pointer chase where the last column says so: there the
latency tests nothing. The A100 of 80 GB has that of the A100 of 40 GB. No bandwidth is fitted: median error
{np.median(seen):.1f} %, largest {max(seen):.1f} %; without refreshing {np.median(free):.1f} % and {max(free):.1f} %.

{table(card_heads, cards)}

Banks are refreshed one by one, each channel's controller beginning at another time; that vendors do so is an
assumption. Refreshing all banks at once would take 7 to 9 % of the time, more than most of these cards lose. A100
80 GB, MI210 and above all H200, which sustains 81 % of its peak, lose more than DRAM timing explains; an L40 loses
less: 128 B in sequence fall to too few bank groups here. Timed by `fixed` alone: {fixed}.

Level-2 caches of two partitions, 128 B lines of a footprint read again and again, as the benchmarks do it: for latency
one after the other from one side, for bandwidth from both sides, 32,768 at once. Each partition serves half of the
readers and keeps copies of what is at home in the other, as far as there is room; what is not there crosses the link.
Nobody publishes that link's bandwidth: it is an estimate, half of the card's memory bandwidth each way, a rule that
uses nothing of these curves but was settled with them in sight; the columns at half and at twice of it say, for the
A100, how much hangs on it. The rows below half of the capacity have the file's own figures, and latency near all of it
is that from which the link's was derived: they test nothing. How latency rises between, and where bandwidth begins to
fall, are the model's. Near the full capacity the cards fall further: their copies drive lines out to HBM (H100 comes
down to the bandwidth of its HBM at 47 MiB of 50), where a tier of memhier holds what its policy says.

{table(("GPU", "MiB", "measured ns", "ours", "error"), latency)}

{_errors("latency", latency)}

{table(l2_heads, bandwidth)}

{_errors("bandwidth", bandwidth)}
"""


def _errors(what: str, rows: list[tuple]) -> str:
    """One line: median and largest error, of each GPU."""
    told = []
    for gpu in dict.fromkeys(row[0] for row in rows):
        errors = [abs(float(row[4].rstrip("%"))) for row in rows if row[0] == gpu]
        told.append(f"{gpu} {np.median(errors):.1f} % and {max(errors):.1f} %")
    return f"Errors of {what}, median and largest: {'; '.join(told)}."


def main() -> int:
    from make_validation import table

    print(section(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
