"""LRB, learning relaxed Belady: boosted trees predict when each of some candidates drawn at random will be asked for
again, and the one predicted to be furthest off leaves (Song, Berger, Li and Lloyd, NSDI 2020).

Whatever was accessed within the last `window` accesses to this cache (the memory window, which approximates Belady's
boundary) is remembered, resident or not: the times between its last accesses (deltas), ten exponentially decayed
counters of accesses (EDC, whose values halve every 2^10 ... 2^19 accesses), and its size. From the first eviction on,
at each access one remembered block is drawn and its features as of then are a sample. The sample's label is the
logarithm of the time until the block is accessed next, or of twice the window if the block is not accessed within it.
`batch` labelled samples train a new model. Until there is one, and while the least recently used block is older than
the window, that block leaves.

window: accesses; best some times as long as a block stays in the cache. samples: candidates for each eviction (64,
drawn with replacement). batch: labelled samples for each training (131,072); lower it for short traces. trees, leaves,
learning_rate, least_rows, bins: of the model, which is a mean over `least_rows` samples at least in each leaf. deltas:
how many deltas are features, the time since the last access included (32). by_size: multiply the prediction by the
block's size, against missed objects rather than missed bytes.

Samples not labelled yet are as many as the window at most; further ones are not taken. Its authors' program, which
libCacheSim contains, trains LightGBM on shares of samples and features drawn at random; here all are used. It rounds
the age of a counter down to whole half-lives, and has 0 for a delta that there is not, where this has infinity.
"""

from __future__ import annotations

from math import exp2, log1p
from typing import NamedTuple

import numpy as np

from sim.kernels.boosted_trees import MOST_LEAVES, Trees, Workshop, make_trees, make_workshop, predict, train
from sim.kernels.compile import inlined, subroutine
from sim.kernels.linked_list import make_lists, oldest, push_newest, unlink
from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import below, make_rng
from sim.policy import EvictionPolicy

COUNTERS = 10
SLOWEST_HALF_LIFE = 1 << 19  # of the last counter; each one before has half of it
LABELLED, CLOCK, EVICTED, FREE = range(4)  # of numbers
LAST, SIZE = 0, 1  # columns of facts
NOBODY = -1


class State(NamedTuple):
    facts: np.ndarray  # int64[blocks, 2]: when a remembered block was accessed last, NOBODY of others; its size
    past: np.ndarray  # uint32[blocks, deltas - 1]: times between accesses, the latest first
    pasts: np.ndarray  # uint8[blocks]: how many of these there are
    counters: np.ndarray  # float32[blocks, COUNTERS] as of the last access
    links: np.ndarray  # the resident blocks by recency
    rows: np.ndarray  # uint32[blocks, 1]: the resident blocks, without gaps
    slot: np.ndarray
    count: np.ndarray
    known_rows: np.ndarray  # uint32[blocks, 1]: the remembered blocks, without gaps
    known_slot: np.ndarray
    known_count: np.ndarray
    accessed: np.ndarray  # int32[window]: the block accessed at each moment of the window, a ring
    waiting: np.ndarray  # int32[blocks]: last sample of each block that is not labelled yet, NOBODY where there is none
    sample_time: np.ndarray  # int64[window]: of samples not labelled yet
    sample_next: np.ndarray  # int32[window]: an older sample of the same block; of a free place the next free one
    features: np.ndarray  # float32[batch, features] of labelled samples
    labels: np.ndarray  # float64[batch]
    candidates: np.ndarray  # float32[features, samples]
    left: np.ndarray  # uint32[samples]: room for predicting
    candidate_blocks: np.ndarray  # int64[samples]
    predictions: np.ndarray  # float64[samples]
    numbers: np.ndarray  # int64[4]: labelled samples, accesses so far, 1 after the first eviction, first free place
    model: Trees
    shop: Workshop
    rng: np.ndarray
    queue: int
    window: int
    least_rows: int
    learning_rate: float
    by_size: bool


def init(
    context,
    *,
    window=1 << 20,
    samples=64,
    batch=131_072,
    trees=32,
    leaves=32,
    learning_rate=0.1,
    least_rows=20,
    bins=255,
    deltas=32,
    by_size=False,
):
    _check("window", window, 1, 1 << 31)
    _check("samples", samples, 1, 1 << 16)
    _check("batch", batch, 2, 1 << 24)
    _check("trees", trees, 1, 10_000)
    _check("leaves", leaves, 2, MOST_LEAVES)
    _check("least_rows", least_rows, 1, 1 << 24)
    _check("bins", bins, 2, 256)
    _check("deltas", deltas, 1, 255)
    if not 0 < learning_rate <= 1:
        raise ValueError(f"learning_rate is {learning_rate}; expected above 0 and at most 1")
    blocks, features = context.blocks, deltas + 2 + COUNTERS
    rows, slot, count = make_pool(blocks)
    known_rows, known_slot, known_count = make_pool(blocks)
    facts = np.zeros((blocks, 2), np.int64)
    facts[:, LAST] = NOBODY
    sample_next = np.arange(1, window + 1, dtype=np.int32)
    sample_next[-1] = NOBODY
    return State(
        facts=facts,
        past=np.zeros((blocks, deltas - 1), np.uint32),
        pasts=np.zeros(blocks, np.uint8),
        counters=np.zeros((blocks, COUNTERS), np.float32),
        links=make_lists(blocks),
        rows=rows,
        slot=slot,
        count=count,
        known_rows=known_rows,
        known_slot=known_slot,
        known_count=known_count,
        accessed=np.full(window, NOBODY, np.int32),
        waiting=np.full(blocks, NOBODY, np.int32),
        sample_time=np.zeros(window, np.int64),
        sample_next=sample_next,
        features=np.zeros((batch, features), np.float32),
        labels=np.zeros(batch, np.float64),
        candidates=np.zeros((features, samples), np.float32),
        left=np.zeros(samples, np.uint32),
        candidate_blocks=np.zeros(samples, np.int64),
        predictions=np.zeros(samples, np.float64),
        numbers=np.zeros(4, np.int64),
        model=make_trees(trees, leaves),
        shop=make_workshop(batch, features, leaves, bins),
        rng=make_rng(context.seed),
        queue=blocks,
        window=window,
        least_rows=least_rows,
        learning_rate=learning_rate,
        by_size=by_size,
    )


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; expected {least} to {most}")


# ------------------------------------------------------------------------------------------------------------- features


@subroutine
def _describe(row, facts, past, pasts, counters, window, block, now):
    """Write the features of a remembered block at time `now`, not before its last access."""
    age = now - facts[block, LAST]
    deltas, known = past.shape[1] + 1, np.int64(pasts[block])
    row[0] = age
    span, within = np.int64(0), 0
    for i in range(known):
        delta = np.int64(past[block, i])
        row[1 + i] = delta
        span += delta
        within += span < window
    for i in range(known, deltas - 1):
        row[1 + i] = np.inf
    row[deltas] = facts[block, SIZE]
    row[deltas + 1] = within
    decay = exp2(-np.float64(age) / SLOWEST_HALF_LIFE)
    for k in range(COUNTERS - 1, -1, -1):
        row[deltas + 2 + k] = np.float64(counters[block, k]) * decay
        decay *= decay


@subroutine
def _update(facts, past, pasts, counters, block, now):
    """A remembered block is accessed."""
    delta = now - facts[block, LAST]
    known = np.int64(pasts[block])
    if known < past.shape[1]:
        known += 1
        pasts[block] = known
    for i in range(known - 1, 0, -1):
        past[block, i] = past[block, i - 1]
    if known > 0:
        past[block, 0] = min(delta, 0xFFFFFFFF)
    decay = exp2(-np.float64(delta) / SLOWEST_HALF_LIFE)
    for k in range(COUNTERS - 1, -1, -1):
        counters[block, k] = 1.0 + np.float64(counters[block, k]) * decay
        decay *= decay
    facts[block, LAST] = now


# ------------------------------------------------------------------------------------------------------------- learning


@subroutine
def _label(state, block, distance):
    """All waiting samples of a block get their label: `distance`, or where that is negative the time passed since."""
    numbers, at = state.numbers, np.int64(state.waiting[block])
    state.waiting[block] = NOBODY
    while at >= 0:
        taken = state.sample_time[at]
        row = numbers[LABELLED]
        _describe(state.features[row], state.facts, state.past, state.pasts, state.counters, state.window, block, taken)
        state.labels[row] = log1p(np.float64(distance if distance >= 0 else numbers[CLOCK] - taken))
        numbers[LABELLED] = row + 1
        if row + 1 == state.labels.size:
            train(
                state.model,
                state.shop,
                state.features,
                state.labels,
                row + 1,
                state.least_rows,
                state.learning_rate,
            )
            numbers[LABELLED] = 0
        following = np.int64(state.sample_next[at])
        state.sample_next[at] = numbers[FREE]
        numbers[FREE] = at
        at = following


@inlined
def _sample(state):
    """Draw one of the remembered blocks; its features as of now wait for a label."""
    numbers = state.numbers
    at = numbers[FREE]
    if numbers[EVICTED] == 0 or state.known_count[0] == 0:
        return
    block = np.int64(state.known_rows[below(state.rng, state.known_count[0]), 0])
    if at < 0:
        return
    numbers[FREE] = state.sample_next[at]
    state.sample_time[at] = numbers[CLOCK]
    state.sample_next[at] = state.waiting[block]
    state.waiting[block] = at


# -------------------------------------------------------------------------------------------------- what is remembered


@inlined
def _remember(state, block, now):
    state.facts[block, LAST] = now
    state.pasts[block] = 0
    for k in range(COUNTERS):
        state.counters[block, k] = 0.0
    add_row(state.known_rows, state.known_slot, state.known_count, block)
    state.accessed[now % state.window] = block


@inlined
def _forget(state, block):
    """A block was not accessed within the window."""
    _label(state, block, 2 * state.window)
    state.facts[block, LAST] = NOBODY
    take_row(state.known_rows, state.known_slot, state.known_count, np.int64(state.known_slot[block]))


@inlined
def _is_resident(state, block):
    at = np.int64(state.slot[block])
    return at < state.count[0] and state.rows[at, 0] == block


@inlined
def _advance(state):
    """The time advances by one access; a block that is not resident is forgotten where it falls out of the window."""
    state.numbers[CLOCK] += 1
    now = state.numbers[CLOCK]
    old = np.int64(state.accessed[now % state.window])
    state.accessed[now % state.window] = NOBODY
    if old >= 0 and state.facts[old, LAST] == now - state.window and not _is_resident(state, old):
        _forget(state, old)


@subroutine
def _access(state, block):
    """One access, of `block`: label what waits for it, and sample."""
    _advance(state)
    now = state.numbers[CLOCK]
    if state.facts[block, LAST] >= 0:
        _label(state, block, np.int64(-1))
        _update(state.facts, state.past, state.pasts, state.counters, block, now)
        state.accessed[now % state.window] = block
    _sample(state)


@subroutine
def _leave(state, block):
    """A resident block leaves, and stays remembered unless it is older than the window."""
    unlink(state.links, block)
    take_row(state.rows, state.slot, state.count, np.int64(state.slot[block]))
    if state.numbers[CLOCK] - state.facts[block, LAST] >= state.window:
        _forget(state, block)


# ---------------------------------------------------------------------------------------------------------------- hooks


@inlined
def on_hit(state, request):
    _access(state, request.block)
    unlink(state.links, request.block)
    push_newest(state.links, state.queue, request.block)


@inlined
def on_miss(state, request):
    _access(state, request.block)


@inlined
def on_insert(state, request):
    block = request.block
    state.facts[block, SIZE] = request.size_bytes
    if state.facts[block, LAST] < 0:
        if state.accessed[state.numbers[CLOCK] % state.window] >= 0:  # inserted without an access, as by a prefetch
            _advance(state)
        _remember(state, block, state.numbers[CLOCK])
    add_row(state.rows, state.slot, state.count, block)
    push_newest(state.links, state.queue, block)


@subroutine
def _choose(state):
    """The candidate whose next access is predicted to be furthest off, the first drawn of equals."""
    now, samples = state.numbers[CLOCK], state.predictions.size
    for i in range(samples):
        block = np.int64(state.rows[below(state.rng, state.count[0]), 0])
        state.candidate_blocks[i] = block
        _describe(
            state.candidates[:, i], state.facts, state.past, state.pasts, state.counters, state.window, block, now
        )
    predict(state.model, state.candidates, samples, state.left, state.predictions)
    best, most = 0, -np.inf
    for i in range(samples):
        score = state.predictions[i]
        if state.by_size:
            score *= np.float64(state.facts[state.candidate_blocks[i], SIZE])
        if score > most:
            best, most = i, score
    return state.candidate_blocks[best]


@inlined
def evict(state, request):
    state.numbers[EVICTED] = 1
    victim = np.int64(oldest(state.links, state.queue))
    age = state.numbers[CLOCK] - state.facts[victim, LAST]
    if state.model.grown[0] > 0 and age < state.window:
        victim = _choose(state)
    _leave(state, victim)
    return victim


@inlined
def remove(state, block):
    _leave(state, block)


POLICY = EvictionPolicy(
    name="lrb", init=init, on_hit=on_hit, on_miss=on_miss, on_insert=on_insert, evict=evict, remove=remove
)
