"""`probe`: one device alone under load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import units
from sim.commands import output
from sim.errors import InputError

if TYPE_CHECKING:
    from sim.probing import Reading


def probe(
    device: str,
    pattern: str,
    read_ratio: float,
    outstanding: str | None,
    rate: str | None,
    size: str | None,
    requests: int,
    warmup: int,
    seed: int,
    changes: Mapping[str, str],
    out: str | None,
    as_json: bool,
) -> None:
    """Raises InputError for what cannot be probed so, or a folder that cannot be written."""
    from sim.pim.operations import is_operation
    from sim.probing import probe as probe_device
    from sim.traffic import Load

    if is_operation(pattern):
        from sim.commands.pim_operations import probe_operation

        not_for_units = {"--rate": rate, "--size": size, "--out": out}
        values = {key: _value(text) for key, text in changes.items()}
        probe_operation(device, pattern, outstanding, seed, values, as_json, not_for_units)
        return
    shared = {
        "pattern": pattern,
        "read_ratio": read_ratio,
        "size_bytes": units.parse_bytes(size) if size is not None else 0,
        "requests": requests,
        "warmup": warmup,
        "seed": seed,
    }
    loads = [Load(**one, **shared) for one in _loads(outstanding, rate)]
    readings = probe_device(device, loads, {key: _value(text) for key, text in changes.items()})
    folder = _folder(device, pattern, out, as_json, len(loads))
    if folder is not None:
        _save(device, readings, output.make_folder(folder))
    if as_json:
        output.print_json({"device": device, "points": [_document(one) for one in readings]})
        return
    columns = [
        "load",
        "bandwidth",
        "IOPS",
        "read mean",
        "p50",
        "p90",
        "p99",
        "with queue",
        "row hits",
        "pJ/bit",
        "write amplification",
    ]
    output.console().print(output.table(columns, [_row(one) for one in readings]))
    if folder is not None:
        print(f"curve and figure: {folder}")


def _loads(outstanding: str | None, rate: str | None) -> list[dict[str, Any]]:
    """A load for each number outstanding or each rate of a list."""
    if (outstanding is None) == (rate is None):
        raise InputError(
            "a probe takes either --outstanding or --rate", expected="one of them, such as --outstanding 8"
        )
    if rate is not None:
        return [{"rate_bytes_per_ns": units.parse_bandwidth(text.strip())} for text in rate.split(",")]
    numbers = [text.strip() for text in outstanding.split(",")]
    wrong = [text for text in numbers if not text.isdigit()]
    if wrong:
        raise InputError("--outstanding", value=wrong[0], expected="a whole number, or several with commas between")
    return [{"outstanding": int(text)} for text in numbers]


def _value(text: str) -> bool | int | float | str:
    """A parameter as YAML would read it."""
    import yaml

    value = yaml.safe_load(text) if "," not in text and ":" not in text else text
    return value if isinstance(value, bool | int | float | str) else text


def _folder(device: str, pattern: str, out: str | None, as_json: bool, points: int) -> Path | None:
    """Where a curve and its figure go: where it is said, or for several points that are not printed as JSON."""
    if out is not None:
        return Path(out)
    return None if as_json or points == 1 else Path("results") / f"{Path(device).stem}-{pattern}-probe"


def _document(one: Reading) -> dict[str, Any]:
    load, result = one.load, one.result
    bits = load.size_bytes * 8 * result.requests
    return {
        "pattern": load.pattern,
        "read_ratio": load.read_ratio,
        "size_bytes": load.size_bytes,
        "outstanding": load.outstanding,
        "rate_GBps": load.rate_bytes_per_ns,
        "seed": load.seed,
        "requests": result.requests,
        "bandwidth_GBps": result.bandwidth_bytes_per_ns,
        "iops": result.bandwidth_bytes_per_ns / load.size_bytes * 1e9,
        "latency_ns": {"mean": result.mean_ns, "p50": result.p50_ns, "p90": result.p90_ns, "p99": result.p99_ns},
        "total_latency_ns": {"mean": result.total_mean_ns, "p99": result.total_p99_ns},
        "write_latency_ns": {"mean": result.write_mean_ns},
        "elapsed_ns": result.elapsed_ns,
        "row_ratios": one.row_ratios,
        "counts": one.counts,
        "energy_pj": one.energy_pj,
        "energy_pj_per_bit": sum(one.energy_pj.values()) / bits if one.energy_pj else None,
        "write_amplification": one.write_amplification,
    }


def _row(one: Reading) -> list[str]:
    document, load = _document(one), one.load
    times = [document["latency_ns"][key] for key in ("mean", "p50", "p90", "p99")]
    hits = document["row_ratios"].get("row_hits")
    asked = f"{load.outstanding} outstanding" if load.outstanding else units.format_bandwidth(load.rate_bytes_per_ns)
    return [
        asked,
        f"{document['bandwidth_GBps']:.2f} GB/s",
        f"{document['iops']:,.0f}",
        *(f"{value:,.1f} ns" for value in times),
        f"{document['total_latency_ns']['mean']:,.1f} ns",
        "" if hits is None else f"{hits:.1%}",
        "" if document["energy_pj_per_bit"] is None else f"{document['energy_pj_per_bit']:.2f}",
        "" if one.write_amplification is None else f"{one.write_amplification:.2f}",
    ]


def _save(device: str, readings: list[Reading], folder: Path) -> None:
    from sim.report.probe_figures import save_probe

    names = ("outstanding", "rate_GBps", "bandwidth_GBps", "iops", "mean", "p50", "p90", "p99", "energy_pj_per_bit")
    lines = [",".join(names)]
    for one in readings:
        document = _document(one)
        flat = {**document, **document["latency_ns"]}
        lines.append(",".join("" if flat[name] is None else str(flat[name]) for name in names))
    output.write_text(folder / "probe.csv", "\n".join(lines) + "\n")
    save_probe(Path(device).stem, readings, folder / "probe.png")
