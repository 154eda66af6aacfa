"""Slow and obvious forms of the eviction policies, written from their descriptions with lists and dictionaries.

Each class has the hooks of a policy, with the state in itself: the argument `state` is not used. Lists go from the
block that would leave first to the one that would leave last.
"""

from __future__ import annotations

from sim.policy import NEVER


class Oracle:
    """Base: nothing happens at a hit or a miss; a block's size is known from its insertion."""

    def __init__(self, capacity, **parameters):
        self.capacity = capacity
        self.size = {}
        self.start(**parameters)

    def start(self):
        pass

    def on_hit(self, state, request):
        self.hit(request.block, request)

    def on_miss(self, state, request):
        self.miss(request.block, request)

    def on_insert(self, state, request):
        self.size[request.block] = request.size_bytes
        self.insert(request.block, request)

    def admit(self, state, request):
        return True

    def evict(self, state, request):
        return self.victim(request)

    def remove(self, state, block):
        self.forget(block)

    def hit(self, block, request):
        pass

    def miss(self, block, request):
        pass

    def bytes_of(self, blocks):
        return sum(self.size[block] for block in blocks)


class Fifo(Oracle):
    def start(self):
        self.queue = []

    def insert(self, block, request):
        self.queue.append(block)

    def victim(self, request):
        return self.queue.pop(0)

    def forget(self, block):
        self.queue.remove(block)


class Lru(Fifo):
    def hit(self, block, request):
        self.queue.remove(block)
        self.queue.append(block)


class Random(Oracle):
    """With SplitMix64 on Python's own integers."""

    def start(self, seed=0):
        self.members, self.rng = [], seed

    def uniform(self):
        mask = (1 << 64) - 1
        self.rng = z = (self.rng + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)

    def insert(self, block, request):
        self.members.append(block)

    def victim(self, request):
        block = self.members[int(self.uniform() * len(self.members))]
        self.forget(block)
        return block

    def forget(self, block):
        self.members[self.members.index(block)] = self.members[-1]
        self.members.pop()


class Clock(Oracle):
    """As a FIFO queue that takes back what was hit; there is no hand."""

    def start(self, bits=1):
        self.queue, self.hits, self.most = [], {}, 2**bits - 1

    def hit(self, block, request):
        self.hits[block] = min(self.hits[block] + 1, self.most)

    def insert(self, block, request):
        self.queue.append(block)
        self.hits[block] = 0

    def victim(self, request):
        while self.hits[self.queue[0]] > 0:
            self.hits[self.queue[0]] -= 1
            self.queue.append(self.queue.pop(0))
        return self.queue.pop(0)

    def forget(self, block):
        self.queue.remove(block)


class Sieve(Oracle):
    def start(self):
        self.queue, self.visited, self.hand = [], set(), None

    def hit(self, block, request):
        self.visited.add(block)

    def insert(self, block, request):
        self.visited.discard(block)
        self.queue.append(block)

    def newer(self, block):
        at = self.queue.index(block) + 1
        return self.queue[at] if at < len(self.queue) else None

    def victim(self, request):
        block = self.queue[0] if self.hand is None else self.hand
        while block in self.visited:
            self.visited.discard(block)
            newer = self.newer(block)
            block = self.queue[0] if newer is None else newer
        self.hand = self.newer(block)
        self.queue.remove(block)
        return block

    def forget(self, block):
        if self.hand == block:
            self.hand = self.newer(block)
        self.queue.remove(block)


class Lfu(Oracle):
    def start(self):
        self.rank, self.clock = {}, 0

    def touch(self, block, frequency, request):
        self.clock += 1
        self.rank[block] = (frequency, self.clock)

    def hit(self, block, request):
        self.touch(block, self.rank[block][0] + 1, request)

    def insert(self, block, request):
        self.touch(block, 1, request)

    def victim(self, request):
        block = min(self.rank, key=self.rank.get)
        del self.rank[block]
        return block

    def forget(self, block):
        del self.rank[block]


class LengthAware(Lfu):
    def touch(self, block, frequency, request):
        self.clock += 1
        self.rank[block] = (frequency, request.position, self.clock)


class Belady(Oracle):
    def start(self):
        self.upcoming, self.dead = {}, []

    def insert(self, block, request):
        if request.next_access == NEVER:
            self.dead.append(block)
        else:
            self.upcoming[block] = request.next_access

    def hit(self, block, request):
        self.forget(block)
        self.insert(block, request)

    def victim(self, request):
        if self.dead:
            return self.dead.pop()
        block = max(self.upcoming, key=self.upcoming.get)
        del self.upcoming[block]
        return block

    def forget(self, block):
        if block in self.upcoming:
            del self.upcoming[block]
        else:  # the last one closes the gap
            self.dead[self.dead.index(block)] = self.dead[-1]
            self.dead.pop()


class Slru(Oracle):
    """The lowest segment has what the others leave."""

    def start(self, segments=4):
        self.queues, self.share = [[] for _ in range(segments)], self.capacity // segments

    def insert(self, block, request):
        self.queues[0].append(block)

    def hit(self, block, request):
        level = next(i for i, queue in enumerate(self.queues) if block in queue)
        self.queues[level].remove(block)
        level = min(level + 1, len(self.queues) - 1)
        self.queues[level].append(block)
        while level > 0:
            while self.bytes_of(self.queues[level]) > self.share:
                self.queues[level - 1].append(self.queues[level].pop(0))
            level -= 1

    def victim(self, request):
        return next(queue for queue in self.queues if queue).pop(0)

    def forget(self, block):
        next(queue for queue in self.queues if block in queue).remove(block)


class SlruLibrary(Oracle):
    """With what libCacheSim evicts during a hit waiting in `late`."""

    def start(self, segments=4):
        self.queues, self.share, self.late = [[] for _ in range(segments)], self.capacity // segments, []

    def admit(self, state, request):
        return request.size_bytes <= self.share

    def resident_bytes(self):
        return sum(self.bytes_of(queue) for queue in self.queues)

    def insert(self, block, request):
        room = [queue for queue in self.queues if self.bytes_of([*queue, block]) <= self.share]
        (room or self.queues)[0].append(block)

    def lowest(self):
        return next(queue for queue in self.queues if queue).pop(0)

    def cool(self, level):
        if level == 0:
            self.late.append(self.queues[0].pop(0))
            return
        self.queues[level - 1].append(self.queues[level].pop(0))
        while self.bytes_of(self.queues[level - 1]) > self.share:
            self.cool(level - 1)

    def hit(self, block, request):
        if block in self.late:
            self.late.remove(block)
            while self.resident_bytes() + self.size[block] > self.capacity:
                self.late.append(self.lowest())
            self.insert(block, request)
            return
        level = next(i for i, queue in enumerate(self.queues) if block in queue)
        self.queues[level].remove(block)
        if level == len(self.queues) - 1:
            self.queues[level].append(block)
            return
        self.queues[level + 1].append(block)
        while self.bytes_of(self.queues[level + 1]) > self.share:
            self.cool(level + 1)

    def victim(self, request):
        return self.late.pop(0) if self.late else self.lowest()

    def forget(self, block):
        next(queue for queue in [*self.queues, self.late] if block in queue).remove(block)


class S3Fifo(Oracle):
    library = False

    def start(self, small_ratio=0.1, ghost_ratio=0.9, promotion_hits=2):
        self.small, self.main, self.ghost, self.hits = [], [], [], {}
        self.small_capacity = int(self.capacity * small_ratio)
        self.main_capacity = self.capacity - self.small_capacity
        self.ghost_capacity = int(self.capacity * ghost_ratio)
        self.promotion_hits, self.recalled, self.has_evicted = promotion_hits, None, False

    def hit(self, block, request):
        self.hits[block] = min(self.hits[block] + 1, 3)

    def miss(self, block, request):
        self.recalled = None
        if block in self.ghost:
            self.ghost.remove(block)
            self.recalled = block

    def admit(self, state, request):
        most = self.small_capacity - (self.recalled != request.block)
        return not self.library or request.size_bytes <= most

    def insert(self, block, request):
        fills_main = self.library and not self.has_evicted and self.bytes_of(self.small) >= self.small_capacity
        (self.main if block == self.recalled or fills_main else self.small).append(block)
        self.hits[block] = 0

    def evict_main(self):
        while self.main:
            block = self.main.pop(0)
            if self.hits[block] == 0:
                return block
            self.hits[block] -= 1
            self.main.append(block)
        return None

    def evict_small(self):
        while self.small:
            block = self.small.pop(0)
            if self.hits[block] < self.promotion_hits:
                self.remember(block)
                return block
            self.hits[block] = 0
            self.main.append(block)
            if not self.library and self.bytes_of(self.main) > self.main_capacity:
                return self.evict_main()
        return None

    def remember(self, block):
        if self.size[block] > self.ghost_capacity:
            return
        while self.bytes_of([*self.ghost, block]) > self.ghost_capacity:
            self.ghost.pop(0)
        self.ghost.append(block)

    def victim(self, request):
        self.has_evicted = True
        small_first = self.bytes_of(self.small) >= self.small_capacity
        if self.library:
            small_first = self.bytes_of(self.main) <= self.main_capacity
        ways = [self.evict_small, self.evict_main] if small_first else [self.evict_main, self.evict_small]
        ways.append(self.evict_main)  # all of the small queue may have been promoted
        return next(victim for victim in (way() for way in ways) if victim is not None)

    def forget(self, block):
        (self.small if block in self.small else self.main).remove(block)


class S3FifoLibrary(S3Fifo):
    library = True


class Arc(Oracle):
    library = False

    def start(self):
        self.t1, self.t2, self.b1, self.b2, self.target = [], [], [], [], 0.0
        self.recalled = None  # the block whose ghost was hit by this access, and the list it was on

    def hit(self, block, request):
        (self.t1 if block in self.t1 else self.t2).remove(block)
        self.t2.append(block)

    def miss(self, block, request):
        self.recalled = None
        if block not in self.b1 + self.b2:
            return
        b1, b2 = self.bytes_of(self.b1), self.bytes_of(self.b2)
        scale = 1 if self.library else self.size[block]
        if block in self.b1:
            self.target = min(self.target + max(b2 / b1, 1.0) * scale, self.capacity)
            self.b1.remove(block)
            self.recalled = block, "b1"
        else:
            self.target = max(self.target - max(b1 / b2, 1.0) * scale, 0.0)
            self.b2.remove(block)
            self.recalled = block, "b2"

    def insert(self, block, request):
        again = self.recalled is not None and self.recalled[0] == block
        (self.t2 if again else self.t1).append(block)

    def replace(self, for_b2):
        once = self.bytes_of(self.t1)
        if not self.t2 or (self.t1 and (once > self.target or (for_b2 and once == self.target))):
            self.b1.append(self.t1.pop(0))
            return self.b1[-1]
        self.b2.append(self.t2.pop(0))
        return self.b2[-1]

    def victim(self, request):
        if self.recalled is not None and self.recalled[0] == request.block:
            return self.replace(self.recalled[1] == "b2")
        if self.bytes_of(self.t1 + self.b1) + request.size_bytes > self.capacity:
            if self.b1:
                self.b1.pop(0)
            elif self.t1:
                return self.t1.pop(0)
        elif self.b2 and self.bytes_of(self.t1 + self.t2 + self.b1 + self.b2) >= 2 * self.capacity:
            self.b2.pop(0)
        return self.replace(False)

    def forget(self, block):
        (self.t1 if block in self.t1 else self.t2).remove(block)


class ArcLibrary(Arc):
    library = True


class SecondHit:
    """Admission: the blocks missed most recently, the latest last."""

    def __init__(self, history_blocks=0):
        self.history, self.history_blocks = [], history_blocks

    def admit(self, block):
        known = block in self.history
        if known:
            self.history.remove(block)
        self.history.append(block)
        if self.history_blocks:
            self.history = self.history[-self.history_blocks :]
        return known


class Stride:
    """Prefetch: Baer and Chen's table with an entry for every tenant."""

    def __init__(self, degree=1):
        self.entries, self.degree = {}, degree

    def propose(self, tenant, address):
        if tenant not in self.entries:
            self.entries[tenant] = [address, 0, "initial"]
            return []
        last, stride, trust = self.entries[tenant]
        found = address - last
        if found == stride:
            trust = {"no prediction": "transient"}.get(trust, "steady")
        elif trust == "steady":
            trust = "initial"
        else:
            stride, trust = found, {"initial": "transient"}.get(trust, "no prediction")
        self.entries[tenant] = [address, stride, trust]
        if trust != "steady" or stride == 0 or found != stride:
            return []
        return [a for a in (address + k * stride for k in range(1, self.degree + 1)) if a >= 0]
