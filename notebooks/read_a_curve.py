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
# # Reading a latency-bandwidth curve
#
# A data sheet has one latency and one bandwidth, and no device gives both at once. What it does under load is a curve:
# here of a channel of DRAM, of a CXL expander and of an NVMe drive, each simulated event by event and driven alone.

# %%
import matplotlib.pyplot as plt
import pandas as pd

import sim

DEVICES = {  # what a request is
    "ddr4_3200": 64,
    "cxl_cmm_d_256g": 64,
    "nvme_gen4_tlc_1536g": 4096,
}

# %% [markdown]
# ## A closed loop
#
# A number of requests is kept outstanding: where one is answered, the next is sent. Random reads, from one at a time to
# many. (The first time each model is compiled, some ten seconds.)

# %%
OUTSTANDING = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def closed(device, size_bytes, **how):
    """A row for each number of requests outstanding."""
    loads = [sim.Load(outstanding=n, size_bytes=size_bytes, requests=8000, warmup=1000, **how) for n in OUTSTANDING]
    return pd.DataFrame(
        {
            "outstanding": n,
            "GB/s": reading.result.bandwidth_bytes_per_ns,
            "requests a us": 1000 * reading.result.requests / reading.result.elapsed_ns,
            "mean (ns)": reading.result.total_mean_ns,
            "p99 (ns)": reading.result.total_p99_ns,
        }
        for n, reading in zip(OUTSTANDING, sim.probe(device, loads), strict=True)
    )


curves = {device: closed(device, size) for device, size in DEVICES.items()}
curves["ddr4_3200"].round(2)

# %% [markdown]
# At first latency stays and bandwidth doubles with every doubling of what is outstanding. Then bandwidth stays, and
# latency doubles: all that comes in addition waits.
#
# ## Little's law
#
# In any system that neither gains nor loses requests, the mean number in it is the rate at which they leave, times the
# mean time that they stay (Little, 1961). So no curve can be anything else than what these two columns allow, and a
# measurement that breaks it is wrong:

# %%
pd.DataFrame({device: curve["requests a us"] * curve["mean (ns)"] / 1000 for device, curve in curves.items()}).set_axis(
    OUTSTANDING
).round(2)

# %% [markdown]
# (What is not exact is the end of the measurement, when requests are still under way.) Read the other way around the
# law says how much must be outstanding to use a device fully: its bandwidth times its latency. A core that waits for
# one cache line at a time gets an eighth of a DRAM channel, and a hundredth of the expander.

# %%
unloaded = {device: curve["mean (ns)"].iloc[0] for device, curve in curves.items()}
most = {device: curve["GB/s"].max() for device, curve in curves.items()}
pd.DataFrame({"alone (ns)": unloaded, "most (GB/s)": most}).assign(
    **{
        "in flight (KiB)": lambda row: row["alone (ns)"] * row["most (GB/s)"] / 1024,
        "requests": lambda row: row["alone (ns)"] * row["most (GB/s)"] / pd.Series(DEVICES),
    }
).round(2)

# %% [markdown]
# ## The knee
#
# Where to run a device? Kleinrock (1979) takes the point at which bandwidth over latency, the *power*, is greatest:
# from there on, each per cent of bandwidth costs more than a per cent of latency.

# %%
knees = pd.DataFrame(
    {device: curve.loc[(curve["GB/s"] / curve["mean (ns)"]).idxmax()] for device, curve in curves.items()}
).T
knees.round(2)

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for axes, (device, curve) in zip(panels, curves.items(), strict=True):
    axes.plot(curve["GB/s"], curve["mean (ns)"], marker="o", label="mean")
    axes.plot(curve["GB/s"], curve["p99 (ns)"], marker=".", linestyle=":", label="99th percentile")
    axes.plot(
        *knees.loc[device, ["GB/s", "mean (ns)"]], "s", markersize=12, fillstyle="none", color="black", label="knee"
    )
    axes.set(title=device, xlabel="GB/s", yscale="log", xlim=(0, None))
    axes.grid(alpha=0.3)
panels[0].set_ylabel("latency (ns)")
panels[0].legend()
plt.show()

# %% [markdown]
# ## An open loop
#
# Whoever does not wait for answers keeps sending: arrivals at a rate, at random (Poisson). Up to the knee it makes
# little difference; near the greatest bandwidth latency has no bound, because a closed loop is its own brake and this
# is not. A device of the model `fixed`, by the same latency and bandwidth, does not know of banks, rows, refresh and
# turnarounds.

# %%
shares = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95]


def opened(device, changes=None):
    """Mean latency by bandwidth, at shares of the most that a closed loop gave."""
    loads = [
        sim.Load(rate_bytes_per_ns=share * most[device], size_bytes=DEVICES[device], requests=8000, warmup=1000)
        for share in shares
    ]
    results = [reading.result for reading in sim.probe(device, loads, changes)]
    return pd.Series([one.total_mean_ns for one in results], [one.bandwidth_bytes_per_ns for one in results])


loops = {
    "closed loop": curves["ddr4_3200"].set_index("GB/s")["mean (ns)"],
    "open loop": opened("ddr4_3200"),
    "open loop, fixed": opened("ddr4_3200", {"model": "fixed"}),
}
axes = plt.figure(figsize=(7, 4)).gca()
for name, loop in loops.items():
    axes.plot(loop.index, loop, marker="o", label=name)
axes.set(title="ddr4_3200, random reads", xlabel="GB/s", ylabel="mean latency (ns)", xlim=(0, None), ylim=(0, 500))
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# ## What changes a curve
#
# Neither end of it belongs to the device alone. The same channel with neighbours in order (open rows are hit), and with
# half of the accesses writes (the bus turns around):

# %%
patterns = {
    "random reads": {},
    "in order": {"pattern": "seq"},
    "half writes": {"read_ratio": 0.5},
}
axes = plt.figure(figsize=(7, 4)).gca()
for name, how in patterns.items():
    curve = closed("ddr4_3200", 64, **how)
    axes.plot(curve["GB/s"], curve["mean (ns)"], marker="o", label=name)
axes.set(title="ddr4_3200", xlabel="GB/s", ylabel="mean latency of reads (ns)", xlim=(0, None), ylim=(0, 1000))
axes.grid(alpha=0.3)
axes.legend()
plt.show()

# %% [markdown]
# The same from the command line, with a CSV file and a figure: `run_sim.py probe ddr4_3200 --pattern seq --outstanding
# 1,4,16,64`; `probe SYSTEM:TIER` drives the whole way to a tier of a machine, and `--with` a second requester beside
# the first.
