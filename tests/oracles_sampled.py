"""Slow and obvious forms of the eviction policies that draw at random or learn, in the manner of `tests.oracles`."""

from __future__ import annotations

import math

import numpy as np

from sim.kernels import boosted_trees
from sim.policy import NEVER
from tests.oracles import Oracle, Random


class Sampled(Oracle):
    """Base of what draws candidates from a list without gaps, with replacement, and draws from SplitMix64."""

    uniform = Random.uniform

    def forget(self, block):
        Random.forget(self, block)

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


class Lhd(Sampled):
    """Counts by (class, age) in dictionaries of float32, with what a block is in a dictionary of its own."""

    as_library = False

    def begin(self, samples=32, reconfigure_every=1 << 20, max_age=20_000, coarsening_bits=10):
        self.samples, self.every, self.max_age, self.bits = samples, reconfigure_every, max_age, coarsening_bits
        classes = range(16)
        self.counts = {kind: {(c, a): np.float32(0) for c in classes for a in range(max_age)} for kind in "he"}
        self.density = {(c, a): np.float32((17 + c) / (a + 1)) for c in classes for a in range(max_age)}
        self.stamp, self.ages, self.explorers, self.recent = {}, {}, set(), [None] * 8
        self.clock = self.reconfigurations = self.head = 0
        self.victim_rank = self.objects = self.mass = 0.0
        self.budget = int(self.capacity * 0.01) if self.as_library else self.capacity * 0.01

    def age(self, block):
        return min((self.clock - self.stamp[block]) >> self.bits, self.max_age - 1)

    def class_of(self, block):
        """Of the sum of the last two ages at a hit; of a block without two, the sum is too large to tell."""
        total = sum(self.ages[block])
        if total == 0:
            return 15
        return next((n for n in range(15) if total << n >= self.max_age), 15)

    def rank(self, block):
        age = self.age(block)
        if age == self.max_age - 1:
            return float(np.finfo(np.float32).min) if self.as_library else 0.0
        rank = float(self.density[self.class_of(block), age]) / self.size[block]
        if block in self.explorers:
            return rank + 1 if self.as_library else math.inf
        return rank

    def explore(self, block, size):
        drawn = int(self.uniform() * 32) == 0
        if drawn and self.budget > 0 and not (self.as_library and self.reconfigurations >= 50):
            self.explorers.add(block)
            self.budget -= size
        return drawn

    def unexplore(self, block):
        if block in self.explorers:
            self.explorers.remove(block)
            self.budget += self.size[block]

    def hit(self, block, request):
        key = self.class_of(block), self.age(block)
        self.counts["h"][key] += np.float32(1)
        self.unexplore(block)
        self.explore(block, request.size_bytes)
        self.ages[block] = [self.ages[block][1], self.age(block)]
        self.stamp[block], self.size[block] = self.clock, request.size_bytes
        self.advance()

    def insert(self, block, request):
        self.members.append(block)
        self.ages[block], self.stamp[block] = [self.max_age, 0], self.clock
        drawn = self.explore(block, request.size_bytes)
        if not drawn and self.rank(block) < self.victim_rank:
            self.recent[self.head % 8] = block
            self.head += 1
        self.advance()

    def advance(self):
        self.clock += 1
        if self.clock % self.every == 0:
            self.reconfigure()

    def reconfigure(self):
        for counted in self.counts.values():
            for key, value in counted.items():
                counted[key] = np.float32(float(value) * 0.9)
        self.coarsen()
        for c in range(16):
            self.model(c)
        self.reconfigurations += 1

    def coarsen(self):
        self.objects, self.mass = self.objects * 0.9 + len(self.members), self.mass * 0.9 + 1
        if self.reconfigurations not in (5, 25):
            return
        wanted = self.objects / self.mass / (0.01 * self.max_age)
        bits = next(n for n in range(1, 64) if 1 << n >= wanted)
        more, self.bits = bits - self.bits, bits
        self.objects, self.mass = self.objects * 8, self.mass * 8
        for counted in self.counts.values():
            for c in range(16):
                self.rescale(counted, c, more)

    def rescale(self, counted, c, more):
        old, last = [float(counted[c, a]) for a in range(self.max_age)], self.max_age - 1
        if more > 0:
            kept = self.max_age >> more
            new = [sum(old[a << more : (a + 1) << more]) for a in range(kept)]
            new += [0.0] * (last - kept) + [old[last]]
            if kept > last:
                new = new[: last + 1]
        elif more < 0:
            share, first = 1 << -more, self.max_age >> -more
            tail = old[last]
            for value in old[first:last]:
                tail += value
            new = [old[a >> -more] / share for a in range(last)] + [tail]
        else:
            return
        for a, value in enumerate(new):
            counted[c, a] = np.float32(value)

    def model(self, c):
        hits = events = lifetime = 0.0
        for age in range(self.max_age - 1, -1, -1):
            hit, eviction = float(self.counts["h"][c, age]), float(self.counts["e"][c, age])
            hits, events = hits + hit, events + (hit + eviction)
            lifetime += events
            if age < self.max_age - 1:
                self.density[c, age] = np.float32(hits / lifetime if events > 1e-5 else 0.0)

    def victim(self, request):
        few = self.as_library and self.reconfigurations <= 50
        candidates = self.drawn(min(8, self.samples) if few else self.samples)
        candidates += [block for block in self.recent if block in self.members]
        block = min(candidates, key=self.rank)
        if self.rank(block) < math.inf:
            self.victim_rank = 0.9 * self.victim_rank + (1 - 0.9) * self.rank(block)
        self.counts["e"][self.class_of(block), self.age(block)] += np.float32(1)
        self.forget(block)
        return block

    def forget(self, block):
        self.unexplore(block)
        super().forget(block)


class LhdLibrary(Lhd):
    as_library = True


class Lrb(Sampled):
    """What is remembered of a block in a dictionary each; the model is the kernels', which have tests of their own."""

    def begin(self, window, samples, batch, trees, leaves, least_rows, bins, deltas, learning_rate=0.1, by_size=False):
        self.window, self.samples, self.batch, self.deltas = window, samples, batch, deltas
        self.least_rows, self.learning_rate, self.by_size = least_rows, learning_rate, by_size
        self.width = deltas + 12
        self.model = boosted_trees.make_trees(trees, leaves)
        self.shop = boosted_trees.make_workshop(batch, self.width, leaves, bins)
        self.queue, self.known, self.past, self.counters, self.last = [], [], {}, {}, {}
        self.waiting, self.labelled, self.clock, self.evicted = [], [], 0, False

    def features(self, block, now):
        """Deltas, size, deltas within the window, counters."""
        age, past = now - self.last[block], self.past[block]
        row = [age, *past, *[math.inf] * (self.deltas - 1 - len(past)), self.size[block]]
        row.append(sum(sum(past[: i + 1]) < self.window for i in range(len(past))))
        return row + [float(c) * d for c, d in zip(self.counters[block], self.decays(age), strict=True)]

    def decays(self, age):
        """What is left of each counter after a time; each is the square of the next, slower one."""
        decays = [math.exp2(-age / 2**19)]
        for _ in range(9):
            decays.insert(0, decays[0] * decays[0])
        return decays

    def label(self, block, distance=None):
        """The latest samples first."""
        for one in reversed([one for one in self.waiting if one[0] == block]):
            self.waiting.remove(one)
            taken = one[1]
            after = self.clock - taken if distance is None else distance
            self.labelled.append((self.features(block, taken), math.log1p(after)))
            if len(self.labelled) == self.batch:
                rows = np.array([row for row, _ in self.labelled], np.float32)
                labels = np.array([label for _, label in self.labelled])
                model, shop, count = self.model, self.shop, self.batch
                boosted_trees.train(model, shop, rows, labels, count, self.least_rows, self.learning_rate)
                self.labelled = []

    def advance(self):
        self.clock += 1
        for old in [b for b in self.known if b not in self.queue and self.last[b] == self.clock - self.window]:
            self.drop(old)

    def access(self, block):
        self.advance()
        if block in self.known:
            self.label(block)
            delta = self.clock - self.last[block]
            self.past[block] = [delta, *self.past[block]][: self.deltas - 1]
            decayed = zip(self.counters[block], self.decays(delta), strict=True)
            self.counters[block] = [np.float32(1 + float(c) * d) for c, d in decayed]
            self.last[block] = self.clock
        if self.evicted and self.known:
            drawn = self.known[int(self.uniform() * len(self.known))]
            if len(self.waiting) < self.window:
                self.waiting.append((drawn, self.clock))

    def drop(self, block):
        self.label(block, 2 * self.window)
        self.known[self.known.index(block)] = self.known[-1]
        self.known.pop()

    def hit(self, block, request):
        self.access(block)
        self.queue.remove(block)
        self.queue.append(block)

    def miss(self, block, request):
        self.access(block)

    def insert(self, block, request):
        if block not in self.known:
            if self.clock in [self.last[one] for one in self.known]:
                self.advance()
            self.known.append(block)
            self.past[block], self.counters[block], self.last[block] = [], [np.float32(0)] * 10, self.clock
        self.members.append(block)
        self.queue.append(block)

    def victim(self, request):
        self.evicted = True
        block = self.queue[0]
        if self.model.grown[0] > 0 and self.clock - self.last[block] < self.window:
            drawn = self.drawn(self.samples)
            rows = np.array([self.features(one, self.clock) for one in drawn], np.float32)
            scores = np.zeros(len(drawn))
            columns, left = np.ascontiguousarray(rows.T), np.zeros(len(drawn), np.uint32)
            boosted_trees.predict(self.model, columns, len(drawn), left, scores)
            if self.by_size:
                scores *= [self.size[one] for one in drawn]
            block = drawn[int(np.argmax(scores))]
        self.forget(block)
        return block

    def forget(self, block):
        super().forget(block)
        self.queue.remove(block)
        if self.clock - self.last[block] >= self.window:
            self.drop(block)


class Cacheus(Sampled):
    """Lists from the oldest to the newest; frequency, and when a block got it, in dictionaries."""

    def begin(self, new_ratio=0.01, ghost_ratio=0.5, learning_rate=0.0):
        self.share = {"q": self.capacity * new_ratio}
        self.share["s"] = self.capacity - self.share["q"]
        self.lists, self.room = {"s": [], "q": []}, int(self.capacity * ghost_ratio)
        self.histories, self.weights = [[], []], [0.5, 0.5]
        self.frequency, self.since, self.known = {}, {}, {}
        self.new, self.demoted = set(), set()
        self.rate = [0.0, learning_rate or self.drawn_rate()]
        self.ratio, self.unlearnt, self.period, self.evicted, self.clock = 0.0, 0, [], False, 0

    def drawn_rate(self):
        return 0.001 + (1 - 0.001) * self.uniform()

    def residents(self):
        return self.lists["s"] + self.lists["q"]

    def learn(self, hit):
        if not self.evicted:
            return
        self.period.append(hit)
        if len(self.period) < len(self.residents()):
            return
        ratio, before = sum(self.period) / len(self.period), self.ratio
        self.ratio, self.period = ratio, []
        change, rate = self.rate[1] - self.rate[0], self.rate[1]
        if change != 0:
            up = (ratio - before) * change > 0
            following = min(max(rate + abs(rate * change) * (1 if up else -1), 0.001), 1.0)
            self.unlearnt = 0
        else:
            following = rate
            self.unlearnt += ratio == 0 or ratio <= before
            if self.unlearnt >= 10:
                self.unlearnt, following = 0, self.drawn_rate()
        self.rate = [rate, following]

    def grow(self, name, other, own, size):
        step = max(1, int(other / max(own, 1) + 0.5)) * size
        self.share[name] = max(min(self.capacity - size, self.share[name] + step), 0.0)
        self.share["q" if name == "s" else "s"] = self.capacity - self.share[name]

    def count(self, block, frequency):
        self.clock += 1
        self.frequency[block], self.since[block] = frequency, self.clock

    def new_ghosts(self):
        return sum(block in self.new for block in self.histories[0])

    def demote(self):
        block = self.lists["s"].pop(0)
        self.lists["q"].append(block)
        self.demoted.add(block)

    def hit(self, block, request):
        self.learn(True)
        self.count(block, self.frequency[block] + 1)
        if block in self.lists["s"]:
            self.lists["s"].remove(block)
        else:
            if block in self.demoted:
                self.grow("s", self.new_ghosts(), len(self.demoted), self.size[block])
                self.demoted.remove(block)
            self.lists["q"].remove(block)
            while self.lists["s"] and self.bytes_of(self.lists["s"]) + self.size[block] > self.share["s"]:
                self.demote()
        self.lists["s"].append(block)

    def miss(self, block, request):
        self.learn(False)
        self.known.pop(block, None)
        for expert, history in enumerate(self.histories):
            if block not in history:
                continue
            history.remove(block)
            self.known[block] = self.frequency[block]
            if expert == 0 and block in self.new:
                self.grow("q", len(self.demoted), self.new_ghosts(), self.size[block])
            mine = self.weights[expert] * math.exp(-self.rate[1])
            mine = min(max(mine / (mine + self.weights[1 - expert]), 1 - 0.99), 0.99)
            self.weights[expert], self.weights[1 - expert] = mine, 1 - mine

    def insert(self, block, request):
        s, q = self.lists["s"], self.lists["q"]
        self.new.discard(block)
        if block in self.known:
            s.append(block)
            self.count(block, self.known.pop(block) + 1)
        else:
            self.count(block, 1)
            if not self.evicted and not q and self.bytes_of(s) < self.share["s"]:
                s.append(block)
                return
            q_was_short = self.bytes_of(q) < self.share["q"]
            q.append(block)
            if not self.evicted and q_was_short:
                return
            self.new.add(block)
        while s and self.bytes_of(s) >= self.share["s"]:
            self.demote()

    def victim(self, request):
        self.evicted = True
        recent = (self.lists["q"] or self.lists["s"])[0]
        rare = min(self.residents(), key=lambda block: (self.frequency[block], -self.since[block]))
        if recent == rare:
            self.forget(recent)
            return recent
        expert = 0 if self.uniform() < self.weights[0] else 1
        block, history = (recent, rare)[expert], self.histories[expert]
        self.forget(block)
        history.append(block)
        while self.bytes_of(history) > self.room:
            history.pop(0)
        return block

    def forget(self, block):
        self.lists["s" if block in self.lists["s"] else "q"].remove(block)
        self.demoted.discard(block)
