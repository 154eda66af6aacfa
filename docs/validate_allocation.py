"""The section of docs/validation.md on allocators: what papers published of them, beside ours.

MEMHIER_TRACE_PATH=... python docs/validate_allocation.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from sim import registry  # noqa: E402
from sim.fragmentation import replaying  # noqa: E402
from sim.fragmentation.loading import load_operations  # noqa: E402
from sim.fragmentation.operations import build_operations  # noqa: E402
from sim.fragmentation.replay import make_player  # noqa: E402
from sim.fragmentation.running import follow  # noqa: E402
from sim.fragmentation.scenario import AllocationScenario, Choice  # noqa: E402
from sim.llm.models import load_model  # noqa: E402
from sim.llm.operators import weight_bytes  # noqa: E402
from sim.serving.scenario import load_serving_scenario  # noqa: E402
from sim.serving.simulation import simulate  # noqa: E402

TRACES = ("arxiv_summarization_lengths.csv",)
KWON = {  # SOSP 2023, figure 2: token states, reserved, internal and the rest, %; figure 13: calls that run
    "max": (20.4, 13.3, 66.3, 7.00),
    "pow2": (26.8, 17.9, 55.3, 9.81),
    "exact": (38.2, 25.2, 36.6, 13.62),
    "paged": (96.3, 0.0, 3.7, 30.42),
}
_GPU_BYTES = int(0.9 * (80 << 30))  # vLLM's and S-LoRA's usual share
_HEAP = ("first_fit", "best_fit", "next_fit", "worst_fit")


def section(files: dict[str, Path], table: Callable[..., str]) -> str:
    """files: where each of TRACES is; table: of docs/make_validation.py."""
    small, large = _batches(files[TRACES[0]])
    copy_bytes, placed = _merged_models()
    return f"""## Allocators

**Contiguous reservation against pages** (scenario `serving_paged_vs_reserved`, 2,000 calls): shares of 12 GiB of KV
memory while calls wait, of OPT-13B with 800 KiB a token, and how many calls run. The paper's are its figures 2 and 13,
as recalled; its lengths were ShareGPT's own, ours are log-normal with the same means. All shares of token states are
within 6 points, and in the paper's order. The tail that seven reservations of 2,048 tokens leave of 12 GiB is
{1 - 7 * 2048 * 819200 / (12 << 30):.2%}; published 8.85 %.

{table(("reservation", "tokens", "paper", "reserved", "paper", "all other waste", "paper", "calls", "paper"), _kwon())}

**Virtual pages** (vAttention): 1,024 bytes a token and tensor are {(64 << 10) // 1024} tokens a page of 64 KiB and
{(2 << 20) // 1024:,} a page of 2 MiB, as published. Yi-34B on two A100 with the lengths of {TRACES[0]}, 600 calls at
once: {small:.1f} calls run in the mean with pages of 64 KiB and {large:.1f} with 2 MiB, {small / large:.2f} times as
many; the paper reports 1.2 to 1.3, as recalled, for models and lengths of its own.

**Merged models** (S-LoRA, table 3, as recalled: five fit an 80 GB GPU and a sixth does not): a merged copy of Llama 2
7B in 16 bits is {copy_bytes / 1e9:.2f} GB; of six, {placed} are placed by `best_fit` in 0.9 of 80 GiB. By weights alone
{(80 << 30) // copy_bytes} would fit the whole 80 GiB: what is kept for everything else decides.

**A heap and its bound**: the heap calls of Python compiling its library (`heap_python`), all aligned to 16 bytes. No
allocator can hold less than the most bytes that are live; `offline` knows all lifetimes.

{table(("allocator", "held at most, bytes", "over the bound"), _heap())}
"""


def _kwon() -> list[tuple[str, ...]]:
    rows = []
    for form, published in KWON.items():
        said = {"reservation": "grown", "allocator": {"policy": "reservation", "form": form}}
        said |= {"block_tokens": 1, "kv_blocks": 15_728}
        overrides = {} if form == "paged" else {f"serving.options.{name}": value for name, value in said.items()}
        record = simulate(load_serving_scenario("serving_paged_vs_reserved", overrides))
        waiting = record.samples["waiting"] > 0
        places = float(record.tier_capacity_blocks[0] * record.block_tokens)

        def share(name: str, record=record, waiting=waiting, places=places) -> float:
            return 100 * float(np.mean(record.samples[name][waiting])) / places

        reserved = share("kv_waste_reserved_tokens")
        tokens = share("kv_blocks_in_use") * record.block_tokens
        if form == "paged":  # whose blocks in use have empty places
            tokens -= share("kv_waste_internal_tokens")
        running = float(np.mean(record.samples["running"][waiting]))
        ours = (tokens, reserved, 100 - tokens - reserved)
        pairs = [
            text for own, paper in zip(ours, published, strict=False) for text in (f"{own:.1f} %", f"{paper:.1f} %")
        ]
        rows.append((form, *pairs, f"{running:.2f}", f"{published[3]:.2f}"))
    return rows


def _batches(lengths: Path) -> tuple[float, float]:
    """Calls that run while others wait, with pages of 64 KiB and of 2 MiB."""
    given = np.loadtxt(lengths, delimiter=",", skiprows=1, max_rows=600, dtype=float)[:, :2].astype(int)
    with tempfile.TemporaryDirectory() as folder:
        rows = (f"2024-01-01 00:00:00,{prompt},{output}" for prompt, output in given)
        text = "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
        (Path(folder) / "calls.csv").write_text(text + "\n", encoding="utf-8")
        scenario = Path(folder) / "batches.yaml"
        scenario.write_text(_BATCHES, encoding="utf-8")
        return tuple(_running(scenario, page) for page in (64 << 10, 2 << 20))


_BATCHES = """
name: batches
description: Pages of two sizes
system: dgx_a100
workload: {trace: calls.csv, reader: azure_llm}
serving:
  model: yi_34b
  options: {prefix_caching: false, tensor_parallel: 2, max_num_batched_tokens: 4096, max_model_len: 4096,
            reservation: grown, kv_blocks: 19000, block_tokens: 16, allocator: {policy: virtual_pages, slots: 600}}
"""


def _running(scenario: Path, page_bytes: int) -> float:
    samples = simulate(load_serving_scenario(scenario, {"serving.options.allocator.page_bytes": page_bytes})).samples
    return float(samples["running"][samples["waiting"] > 0].mean())


def _merged_models() -> tuple[int, int]:
    """Bytes of a copy, and how many of six are placed."""
    size, number = round(weight_bytes(load_model("llama2_7b"))), np.arange(6)
    operations = build_operations("merged", number, np.zeros(6), number, np.full(6, size))
    player = make_player(operations, registry.load(registry.ALLOCATOR, "best_fit"), {}, _GPU_BYTES)
    player.advance(0, 6)
    return size, 6 - player.refused


def _heap() -> list[tuple[str, ...]]:
    operations = load_operations("heap_python")
    aligned = -(-operations.size_bytes // 16) * 16
    sign = np.array([1, 0, -1])[operations.op]
    bound = int(np.cumsum(sign * aligned).max())
    choices = [
        Choice("offline", {"method": "greedy_by_breadth", "alignment_bytes": 16}),
        *(Choice(name, {"alignment_bytes": 16}) for name in _HEAP),
        *(Choice(name) for name in ("tlsf", "size_classes", "slab", "power_of_two")),
        Choice("buddy", {"smallest_bytes": 16}),
    ]
    rows = [("the most bytes live, rounded up to 16", f"{bound:,}", "1")]
    link = AllocationScenario("heap", "heap_python", choices[0]).link_of()
    for choice in choices:
        allocator = registry.load(registry.ALLOCATOR, choice.name)
        player = make_player(operations, allocator, choice.parameters, 4 * operations.peak_live_bytes)
        follow(player, link, 24)
        held = int(player.board.totals[replaying.PEAK_HELD_BYTES])
        refused = f" ({player.refused} refused)" if player.refused else ""
        rows.append((choice.label + refused, f"{held:,}", f"{held / bound:.4f}"))
    return rows


def main() -> None:
    from make_validation import table

    folders = [Path(folder) for folder in os.environ["MEMHIER_TRACE_PATH"].split(os.pathsep)]
    print(section({name: next(f / name for f in folders if (f / name).is_file()) for name in TRACES}, table))


if __name__ == "__main__":
    main()
