"""LHD, least hit density: of some blocks drawn at random, the one leaves from which the fewest hits are to be expected
for the space and time that it will take (Beckmann, Chen and Cidon, NSDI 2018).

Blocks fall into 16 classes by the sum of their last two ages at a hit, and into `tenants` by tenant. For each class
and age (accesses to this cache since the block's last one, coarsened) hits and evictions are counted; every
`reconfigure_every` accesses the counts decay by 0.9, and the hit density of each age is the expected number of hits
over the expected time from that age on. A candidate's rank is its hit density over its size. Before the first
reconfiguration densities fall with age as 1 / (age + 1), more slowly in classes of shorter ages. What enters with a
lower rank than recent victims had is a candidate at each of the next evictions, with the last 8 such. One in 32
accessed blocks becomes an explorer, as long as explorers take less than 1 % of the capacity: it is given up last, so
that the policy sees ages that its own evictions would hide.

samples: candidates for each eviction (32, drawn with replacement). reconfigure_every: 2^20; lower it for traces shorter
than some millions of requests. max_age: ages that are told apart (20,000); what is older has no hits to expect.
coarsening_bits: how many low bits of an age are dropped at first; at the 6th and the 26th reconfiguration that becomes
what suits the number of blocks, about 200 / blocks to an age. tenants: 1 puts all in one.

The authors' program, which libCacheSim contains (`as_libcachesim`), draws 8 candidates rather than 32 up to the 51st
reconfiguration and has no explorers after the 50th, to converge sooner on short traces; adds 1 to an explorer's rank,
which favours it more where sizes are large; ranks the oldest age at the least float32, which also enters the average
rank of victims; and has whole bytes for explorers. With it the misses agree within what its own runs differ by.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined, subroutine
from sim.kernels.pool import add_row, make_pool, take_row
from sim.kernels.random import below, following, make_rng, unit_of
from sim.policy import EvictionPolicy

BLOCK, STAMP, SIZE = 0, 1, 2  # columns of rows
AGE_CLASSES = 16
DECAY = 0.9
EXPLORE_ONE_IN = 32
EXPLORER_SHARE = 0.01
RECENT = 8  # doubtful newcomers that are remembered
ABSENT = 0xFFFFFFFF
CHEAP_SAMPLES, CHEAP_UNTIL, EXPLORE_UNTIL = 8, 50, 50  # of the library
OLDEST_RANK = -3.4028234663852886e38  # of the library: the least float32
COARSENED_AT = (5, 25)  # reconfigurations before it
COARSENING_ERROR = 0.01
HITS, EVICTIONS, DENSITY = 0, 1, 2  # first index of ages
CLOCK, NEXT, RECONFIGURATIONS, SHIFT, HEAD = range(5)  # of counts
BUDGET, VICTIM_RANK, OBJECTS, MASS = range(4)  # of averages


class State(NamedTuple):
    rows: np.ndarray  # int64[blocks, 3]: block; time of its last access; size as of then; more packed in
    slot: np.ndarray  # uint32[blocks]: row of each resident block, ABSENT of others
    count: np.ndarray  # int64[1]: how many are resident
    ages: np.ndarray  # float32[3, classes, max_age]: hits, evictions and hit density by class and age
    counts: (
        np.ndarray
    )  # int64[5]: accesses; until the next reconfiguration; reconfigurations; bits dropped; ring's head
    averages: np.ndarray  # float64[4]: bytes left for explorers, average rank of victims, average count of blocks
    recent: np.ndarray  # int64[RECENT]: ring of newcomers whose rank was low, -1 where there is none
    rng: np.ndarray
    samples: int
    reconfigure_every: int
    tenants: int
    as_libcachesim: bool


def init(
    context,
    *,
    samples=32,
    reconfigure_every=1 << 20,
    max_age=20_000,
    coarsening_bits=10,
    tenants=1,
    as_libcachesim=False,
):
    if samples < 1:
        raise ValueError(f"samples is {samples}; expected at least 1")
    if reconfigure_every < 1:
        raise ValueError(f"reconfigure_every is {reconfigure_every}; expected at least 1")
    if not 2 <= max_age <= 1 << 15:
        raise ValueError(f"max_age is {max_age}; expected 2 to 32768")
    if not 0 <= coarsening_bits <= 40:
        raise ValueError(f"coarsening_bits is {coarsening_bits}; expected 0 to 40")
    if not 1 <= tenants <= 1 << 11:
        raise ValueError(f"tenants is {tenants}; expected 1 to 2048")
    rows, slot, count = make_pool(context.blocks, 3, np.int64)
    slot[:] = ABSENT
    ages = np.zeros((3, tenants * AGE_CLASSES, max_age), np.float32)
    # the authors' program numbers the classes of its only application from 16 on
    of_class = np.tile(np.arange(AGE_CLASSES) + AGE_CLASSES + 1, tenants)
    ages[DENSITY] = of_class[:, None] / np.arange(1, max_age + 1)
    budget = context.capacity * EXPLORER_SHARE
    return State(
        rows=rows,
        slot=slot,
        count=count,
        ages=ages,
        counts=np.array([0, reconfigure_every, 0, coarsening_bits, 0], np.int64),
        averages=np.array([int(budget) if as_libcachesim else budget, 0, 0, 0], np.float64),
        recent=np.full(RECENT, -1, np.int64),
        rng=make_rng(context.seed),
        samples=samples,
        reconfigure_every=reconfigure_every,
        tenants=tenants,
        as_libcachesim=as_libcachesim,
    )


# Low 47 bits of a row's second word: time; then 1 bit: explorer; 15: class. Third word: 48 bits of size, 15: last age.


@inlined
def _is_explorer(row):
    return (row[STAMP] >> 47) & 1


@inlined
def _class_of(row):
    return row[STAMP] >> 48


@inlined
def _stamp_of(row):
    return row[STAMP] & ((1 << 47) - 1)


@inlined
def _size_of(row):
    return row[SIZE] & ((1 << 48) - 1)


@inlined
def _last_age(row):
    return row[SIZE] >> 48


@inlined
def _describe(row, stamp, size, explorer, of_class, last_age):
    row[STAMP] = stamp | ((1 << 47) if explorer else 0) | (of_class << 48)
    row[SIZE] = size | (last_age << 48)


@inlined
def _age_class(age, max_age):
    """How often an age can be doubled before it reaches max_age, 15 at most."""
    if age == 0:
        return np.int64(AGE_CLASSES - 1)
    doubled = np.int64(0)
    while age < max_age and doubled < AGE_CLASSES - 1:
        age <<= 1
        doubled += 1
    return doubled


@inlined
def _age(counts, max_age, stamp):
    return min((counts[CLOCK] - stamp) >> counts[SHIFT], max_age - 1)


@subroutine
def _rank(rows, ages, counts, at, as_libcachesim):
    max_age = ages.shape[2]
    row = rows[at]
    age = _age(counts, max_age, _stamp_of(row))
    if age == max_age - 1:
        return OLDEST_RANK if as_libcachesim else 0.0
    rank = np.float64(ages[DENSITY, _class_of(row), age]) / np.float64(max(_size_of(row), 1))
    if _is_explorer(row):
        rank = rank + 1.0 if as_libcachesim else np.inf
    return rank


@subroutine
def _choose(rows, slot, count, ages, counts, recent, rng, samples, as_libcachesim):
    """The row of least rank among those drawn and the doubtful newcomers, the first of equals; and its rank."""
    word, size = rng[0], np.float64(count[0])
    victim, least = np.int64(-1), np.inf
    for _ in range(samples):
        word = following(word)
        at = np.int64(unit_of(word) * size)
        rank = _rank(rows, ages, counts, at, as_libcachesim)
        if rank < least or victim < 0:
            victim, least = at, rank
    rng[0] = word
    for i in range(recent.size):
        if recent[i] < 0 or slot[recent[i]] == ABSENT:
            continue
        at = np.int64(slot[recent[i]])
        rank = _rank(rows, ages, counts, at, as_libcachesim)
        if rank < least:
            victim, least = at, rank
    return victim, least


@subroutine
def _model(ages):
    """Hit density of each age: hits expected from it on, over the time expected from it on."""
    _, classes, max_age = ages.shape
    for c in range(classes):
        hits = np.float64(ages[HITS, c, max_age - 1])
        events = hits + np.float64(ages[EVICTIONS, c, max_age - 1])
        lifetime = events
        for age in range(max_age - 2, -1, -1):
            hits += np.float64(ages[HITS, c, age])
            events += np.float64(ages[HITS, c, age]) + np.float64(ages[EVICTIONS, c, age])
            lifetime += events
            ages[DENSITY, c, age] = hits / lifetime if events > 1e-5 else 0.0


@subroutine
def _compress(counted, bits):
    """Sum the counts of ages that fall together when `bits` more low bits are dropped; the oldest age stays."""
    max_age = counted.size
    kept = max_age >> bits
    for age in range(kept):
        total = 0.0
        for old in range(age << bits, (age + 1) << bits):
            total += np.float64(counted[old])
        counted[age] = total
    for age in range(kept, max_age - 1):
        counted[age] = 0.0


@subroutine
def _stretch(counted, bits):
    """Spread the counts of each age over those that it becomes; what gets too old joins the oldest age."""
    last = counted.size - 1
    total = np.float64(counted[last])
    for age in range(counted.size >> bits, last):
        total += np.float64(counted[age])
    counted[last] = total
    for age in range(last - 1, -1, -1):
        counted[age] = np.float64(counted[age >> bits]) / np.float64(1 << bits)


@subroutine
def _coarsen(ages, counts, averages, blocks):
    """Adapt how many bits of an age are dropped to how many blocks the cache holds on average."""
    averages[OBJECTS] = averages[OBJECTS] * DECAY + blocks
    averages[MASS] = averages[MASS] * DECAY + 1.0
    if counts[RECONFIGURATIONS] not in COARSENED_AT:
        return
    wanted = averages[OBJECTS] / averages[MASS] / (COARSENING_ERROR * ages.shape[2])
    bits = np.int64(1)
    while (1 << bits) < wanted:
        bits += 1
    more = bits - counts[SHIFT]
    counts[SHIFT] = bits
    averages[OBJECTS] *= 8.0
    averages[MASS] *= 8.0
    most = np.int64(15)  # ages have no more bits
    for c in range(ages.shape[1]):
        for kind in (HITS, EVICTIONS):
            if more < 0:
                _stretch(ages[kind, c], min(-more, most))
            elif more > 0:
                _compress(ages[kind, c], min(more, most))


@subroutine
def _reconfigure(ages, counts, averages, blocks):
    for kind in (HITS, EVICTIONS):
        for c in range(ages.shape[1]):
            for age in range(ages.shape[2]):
                ages[kind, c, age] = np.float64(ages[kind, c, age]) * DECAY
    _coarsen(ages, counts, averages, blocks)
    _model(ages)
    counts[RECONFIGURATIONS] += 1


@inlined
def _becomes_explorer(state, drawn, size):
    if not drawn or state.averages[BUDGET] <= 0:
        return False
    if state.as_libcachesim and state.counts[RECONFIGURATIONS] >= EXPLORE_UNTIL:
        return False
    state.averages[BUDGET] -= size
    return True


@inlined
def _end_explorer(state, at):
    if _is_explorer(state.rows[at]):
        state.averages[BUDGET] += _size_of(state.rows[at])


@inlined
def _advance(state):
    counts = state.counts
    counts[CLOCK] += 1
    counts[NEXT] -= 1
    if counts[NEXT] == 0:
        _reconfigure(state.ages, counts, state.averages, state.count[0])
        counts[NEXT] = state.reconfigure_every


@inlined
def on_hit(state, request):
    max_age = state.ages.shape[2]
    at = np.int64(state.slot[request.block])
    row = state.rows[at]
    age, of_class = _age(state.counts, max_age, _stamp_of(row)), _class_of(row)
    state.ages[HITS, of_class, age] += 1
    _end_explorer(state, at)
    drawn = below(state.rng, EXPLORE_ONE_IN) == 0
    explorer = _becomes_explorer(state, drawn, request.size_bytes)
    next_class = (of_class // AGE_CLASSES) * AGE_CLASSES + _age_class(age + _last_age(row), max_age)
    _describe(row, state.counts[CLOCK], request.size_bytes, explorer, next_class, age)
    _advance(state)


@inlined
def on_insert(state, request):
    at = add_row(state.rows, state.slot, state.count, request.block)
    drawn = below(state.rng, EXPLORE_ONE_IN) == 0
    explorer = _becomes_explorer(state, drawn, request.size_bytes)
    of_class = (request.tenant % state.tenants) * AGE_CLASSES  # never hit: ages too long to be told apart
    _describe(state.rows[at], state.counts[CLOCK], request.size_bytes, explorer, of_class, 0)
    rank = _rank(state.rows, state.ages, state.counts, at, state.as_libcachesim)
    if not drawn and rank < state.averages[VICTIM_RANK]:
        state.recent[state.counts[HEAD] % RECENT] = request.block
        state.counts[HEAD] += 1
    _advance(state)


@inlined
def _leave(state, at):
    block = state.rows[at, BLOCK]
    _end_explorer(state, at)
    take_row(state.rows, state.slot, state.count, at)
    state.slot[block] = ABSENT
    return block


@inlined
def evict(state, request):
    cheap = state.as_libcachesim and state.counts[RECONFIGURATIONS] <= CHEAP_UNTIL
    samples = min(CHEAP_SAMPLES, state.samples) if cheap else state.samples
    at, rank = _choose(
        state.rows,
        state.slot,
        state.count,
        state.ages,
        state.counts,
        state.recent,
        state.rng,
        samples,
        state.as_libcachesim,
    )
    if rank < np.inf:  # of an explorer there is none
        state.averages[VICTIM_RANK] = DECAY * state.averages[VICTIM_RANK] + (1 - DECAY) * rank
    row = state.rows[at]
    age = _age(state.counts, state.ages.shape[2], _stamp_of(row))
    state.ages[EVICTIONS, _class_of(row), age] += 1
    return _leave(state, at)


@inlined
def remove(state, block):
    _leave(state, np.int64(state.slot[block]))


POLICY = EvictionPolicy(
    name="lhd", init=init, on_hit=on_hit, on_insert=on_insert, evict=evict, remove=remove, uses=("tenant",)
)
