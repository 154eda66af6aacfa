# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a sweep to a Pareto front
#
# More memory below a GPU finds more prefixes, so that first tokens come sooner; and it costs more. There is no best
# machine, only machines that no other one beats in both. This notebook runs a chat service with many sizes of three KV
# tiers, and finds those.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import sim
from sim.pareto import non_dominated

# %% [markdown]
# ## The sweep
#
# A file says which fields take which values. All combinations that keep the constraint are run, each with three seeds,
# that is three draws of the workload. From the command line it is `python run_sim.py sweep tiers.yaml`, which shows
# progress, and goes on with `--resume` where it was stopped.

# %%
SWEEP = """
name: tiers
description: Sizes of DRAM, CXL memory and a drive below the GPU of a chat service
scenario: serving_chat
set:
  workload.parameters.requests: 1000
fields:
  serving.tiers.dram.capacity: [16 GiB, 64 GiB, 256 GiB]
  serving.tiers.cxl.capacity: [32 GiB, 128 GiB]
  serving.tiers.ssd.capacity: [64 GiB, 256 GiB, 1 TiB]
where:
  - serving.tiers.cxl.capacity < serving.tiers.ssd.capacity
seeds: 3
"""
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "tiers.yaml"
    file.write_text(SWEEP)
    results = sim.run_sweep(file, out=Path(folder) / "results")
print(f"{len(results)} runs, {len(results.failed)} failed")

# %% [markdown]
# ## Points with their uncertainty
#
# `summary` would have a row a run. `over_seeds` has one a combination: means over its seeds, and the ends of their 95 %
# confidence intervals. The price is that of the capacity that the tiers use.

# %%
points = results.over_seeds(["ttft_p90_ns", "tier_usd_per_hour", "hit_token_share"])
points = pd.DataFrame(
    {
        **{tier: points[f"serving.tiers.{tier}.capacity"] for tier in ("dram", "cxl", "ssd")},
        "$/h": points["tier_usd_per_hour"],
        "found": points["hit_token_share"],
        "TTFT p90 (s)": points["ttft_p90_ns"] / 1e9,
        "low": points["ttft_p90_ns.low"] / 1e9,
        "high": points["ttft_p90_ns.high"] / 1e9,
    }
)
points.sort_values("$/h").round(4)

# %% [markdown]
# ## The front
#
# A point is on the front where no other is at least as good in both and better in one. Sorted by price, these are the
# points that answer sooner than all cheaper ones. (`sim.pareto_front` gives that of single runs, with limits.)

# %%
front = points[non_dominated(points[["$/h", "TTFT p90 (s)"]].to_numpy())].sort_values("$/h")
front.round(4)

# %%
axes = plt.figure(figsize=(8, 4.5)).gca()
for dram, rows in points.groupby("dram", sort=False):
    latency = rows["TTFT p90 (s)"]
    error = [latency - rows["low"], rows["high"] - latency]
    axes.errorbar(rows["$/h"], latency, error, fmt="o", capsize=3, alpha=0.7, label=f"{dram} of DRAM")
axes.step(front["$/h"], front["TTFT p90 (s)"], where="post", color="black", label="front")
axes.set(xlabel="price of the tiers below the GPU ($/h)", ylabel="TTFT p90 (s)", xscale="log")
axes.set_ylim(bottom=0)
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# The intervals are those of three short runs, and most of them overlap. What is common to a seed hides much: the same
# three draws were served by all machines, so that machines should be compared draw by draw.

# %%
cheapest, best = front.index[0], front.index[-1]
groups = results.groups()
by_seed = pd.DataFrame(
    {
        name: {run.seed: run.result.summary["ttft_p90_ns"] / 1e9 for run in groups[at]}
        for name, at in (("cheapest of the front", cheapest), ("fastest", best))
    }
).rename_axis("seed")
by_seed.assign(ratio=by_seed["fastest"] / by_seed["cheapest of the front"]).round(3)

# %% [markdown]
# ## Which field matters?
#
# The share of the variance of the mean that lies between the levels of each field (Fisher's analysis of variance); the
# command prints it, too, with what lies between seeds.

# %%
whole = points["TTFT p90 (s)"]
pd.Series(
    {
        tier: whole.groupby(points[tier]).transform("mean").var(ddof=0) / whole.var(ddof=0)
        for tier in ("dram", "cxl", "ssd")
    }
).round(3)
