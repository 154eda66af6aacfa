"""Slow and obvious forms of the eviction policies with queues, heaps and sketches, as those in `tests/oracles.py`."""

from __future__ import annotations

import math

from tests.oracles import Clock, Lru, Oracle, S3Fifo


class Mru(Lru):
    def victim(self, request):
        return self.queue.pop()


class Ghosts:
    """Evicted blocks that are remembered, the one evicted first in front, up to a number of bytes."""

    def __init__(self, oracle, capacity):
        self.oracle, self.capacity, self.blocks = oracle, capacity, []

    def remember(self, block):
        if self.oracle.size[block] > self.capacity:
            return
        while self.oracle.bytes_of([*self.blocks, block]) > self.capacity:
            self.blocks.pop(0)
        self.blocks.append(block)

    def recall(self, block):
        known = block in self.blocks
        if known:
            self.blocks.remove(block)
        return known


class TwoQ(Oracle):
    def start(self, in_ratio=0.25, out_ratio=0.5):
        self.a1in, self.am, self.limit = [], [], int(self.capacity * in_ratio)
        self.a1out, self.recalled = Ghosts(self, int(self.capacity * out_ratio)), None

    def hit(self, block, request):
        if block in self.am:
            self.am.remove(block)
            self.am.append(block)

    def miss(self, block, request):
        self.recalled = block if self.a1out.recall(block) else None

    def insert(self, block, request):
        (self.am if block == self.recalled else self.a1in).append(block)

    def victim(self, request):
        if self.am and self.bytes_of(self.a1in) <= self.limit:
            return self.am.pop(0)
        block = self.a1in.pop(0)
        self.a1out.remember(block)
        return block

    def forget(self, block):
        (self.a1in if block in self.a1in else self.am).remove(block)


class TwoQLibrary(TwoQ):
    """With a limited Am, of which what leaves during an insertion waits in `late`."""

    def start(self, in_ratio=0.25, out_ratio=0.5):
        super().start(in_ratio, out_ratio)
        self.late = []

    def admit(self, state, request):
        return request.size_bytes <= self.limit

    def insert(self, block, request):
        if block == self.recalled:
            while self.am and self.bytes_of([*self.am, block]) > self.capacity - self.limit:
                self.late.append(self.am.pop(0))
        super().insert(block, request)

    def hit(self, block, request):
        if block not in self.late:
            super().hit(block, request)
            return
        self.late.remove(block)
        self.miss(block, request)
        while self.bytes_of([*self.a1in, *self.am, block]) > self.capacity:
            self.late.append(super().victim(request))
        self.insert(block, request)

    def victim(self, request):
        return self.late.pop(0) if self.late else super().victim(request)

    def forget(self, block):
        if block in self.late:
            self.late.remove(block)
        else:
            super().forget(block)


class Mq(Oracle):
    def start(self, queues=8, lifetime=10_000, history_ratio=4.0):
        self.queues, self.lifetime, self.now = [[] for _ in range(queues)], lifetime, 0
        self.ghosts, self.frequency, self.expiry = Ghosts(self, int(self.capacity * history_ratio)), {}, {}
        self.recalled = None

    def enter(self, block):
        level = min(self.frequency[block].bit_length() - 1, len(self.queues) - 1)
        self.queues[level].append(block)
        self.expiry[block] = self.now + self.lifetime
        self.now += 1
        for level in range(1, len(self.queues)):
            if self.queues[level] and self.expiry[self.queues[level][0]] < self.now:
                sinking = self.queues[level].pop(0)
                self.queues[level - 1].append(sinking)
                self.expiry[sinking] = self.now + self.lifetime

    def hit(self, block, request):
        self.forget(block)
        self.frequency[block] += 1
        self.enter(block)

    def miss(self, block, request):
        self.recalled = block if self.ghosts.recall(block) else None

    def insert(self, block, request):
        self.frequency[block] = self.frequency[block] + 1 if block == self.recalled else 1
        self.enter(block)

    def victim(self, request):
        block = next(queue for queue in self.queues if queue).pop(0)
        self.ghosts.remember(block)
        return block

    def forget(self, block):
        next(queue for queue in self.queues if block in queue).remove(block)


class Car(Oracle):
    def start(self):
        self.t1, self.t2, self.b1, self.b2, self.target, self.referenced = [], [], [], [], 0.0, set()

    def hit(self, block, request):
        self.referenced.add(block)

    def victim(self, request):
        while True:
            used = self.bytes_of(self.t1)
            if self.t1 and (used >= self.target or not self.t2):
                clock, ghosts = self.t1, self.b1
            else:
                clock, ghosts = self.t2, self.b2
            block = clock.pop(0)
            if block not in self.referenced:
                ghosts.append(block)
                return block
            self.referenced.discard(block)
            self.t2.append(block)

    def insert(self, block, request):
        self.referenced.discard(block)
        b1, b2 = self.bytes_of(self.b1), self.bytes_of(self.b2)
        if block in self.b1:
            self.target = min(self.target + max(b2 / b1, 1.0) * self.size[block], self.capacity)
            self.b1.remove(block)
            self.t2.append(block)
        elif block in self.b2:
            self.target = max(self.target - max(b1 / b2, 1.0) * self.size[block], 0.0)
            self.b2.remove(block)
            self.t2.append(block)
        else:
            while self.b1 and self.bytes_of([*self.t1, *self.b1, block]) > self.capacity:
                self.b1.pop(0)
            while self.b2 and self.bytes_of([*self.t1, *self.t2, *self.b1, *self.b2, block]) > 2 * self.capacity:
                self.b2.pop(0)
            self.t1.append(block)

    def forget(self, block):
        (self.t1 if block in self.t1 else self.t2).remove(block)
        self.referenced.discard(block)


class Lfuda(Oracle):
    """With ranks (priority, time of the last access), of which the lowest leaves."""

    def start(self):
        self.rank, self.frequency, self.age, self.clock = {}, {}, 0, 0

    def worth(self, block):
        return self.frequency[block]

    def touch(self, block):
        self.clock += 1
        self.rank[block] = (self.age + self.worth(block), self.clock)

    def hit(self, block, request):
        self.frequency[block] += 1
        self.touch(block)

    def insert(self, block, request):
        self.frequency[block] = 1
        self.touch(block)

    def victim(self, request):
        block = min(self.rank, key=self.rank.get)
        self.age = self.rank.pop(block)[0]
        return block

    def forget(self, block):
        del self.rank[block]


class Gdsf(Lfuda):
    def worth(self, block):
        return self.frequency[block] * 1e6 / self.size[block]


class GdsfLibrary(Gdsf):
    """The missed block takes part in the choice of victims, with the rank that it had when it was missed."""

    def miss(self, block, request):
        self.entry = self.age + 1e6 / request.size_bytes

    def insert(self, block, request):
        super().insert(block, request)
        self.rank[block] = (self.entry, self.clock)

    def victim(self, request):
        self.rank[request.block] = (self.entry, self.clock + 1)
        block = super().victim(request)
        self.rank.pop(request.block, None)
        return block


class Size(Lfuda):
    def touch(self, block):
        self.clock += 1
        self.rank[block] = (-self.size[block], self.clock)


class SizeLibrary(Oracle):
    """With a binary heap as in every textbook, largest block at the root."""

    def start(self):
        self.heap = []

    def swap(self, one, other):
        self.heap[one], self.heap[other] = self.heap[other], self.heap[one]

    def rise(self, at):
        while at > 0 and self.size[self.heap[at]] > self.size[self.heap[(at - 1) // 2]]:
            self.swap(at, (at - 1) // 2)
            at = (at - 1) // 2

    def sink(self, at):
        while True:
            children = [child for child in (2 * at + 1, 2 * at + 2) if child < len(self.heap)]
            child = max(children, key=lambda i: self.size[self.heap[i]], default=at)
            if self.size[self.heap[child]] <= self.size[self.heap[at]]:
                return
            self.swap(at, child)
            at = child

    def insert(self, block, request):
        self.heap.append(block)
        self.rise(len(self.heap) - 1)

    def victim(self, request):
        block = self.heap[0]
        self.forget(block)
        return block

    def forget(self, block):
        at = self.heap.index(block)
        self.swap(at, len(self.heap) - 1)
        self.heap.pop()
        if at < len(self.heap):
            self.rise(at)
            self.sink(at)


class LruK(Oracle):
    """As the paper's pseudo-code: times of the last K accesses that count, and of the last one."""

    def start(self, k=2, correlated_period=0, history_ratio=1.0):
        self.k, self.period, self.now, self.residents = k, correlated_period, 0, set()
        self.times, self.last, self.recalled = {}, {}, None
        self.history = Ghosts(self, int(self.capacity * history_ratio))

    def shift(self, block, added):
        self.times[block] = [self.now] + [t + added if t else 0 for t in self.times[block][:-1]]

    def hit(self, block, request):
        self.now += 1
        if self.now - self.last[block] > self.period:
            self.shift(block, self.last[block] - self.times[block][0])
        self.last[block] = self.now

    def miss(self, block, request):
        self.recalled = block if self.history.recall(block) else None

    def insert(self, block, request):
        self.now += 1
        if block != self.recalled:
            self.times[block] = [0] * self.k
        self.shift(block, 0)
        self.last[block] = self.now
        self.residents.add(block)

    def victim(self, request):
        free = [block for block in self.residents if self.now + 1 - self.last[block] > self.period]
        if free:
            block = min(free, key=lambda b: (self.times[b][-1], self.last[b]))
        else:
            block = min(self.residents, key=self.last.get)
        self.residents.discard(block)
        self.history.remember(block)
        return block

    def forget(self, block):
        self.residents.discard(block)


class Clock2QPlus(S3Fifo):
    """S3-FIFO whose small queue knows how much entered it after each block."""

    def start(self, small_ratio=0.1, ghost_ratio=0.9, promotion_hits=1, window_ratio=0.5):
        super().start(small_ratio, ghost_ratio, promotion_hits)
        self.window, self.entered = self.small_capacity * window_ratio, []

    def hit(self, block, request):
        if block in self.main:
            self.hits[block] = 1
        elif self.later(block) >= self.window:
            self.hits[block] = min(self.hits[block] + 1, 15)

    def later(self, block):
        sizes = []
        for one, size in reversed(self.entered):
            if one == block:
                break
            sizes.append(size)
        return len(sizes) if self.library else sum(sizes)

    def insert(self, block, request):
        super().insert(block, request)
        if block in self.small:
            self.entered.append((block, request.size_bytes))


class Clock2QPlusLibrary(Clock2QPlus):
    library = True


class Qdlp(Oracle):
    def start(self, small_ratio=0.1, ghost_ratio=0.9, bits=2):
        self.small, self.main = [], Clock(self.capacity, bits=bits)
        self.main.size = self.size
        self.main_capacity = self.capacity - int(self.capacity * small_ratio)
        self.ghosts, self.hit_in_small, self.recalled = Ghosts(self, int(self.capacity * ghost_ratio)), set(), None

    def hit(self, block, request):
        if block in self.small:
            self.hit_in_small.add(block)
        else:
            self.main.hit(block, request)

    def miss(self, block, request):
        self.recalled = block if self.ghosts.recall(block) else None

    def insert(self, block, request):
        if block == self.recalled:
            self.main.insert(block, request)
        else:
            self.small.append(block)
            self.hit_in_small.discard(block)

    def victim(self, request):
        coming = request.size_bytes if request.block == self.recalled else 0
        if self.main.queue and self.bytes_of(self.main.queue) + coming > self.main_capacity:
            return self.main.victim(request)
        while self.small:
            block = self.small.pop(0)
            if block not in self.hit_in_small:
                self.ghosts.remember(block)
                return block
            self.main.insert(block, request)
            if self.bytes_of(self.main.queue) + coming > self.main_capacity:
                break
        return self.main.victim(request)

    def forget(self, block):
        if block in self.small:
            self.small.remove(block)
        else:
            self.main.forget(block)


class Lirs(Oracle):
    """The stack from its bottom to its top, the queue from its victim on, and who is LIR."""

    def start(self, hir_ratio=0.01, stack_ratio=2.0):
        self.stack, self.queue, self.lir, self.evicted = [], [], set(), []
        self.lir_capacity = self.capacity - max(int(self.capacity * hir_ratio), 1)
        self.stack_capacity = int(self.capacity * stack_ratio)

    def to_top(self, block):
        if block in self.stack:
            self.stack.remove(block)
        self.stack.append(block)

    def prune(self):
        while self.stack and self.stack[0] not in self.lir:
            block = self.stack.pop(0)
            if block in self.evicted:
                self.evicted.remove(block)

    def make_lir(self, block):
        self.lir.add(block)
        while self.bytes_of(self.lir) > self.lir_capacity:
            self.demote()

    def demote(self):
        block = self.stack.pop(0)
        self.lir.discard(block)
        self.queue.append(block)
        self.prune()

    def limit_stack(self):
        self.prune()
        while self.evicted and self.bytes_of(self.stack) > self.stack_capacity:
            self.stack.remove(self.evicted.pop(0))

    def hit(self, block, request):
        listed = block in self.stack
        self.to_top(block)
        if block not in self.lir:
            self.queue.remove(block)
            if listed:
                self.make_lir(block)
            else:
                self.queue.append(block)
        self.limit_stack()

    def insert(self, block, request):
        returns = block in self.evicted
        if returns:
            self.evicted.remove(block)
        self.to_top(block)
        if returns or self.bytes_of([*self.lir, block]) <= self.lir_capacity:
            self.make_lir(block)
        else:
            self.queue.append(block)
        self.limit_stack()

    def victim(self, request):
        if not self.queue:
            self.demote()
        block = self.queue.pop(0)
        if block in self.stack:
            self.evicted.append(block)
        return block

    def forget(self, block):
        for place in (self.stack, self.queue):
            if block in place:
                place.remove(block)
        self.lir.discard(block)
        self.prune()


class LirsLibrary(Oracle):
    """As above; `phantoms` left while they were hit and count as resident, and `late` are yet to leave."""

    def start(self, hir_ratio=0.01, stack_ratio=2.0):
        self.stack, self.queue, self.lir, self.evicted, self.phantoms, self.late = [], [], set(), [], set(), []
        self.hir_capacity = max(int(self.capacity * hir_ratio), 1)
        self.lir_capacity = self.capacity - self.hir_capacity
        self.stack_capacity = int(self.capacity * stack_ratio)

    def admit(self, state, request):
        return request.size_bytes <= min(self.lir_capacity, self.hir_capacity)

    def fits(self, block, blocks, capacity):
        return not blocks or self.bytes_of([*blocks, block]) <= capacity

    def prune(self):
        while self.stack and self.stack[0] not in self.lir:
            self.leave_stack(self.stack[0])

    def leave_stack(self, block):
        self.stack.remove(block)
        self.phantoms.discard(block)
        if block in self.evicted:
            self.evicted.remove(block)

    def give_up(self):
        block = self.queue.pop(0)
        if block in self.stack:
            self.evicted.append(block)
        self.late.append(block)

    def demote(self):
        block = self.stack.pop(0)
        self.lir.discard(block)
        while not self.fits(block, self.queue, self.hir_capacity):
            self.give_up()
        self.queue.append(block)
        self.prune()

    def make_room(self, block):
        if block in self.evicted or block in self.phantoms:
            self.stack.remove(block)
            self.stack.append(block)
            while not self.fits(block, self.lir, self.lir_capacity):
                self.demote()
        elif not self.fits(block, self.lir, self.lir_capacity):
            while not self.fits(block, self.queue, self.hir_capacity):
                self.give_up()

    def enter(self, block):
        self.make_room(block)
        known = block in self.stack
        if known:
            self.leave_stack(block)
        self.stack.append(block)
        if known or self.fits(block, self.lir, self.lir_capacity):
            self.lir.add(block)
        else:
            self.queue.append(block)
        self.prune()

    def limit_stack(self):
        while self.evicted and self.bytes_of(self.stack) > self.stack_capacity:
            self.leave_stack(self.evicted[0])

    def hit(self, block, request):
        if block in self.late:
            self.late.remove(block)
            self.enter(block)
        elif block in self.lir:
            self.stack.remove(block)
            self.stack.append(block)
            self.prune()
        elif block in self.stack:
            self.stack.remove(block)
            self.queue.remove(block)
            while not self.fits(block, self.lir, self.lir_capacity):
                self.demote()
            self.lir.add(block)
            self.stack.append(block)
            self.prune()
        else:
            self.hit_queued(block)
        self.limit_stack()

    def hit_queued(self, block):
        self.queue.remove(block)
        self.queue.append(block)
        while block in self.queue and not self.fits(block, self.lir, self.lir_capacity):
            self.demote()
        self.stack.append(block)
        if block not in self.queue:
            self.phantoms.add(block)
        self.prune()

    def insert(self, block, request):
        self.enter(block)
        self.limit_stack()

    def victim(self, request):
        self.size[request.block] = request.size_bytes
        if not self.late:
            self.make_room(request.block)
        if not self.late:
            if not self.queue:
                self.demote()
            self.give_up()
        return self.late.pop(0)

    def forget(self, block):
        if block in self.late:
            self.late.remove(block)
            if block in self.phantoms:
                self.leave_stack(block)
        else:
            for place in (self.stack, self.queue):
                if block in place:
                    place.remove(block)
            self.lir.discard(block)
        self.prune()


class ClockPro(Oracle):
    """The clock as a list that begins where the hot hand is; its head is the end. Kinds: hot, cold, tested, ghost."""

    def start(self, cold_ratio=1.0):
        self.clock, self.kind, self.hit_since = [], {}, set()
        self.cold_target = int(self.capacity * cold_ratio)
        self.cold_at = self.test_at = None  # the blocks at which these hands are

    def of(self, *kinds):
        return [block for block in self.clock if self.kind[block] in kinds]

    def after(self, block, blocks):
        """The next of `blocks`, some of the clock's, after one of them."""
        return blocks[(blocks.index(block) + 1) % len(blocks)] if len(blocks) > 1 else None

    def step_test_hand(self):
        self.test_at = self.after(self.test_at, self.clock)

    def leave_cold(self, block):
        """The cold hand is not to stand at a block that is no longer cold, or moves."""
        if self.cold_at == block:
            self.cold_at = self.after(block, self.of("cold", "tested"))

    def leave_clock(self, block):
        if self.test_at == block:
            self.step_test_hand()
        self.clock.remove(block)

    def to_head(self, block, kind):
        self.clock.append(block)
        self.kind[block] = kind
        self.hit_since.discard(block)
        if kind in ("cold", "tested") and self.cold_at is None:
            self.cold_at = block
        if self.test_at is None:
            self.test_at = block

    def end_test(self, block):
        self.cold_target = max(self.cold_target - self.size[block], 0)
        if self.kind[block] == "ghost":
            self.leave_clock(block)
            del self.kind[block]
        else:
            self.kind[block] = "cold"

    def run_hot_hand(self):
        while self.of("hot"):
            block = self.clock.pop(0)
            self.clock.append(block)
            if self.kind[block] in ("tested", "ghost"):
                self.end_test(block)
            elif self.kind[block] == "hot" and block not in self.hit_since:
                self.kind[block] = "cold"
                if self.cold_at is None:
                    self.cold_at = block
                return
            elif self.kind[block] == "hot":
                self.hit_since.discard(block)

    def make_hot(self, block):
        self.cold_target = min(self.cold_target + self.size[block], self.capacity)
        self.leave_clock(block)
        self.to_head(block, "hot")
        while self.bytes_of(self.of("hot")) > self.capacity - self.cold_target:
            self.run_hot_hand()

    def hit(self, block, request):
        self.hit_since.add(block)

    def insert(self, block, request):
        if self.kind.get(block) == "ghost":
            self.make_hot(block)
        else:
            self.to_head(block, "tested")

    def victim(self, request):
        while True:
            if self.cold_at is None:
                self.run_hot_hand()
            block = self.cold_at
            self.leave_cold(block)
            if block not in self.hit_since:
                return self.give_up(block)
            if self.kind[block] == "tested":
                self.make_hot(block)
            else:
                self.leave_clock(block)
                self.to_head(block, "tested")

    def give_up(self, block):
        if self.kind[block] == "tested":
            self.kind[block] = "ghost"
            while self.bytes_of(self.of("ghost")) > self.capacity:
                at = self.test_at
                self.step_test_hand()
                if self.kind[at] in ("tested", "ghost"):
                    self.end_test(at)
        else:
            self.leave_clock(block)
            del self.kind[block]
        return block

    def forget(self, block):
        self.leave_cold(block)
        self.leave_clock(block)
        del self.kind[block]


class ClockProLibrary(Oracle):
    """What came first and fits stays."""

    def start(self, cold_ratio=1.0):
        self.kept, self.limit = [], int(self.capacity * cold_ratio)

    def admit(self, state, request):
        return self.bytes_of(self.kept) + request.size_bytes <= self.limit

    def insert(self, block, request):
        self.kept.append(block)

    def victim(self, request):
        return request.block

    def forget(self, block):
        self.kept.remove(block)


class WTinyLfu(Oracle):
    """With exact counts of recent accesses, which the sketch has as long as no two blocks share a counter."""

    def start(self, window_ratio=0.01, protected_ratio=0.8, sample_factor=10, counters=0, doorkeeper=False):
        self.window, self.probation, self.protected = [], [], []
        self.window_capacity = int(self.capacity * window_ratio)
        self.main_capacity = self.capacity - self.window_capacity
        self.protected_capacity = int(self.main_capacity * protected_ratio)
        self.count, self.door, self.doorkeeper, self.added = {}, set(), doorkeeper, 0
        self.factor, self.most, self.missed = sample_factor, 1, None

    def note(self, block):
        if self.doorkeeper and block not in self.door:
            self.door.add(block)
        else:
            self.count[block] = min(self.count.get(block, 0) + 1, 15)
        self.added += 1
        if self.added >= self.factor * self.most:
            self.count = {block: count // 2 for block, count in self.count.items()}
            self.door.clear()
            self.added //= 2

    def popularity(self, block):
        return self.count.get(block, 0) + (block in self.door)

    def hit(self, block, request):
        self.note(block)
        if block in self.probation:
            self.probation.remove(block)
            self.protected.append(block)
            while self.bytes_of(self.protected) > self.protected_capacity:
                self.probation.append(self.protected.pop(0))
        else:
            queue = self.window if block in self.window else self.protected
            queue.remove(block)
            queue.append(block)

    def miss(self, block, request):
        self.note(block)

    def insert(self, block, request):
        self.window.append(block)
        self.most = max(self.most, len(self.window + self.probation + self.protected))
        while len(self.window) > 1 and self.bytes_of(self.window) > self.window_capacity:
            if self.bytes_of([*self.probation, *self.protected, self.window[0]]) > self.main_capacity:
                return
            self.probation.append(self.window.pop(0))

    def victim(self, request):
        main = self.probation or self.protected
        if not main:
            return self.window.pop(0)
        if not self.window or self.bytes_of(self.window) + request.size_bytes <= self.window_capacity:
            return main.pop(0)
        if self.popularity(self.window[0]) <= self.popularity(main[0]):
            return self.window.pop(0)
        block = main.pop(0)
        self.probation.append(self.window.pop(0))
        return block

    def forget(self, block):
        next(queue for queue in (self.window, self.probation, self.protected) if block in queue).remove(block)


def xxh64(number, seed):
    """XXH64 of a number's eight bytes, from the specification."""
    mask = (1 << 64) - 1
    primes = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)

    def turned(word, bits):
        return (word << bits | word >> (64 - bits)) & mask

    word = (seed + primes[4] + 8) & mask
    word ^= turned(number * primes[1] & mask, 31) * primes[0] & mask
    word = (turned(word, 27) * primes[0] + primes[3]) & mask
    for bits, prime in ((33, primes[1]), (29, primes[2])):
        word = (word ^ word >> bits) * prime & mask
    return word ^ word >> 32


class CountingBloom:
    """With ten counters a number out of 14.4 for each item."""

    def __init__(self, items):
        items = (items + 2**31) % 2**32 - 2**31
        counters = min(math.ceil(items * math.log(1000) / 0.480453013918201), 2**31 - 1)
        self.counters, self.counts = 20 if counters < 10 else counters, {}

    def places(self, number):
        start, step = (xxh64(int(number), seed) % 2**32 for seed in (0x12345678, 0x12344321))
        return [(start + i * step) % 2**32 % self.counters for i in range(10)]

    def estimate(self, number):
        return min(self.counts.get(place, 0) for place in self.places(number))

    def add(self, number):
        for place in self.places(number):
            self.counts[place] = self.counts.get(place, 0) + 1

    def halve(self):
        self.counts = {place: count // 2 for place, count in self.counts.items()}


class WTinyLfuLibrary(Oracle):
    """As its docstring says; blocks have their own numbers for addresses, and `late` are those that wait to leave."""

    def start(self, window_ratio=0.01):
        self.window, self.probation, self.protected, self.late, self.main_hits = [], [], [], [], 0
        self.window_capacity = int(self.capacity * window_ratio)
        self.main_capacity = self.capacity - self.window_capacity
        self.probation_capacity = int(1 / 5 * self.main_capacity)
        self.protected_capacity = int(4 / 5 * self.main_capacity)
        self.bloom = CountingBloom(self.main_capacity)

    def admit(self, state, request):
        return request.size_bytes <= min(self.window_capacity, self.probation_capacity)

    def main_victim(self):
        return (self.probation or self.protected)[0]

    def let_wait(self, block):
        next(queue for queue in (self.window, self.probation, self.protected) if block in queue).remove(block)
        self.late.append(block)

    def enter_main(self, block):
        if self.bytes_of([*self.probation, block]) <= self.probation_capacity:
            self.probation.append(block)
        elif self.bytes_of([*self.protected, block]) <= self.protected_capacity:
            self.protected.append(block)
        else:
            while self.bytes_of([*self.probation, *self.protected, block]) > self.main_capacity:
                self.let_wait(self.main_victim())
            self.probation.append(block)

    def make_room(self):
        full = False
        while not full:
            if not self.window:
                self.let_wait(self.main_victim())
                return
            block = self.window[0]
            full = self.bytes_of([*self.probation, *self.protected, block]) > self.main_capacity
            if full and self.bloom.estimate(block) <= self.bloom.estimate(self.main_victim()):
                self.let_wait(block)
            else:
                if full:
                    self.let_wait(self.main_victim())
                self.window.remove(block)
                self.enter_main(block)
            self.bloom.add(block)

    def insert(self, block, request):
        while self.bytes_of([*self.window, *self.probation, *self.protected, block]) > self.capacity:
            self.make_room()
        self.window.append(block)
        self.bloom.add(block)

    def cool(self):
        """The protected segment is too full: its oldest sinks, and probation gives up what it then has too much."""
        self.probation.append(self.protected.pop(0))
        while self.bytes_of(self.probation) > self.probation_capacity:
            self.let_wait(self.probation[0])

    def hit(self, block, request):
        if block in self.late:
            self.late.remove(block)
            self.insert(block, request)
            return
        queue = next(queue for queue in (self.window, self.probation, self.protected) if block in queue)
        queue.remove(block)
        (self.window if queue is self.window else self.protected).append(block)
        while self.bytes_of(self.protected) > self.protected_capacity:
            self.cool()
        if queue is not self.window:
            self.bloom.add(block)
            self.main_hits += 1
            if self.main_hits == 32 * self.main_capacity:
                self.main_hits = 0
                self.bloom.halve()

    def victim(self, request):
        if not self.late:
            self.make_room()
        return self.late.pop(0)

    def forget(self, block):
        queues = (self.window, self.probation, self.protected, self.late)
        next(queue for queue in queues if block in queue).remove(block)
