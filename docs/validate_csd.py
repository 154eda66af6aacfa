"""The CSD section of docs/validation.md: computational drives beside what is published of them.

    python docs/validate_csd.py

prints the section alone; needs no reference files.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from sim.csd.operations import Operation, parse_operation  # noqa: E402
from sim.csd.parameters import Csd  # noqa: E402
from sim.csd.running import run_operation  # noqa: E402
from sim.devices.csd import of_device  # noqa: E402
from sim.profile import load_device  # noqa: E402

READ = "scan512MiB:returned=0B"
TOKENS = (("7B", 6.74e9, 36.34), ("70B", 69.0e9, 3.44))  # weights, of Llama 2; tokens/s that Cambricon-LLM reports
SIZES = (("8 x 2", 8, 2), ("16 x 4", 16, 4), ("32 x 8", 32, 8))
TARGET_GB_S = 11.2, 3.0


class Rate(NamedTuple):
    """GB/s that the engine reads, the bound that its parts give, and what is published (none: 0)."""

    ours: float
    bound: float
    published: float


def bounds_GB_s(csd: Csd, operation: Operation) -> dict[str, float]:
    """The most that each part lets through, GB/s: all planes reading at once, channels, paths, memory, engine."""
    nand, engine = csd.ssd.nand, csd.engine
    read_ns = sum(read for read, _ in nand.page_times_ns) / len(nand.page_times_ns)
    moved = (engine.channel_bytes_per_page or nand.page_bytes) / nand.page_bytes
    link = nand.link_lanes * nand.link_lane_rate
    link *= nand.tlp_payload_bytes / (nand.tlp_payload_bytes + nand.tlp_overhead_bytes)
    compute = operation.flops_per_byte / engine.flop_rate
    found = {
        "flash": nand.planes * nand.page_bytes / read_ns,
        "channels": nand.channels / (nand.channel_ns_per_byte * moved),
        "internal path": (engine.internal_rate or link) / moved,
        "engine": 1 / max(1 / engine.byte_rate, compute),
    }
    if engine.dram_accesses:
        found["engine memory"] = engine.dram_rate / (engine.dram_accesses * moved)
    if operation.returned_bytes and link:
        found["link"] = link * operation.size_bytes / operation.returned_bytes
    return found


def internal(device: str, published: float, changes: Mapping[str, object] | None = None, text: str = READ) -> Rate:
    csd, operation = of_device(load_device(device), changes or {}), parse_operation(text)
    run = run_operation(csd, operation)
    return Rate(operation.size_bytes / run.elapsed_ns, min(bounds_GB_s(csd, operation).values()), published)


def cambricon(channels: int, chips: int, dies: int) -> Rate:
    """The rate at which the dies take in weights, which are read once a token."""
    size = {"channels": channels, "chips_per_channel": chips, "internal_rate": float(channels)}
    csd = of_device(load_device("csd_cambricon_llm"), size)
    nand = csd.ssd.nand.model_copy(update={"dies_per_chip": dies})
    csd = replace(csd, ssd=replace(csd.ssd, nand=nand, occupancy=0.05))
    operation = parse_operation("gemv1GiB:flops_per_byte=2")  # a multiplication and an addition for each byte
    run = run_operation(csd, operation)
    return Rate(operation.size_bytes / run.elapsed_ns, min(bounds_GB_s(csd, operation).values()), 0.0)


def section(table) -> str:
    rates = (
        ("InstInfer: drive to engine", internal("csd_instinfer", TARGET_GB_S[0]), "8 channels x 1.4 GB/s [K]"),
        ("SmartSSD: drive to FPGA", internal("csd_smartssd_3840g", TARGET_GB_S[1]), "about 3 GB/s, gen3 x4 [K]"),
    )
    lines = [
        (what, source, f"{r.published:.1f}", f"{r.bound:.2f}", f"{r.ours:.2f}", f"{r.ours / r.published - 1:+.1%}")
        for what, r, source in rates
    ]
    tokens = []
    for name, channels, chips in SIZES:
        for dies in (1, 2):
            r = cambricon(channels, chips, dies)
            cells = [cell for _, size, said in TOKENS for cell in (f"{r.ours * 1e9 / size:.2f}", f"{said:.2f}")]
            tokens.append((name, dies, f"{r.bound:.1f}", f"{r.ours:.1f}", *cells))
    token_heads = ("channels x chips", "dies a chip", "bound GB/s", "ours", "7B tokens/s", "reported")
    token_heads += ("70B tokens/s", "reported")
    return f"""## Computational drives

Nothing is measured here: what is published are rates that papers assume or report. 512 MiB are read by the engine
alone. The bound is the least of what planes, channels, paths, memory and engine let through; what a run loses of it are
command cycles on the channels, unequal channels, and the beginning and the end.

{table(("path", "published", "GB/s", "bound", "ours", "ours / published"), lines, left=2)}

InstInfer's figure is the sum of its channels, which is our parameter, too: the difference is what a real stream loses.
The SmartSSD's engine reads over the drive's PCIe 3.0 x4 link; its framing is a parameter of ours, the rest of the
difference is not explained by the model (the figure is recalled, not re-read).

Cambricon-LLM computes inside the dies, so that planes, not channels, limit it: tR 30 us, pages of 16 KiB, two planes a
die; what leaves the dies is no limit. Each weight, one byte, is read once a token; the share that its NPU computes and
the vectors that are sent to the dies are left out. Its 36.34 and 3.44 tokens/s [W] are both some 240 GB/s of weights.
To which of its sizes (8 to 32 channels x 2 to 8 chips [K]) they belong, and how many dies a chip has, is not known
here, so all are shown. With many dies a channel, ours falls behind the bound because a die keeps its pages until their
results are out, and commands and results of all dies pass one channel:

{table(token_heads, tokens, left=1)}
"""


def main() -> int:
    from make_validation import table

    print(section(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
