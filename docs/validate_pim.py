"""The PIM section of docs/validation.md: Samsung's HBM-PIM and AttAcc beside what memhier gives.

    python docs/validate_pim.py

prints the section alone. The reference figures are in this file, each with where it is from.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from sim.devices import pim  # noqa: E402
from sim.pim.coaccess import measure_coaccess  # noqa: E402
from sim.pim.measuring import Measured, host_stream, measure_operation  # noqa: E402
from sim.pim.operations import parse_operation  # noqa: E402
from sim.pim.parameters import PimParameters  # noqa: E402
from sim.profile import load_device  # noqa: E402

# PIMSimulator (b464dde), run as its own benchmarks are: 64 channels of 64 bits. Sizes are those of its
# src/tests/PIMBenchTestCases.cpp (b00e73a).
GEMV, GEMV_CYCLES, HOST_CYCLES = "gemv4096x4096", 13_166, 36_082
SPEED_UPS = {GEMV: 2.74, "mul2097152": 2.24, "add1048576": 1.99, "relu4194304": 2.28}
READ_GBPS, WRITE_GBPS = 231, 243  # 16 channels; 8 MiB read, 16 MiB written
# AttAcc (c1540de), src/config.py BW_SCALE: without the power limit, and with it
BW_SCALE = {"attacc_bank": (16, 9), "attacc_bank_group": (8, 3), "attacc_buffer": (1, 1)}
_ATTENTION = "gemv16384x4096"
_SIZES = (1 << 18, 1 << 20, 1 << 22, 1 << 24)
_DEVICES = {
    "pim_hbm_aquabolt_xl_6g": "4096x4096",
    "pim_attacc_hbm3_16g": "16384x4096",
    "pim_gddr6_aim_1g": "4096x4096",
    "pim_neupims_32g": "16384x4096",
    "pim_duplex_hbm3_16g": "16384x4096",
}


def samsung(channels: int) -> PimParameters:
    return pim.of_device(load_device("pim_hbm_aquabolt_xl_6g"), {"channels": channels, "rows": 16384})


def attacc(pim_set: str, limited: bool) -> PimParameters:
    changes = {} if limited or pim_set == "attacc_buffer" else {"unit_spacing": 4}
    return pim.of_device(load_device("pim_attacc_hbm3_16g"), {"pim_set": pim_set, **changes})


def samsung_rows() -> list[tuple]:
    """What, PIMSimulator's, ours, error."""
    p = samsung(64)
    measured = {name: measure_operation(p, parse_operation(name)) for name in SPEED_UPS}
    plain = samsung(16).dram
    read_ns, _ = host_stream(plain, 8 << 20, 0)
    write_ns, _ = host_stream(plain, 0, 16 << 20)
    rows = [
        _row(f"{GEMV}, with units, cycles", GEMV_CYCLES, measured[GEMV].units_ns, ",.0f"),
        _row(f"{GEMV}, without, cycles", HOST_CYCLES, measured[GEMV].host_ns, ",.0f"),
        *(_row(f"{name}, speed-up", SPEED_UPS[name], _speed_up(one), ".2f") for name, one in measured.items()),
        _row("plain reads, 16 channels, GB/s", READ_GBPS, (8 << 20) / read_ns, ".0f"),
        _row("plain writes, 16 channels, GB/s", WRITE_GBPS, (16 << 20) / write_ns, ".0f"),
    ]
    return rows


def _row(what: str, theirs: float, ours: float, form: str) -> tuple:
    return (what, f"{theirs:{form}}", f"{ours:{form}}", f"{ours / theirs - 1:+.1%}")


def _speed_up(measured: Measured) -> float:
    """As PIMSimulator has it: without reading the results from the banks."""
    return measured.host_ns / measured.units_ns


def attacc_rows() -> list[tuple]:
    """Units, power limit, spacing, AttAcc's factor; ours: of the spacing alone, over the peak, over a plain read."""
    rows = []
    for name, factors in BW_SCALE.items():
        for limited, theirs in zip((False, True), factors, strict=True):
            p = attacc(name, limited)
            measured = measure_operation(p, parse_operation(_ATTENTION))
            peak, sustained = p.dram.peak_bytes_per_ns, measured.host_bytes / measured.host_ns
            ours = (p.internal_peak_bytes_per_ns / peak, measured.bandwidth_bytes_per_ns / peak)
            over_plain = measured.bandwidth_bytes_per_ns / sustained
            spacing = p.lockstep.nCCDS if p.set_groups > 1 else p.lockstep.nCCDL
            limit = "yes" if limited else "no"
            rows.append((name, limit, spacing, f"x{theirs}", *(f"x{v:.2f}" for v in (*ours, over_plain))))
    return rows


def size_rows() -> list[tuple]:
    p = samsung(64)
    rows = []
    for kind in ("add", "mul", "relu"):
        speed_ups = [_speed_up(measure_operation(p, parse_operation(f"{kind}{size}"))) for size in _SIZES]
        rows.append((kind, *(f"{value:.2f}" for value in speed_ups)))
    return rows


def device_rows() -> list[tuple]:
    rows = []
    for name, size in _DEVICES.items():
        p = pim.of_device(load_device(name), {})
        m = measure_operation(p, parse_operation(f"gemv{size}"))
        energy = [sum(one.values()) / 1e6 for one in (m.pim_energy_pj, m.host_energy_pj)]
        bandwidths = [p.internal_peak_bytes_per_ns, m.bank_bandwidth_bytes_per_ns, m.host_bytes / m.host_ns]
        figures = (*(f"{v:,.0f}" for v in bandwidths), f"{m.speed_up:.2f}", *(f"{v:,.0f}" for v in energy))
        rows.append((name, size, *figures))
    return rows


def shared_rows() -> list[tuple]:
    rows = []
    for one in measure_coaccess(samsung(16), parse_operation("gemv1024x4096"), 16):
        operation = "" if one.policy == "alone" else f"{one.operation_ns:,.0f}"
        host = (f"{one.host_requests:,}", f"{one.mean_ns:,.0f}", f"{one.worst_ns:,.0f}")
        rows.append((one.policy, operation, *host, f"{one.switches:,}"))
    return rows


def section(table) -> str:
    """Markdown; `table(heads, rows, left=n)` draws one."""
    heads = ("", "PIMSimulator", "memhier", "error")
    attacc_heads = ("units", "power limit", "cycles apart", "AttAcc", "by spacing", "of the peak", "of plain reads")
    size_heads = ("kernel", *(f"{size:,} elements" for size in _SIZES))
    device_heads = (
        *("device", "gemv", "GB/s: peak inside", "at the banks", "host", "speed-up"),
        *("uJ: with units", "by the host"),
    )
    shared_heads = ("policy", "operation ns", "host reads", "mean ns", "worst ns", "changes of the mode")
    return f"""## Processing in memory

Samsung's HBM-PIM, 64 channels (four stacks), FP16, against PIMSimulator (b464dde), sizes those of its benchmarks. The
streams of commands are those of its programming model; the times follow from the DRAM's own rules, the modes' reads
and writes, and what its controller does at a fence. No number is fitted.

{table(heads, samsung_rows())}

PIMSimulator's plain writes, 0.95 of the peak, are above what its own refresh leaves, 1 - tRFC / tREFI = 0.91: this is
not explained. The host writes a third of what it moves for an addition and half for ReLU, so that part of those errors
is the same one. How the speed-up depends on the number of elements: changing modes takes a share of short kernels.

{table(size_heads, size_rows())}

AttAcc on HBM3 at 5.2 Gb/s, a matrix of {_ATTENTION.removeprefix("gemv")} elements. Its simulator has the factors as
constants; here they come out of the units' number and of how far apart their commands are, with activations and
refresh.

{table(attacc_heads, attacc_rows(), left=2)}

With the power limit, x9, x3 and x1 agree with what is left over plain reads, which do not reach the peak either; the
repository does not say how it got them (the 7 cycles of its 6.4 Gb/s preset would give x9.1 by spacing alone). Without
it the x16 of banks is the spacing's, of which refresh and the next row, which no other bank set hides, take a third.
The x8 of bank groups contradicts AttAcc's own timing table, whose nCCDSB of 4 cycles gives x4.

Each shipped device with units, one product:

{table(device_heads, device_rows(), left=2)}

Host and units at once: a product of 1024x4096 on 16 channels of HBM-PIM, while the host reads at random with 16
requests outstanding. `wait` keeps it waiting for the whole operation, `interleave` lets it in for 500 ns after four
tiles.

{table(shared_heads, shared_rows())}

Not compared: LLMServingSim's lines of PIM latency (HBM2 242.1 ns a token and layer for 4 KiB of keys and values of
Llama-3.1-8B, that is 17 GB/s) do not say how many channels and units they are of. UPMEM's 0.63 GB/s for each processor
are not its DRAM's: the timings of uPIMulator let a row of 1 KiB be read in 453 ns, 2.3 GB/s; the rest is the transfer
engine and the pipeline, which are not modelled, so that `pim_upmem_rank_4g` is `fixed`. NeuPIMs' second row buffer is
not modelled: host and units take turns.
"""


def _plain_table(heads, rows, left: int = 1) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(section(_plain_table))
