"""Requests that are done, in order of time, and which channel is the next to do anything."""

from __future__ import annotations

import numpy as np

from sim.dram.state import (
    DIRTY,
    DONE_HEAD,
    DONE_NEXT,
    DONE_PREVIOUS,
    DONE_TAIL,
    DONE_TICK,
    FLOOR_COLUMN,
    FLOOR_ROW,
    FREE_SLOT,
    LEFT,
    NEVER,
    PATH,
    PLAN_TICK,
    REFRESH_AT,
    REQUESTS,
)
from sim.kernels.compile import inlined


@inlined
def complete(state, index, place, tick):
    """One transaction of a request has been served, at this tick; with the last one, the request is done."""
    slot, channel = state.slot, state.channel
    slot[place, LEFT] -= 1
    slot[place, DONE_TICK] = max(slot[place, DONE_TICK], tick + state.rule[PATH])
    if slot[place, LEFT] > 0:
        channel[index, REQUESTS] -= 1
        return
    tick = slot[place, DONE_TICK]
    after = np.int64(-1)
    before = channel[index, DONE_TAIL]
    while before >= 0 and slot[before, DONE_TICK] > tick:
        after, before = before, slot[before, DONE_PREVIOUS]
    slot[place, DONE_PREVIOUS], slot[place, DONE_NEXT] = before, after
    if before >= 0:
        slot[before, DONE_NEXT] = place
    else:
        channel[index, DONE_HEAD] = place
    if after >= 0:
        slot[after, DONE_PREVIOUS] = place
    else:
        channel[index, DONE_TAIL] = place


@inlined
def release(state, index, place, following):
    """A request that was done is told, and its place free."""
    channel, slot = state.channel, state.slot
    channel[index, DONE_HEAD] = following
    if following >= 0:
        slot[following, DONE_PREVIOUS] = -1
    else:
        channel[index, DONE_TAIL] = -1
    channel[index, REQUESTS] -= 1
    slot[place, DONE_NEXT] = state.shared[FREE_SLOT]
    state.shared[FREE_SLOT] = place


@inlined
def winner(tree):
    """The channel whose next tick is the first of all."""
    at, leaves = 1, tree.size >> 1
    while at < leaves:
        at = 2 * at if tree[2 * at] <= tree[2 * at + 1] else 2 * at + 1
    return at - leaves


@inlined
def rekey(state, index):
    """Enter a channel's next tick into the tournament."""
    channel, tree = state.channel, state.tree
    tick = np.int64(NEVER)
    if channel[index, REQUESTS] > 0:
        planned = channel[index, PLAN_TICK]
        if channel[index, DIRTY]:
            planned = min(channel[index, FLOOR_COLUMN], channel[index, FLOOR_ROW])
        tick = min(planned, channel[index, REFRESH_AT])
        head = channel[index, DONE_HEAD]
        if head >= 0:
            tick = min(tick, state.slot[head, DONE_TICK])
    at = index + (tree.size >> 1)
    tree[at] = tick
    at >>= 1
    while at >= 1:
        least = min(tree[2 * at], tree[2 * at + 1])
        if tree[at] == least:
            break
        tree[at] = least
        at >>= 1


@inlined
def sort_done(done_ns, done_ticket, count):
    """By time, then ticket: Shell's sort, of what is mostly in order."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap >= 1:
        for i in range(gap, count):
            time_ns, ticket = done_ns[i], done_ticket[i]
            at = i
            while at >= gap and (
                done_ns[at - gap] > time_ns or (done_ns[at - gap] == time_ns and done_ticket[at - gap] > ticket)
            ):
                done_ns[at], done_ticket[at] = done_ns[at - gap], done_ticket[at - gap]
                at -= gap
            done_ns[at], done_ticket[at] = time_ns, ticket
        gap //= 3
