"""Small folders of results of each kind, for tests of what is made of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import sim
from sim.profile import load_profile
from sim.result_set import POINTS_FORMATS
from sim.serving.metrics import Accelerators
from sim.serving.options import Slo
from sim.serving.results import ServingResult
from tests.serving_runs import made_up_run, made_up_scenario

SMALL = {"workload.parameters.requests": 400, "workload.parameters.objects": 100}
HOSTILE = "<img src=x onerror=alert(1)></script><b>&\"'"


def compared(folder: Path) -> Path:
    """Two policies on a hierarchy."""
    sim.compare("zipf_three_tier", ["fifo", "lru"], overrides=SMALL, out=folder)
    return folder


def served(folder: Path) -> Path:
    """Two serving runs."""
    profile = load_profile("dgx_h100_cxl_ssd")
    for seed, tiers, label in ((1, None, "tiers"), (2, ("hbm",), "alone")):
        run = made_up_run(seed=seed, **({"tiers": tiers} if tiers else {}))
        scenario = made_up_scenario(run.tiers)
        known = {"slo": Slo(1e9, 2e7), "accelerators": Accelerators(1, 700.0, 3.0), "profile": profile}
        ServingResult.from_run(run, scenario, label=label, **known).saved(folder / label)
    return folder


def allocated(folder: Path) -> Path:
    """Two allocators on a stream."""
    sim.compare("heap_allocators", ["first_fit", "slab"], overrides={"allocation.looks": 24}, out=folder)
    return folder


def swept(like: Path, folder: Path, capacities=("4%", "10%", "20%"), policies=("lru", "fifo"), seeds: int = 3) -> Path:
    """A sweep's folder of copies of one run, whose summaries are moved so that each field tells; the last but one point
    failed, the last is missing.
    """
    points = [
        {"name": f"{at:04}", "values": {"tiers.hbm.capacity": c, "tiers.hbm.eviction": p}, "seed": s}
        for at, (p, c, s) in enumerate((p, c, s) for p in policies for c in capacities for s in range(seeds))
    ]
    for at, point in enumerate(points[:-2]):
        copied(like, folder / "runs" / point["name"], at, **point)
    (folder / "runs" / f"{points[-2]['name']}.error.json").write_text(json.dumps({"error": [f"too small {HOSTILE}"]}))
    manifest = {"format": POINTS_FORMATS[0], "name": "swept", "sweep": {"fields": 2}, "points": points}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def copied(like: Path, place: Path, nth: int, name: str, values: dict, seed: int) -> None:
    """One run as if it had been of these values."""
    shutil.copytree(like, place, ignore=shutil.ignore_patterns("*.png"))
    summary, manifest = (json.loads((place / f"{part}.json").read_text()) for part in ("summary", "manifest"))
    share = float(str(values["tiers.hbm.capacity"]).rstrip("%")) / 100
    summary["hit_ratio"] = min(1.0, 0.3 + share + 0.01 * seed)
    for metric in ("latency_mean_ns", "latency_p99_ns", "cost_usd_per_million_requests"):
        summary[metric] *= 1.0 + 0.1 * ((nth * 7) % 17)
    manifest["capacity_bytes"]["hbm"] = round(1e7 * share)
    manifest["scenario"]["tiers"]["hbm"]["capacity"] = values["tiers.hbm.capacity"]
    manifest["scenario"]["tiers"]["hbm"]["eviction"]["policy"] = values["tiers.hbm.eviction"]
    changed(place, summary, manifest)


def changed(place: Path, summary: dict | None = None, manifest: dict | None = None) -> None:
    """Documents of a saved run written anew."""
    for part, content in (("summary", summary), ("manifest", manifest)):
        if content is not None:
            (place / f"{part}.json").write_text(json.dumps(content))


def hostile(like: Path, place: Path) -> Path:
    """A run whose names are markup."""
    shutil.copytree(like, place)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["label"] = HOSTILE
    manifest["scenario"] |= {"name": HOSTILE, "description": HOSTILE}
    manifest["policies"][HOSTILE] = HOSTILE
    manifest["trace"]["name"] = HOSTILE
    changed(place, manifest=manifest)
    return place
