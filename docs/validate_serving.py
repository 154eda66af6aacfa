"""The section of docs/validation.md on serving: a measured run of vLLM, replayed.

MEMHIER_TRACE_PATH=... MEMHIER_REFERENCE_PATH=... python docs/validate_serving.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from sim.serving.checking import Check, check_serving, draw  # noqa: E402
from sim.units import format_time  # noqa: E402

FOLDER = "serving/vllm_rtx4090_llama31_8b"
FILES = tuple(f"{FOLDER}/{name}" for name in ("meta.json", "requests.jsonl", "timeseries.csv"))
TRACES = ("sharegpt_llama31_8b_300.jsonl",)
TARGETS = {"mean": 0.02, "p90": 0.04, "makespan": 0.02}
IMAGE = "images/serving_vllm_rtx4090.png"


def section(files: dict[str, Path], table: Callable[..., str], folder: Path) -> str:
    """files: where each of FILES is; table: of docs/make_validation.py; folder: of the page, for its figure."""
    check = check_serving(files[FILES[0]].parent, "rtx4090_desktop", "llama31_8b")
    _draw(check, folder / IMAGE)
    missed = [one.name for one in check.figures if _target(one.name) and abs(one.error) > _target(one.name)]
    verdict = f"missed by {', '.join(missed)}" if missed else "met by all"
    apart = {one.name: one.mean_difference for one in check.series}
    return f"""## A serving engine against a measured run

300 ShareGPT requests at 10 sessions a second, served by vLLM 0.19 on one RTX 4090 with Llama 3.1 8B in bfloat16 and so
little memory left (2,588 blocks of 16 tokens) that calls wait and are preempted (LLMServingSim's example run). Replayed
with the real arrivals, lengths, prompts and settings; the number of blocks is the measured one; times of kernels are
those of the section above, fitted to tables of kernels, and nothing is fitted to this run. `run_sim.py check-serving
FOLDER --system rtx4090_desktop` prints the same. Targets are 2 % for means and makespan, 4 % for the 90th percentiles:
{verdict}.

{table(("figure", "ours", "measured", "error"), _rows(check))}

![requests running and waiting, and KV blocks in use, measured and simulated]({IMAGE})

At the {check.series[0].t_s.size} moments at which the real engine was looked at, ours differs on average by
{apart["running"]:.2g} requests running, {apart["waiting"]:.2g} waiting and {apart["kv_use"]:.1%} of the KV blocks.
Times are as whoever called saw them. It is one run on one machine; a run of another card or model needs tables of its
kernels for an error of this size.
"""


def _target(name: str) -> float | None:
    return next((limit for part, limit in TARGETS.items() if part in name), None)


def _rows(check: Check) -> list[tuple[str, ...]]:
    return [
        (
            one.name.removesuffix("_ns").replace("_", ", "),
            format_time(one.ours, 4),
            format_time(one.measured, 4),
            f"{one.error:+.2%}",
        )
        for one in check.figures
    ]


def _draw(check: Check, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    draw(check, figure)
    figure.savefig(path, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    from make_validation import table as _table

    found = {name: Path(os.environ["MEMHIER_REFERENCE_PATH"]) / name for name in FILES}
    print(section(found, _table, Path(__file__).parent))
