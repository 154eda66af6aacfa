# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How large a KV tier, and of what?
#
# A chat service on one H100. Below the GPU's own memory its KV cache may have DRAM, CXL memory or a drive. How much of
# which is the cheapest that finds a third of all prompt tokens, gives nine in ten requests their first token soon
# enough, and lasts? First the hit ratio by size, without a clock, which takes a moment; then the whole engine in time.

# %%
import dataclasses
import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import matplotlib.pyplot as plt
import pandas as pd

from sim.choice import Choice
from sim.engines.prefix import replay_calls
from sim.hierarchy import TierPlan
from sim.running import run_loaded
from sim.serving.kind import ServingKind
from sim.serving.options import KvTier
from sim.serving.scenario import load_calls, load_serving_scenario

TARGET_FOUND = 0.33  # share of prompt tokens whose keys and values are found
TARGET_TTFT_S = 6.0  # of nine in ten requests
TARGET_YEARS = 3.0  # that a drive is to last
GIB = 2**30

# %% [markdown]
# ## The service
#
# The shipped scenario, with fewer calls; whatever else is to be different is said by its dotted path.

# %%
calls = {"workload.parameters.requests": 3000}
scenario = load_serving_scenario("serving_chat", calls)
trace = load_calls(scenario)
tokens = trace.calls.input_tokens
print(f"{len(tokens):,} calls in {trace.calls.arrival_ns[-1] / 60e9:.0f} min; {tokens.mean():,.0f} prompt tokens each")

# %% [markdown]
# ## Hits by size, without time
#
# One cache of prefix blocks (64 MiB: 512 tokens of Llama 3.1 8B) under four eviction policies. A call finds the longest
# run of its prompt's blocks, from the first on, so that a block is worth nothing once one before it has gone.

# %%
sizes_gib = [32, 64, 128, 256, 512, 1024, 2048]
policies = ["lru", "fifo", "sieve", "s3fifo"]


def found_in(size_gib, policy):
    """Share of prompt tokens found in a cache of this size."""
    return replay_calls(trace, [TierPlan("cache", size_gib * GIB, eviction=Choice(policy))]).hit_tokens[0]


curve = pd.DataFrame(
    {policy: [found_in(size, policy) for size in sizes_gib] for policy in policies},
    index=pd.Index(sizes_gib, name="cache (GiB)"),
)
curve.round(3)


# %%
def axes_by_size(ylabel):
    """Empty axes over sizes in GiB, by powers of two."""
    _, axes = plt.subplots(figsize=(7, 4))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes_gib, [f"{size:,}" for size in sizes_gib])
    axes.set(xlabel="size (GiB)", ylabel=ylabel, xlim=(sizes_gib[0] / 1.3, sizes_gib[-1] * 1.3))
    axes.grid(alpha=0.3)
    return axes


def draw_target(axes, at):
    axes.axhline(at, color="gray", linestyle=":")
    axes.text(sizes_gib[0], at, "target", color="gray", va="bottom")


axes = axes_by_size("share of prompt tokens found")
for policy in policies:
    axes.plot(curve.index, curve[policy], marker="o", label=policy)
draw_target(axes, TARGET_FOUND)
axes.set_ylim(bottom=0)
axes.legend()
plt.show()

# %% [markdown]
# ## The engine, in time
#
# HBM with one tier below it: DRAM, CXL memory or a drive, in several sizes. Blocks are written through, so that the
# tier holds what HBM holds, too. Runs are independent: each is done by a process of its own. (The first run of all
# compiles the engine, which takes a minute or two; the processes after it, and the next time, find that on disk.)

# %%
tiers = {"dram": [64, 128, 256, 512], "cxl": [64, 128, 256], "ssd": [64, 128, 256, 512, 1024, 2048]}


def with_tier(name, size_gib):
    """The service with HBM and this one tier."""
    below = KvTier(name, capacity_bytes=size_gib * GIB)
    options = dataclasses.replace(scenario.options, tiers=(scenario.options.tiers[0], below))
    return dataclasses.replace(scenario, name=f"{name} {size_gib} GiB", options=options)


wanted = [(name, size) for name, sizes in tiers.items() for size in sizes]
scenarios = [with_tier(name, size) for name, size in wanted]
run = functools.partial(run_loaded, ServingKind())
run(scenarios[0])
with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
    results = list(pool.map(run, scenarios))

# %%
found = pd.DataFrame(
    {
        "tier": name,
        "GiB": size,
        "found": result.summary["hit_token_share"],
        "found in the tier": result.summary[f"tier.{name}.hit_token_share"],
        "TTFT mean (s)": result.summary["ttft_mean_ns"] / 1e9,
        "TTFT p90 (s)": result.summary["ttft_p90_ns"] / 1e9,
        "met the SLO": result.summary["good_share"],
        "lasts (years)": result.summary.get(f"tier.{name}.endurance_years", float("inf")),
        "tier ($/h)": result.summary["tier_usd_per_hour"],
        "$ a million tokens": result.summary["cost_usd_per_million_tokens"],
    }
    for (name, size), result in zip(wanted, results, strict=True)
)
found.round(4)

# %% [markdown]
# All three find as much as one cache of their size does without a clock, and a first token comes nearly as soon from a
# drive as from DRAM: computing a prompt takes so much longer than loading it. But all that is computed is written to
# the tier, and a drive is rated for so many bytes.

# %%
styles = {  # what lies on top of each other is to be seen all the same
    "dram": {"marker": "o", "markersize": 11, "fillstyle": "none"},
    "cxl": {"marker": "s", "markersize": 7, "fillstyle": "none", "linestyle": "--"},
    "ssd": {"marker": "x", "linestyle": ":"},
}
for metric, target in (("found", TARGET_FOUND), ("TTFT p90 (s)", TARGET_TTFT_S)):
    axes = axes_by_size("share of prompt tokens found" if metric == "found" else metric)
    if metric == "found":
        axes.plot(curve.index, curve["lru"], color="lightgray", linewidth=5, label="one cache, without a clock")
    for name, runs in found.groupby("tier", sort=False):
        axes.plot(runs["GiB"], runs[metric], label=name, **styles[name])
    draw_target(axes, target)
    axes.set_ylim(bottom=0)
    axes.legend()
    plt.show()

# %% [markdown]
# ## The cheapest that will do
#
# The price of a million tokens hardly changes: at a given load it is that of the GPU, by the hour. What a tier buys
# here is time. Prices of tiers are estimates, each with its source in the device's file, of the capacity that is used.

# %%
in_time = (found["found"] >= TARGET_FOUND) & (found["TTFT p90 (s)"] <= TARGET_TTFT_S)
found[in_time].sort_values("tier ($/h)").round(4)

# %%
good = found[in_time & (found["lasts (years)"] >= TARGET_YEARS)]
good.sort_values("tier ($/h)").round(4)

# %%
best = good.loc[good["tier ($/h)"].idxmin()] if len(good) else None
print("none of them will do" if best is None else f"the cheapest that lasts: {best['GiB']:,} GiB of {best['tier']}")

# %%
_, axes = plt.subplots(figsize=(7, 4))
for name, runs in found.groupby("tier", sort=False):
    axes.plot(runs["tier ($/h)"], runs["TTFT p90 (s)"], marker="o", label=name)
    for _, one in runs.iterrows():
        at = (one["tier ($/h)"], one["TTFT p90 (s)"])
        axes.annotate(f"{one['GiB']:,}", at, xytext=(4, 4), textcoords="offset points", fontsize=8)
axes.axhline(TARGET_TTFT_S, color="gray", linestyle=":")
if best is not None:
    at = (best["tier ($/h)"], best["TTFT p90 (s)"])
    axes.plot(*at, "o", markersize=14, fillstyle="none", color="black", label="cheapest that lasts")
axes.set_xscale("log")
axes.margins(x=0.1)
axes.set(xlabel="price of the tier ($/h); numbers are GiB", ylabel="TTFT p90 (s)")
axes.set_ylim(bottom=0)
axes.grid(alpha=0.3)
axes.legend()
plt.show()
