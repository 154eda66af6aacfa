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
# # From an idea to a policy
#
# A database scans a table, and each page of it drives out one that will be used again. MySQL's InnoDB has an answer: a
# new page enters its LRU list not at the newest end but at a *midpoint*, three eighths from the oldest, and only a page
# that is asked for again moves up. Is that good for PostgreSQL's pages, too? This notebook writes the policy, checks
# it, and compares it on a recorded trace.

# %%
import os
import sys
import tempfile
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import sim

folder = tempfile.TemporaryDirectory()  # for the policy's file
os.chdir(folder.name)
sys.path.insert(0, folder.name)

# %% [markdown]
# ## The policy
#
# What a policy remembers is a NamedTuple of arrays and plain numbers, made by `init` for blocks that are numbered from
# 0. Here are two lists in one array of links: the young end and the old end of the LRU list. What changes has to be in
# an array; keyword arguments of `init` are the policy's parameters. The hooks are plain functions, which are compiled
# before a replay; what they call must be compiled, too, hence `sim.subroutine`. All of it is a file: a policy that is
# defined in a cell is compiled again and again.

# %%
# %%writefile midpoint.py
from typing import NamedTuple

import numpy as np

import sim


class State(NamedTuple):
    links: np.ndarray  # two lists of blocks, newest first
    young: int  # their sentinels
    old: int
    is_young: np.ndarray  # bool[blocks]
    counts: np.ndarray  # int64[2]: blocks on the list of the old, and of the young
    old_share: float


def init(context, *, old_share=0.375):
    if not 0 < old_share <= 1:
        raise ValueError(f"old_share is {old_share}; expected more than 0, at most 1")
    links = sim.make_lists(context.blocks, lists=2)
    young, old = context.blocks, context.blocks + 1
    return State(links, young, old, np.zeros(context.blocks, np.bool_), np.zeros(2, np.int64), old_share)


@sim.subroutine
def take_off(state, block):
    sim.unlink(state.links, block)
    state.counts[int(state.is_young[block])] -= 1


@sim.subroutine
def put(state, block, is_young):
    sim.push_newest(state.links, state.young if is_young else state.old, block)
    state.is_young[block] = is_young
    state.counts[int(is_young)] += 1


def on_hit(state, request):
    take_off(state, request.block)
    put(state, request.block, True)
    blocks = state.counts[0] + state.counts[1]
    while state.counts[1] > (1 - state.old_share) * blocks:  # the midpoint is where it was
        oldest = sim.oldest(state.links, state.young)
        take_off(state, oldest)
        put(state, oldest, False)


def on_insert(state, request):
    put(state, request.block, False)


def evict(state, request):
    victim = sim.oldest(state.links, state.old if state.counts[0] > 0 else state.young)
    take_off(state, victim)
    return victim


def remove(state, block):
    take_off(state, block)


POLICY = sim.EvictionPolicy(name="midpoint", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove)

# %% [markdown]
# ## Does it keep the rules?
#
# `check_policy` tries it on small random traces, as Python and then compiled: objects of one size and of many, a cache
# of one object, refusals, removals.

# %%
from midpoint import POLICY

print(sim.testing.check_policy(POLICY))

# %% [markdown]
# The condition in `evict` is easily forgotten: there may be no old block at all, because young ones are left, or the
# cache has room for one alone. Then the list of the old is empty, and its oldest end is the sentinel. The check says
# so:


# %%
def evict_old(state, request):
    victim = sim.oldest(state.links, state.old)
    sim.unlink(state.links, victim)
    state.counts[0] -= 1
    return victim


try:
    sim.testing.check_policy(replace(POLICY, evict=evict_old))
except AssertionError as error:
    print(error)

# %% [markdown]
# ## How often does it hit?
#
# Pages of a PostgreSQL server under pgbench, with a reporting query that scans all accounts beside it; `replay` takes
# the object itself. Belady's policy knows the future and bounds all others.

# %%
trace = sim.load_trace("postgres_pgbench")
shares = [1, 2, 5, 10, 20, 40]
candidates = {"lru": "lru", "midpoint": POLICY, "sieve": "sieve", "belady": "belady"}
hits = pd.DataFrame(
    {name: [sim.replay(trace, one, f"{share}%").hit_ratio for share in shares] for name, one in candidates.items()},
    index=pd.Index(shares, name="cache (% of the database)"),
)
hits.round(4)

# %%
axes = hits.plot(marker="o", logx=True, figsize=(7, 4), ylabel="hit ratio")
axes.set_xticks(shares, [f"{share} %" for share in shares])
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## Is three eighths right?
#
# A parameter lives in the state, so that trying another value compiles nothing. With an old share of 1 every page stays
# where it entered until it is asked for, and is then the newest: that is LRU.

# %%
old_shares = [0.05, 0.1, 0.2, 0.375, 0.6, 0.8, 1.0]
by_share = pd.DataFrame(
    {
        f"{share} %": [
            sim.replay(trace, POLICY, f"{share}%", parameters={"old_share": one}).hit_ratio for one in old_shares
        ]
        for share in (2, 10, 40)
    },
    index=pd.Index(old_shares, name="old share"),
)
by_share.round(4)

# %%
assert np.isclose(by_share.loc[1.0, "10 %"], hits.loc[10, "lru"])  # LRU indeed
by_share.idxmax()

# %% [markdown]
# ## Further
#
# Hit ratios are not latencies. To have it decide in the tiers of a machine, in time, give it a file and an entry point,
# after which its name works in every command and scenario: [writing a policy](../docs/writing-a-policy.md) goes on from
# here, and knows the other kinds: admission, prefetch, offload, scheduling, allocation.
