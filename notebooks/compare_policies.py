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
# # Which eviction policy suits a database?
#
# A hardware profile, a real trace and a handful of policies: first hit ratios alone, which take a moment, then the
# whole hierarchy in time, with queues and fetches that are waited for.

# %%
import tempfile

import matplotlib.pyplot as plt
import pandas as pd

import sim

# %% [markdown]
# ## The machine
#
# A profile names its tiers, fastest first, and every value in it has a source.

# %%
profile = sim.load_profile("dgx_h100_cxl_ssd")
pd.DataFrame(
    {
        "tier": tier.name,
        "device": tier.device.name,
        "GiB": tier.device.capacity_bytes / 2**30,
        "4 KiB read, unloaded (ns)": profile.unloaded_ns(tier.name, 4096),
    }
    for tier in profile.tiers
).round(1)

# %% [markdown]
# ## The trace
#
# Page reads and writes of a PostgreSQL server under pgbench, recorded while it ran.

# %%
trace = sim.load_trace("postgres_pgbench")
trace

# %% [markdown]
# ## Hit ratios
#
# `replay` has no clock: it asks how often one cache hits. Belady's policy knows the future and bounds the others.

# %%
policies = ["fifo", "lru", "sieve", "belady"]
capacities = [1, 2, 5, 10, 20, 40]
hit_ratio = pd.DataFrame(
    {name: [sim.replay(trace, name, f"{share}%").hit_ratio for share in capacities] for name in policies},
    index=pd.Index(capacities, name="cache (% of the database)"),
)
hit_ratio.round(3)

# %%
hit_ratio.plot(marker="o", logx=True, ylabel="hit ratio")
plt.show()

# %% [markdown]
# ## The hierarchy in time
#
# A scenario says which machine, which workload and who decides in each tier; anything in it can be set from here.

# %%
few = {"workload.requests": 50_000}
with tempfile.TemporaryDirectory() as folder:
    sim.compare("postgres_pgbench", ["lru", "sieve", "s3fifo"], overrides=few, out=folder)
    results = sim.load_results(folder)
    requests = results.table("requests")

# %% [markdown]
# Results of runs are tidy tables: `summary` has a row a run and a column a metric, its unit in its name; `table` has
# all rows of all runs.

# %%
results.summary.set_index("label")[["hit_ratio", "latency_mean_ns", "latency_p50_ns", "latency_p99_ns"]].round(4)

# %% [markdown]
# More hits are not the same as sooner answers. Where the time of the mean request goes:

# %%
parts = ["queue_ns", "device_ns", "link_ns", "wait_ns"]
requests.groupby(["run", "served_by"], observed=True)[parts].mean().round(0)

# %% [markdown]
# How long requests took: the share of them that was answered within a given time.

# %%
for name, rows in requests.groupby("run"):
    latency_us = (rows["latency_ns"] / 1000).sort_values()
    plt.plot(latency_us, [(rank + 1) / len(latency_us) for rank in range(len(latency_us))], label=name)
plt.xscale("log")
plt.xlabel("latency (us)")
plt.ylabel("share of requests")
plt.legend()
plt.show()
