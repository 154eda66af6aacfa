"""The rules of residency against a slow, obvious model of them, on random traces, tiers and policies."""

from collections import OrderedDict, deque
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from sim import registry
from sim.engines import residency as rs
from sim.engines.flags import dirty_in, held_in
from sim.hierarchy import contents
from sim.kernels.compile import kernel
from sim.kernels.linked_list import oldest, unlink
from sim.policy import NO_BLOCK, OffloadPolicy, Stacked, make_request
from tests.machines import plan, trace

pytestmark = pytest.mark.uncompiled

MODES = ("write_through", "write_through_selective", "write_back", "exclusive")
THROUGH, SELECTIVE, BACK, EXCLUSIVE = range(4)


class AnyState(NamedTuple):
    mode: np.ndarray
    touches: np.ndarray


def init(context):
    return AnyState(np.zeros(1, np.int64), np.zeros(context.blocks, np.int64))


def on_access(state, request):
    state.touches[request.block] += 1


def copy_on_insert(state, request):
    hot = state.mode[0] == SELECTIVE and state.touches[request.block] >= 2
    return state.mode[0] == THROUGH or hot


def copy_on_hit(state, request):
    return state.mode[0] == SELECTIVE and state.touches[request.block] >= 2


def copy_on_evict(state, block):
    return state.mode[0] >= BACK


def keep_on_promote(state, block):
    return state.mode[0] != EXCLUSIVE


ANY = OffloadPolicy(
    name="any",
    init=init,
    on_access=on_access,
    copy_on_insert=copy_on_insert,
    copy_on_hit=copy_on_hit,
    copy_on_evict=copy_on_evict,
    keep_on_promote=keep_on_promote,
)


def admit(state, request):
    return request.block % 5 != 4


def evict(state, request):
    """The least recently used, unless that and the block that asks are at odds."""
    victim = np.int64(oldest(state.links, state.queue))
    if request.block == NO_BLOCK or (victim + request.block) % 3 == 0:
        return np.int64(request.block)
    unlink(state.links, victim)
    return victim


LRU = registry.load(registry.EVICTION, "lru")
REFUSING = replace(LRU, name="refusing", admit=admit, evict=evict)


@kernel
def shrink(plug, res, level, to_bytes):
    rs.access(plug, res, make_request(0, NO_BLOCK, NO_BLOCK, 0), rs.DAEMON, level, to_bytes)


@kernel
def walk(plug, res, blocks, writes, served):
    for row in range(len(blocks)):
        block = np.int64(blocks[row])
        request = make_request(row, block, block, res.size_of[block], 0.0, writes[row])
        served[row] = rs.access(plug, res, request, rs.DEMAND, 0, 0)
        rs.forget_moves(res.state)


class Model:
    """LRU tiers over a last level that holds everything; `refusing`: their policy is that above."""

    def __init__(self, capacities, modes, inclusive, sizes, refusing=False):
        self.capacities, self.sizes, self.inclusive, self.refusing = capacities, sizes, inclusive, refusing
        self.modes = [None, *modes]
        self.tiers = [OrderedDict() for _ in capacities]  # block -> dirty
        self.touches = dict.fromkeys(range(len(sizes)), 0)
        self.victims = deque()
        self.last = len(capacities)

    def used(self, level):
        return sum(self.sizes[block] for block in self.tiers[level])

    def first_holder(self, block):
        return next((level for level, tier in enumerate(self.tiers) if block in tier), self.last)

    def place(self, level, block):
        size = self.sizes[block]
        if size > self.capacities[level] or (self.refusing and block % 5 == 4):
            return False
        while self.used(level) + size > self.capacities[level]:
            if self.refusing and (next(iter(self.tiers[level])) + block) % 3 == 0:
                return False
            victim, dirty = self.tiers[level].popitem(last=False)
            self.victims.append((level, victim, dirty))
        self.tiers[level][block] = False
        return True

    def settle(self):
        while self.victims:
            level, block, dirty = self.victims.popleft()
            if self.inclusive[level]:
                for above in range(level):
                    dirty |= self.tiers[above].pop(block, False)
            for below in range(level + 1, self.last):
                demoting = self.modes[below] in ("write_back", "exclusive")
                if block in self.tiers[below]:
                    if demoting:
                        self.tiers[below].move_to_end(block)
                    self.tiers[below][block] |= dirty
                    break
                if demoting and self.place(below, block):
                    self.tiers[below][block] = dirty
                    break
                if not dirty:
                    break

    def wants(self, level, block, hit, was_refused):
        mode = self.modes[level]
        hot = mode == "write_through_selective" and self.touches[block] >= 2
        through = mode == "write_through" and not hit
        return hot or through or (was_refused and mode in ("write_back", "exclusive"))

    def access(self, block, write):
        self.touches[block] += 1
        held = {level for level, tier in enumerate(self.tiers) if block in tier}
        served = self.first_holder(block)
        in_top = True
        if served == 0:
            self.tiers[0].move_to_end(block)
        else:
            in_top = self.place(0, block)
            if in_top and served < self.last and self.modes[served] == "exclusive":
                self.tiers[0][block] |= self.tiers[served].pop(block)
            self.settle()
        wanted = set()
        for level in range(1, self.last):
            if not in_top and level > 1 and block in self.tiers[level - 1]:
                break
            if self.wants(level, block, served == 0, not in_top):
                wanted.add(level)
                if block not in self.tiers[level] and (not in_top or block in self.tiers[level - 1]):
                    self.place(level, block)
                    self.settle()
        if write and in_top:
            self.tiers[0][block] = True
            for level in range(1, self.last):
                if level not in wanted or block not in self.tiers[level]:
                    break
                self.tiers[level - 1][block] = False
                self.tiers[level][block] = True
        elif write and self.first_holder(block) < self.last:
            self.tiers[self.first_holder(block)][block] = True
        for level in sorted(held - {0}):
            if block in self.tiers[level]:
                self.tiers[level].move_to_end(block)
        for level in range(1, self.last):
            if self.inclusive[level] and block not in self.tiers[level]:
                dirty = False
                for above in range(level):
                    dirty |= self.tiers[above].pop(block, False)
                if dirty:
                    self.victims.append((level, block, True))
                    self.settle()
        return served


def build(capacities, modes, inclusive, sizes, refusing=False):
    plans = [plan(f"t{i}", c, inclusive=inclusive[i]) for i, c in enumerate(capacities)]
    blocks = trace(np.arange(len(sizes)), np.arange(len(sizes)) * 1.0, sizes)
    plug, res = contents(plans, "last", blocks)
    states = tuple(ANY.make_state(_context(len(sizes))) for _ in range(len(plans) + 1))
    for level, mode in enumerate(modes, start=1):
        states[level].mode[0] = MODES.index(mode)
    states[-1].mode[0] = BACK
    if refusing:
        plug = plug._replace(eviction=Stacked([*[REFUSING] * len(plans), plug.eviction.plugins[-1]]))
    return plug._replace(offload=Stacked([ANY] * (len(plans) + 1)), offload_states=states), res


def _context(blocks):
    from sim.policy import Context

    return Context(capacity=1, blocks=blocks)


@settings(max_examples=60 if config.DISABLE_JIT else 300, deadline=None)
@given(st.data())
def test_against_the_model(data):
    blocks = data.draw(st.integers(2, 12))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=blocks, max_size=blocks))
    capacities = data.draw(st.lists(st.integers(1, 14), min_size=2, max_size=2))
    mode = data.draw(st.sampled_from(MODES))
    inclusive = [False, mode == "write_through" and data.draw(st.booleans())]
    accesses = data.draw(st.lists(st.tuples(st.integers(0, blocks - 1), st.booleans()), min_size=1, max_size=60))
    compare(capacities, [mode], inclusive, sizes, accesses, data.draw(st.booleans()))


def test_a_shrinking_level_keeps_what_its_policy_refuses_to_give_up():
    plug, res = build([4, 4], ["write_back"], [False, False], [1] * 3, refusing=True)
    walk(plug, res, np.arange(3, dtype=np.int32), np.zeros(3, np.bool_), np.zeros(3, np.int64))
    shrink(plug, res, 0, 1)
    assert not res.state[rs.FAULT] and res.levels[0, rs.USED] == 3 and res.counts[0, rs.REFUSED] == 0


@settings(max_examples=60 if config.DISABLE_JIT else 300, deadline=None)
@given(st.data())
def test_three_tiers_against_the_model(data):
    blocks = data.draw(st.integers(2, 14))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=blocks, max_size=blocks))
    capacities = data.draw(st.lists(st.integers(1, 12), min_size=3, max_size=3))
    modes = data.draw(st.lists(st.sampled_from(MODES), min_size=2, max_size=2))
    inclusive = [False, *(mode == "write_through" and data.draw(st.booleans()) for mode in modes)]
    accesses = data.draw(st.lists(st.tuples(st.integers(0, blocks - 1), st.booleans()), min_size=1, max_size=60))
    compare(capacities, modes, inclusive, sizes, accesses)


def compare(capacities, modes, inclusive, sizes, accesses, refusing=False):
    plug, res = build(capacities, modes, inclusive, sizes, refusing)
    model = Model(capacities, modes, inclusive, sizes, refusing)
    blocks = np.array([block for block, _ in accesses], np.int32)
    writes = np.array([write for _, write in accesses])
    served = np.zeros(len(accesses), np.int64)
    walk(plug, res, blocks, writes, served)
    assert not res.state[rs.FAULT]
    assert served.tolist() == [model.access(block, write) for block, write in accesses]
    for level, tier in enumerate(model.tiers):
        assert np.flatnonzero(held_in(res.flags, level)).tolist() == sorted(tier)
        assert np.flatnonzero(dirty_in(res.flags, level)).tolist() == sorted(
            block for block, dirty in tier.items() if dirty
        )
        assert res.levels[level, rs.USED] == model.used(level) <= capacities[level]
    for level in range(1, len(capacities)):
        if inclusive[level]:
            for above in range(level):
                assert set(model.tiers[above]) <= set(model.tiers[level])
