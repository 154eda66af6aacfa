"""`probe`: one device alone under load, of one requester or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import units
from sim.commands import operations, output
from sim.commands.output import Answer
from sim.errors import InputError
from sim.written_files import make_folder, write_text

if TYPE_CHECKING:
    from sim.probing import Interference, Reading, Requester
    from sim.traffic import Load, Result

_PERCENTILES = ("p50", "p90", "p99", "p999")
_ROW_RATIOS = ("row_hits", "row_misses", "row_conflicts")
_SHOWN = ("p50", "p90", "p99", "p99.9")


def probe(
    device: str,
    asked: Mapping[str, Any],
    others: Sequence[str],
    changes: Mapping[str, str],
    out: str | None,
    writes: bool,
) -> Answer:
    """asked: the options of a load, by name, `outstanding` and `rate` lists; others: further requesters, as text;
    writes: a curve is kept as files even where nobody says in which folder.

    Raises InputError for what cannot be probed so, or a folder that cannot be written.
    """
    from sim.path_probing import path_of, probe_path
    from sim.probing import probe as probe_device
    from sim.probing import probe_together

    changes = {key: _value(text) for key, text in changes.items()}
    if operations.is_operation(asked["pattern"]):
        return operations.operate(device, asked, others, changes, out)
    loads = [_load({**asked, **one}) for one in _points(asked["outstanding"], asked["rate"])]
    path = path_of(device)
    if others:
        if path is not None:
            raise InputError("--with shares one device, not a path:", value=device, expected="a device alone")
        if len(loads) > 1:
            raise InputError("a list of loads cannot be combined with --with", value=len(loads), expected="one load")
        loads += [_other(text, asked, nth) for nth, text in enumerate(others, 1)]
        with output.progress(f"probe {device}") as progress:
            found = probe_together(device, loads, changes, progress)
        return _together(device, found, out)
    with output.progress(f"probe {device}") as progress:
        drive = partial(probe_path, *path) if path else partial(probe_device, device)
        readings = drive(loads, changes, progress)
    folder = _folder(device, asked["pattern"], out, writes and len(loads) > 1)
    if folder is not None:
        _save(device, readings, make_folder(folder))
    points = [_document(one) for one in readings]
    notes = [] if folder is None else [f"curve and figure: {folder}"]
    rows = [_flat(point) | dict.fromkeys(_ROW_RATIOS) | point["row_ratios"] for point in points]
    return Answer({"device": device, "points": points}, rows, lambda: _table(list(map(_row, readings))), notes)


# --- loads -----------------------------------------------------------------------------------------------------------


def _points(outstanding: str | None, rate: str | None) -> list[dict[str, str | None]]:
    """One for each number outstanding or each rate of a list."""
    if (outstanding is None) == (rate is None):
        raise InputError(
            "a probe takes either --outstanding or --rate", expected="one of them, such as --outstanding 8"
        )
    if rate is not None:
        return [{"rate": text.strip(), "outstanding": None} for text in rate.split(",")]
    return [{"outstanding": text.strip(), "rate": None} for text in outstanding.split(",")]


def _load(asked: Mapping[str, Any]) -> Load:
    """The load of options as a person writes them."""
    from sim.traffic import Load

    return Load(
        pattern=asked["pattern"],
        read_ratio=_number("read_ratio", asked["read_ratio"], float),
        size_bytes=units.parse_bytes(asked["size"]) if asked["size"] is not None else 0,
        rate_bytes_per_ns=None if asked["rate"] is None else units.parse_bandwidth(asked["rate"]),
        outstanding=None if asked["outstanding"] is None else _number("--outstanding", asked["outstanding"], int),
        requests=_number("requests", asked["requests"], int),
        warmup=_number("warmup", asked["warmup"], int),
        seed=_number("seed", asked["seed"], int),
        base_bytes=units.parse_bytes(asked["base"]),
        span_bytes=None if asked["span"] is None else units.parse_bytes(asked["span"]),
    )


def _other(text: str, asked: Mapping[str, Any], nth: int) -> Load:
    """`pattern=rand,rate=2GB/s`: the load of one more requester; what it does not say, it has of the first but for the
    load itself, the size, and the seed, which is another one.
    """
    given = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not value.strip():
            raise InputError("--with", value=part, expected="name=value, several with commas between")
        if name not in asked:
            raise InputError("--with: unknown name", value=name, candidates=asked)
        if name in given:
            raise InputError("--with: a name twice:", value=name, expected="each name once")
        given[name] = value.strip()
    if ("rate" in given) == ("outstanding" in given):
        raise InputError("--with has either a rate or a number outstanding:", value=text, expected="one of them")
    own = {"rate": None, "outstanding": None, "size": None, "seed": asked["seed"] + nth}
    return _load({**asked, **own, **given})


def _number(name: str, value: Any, kind: type) -> Any:
    try:
        return kind(value)
    except ValueError:
        what = "a whole number, or several with commas between" if kind is int else "a number"
        raise InputError(name, value=value, expected=what) from None


def _value(text: str) -> bool | int | float | str:
    """A parameter as YAML would read it."""
    import yaml

    value = yaml.safe_load(text) if "," not in text and ":" not in text else text
    return value if isinstance(value, bool | int | float | str) else text


# --- what is shown ---------------------------------------------------------------------------------------------------


def _folder(device: str, pattern: str, out: str | None, writes: bool) -> Path | None:
    """Where a curve and its figure go: where it is said, or where one looks for it."""
    if out is not None:
        return Path(out)
    name = Path(device).stem.replace(":", "-")
    return Path("results") / f"{name}-{pattern}-probe" if writes else None


def _asked(load: Load) -> dict[str, Any]:
    return {
        "pattern": load.pattern,
        "read_ratio": load.read_ratio,
        "size_bytes": load.size_bytes,
        "outstanding": load.outstanding,
        "rate_GBps": load.rate_bytes_per_ns,
        "base_bytes": load.base_bytes,
        "span_bytes": load.span_bytes,
        "seed": load.seed,
    }


def _given(result: Result, size_bytes: int | None) -> dict[str, Any]:
    """What a load achieved; operations a second where all requests are of one size."""
    bandwidth = result.bandwidth_bytes_per_ns
    return {
        "requests": result.requests,
        "bandwidth_GBps": bandwidth,
        **({} if size_bytes is None else {"iops": bandwidth / size_bytes * 1e9}),
        "latency_ns": {name: getattr(result, f"{name}_ns") for name in ("mean", *_PERCENTILES)},
        "total_latency_ns": {"mean": result.total_mean_ns, "p99": result.total_p99_ns},
        "write_latency_ns": {name: getattr(result, f"write_{name}_ns") for name in ("mean", *_PERCENTILES)},
        "device_queue_full_share": result.refused_share,
        "elapsed_ns": result.elapsed_ns,
    }


def _counted(one: Reading) -> dict[str, Any]:
    return {
        "busy_share": one.busy_share,
        "row_ratios": one.row_ratios,
        "counts": one.counts,
        "energy_from": one.energy_from,
        "energy_pj": one.energy_pj,
        "energy_pj_per_bit": one.energy_pj_per_bit,
        "write_amplification": one.write_amplification,
    }


def _document(one: Reading) -> dict[str, Any]:
    return {**_asked(one.load), **_given(one.result, one.load.size_bytes), **_counted(one)}


def _table(rows: list[dict[str, str]]):
    """A table of the columns in which anything stands."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    return output.table(columns, [[row[name] for name in columns] for row in rows])


def _flat(point: Mapping[str, Any]) -> dict[str, Any]:
    """A row: each latency by its name; counts and causes of energy, which differ by device, are left to JSON."""
    row: dict[str, Any] = {}
    for name, value in point.items():
        if name.endswith("latency_ns"):
            row |= {f"{name.removesuffix('ns')}{key}_ns": one for key, one in value.items()}
        elif not isinstance(value, Mapping):
            row[name] = value
    return row


def _row(one: Reading) -> dict[str, str]:
    document, load = _document(one), one.load
    reads, mixed = load.read_ratio > 0, 0 < load.read_ratio < 1
    times = document["latency_ns" if reads else "write_latency_ns"]
    total_ns = one.result.total_mean_ns if reads else one.result.write_total_mean_ns
    percentiles = zip(_SHOWN, _PERCENTILES, strict=True)
    return {
        "load": _told(load),
        "GB/s": f"{document['bandwidth_GBps']:.2f}",
        "IOPS": _scaled(document["iops"]),
        f"{'read' if reads else 'write'} mean, ns": _ns(times["mean"]),
        **{shown: _ns(times[name]) for shown, name in percentiles},
        "with queue": _ns(total_ns),
        **({"write mean, ns": _ns(one.result.write_mean_ns)} if mixed else {}),
        "queue full": _share(one.result.refused_share),
        "busy": "" if one.busy_share is None else _share(one.busy_share),
        "row hits": _share(one.row_ratios["row_hits"]) if one.row_ratios else "",
        _energy_column(one): "" if one.energy_pj_per_bit is None else f"{one.energy_pj_per_bit:.2f}",
        "write amplification": "" if one.write_amplification is None else f"{one.write_amplification:.2f}",
    }


def _energy_column(one: Reading) -> str:
    return "pJ/bit" if one.energy_from == "model" else "pJ/bit by profile"


def _told(load: Load) -> str:
    return f"{load.outstanding} outstanding" if load.outstanding else units.format_bandwidth(load.rate_bytes_per_ns)


def _scaled(value: float) -> str:
    """Thousands, millions, billions."""
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3f} {letter}"
    return f"{value:.1f}"


def _ns(value: float) -> str:
    return f"{value:,.1f}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _save(device: str, readings: list[Reading], folder: Path) -> None:
    from sim.report.probe_figures import save_probe

    latencies = ("mean", *_PERCENTILES)
    names = ("outstanding", "rate_GBps", "bandwidth_GBps", "iops", *latencies, *(f"write_{name}" for name in latencies))
    names += ("energy_pj_per_bit", "device_queue_full_share")
    rows = []
    for document in map(_document, readings):
        written = {f"write_{name}": value for name, value in document["write_latency_ns"].items()}
        rows.append({**document, **document["latency_ns"], **written})
    write_text(folder / "probe.csv", _csv(names, rows))
    save_probe(Path(device).stem, readings, folder / "probe.png")


def _csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [",".join(_cell(row[name]) for name in names) for row in rows]
    return "\n".join([",".join(names), *lines]) + "\n"


def _cell(value: Any) -> str:
    """Empty for what there is none of."""
    return "" if value is None or value != value else str(value)


# --- several requesters ----------------------------------------------------------------------------------------------


def _together(device: str, found: Interference, out: str | None) -> Answer:
    documents = [_requester(one) for one in found.requesters]
    together = {**_given(found.together.result, None), **_counted(found.together)}
    if out is not None:
        names = ("outstanding", "rate_GBps", "bandwidth_GBps", "alone_GBps", "mean", "alone_mean", "slowdown")
        flat = [
            {
                **document,
                **document["shared"],
                "alone_GBps": document["alone"]["bandwidth_GBps"],
                "mean": document["shared"]["latency_ns"]["mean"],
                "alone_mean": document["alone"]["latency_ns"]["mean"],
            }
            for document in documents
        ]
        write_text(make_folder(Path(out)) / "requesters.csv", _csv(names, flat))
    shown = [_requester_row(nth, one) for nth, one in enumerate(found.requesters, 1)]
    return Answer(
        {"device": device, "requesters": documents, "together": together},
        list(map(_flat_requester, documents)),
        lambda: _table(shown),
        [_sum(found.together)],
    )


def _flat_requester(document: Mapping[str, Any]) -> dict[str, Any]:
    asked = {name: value for name, value in document.items() if not isinstance(value, Mapping)}
    shared, alone = _flat(document["shared"]), _flat(document["alone"])
    return {**asked, **shared, **{f"alone_{name}": value for name, value in alone.items()}}


def _sum(one: Reading) -> str:
    result = one.result
    told = [f"together {result.bandwidth_bytes_per_ns:.2f} GB/s", f"reads {_ns(result.mean_ns)} ns in the device"]
    told += [] if one.busy_share is None else [f"busy {_share(one.busy_share)}"]
    told += [f"row hits {_share(one.row_ratios['row_hits'])}"] if one.row_ratios else []
    told += [] if one.energy_pj_per_bit is None else [f"{one.energy_pj_per_bit:.2f} {_energy_column(one)}"]
    return ", ".join(told)


def _requester(one: Requester) -> dict[str, Any]:
    size = one.load.size_bytes
    return {
        **_asked(one.load),
        "shared": _given(one.shared, size),
        "alone": _given(one.alone, size),
        "slowdown": one.slowdown,
    }


def _requester_row(nth: int, one: Requester) -> dict[str, str]:
    shared, alone = one.shared, one.alone
    prefix = "" if shared.reads else "write_"
    ways = {"mean with queue, ns": "total_mean_ns", "p99": "p99_ns"}
    times = {}
    for shown, name in ways.items():
        times[shown] = _ns(getattr(shared, prefix + name))
        times[f"{shown.split()[0]} alone"] = _ns(getattr(alone, prefix + name))
    return {
        "requester": f"{nth}: {one.load.pattern}, {one.load.read_ratio:.0%} reads, {_told(one.load)}",
        "GB/s": f"{shared.bandwidth_bytes_per_ns:.2f}",
        "alone": f"{alone.bandwidth_bytes_per_ns:.2f}",
        **times,
        "slowdown": f"{one.slowdown:.2f}",
        "queue full": _share(shared.refused_share),
    }
