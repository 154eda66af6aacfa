"""Slow and obvious forms of the eviction policies that draw at random or learn, in the manner of `tests.oracles`."""

from __future__ import annotations

import math

from sim.policy import NEVER
from tests.oracles import Oracle, Random


class Sampled(Oracle):
    """Base of what draws candidates from a list without gaps, with replacement, and draws from SplitMix64."""

    uniform = Random.uniform
    forget = Random.forget

    def start(self, seed=0, **parameters):
        self.members, self.rng = [], seed
        self.begin(**parameters)

    def begin(self):
        pass

    def drawn(self, samples):
        return [self.members[int(self.uniform() * len(self.members))] for _ in range(samples)]


class Hyperbolic(Sampled):
    def begin(self, samples=64, by_size=False, by_cost=False):
        self.samples, self.by_size, self.by_cost = samples, by_size, by_cost
        self.accesses, self.entered, self.weight = {}, {}, {}

    def hit(self, block, request):
        self.accesses[block] += 1

    def insert(self, block, request):
        self.members.append(block)
        self.accesses[block], self.entered[block] = 1, request.index
        self.weight[block] = request.cost if self.by_cost else 1.0
        if self.by_size:
            self.weight[block] /= request.size_bytes

    def victim(self, request):
        def priority(block):
            return self.accesses[block] / max(request.index - self.entered[block], 1) * self.weight[block]

        block = min(self.drawn(self.samples), key=priority)
        self.forget(block)
        return block


class BeladySize(Sampled):
    """Blocks not accessed again are kept on a pile, where the gap of a removed one is filled by the latest."""

    def begin(self, samples=128):
        self.samples, self.upcoming, self.dead = samples, {}, []

    def insert(self, block, request):
        self.upcoming[block] = request.next_access
        (self.dead if request.next_access == NEVER else self.members).append(block)

    def hit(self, block, request):
        if self.upcoming[block] != NEVER and request.next_access != NEVER:
            self.upcoming[block] = request.next_access
        else:
            self.forget(block)
            self.insert(block, request)

    def forget(self, block):
        pile = self.dead if block in self.dead else self.members
        pile[pile.index(block)] = pile[-1]
        pile.pop()

    def victim(self, request):
        if self.dead:
            return self.dead.pop()

        def product(block):
            return self.size[block] * (self.upcoming[block] - request.index)

        block = max(self.drawn(self.samples), key=product)
        self.forget(block)
        return block


class Lecar(Sampled):
    """The cache as a list by recency, frequencies and the order in which blocks got theirs in dictionaries."""

    as_library = False

    def begin(self, learning_rate=0.45, discount=0.005, lru_weight=0.5, ghost_ratio=0.5):
        self.rate, self.discount, self.weights = learning_rate, discount, [lru_weight, 1 - lru_weight]
        self.room = int(self.capacity * ghost_ratio)
        self.queue, self.histories = [], [[], []]
        self.frequency, self.since, self.evicted, self.known, self.clock = {}, {}, {}, {}, 0

    def count(self, block, frequency):
        self.clock += 1
        self.frequency[block], self.since[block] = frequency, self.clock

    def hit(self, block, request):
        self.queue.remove(block)
        self.queue.append(block)
        self.count(block, self.frequency[block] + 1)

    def miss(self, block, request):
        self.known.pop(block, None)
        for expert, history in enumerate(self.histories):
            if block in history:
                history.remove(block)
                self.known[block] = self.frequency[block]
                self.regret(expert, request.index - self.evicted[block])

    def regret(self, expert, age):
        n = self.capacity if self.as_library else max(len(self.queue), 1)
        mine, other = self.weights[expert], self.weights[1 - expert]
        mine *= math.exp(-self.rate * self.discount ** (age / n))
        if self.as_library:
            mine, other = mine + 1e-10, other + 1e-10
        mine /= mine + other
        if not self.as_library:
            mine = min(max(mine, 1 - 0.99), 0.99)
        self.weights[expert], self.weights[1 - expert] = mine, 1 - mine

    def insert(self, block, request):
        frequency = self.known.pop(block, 0)
        self.queue.append(block)
        self.count(block, 1 if self.as_library else frequency + 1)

    def choices(self):
        """What LRU and LFU would evict."""
        return self.queue[0], min(self.queue, key=lambda block: (self.frequency[block], self.since[block]))

    def victim(self, request):
        choices = self.choices()
        if choices[0] == choices[1]:
            self.queue.remove(choices[0])
            return choices[0]
        drawn = self.uniform()
        if self.as_library:
            drawn = int(drawn * 100) / 100
        expert = 0 if drawn < self.weights[0] else 1
        block, history = choices[expert], self.histories[expert]
        self.queue.remove(block)
        self.evicted[block] = request.index
        history.append(block)
        while self.bytes_of(history) > self.room:
            history.pop(0)
        return block

    def forget(self, block):
        self.queue.remove(block)


class LecarLibrary(Lecar):
    as_library = True
