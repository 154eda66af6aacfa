"""Copies of KV blocks over the devices and links of a system: every server on the way queues and holds.

A transfer is a group of blocks that go from one tier to another. It passes the servers of its route as a transfer of
`sim.engines.block_cache` does: cut through, in order of arrival at each. What starts it may have a cost for each copy
of so many contiguous blocks, during which one engine of copies in each direction can start no other; a device is asked
once for each copy, a link carries all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, known_natural, subroutine
from sim.kernels.event_heap import EventHeap, make_heap, push

NOBODY = -1

LOAD, STORE, LOWER, STAGING, SWAP_OUT, SWAP_IN, HANDED = range(7)  # what a transfer is for; HANDED: from another engine
PURPOSES = ("load", "store", "lower", "staging", "swap_out", "swap_in", "handed")

KIND, CALL, FIRST_NODE, BLOCKS, STAGE, LAST_STAGE, SOURCE, TARGET, DRAINS, NEXT_FREE = range(10)  # columns of `facts`
HEAD_NS, TAIL_NS, BEGUN_NS = range(3)  # columns of `times`
SERVER, ROW_OF_MODEL, COLUMN, IS_WRITE, PART = range(5)  # columns of a stage
DEVICE_PART = 1  # `sim.engines.block_cache.DEVICE_NS`

COPY_BLOCKS, COPY_NS, BLOCK_BYTES = range(3)  # places in `copy`

FREE, FREE_COUNT, FREE_NODE, FREE_NODES, STARTED, DRAINING, ENDS = range(7)  # places in `counts`

# events of the heap that are no transfers: negative numbers
TIMER_BITS = 2
PREFETCH_TIMEOUT, HOLD_ENDS = 0, 1


class Network(NamedTuple):
    """p transfers under way at most, m blocks in all of them."""

    model: object  # stack of device models
    model_states: tuple
    first_stage: np.ndarray  # int64[E E + 1] route from end a to b is stages[first_stage[a E + b]: the next]; ends are
    #   the tiers, and after them another engine's G1
    stages: np.ndarray  # int64[., 5] SERVER .. PART
    traffic_bytes: np.ndarray  # int64[columns]
    facts: np.ndarray  # int64[p, 10]
    times: np.ndarray  # float64[p, 3]
    node_block: np.ndarray  # int64[m] a block of a transfer, and the next of the same one
    node_next: np.ndarray  # int64[m]
    counts: np.ndarray  # int64[7] FREE .. ENDS
    copier_ns: np.ndarray  # float64[2] when the engine of copies up and the one down are free
    copy: np.ndarray  # float64[3] blocks a copy (0: all), ns of each copy, bytes of a block
    moved: np.ndarray  # float64[len(PURPOSES), 2] blocks moved for each purpose, and the time that it took
    events: EventHeap  # transfers and timers


def make_network(
    model, states, first_stage, stages, columns: int, copy, slots: int = 256, nodes: int = 4096
) -> Network:
    """A network at rest."""
    facts = np.zeros((slots, 10), np.int64)
    facts[:, NEXT_FREE] = np.arange(1, slots + 1)
    counts = np.zeros(7, np.int64)
    counts[FREE_COUNT], counts[FREE_NODES] = slots, nodes
    counts[ENDS] = round((len(first_stage) - 1) ** 0.5)
    return Network(
        model=model,
        model_states=states,
        first_stage=first_stage,
        stages=stages,
        traffic_bytes=np.zeros(columns, np.int64),
        facts=facts,
        times=np.zeros((slots, 3)),
        node_block=np.zeros(nodes, np.int64),
        node_next=np.arange(1, nodes + 1),
        counts=counts,
        copier_ns=np.zeros(2),
        copy=np.array(copy, float),
        moved=np.zeros((len(PURPOSES), 2)),
        events=make_heap(4 * slots),
    )


def with_more_room(network: Network, timers: int) -> Network:
    """The same state with twice the places for transfers and blocks, and for their events and so many timers."""
    slots, nodes = len(network.facts), len(network.node_block)
    bigger = make_network(
        network.model,
        network.model_states,
        network.first_stage,
        network.stages,
        network.traffic_bytes.size,
        network.copy,
        2 * slots,
        2 * nodes,
    )
    bigger.facts[:slots], bigger.times[:slots] = network.facts, network.times
    bigger.node_block[:nodes], bigger.node_next[:nodes] = network.node_block, network.node_next
    bigger.facts[-1, NEXT_FREE] = network.counts[FREE]
    bigger.node_next[-1] = network.counts[FREE_NODE]
    bigger.counts[:] = network.counts
    bigger.counts[FREE], bigger.counts[FREE_NODE] = slots, nodes
    bigger.counts[FREE_COUNT] += slots
    bigger.counts[FREE_NODES] += nodes
    events = make_heap(max(network.events.time_ns.size, 4 * slots) + timers + 2 * slots)
    for before, after in zip(network.events, events, strict=True):
        after[: before.size] = before
    return bigger._replace(
        traffic_bytes=network.traffic_bytes, copier_ns=network.copier_ns, moved=network.moved, events=events
    )


@inlined
def open_transfer(network, kind, call, route_from, route_to, drains, now_ns):
    """Take a place for a transfer without blocks as yet."""
    facts, times, counts = network.facts, network.times, network.counts
    slot = known_natural(counts[FREE])
    counts[FREE] = facts[slot, NEXT_FREE]
    counts[FREE_COUNT] -= 1
    route = route_from * counts[ENDS] + route_to
    facts[slot, KIND], facts[slot, CALL], facts[slot, FIRST_NODE], facts[slot, BLOCKS] = kind, call, NOBODY, 0
    facts[slot, STAGE], facts[slot, LAST_STAGE] = network.first_stage[route], network.first_stage[route + 1]
    facts[slot, SOURCE], facts[slot, TARGET], facts[slot, DRAINS] = route_from, route_to, drains
    times[slot, BEGUN_NS] = now_ns
    return slot


@inlined
def add_block(network, slot, block):
    """One more block of a transfer; what is listed last is first."""
    node = known_natural(network.counts[FREE_NODE])
    network.counts[FREE_NODE] = network.node_next[node]
    network.counts[FREE_NODES] -= 1
    network.node_block[node] = block
    network.node_next[node] = network.facts[slot, FIRST_NODE]
    network.facts[slot, FIRST_NODE] = node
    network.facts[slot, BLOCKS] += 1


@subroutine
def start(network, slot, blocks, now_ns):
    """Let a transfer of so many blocks begin."""
    facts, times, counts = network.facts, network.times, network.counts
    facts[slot, BLOCKS] = blocks
    copies = _copies(network, blocks)
    way = 0 if facts[slot, TARGET] < facts[slot, SOURCE] else 1
    begin_ns = max(now_ns, network.copier_ns[way])
    network.copier_ns[way] = begin_ns + copies * network.copy[COPY_NS]
    times[slot, HEAD_NS] = begin_ns + network.copy[COPY_NS]
    times[slot, TAIL_NS] = network.copier_ns[way]
    counts[STARTED] += 1
    counts[DRAINING] += facts[slot, DRAINS]
    push(network.events, times[slot, HEAD_NS], slot)


@inlined
def _copies(network, blocks):
    each = np.int64(network.copy[COPY_BLOCKS])
    return (blocks + each - 1) // each if each > 0 else np.int64(1)


@subroutine
def pass_stage(network, slot):
    """Let a transfer pass the server that it has reached; whether it had passed all and is complete."""
    facts, times = network.facts, network.times
    stage = known_natural(facts[slot, STAGE])
    if stage == facts[slot, LAST_STAGE]:
        return True
    stages, head_ns, tail_ns = network.stages, times[slot, HEAD_NS], times[slot, TAIL_NS]
    blocks = facts[slot, BLOCKS]
    size_bytes = np.int64(blocks * network.copy[BLOCK_BYTES])
    pieces = _copies(network, blocks) if stages[stage, PART] == DEVICE_PART else np.int64(1)
    first_ns, end_ns, latency_ns = np.inf, 0.0, 0.0
    left = size_bytes
    for piece in range(pieces):
        piece_bytes = left // (pieces - piece)
        left -= piece_bytes
        _, begun_ns, done_ns, latency_ns = network.model.serve(
            network.model_states,
            stages[stage, SERVER],
            stages[stage, ROW_OF_MODEL],
            head_ns,
            piece_bytes,
            stages[stage, IS_WRITE] == 1,
        )
        first_ns, end_ns = min(first_ns, begun_ns), max(end_ns, done_ns)
    network.traffic_bytes[stages[stage, COLUMN]] += size_bytes
    times[slot, HEAD_NS], times[slot, TAIL_NS] = first_ns, max(end_ns, tail_ns + latency_ns)
    facts[slot, STAGE] = stage + 1
    reached_ns = first_ns if stage + 1 < facts[slot, LAST_STAGE] else times[slot, TAIL_NS]
    push(network.events, reached_ns, slot)
    return False


@inlined
def close(network, slot, now_ns):
    """Give back the place of a transfer that is complete, and those of its blocks."""
    facts, counts = network.facts, network.counts
    kind = known_natural(facts[slot, KIND])
    network.moved[kind, 0] += facts[slot, BLOCKS]
    network.moved[kind, 1] += now_ns - network.times[slot, BEGUN_NS]
    node = facts[slot, FIRST_NODE]
    while node >= 0:
        following = network.node_next[node]
        network.node_next[node] = counts[FREE_NODE]
        counts[FREE_NODE] = node
        counts[FREE_NODES] += 1
        node = following
    counts[DRAINING] -= facts[slot, DRAINS]
    facts[slot, NEXT_FREE] = counts[FREE]
    counts[FREE] = slot
    counts[FREE_COUNT] += 1
    counts[STARTED] -= 1


@inlined
def timer(kind, call):
    """What stands in the heap for a timer of a call."""
    return -1 - (call << TIMER_BITS | kind)


@inlined
def timer_kind(event):
    return (-1 - event) & (1 << TIMER_BITS) - 1


@inlined
def timer_call(event):
    return (-1 - event) >> TIMER_BITS
