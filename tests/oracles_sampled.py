"""Slow and obvious forms of the eviction policies that draw at random or learn, in the manner of `tests.oracles`."""

from __future__ import annotations

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
