"""The table of all shipped devices: what each of their models gives beside the figures of the device's own file.

    python docs/validate_profiles.py

prints the section of docs/validation.md alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from sim import registry  # noqa: E402
from sim.devices import fixed  # noqa: E402
from sim.errors import InputError  # noqa: E402
from sim.policy import EventModel  # noqa: E402
from sim.probing import probe  # noqa: E402
from sim.profile import Device, device_names, load_device  # noqa: E402
from sim.traffic import Load  # noqa: E402

BOUND = 0.05
# Under which of its parameters a device was measured by the source of its figures.
AS_MEASURED = {
    **{name: {"mapping": "MOP4CLXOR"} for name in ("ddr4_3200", "ddr5_4800", "hbm2_2000", "hbm3_6400")},
    "l2_a100_40m": {"footprint": "19 MiB"},
    "l2_h100_50m": {"footprint": "24 MiB"},
    "l2_h200_50m": {"footprint": "24 MiB"},
}
# The file of CXL memory has the latency of the device without the link, and the bandwidth with it.
BY_ITSELF = {"cxl": {"protocol": "none", "switch": False, "hosts": 1}}
# Of a device of very many independent slices so many are driven, and its bandwidth is that of all.
PART = {"sram_wse3": 9000}
_CARD = "the card sustains less of its peak than DRAM timing explains; why is not published"
# Why a figure differs by more than BOUND: of one device, or of a model's figure.
WHY = {
    ("mqsim_default", "latency"): "a random read misses the 2 MiB of cached mapping, and reads a page of"
    " the mapping from flash before its own; the file's figure is one read of flash",
    ("mqsim_default", "bandwidth"): "a read of a place not read lately reads its part of the mapping from"
    " flash first; the file's figure is what the channels can carry",
    **{(name, "bandwidth"): _CARD for name in ("hbm3_mi300x_192g", "hbm3e_gh200_144g", "hbm3e_h200_141g")},
    ("hbm3_gh200_96g", "bandwidth"): "the file's figure is a middle share of what other cards sustain, not measured",
    ("ddr5_4800_1ch", "bandwidth"): "measured from cores, which may not have asked for more than that",
    ("csd_smartssd_3840g", "bandwidth"): "the file's figure is recalled, about 3 GB/s; the x4 link carries more",
    ("pim_duplex_hbm3_16g", "bandwidth"): "the file's figure is that of the units on the logic die; this is the host's",
    ("pim_gddr6_aim_1g", "bandwidth"): "the file's figure is another timing set's share of its peak",
    ("gddr6_l40_48g", "bandwidth"): "bank groups: 128 B in sequence fall to too few; and some refreshing",
    **{
        (model, "latency"): "the file adds an estimate of the controller's and firmware's time; the model has none"
        for model in ("nand", "csd")
    },
    **{
        (model, "bandwidth"): "the file's figure is what the flash channels carry; a host's reads pass the drive's link"
        for model in ("nand", "csd")
    },
    ("pim", "latency"): "the file's figure was measured with another timing set than the part's own",
    ("pim", "bandwidth"): "the file's figure is a peak, before refreshing",
    ("cxl", "latency"): "the whole way was measured; what of it the link takes is estimated otherwise in the file",
    ("cxl", "bandwidth"): "how many DRAM channels an expander has, and what limits it, is an estimate",
}
_LEAST_NS = 40_000.0  # of measurement: some ten intervals between refreshes


class Figure(NamedTuple):
    """One figure of a device: which, its model, the file's own value, and what the model gives."""

    device: str
    model: str
    what: str
    theirs: float
    ours: float

    @property
    def error(self) -> float:
        return self.ours / self.theirs - 1

    @property
    def why(self) -> str:
        return WHY.get((self.device, self.what)) or WHY.get((self.model, self.what)) or "not explained"


def access_bytes(device: Device) -> int:
    """What is asked for to see the latency: a page of a drive, a line of a memory."""
    return 4096 if device.kind in ("ssd", "csd") else 64


def fixed_figures(device: Device) -> Iterator[Figure]:
    """Of the fixed model as it runs: one access alone, and the time that each further byte of a large one takes."""
    for direction, is_write in (("read", False), ("write", True)):
        access, size = device.access(is_write), access_bytes(device)
        told_ns = access.latency_ns + access.occupancy_ns + size / device.bandwidth_for(size, is_write)
        yield Figure(device.name, "fixed", f"{direction} latency", told_ns, _served_ns(device, size, is_write))
        large = device.channels * device.interleave_bytes * 64
        more_ns = _served_ns(device, 2 * large, is_write) - _served_ns(device, large, is_write)
        told = access.bandwidth_bytes_per_ns
        yield Figure(device.name, "fixed", f"{direction} bandwidth", told, large / more_ns)


def _served_ns(device: Device, size_bytes: int, is_write: bool) -> float:
    return float(fixed.serve(fixed.init([device]), 0, 0.0, size_bytes, is_write)[2])


def detailed_figures(device: Device) -> list[Figure]:
    """Of the device's own model, driven alone by reads; empty where it has none that can be, as links' have not.

    latency: one at a time, at random. bandwidth: many at once, in sequence or from slice to slice.
    Raises InputError where the model cannot be driven with the file's parameters.
    """
    model = registry.load(registry.DEVICE_MODEL, device.model)
    if not isinstance(model, EventModel) or device.is_link:
        return []
    changes, share = dict(AS_MEASURED.get(device.name, {})), 1.0
    if device.name in PART:
        changes["slices"], share = PART[device.name], PART[device.name] / device.channels
    parameters = model.of_device(device, changes)
    size = max(parameters.transaction_bytes, 4096 if device.kind in ("ssd", "csd") else 0)
    loads = (_alone(size), _stream(device, parameters, size, share))
    by_itself = {**BY_ITSELF.get(device.model, {}), **changes}
    alone, many = (probe(device, [load], c)[0].result for load, c in zip(loads, (by_itself, changes), strict=True))
    told_ns = device.read.latency_ns + device.read.occupancy_ns + size / device.bandwidth_for(size)
    told = device.read.bandwidth_bytes_per_ns
    return [
        Figure(device.name, device.model, "latency", told_ns, alone.mean_ns),
        Figure(device.name, device.model, "bandwidth", told, many.bandwidth_bytes_per_ns / share),
    ]


def _alone(size: int) -> Load:
    """One read at a time."""
    return Load("rand", 1.0, size, outstanding=1, requests=4000, warmup=50)


def _stream(device: Device, parameters: object, size: int, share: float) -> Load:
    """Enough requests at once, for long enough, that bandwidth is all that counts."""
    rate, latency_ns = device.read.bandwidth_bytes_per_ns * share, device.read.latency_ns + device.read.occupancy_ns
    pattern = "seq"
    if device.kind in ("ssd", "csd"):
        size, least_ns = 1 << 17, 50 * latency_ns
    elif device.model == "sram":
        least_ns = 10 * latency_ns
        if parameters.interleave_bytes > parameters.line_bytes:  # a slice after the other
            pattern = f"stride{parameters.interleave_bytes + parameters.line_bytes}"
    else:
        size, least_ns = max(size, 128), _LEAST_NS
    each = round(4 * device.channels * share) * parameters.transaction_bytes // size  # four for each channel
    outstanding = max(64, math.ceil(3 * latency_ns * rate / size), each)
    requests = max(20_000, 2 * outstanding, math.ceil(least_ns * rate / size))
    return Load(pattern, 1.0, size, outstanding=outstanding, requests=requests, warmup=outstanding)


class Row(NamedTuple):
    device: Device
    fixed: list[Figure]
    detailed: list[Figure]
    note: str


def run(names: list[str] | None = None) -> list[Row]:
    """Every shipped device, or those named. A model that cannot be driven is noted with its reason."""
    rows = []
    for name in device_names() if names is None else names:
        device, note = load_device(name), ""
        try:
            detailed = detailed_figures(device)
        except InputError as error:
            detailed, note = [], f"not driven: {error}"
        rows.append(Row(device, list(fixed_figures(device)), detailed, note))
    return rows


def misses(rows: list[Row]) -> list[Figure]:
    return [figure for row in rows for figure in (*row.fixed, *row.detailed) if abs(figure.error) > BOUND]


def section(table) -> str:
    """Markdown; `table` as in docs/make_validation.py."""
    rows = run()
    cells = [_cells(row) for row in rows]
    figures = [figure for row in rows for figure in row.detailed]
    inside = sum(abs(figure.error) <= BOUND for figure in figures)
    errors = sorted(abs(figure.error) for figure in figures)
    missed = [
        (f.device, f.model, f.what, f"{f.theirs:.4g}", f"{f.ours:.4g}", f"{f.error:+.1%}", f.why) for f in misses(rows)
    ]
    fixed_worst = max(abs(figure.error) for row in rows for figure in row.fixed)
    heads = ("device", "model", "read ns", "fixed", "own model", "read GB/s", "fixed", "own model", "within 5 %")
    return f"""## All shipped devices against their own figures

Each of the {len(rows)} device files says what a read takes alone and how much the device sustains; here is what its
models give when they are run. `fixed` is run for reads and writes, both directions of a link: its figures differ from
those of the file by {fixed_worst:.1e} at most. Where the file names a model that is simulated by events, that is driven
alone: one read at a time at random, then as many as it takes, in sequence. Latency includes the transfer (64 B, of
drives 4 KiB; of the own model one transaction). Of {len(figures)} figures of such models {inside} are within 5 %,
median error {errors[len(errors) // 2]:.2%}, 90th percentile {errors[int(0.9 * len(errors))]:.1%}. Where a file's figure
is from the same measurement as the model's parameters (its `source` says so), agreement tests the arithmetic alone.

{table(heads, cells, left=2)}

Those that differ by more than 5 %, and why:

{table(("device", "model", "figure", "file", "model's", "difference", "why"), missed, left=3)}
"""


def _cells(row: Row) -> tuple[str, ...]:
    by_name = {figure.what: figure for figure in (*row.fixed, *row.detailed)}
    both = (*row.fixed, *row.detailed)
    cells = [row.device.name, row.device.model]
    for what in ("latency", "bandwidth"):
        plain, own = by_name[f"read {what}"], by_name.get(what)
        told = f"{plain.theirs:.4g}" if own is None else f"{own.theirs:.4g}"
        cells += [told, f"{plain.error:+.1%}", "" if own is None else f"{own.error:+.1%}"]
    return (*cells, row.note or ("yes" if all(abs(figure.error) <= BOUND for figure in both) else "no"))


def main() -> int:
    from make_validation import table

    print(section(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
