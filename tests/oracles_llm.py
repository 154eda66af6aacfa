"""Slow and obvious forms of the policies that know of times, priorities, LLM calls and predictions."""

from __future__ import annotations

from tests.oracles import Oracle, Random


class Ranked(Oracle):
    """The block with the smallest rank leaves."""

    def start(self):
        self.rank, self.clock = {}, 0

    def hit(self, block, request):
        self.clock += 1
        self.access(block, request, True)

    def insert(self, block, request):
        self.clock += 1
        self.access(block, request, False)

    def victim(self, request):
        block = min(self.rank, key=self.rank.get)
        self.forget(block)
        return block

    def forget(self, block):
        del self.rank[block]


class Priority(Ranked):
    def start(self, keep_highest=False):
        super().start()
        self.keep_highest = keep_highest

    def access(self, block, request, hit):
        before = self.rank[block][0] if hit and self.keep_highest else request.priority
        self.rank[block] = (max(before, request.priority), self.clock)


class Lra(Ranked):
    def access(self, block, request, hit):
        if not hit or request.prediction != 0:
            self.rank[block] = self.clock


class Lfa(Ranked):
    def access(self, block, request, hit):
        queries = 1 if request.prediction == -1 else request.prediction
        attended, last = self.rank[block] if hit else (1, self.clock)
        self.rank[block] = (attended + queries, self.clock if queries > 0 or not hit else last)


class Expiry(Ranked):
    def start(self, renew_on_hit=True):
        super().start()
        self.renew_on_hit, self.deadline = renew_on_hit, {}

    def access(self, block, request, hit):
        self.rank[block] = self.clock
        now = request.arrival_ns
        if not hit or self.renew_on_hit or request.is_write or self.deadline[block][0] <= now:
            self.deadline[block] = (now + request.ttl_ns, self.clock)

    def victim(self, request):
        expired = [block for block in self.rank if self.deadline[block][0] <= request.arrival_ns]
        block = min(expired, key=self.deadline.get) if expired else min(self.rank, key=self.rank.get)
        self.forget(block)
        return block


class Lease(Ranked):
    def start(self, lease_ns=5e9):
        super().start()
        self.lease_ns = lease_ns

    def access(self, block, request, hit):
        until = request.arrival_ns
        if hit:
            until = max(self.rank[block][0], until + self.lease_ns)
        self.rank[block] = (until, self.clock)


class SoftPin(Lease):
    def start(self, lease_ns=5e9, pin_ns=1.8e12, pin_priority=1, evict_pinned=True):
        super().start(lease_ns)
        self.pin_ns, self.pin_priority, self.evict_pinned = pin_ns, pin_priority, evict_pinned
        self.asked, self.accessed_ns = set(), {}

    def access(self, block, request, hit):
        super().access(block, request, hit)
        self.accessed_ns[block] = request.arrival_ns
        if request.priority >= self.pin_priority:
            self.asked.add(block)

    def victim(self, request):
        now = request.arrival_ns
        pinned = {block for block in self.rank if block in self.asked and now < self.accessed_ns[block] + self.pin_ns}
        ended = {block for block in self.rank if self.rank[block][0] <= now}
        free = self.rank.keys() - pinned
        choices = (ended & free, ended & pinned if self.evict_pinned else set(), free, pinned)
        block = min(next(choice for choice in choices if choice), key=self.rank.get)
        self.forget(block)
        return block

    def forget(self, block):
        super().forget(block)
        self.asked.discard(block)


class FlopAware(Oracle):
    def start(self, alpha=1.0, context_weight=0.01):
        self.alpha, self.context_weight, self.clock = alpha, context_weight, 0
        self.accessed, self.saved = {}, {}

    def hit(self, block, request):
        self.clock += 1
        self.accessed[block] = self.clock
        self.saved[block] = request.cost * (1.0 + self.context_weight * request.position) / request.size_bytes

    def insert(self, block, request):
        self.hit(block, request)

    def victim(self, request):
        recency, saved = scaled(self.accessed), scaled(self.saved)
        rank = {block: (recency[block] + self.alpha * saved[block], self.accessed[block]) for block in recency}
        block = min(rank, key=rank.get)
        self.forget(block)
        return block

    def forget(self, block):
        del self.accessed[block], self.saved[block]


def scaled(values):
    low, high = min(values.values()), max(values.values())
    return {block: (value - low) / (high - low or 1) for block, value in values.items()}


class Pgdsf(Ranked):
    """A block's place and parent are those of its first access."""

    def start(self):
        super().start()
        self.floor, self.last = 0.0, None
        self.place, self.parent, self.frequency, self.costs = {}, {}, {}, {}

    def learn(self, block, request):
        if block not in self.place:
            self.place[block] = request.position
            if self.last is not None and self.place[self.last] == request.position - 1:
                self.parent[block] = self.last
        self.last = block

    def miss(self, block, request):
        self.learn(block, request)

    def access(self, block, request, hit):
        if hit:
            self.learn(block, request)
            self.frequency[block] += 1
        else:
            self.frequency[block] = 1
            mean, times = self.costs.get(block, (0.0, 0))
            self.costs[block] = (mean + (request.cost - mean) / (times + 1), times + 1)
        value = self.frequency[block] * self.costs[block][0] / request.size_bytes
        self.rank[block] = (self.floor + value, self.clock)

    def victim(self, request):
        continued = {self.parent.get(block) for block in self.rank}
        leaves = [block for block in self.rank if block not in continued]
        others = [block for block in leaves if block != self.parent.get(request.block)]
        block = min(others or leaves, key=self.rank.get)
        self.floor = max(self.floor, self.rank[block][0])
        self.forget(block)
        return block


class Tlru(Oracle):
    """A call's accesses are remembered until it is over."""

    def start(self, threshold_blocks=8, next_prompt_blocks=2):
        self.spare_from = next_prompt_blocks - threshold_blocks
        self.kept, self.spare, self.length, self.place, self.call = [], [], {}, {}, []

    def follow(self, request):
        if request.position == 0 or not self.call or request.position != self.call[-1][1] + 1:
            if self.call:
                self.end_call(self.call[-1][1] + 1)
            self.call = []
        self.call.append((request.block, request.position))

    def end_call(self, blocks):
        used = {block for block, _ in self.call}
        for block in [block for block in reversed(self.kept) if block in used]:
            self.length[block] = max(self.length[block], blocks)
            if self.place[block] >= self.length[block] + self.spare_from:
                self.kept.remove(block)
                self.spare.append(block)

    def touch(self, block, request):
        self.kept.append(block)
        self.place[block] = request.position

    def hit(self, block, request):
        self.follow(request)
        self.forget(block)
        self.touch(block, request)

    def miss(self, block, request):
        self.follow(request)

    def insert(self, block, request):
        self.length[block] = 0
        self.touch(block, request)

    def victim(self, request):
        return (self.spare or self.kept).pop(0)

    def forget(self, block):
        (self.spare if block in self.spare else self.kept).remove(block)


class Predicted(Random):
    """Base of those with a prediction of one bit."""

    SEEDED = True

    def start(self, seed=0, error_rate=0.0):
        super().start(seed)
        self.error_rate = error_rate

    def bit(self, request):
        wrong = self.error_rate > 0 and self.uniform() < self.error_rate
        return (request.prediction == 1) != wrong


class PhaseBit(Predicted):
    def start(self, seed=0, error_rate=0.0):
        super().start(seed, error_rate)
        self.stays, self.goes, self.marked, self.bits = [], [], [], {}

    def hit(self, block, request):
        self.forget(block)
        self.insert(block, request)

    def insert(self, block, request):
        self.bits[block] = self.bit(request)
        self.marked.append(block)

    def victim(self, request):
        if not self.stays and not self.goes:
            self.goes = [block for block in self.marked if self.bits[block]]
            self.stays = [block for block in self.marked if not self.bits[block]]
            self.marked = []
        choice = self.goes or self.stays
        block = choice[int(self.uniform() * len(choice))]
        self.forget(block)
        return block

    def forget(self, block):
        """The last one closes the gap."""
        of = next(one for one in (self.stays, self.goes, self.marked) if block in one)
        of[of.index(block)] = of[-1]
        of.pop()


class Simulated:
    """A cache of its own, of unmarked and marked blocks."""

    def __init__(self, capacity):
        self.capacity, self.unmarked, self.marked, self.misses = capacity, [], [], 0

    def holds(self, block):
        return block in self.unmarked or block in self.marked

    def forget(self, block):
        (self.unmarked if block in self.unmarked else self.marked).remove(block)

    def access(self, block, mark, size, counts):
        """The blocks that it gives up."""
        gone = []
        if self.holds(block):
            self.forget(block)
        else:
            self.misses += counts
            while sum(size[one] for one in self.unmarked + self.marked) + size[block] > self.capacity:
                if not self.unmarked:
                    self.unmarked, self.marked = self.marked, []
                gone.append(self.unmarked.pop(0))
        (self.marked if mark else self.unmarked).append(block)
        return gone


class DiscardBit(Predicted):
    def start(self, seed=0, robust=True, switch_ratio=2.0, error_rate=0.0):
        super().start(seed, error_rate)
        self.robust, self.switch_ratio = robust, switch_ratio
        self.mark0, self.lru = Simulated(self.capacity), Simulated(self.capacity)
        self.followed, self.agreed, self.surplus, self.sizes = self.mark0, [], [], {}

    def access(self, block, request, counts):
        mark = not self.bit(request)
        if not self.mark0.holds(block) and not self.lru.holds(block):
            self.sizes[block] = request.size_bytes
        for cache, marks in ((self.mark0, mark), (self.lru, False)):
            for gone in cache.access(block, marks, self.sizes, counts):
                if cache is self.followed and gone in self.agreed:
                    self.agreed.remove(gone)
                    self.surplus.append(gone)
        other = self.lru if self.followed is self.mark0 else self.mark0
        if self.robust and self.followed.misses > self.switch_ratio * other.misses:
            self.followed = other
            agreed = self.agreed + [block for block in self.surplus if other.holds(block)]
            surplus = [block for block in self.surplus if not other.holds(block)]
            self.agreed = [block for block in agreed if other.holds(block)]
            self.surplus = surplus + [block for block in agreed if not other.holds(block)]

    def hit(self, block, request):
        self.access(block, request, 1)
        (self.agreed if block in self.agreed else self.surplus).remove(block)
        self.agreed.append(block)

    def miss(self, block, request):
        if request.size_bytes <= self.capacity:
            self.access(block, request, 1)

    def insert(self, block, request):
        self.agreed.append(block)

    def victim(self, request):
        return (self.surplus or self.agreed).pop(0)

    def forget(self, block):
        (self.agreed if block in self.agreed else self.surplus).remove(block)
        for cache in (self.mark0, self.lru):
            if cache.holds(block):
                cache.forget(block)


# what is tested: policy, parameters, oracle
FORMS = {
    "priority": ("priority", {}, Priority),
    "priority-highest": ("priority", {"keep_highest": True}, Priority),
    "lra": ("lra", {}, Lra),
    "lfa": ("lfa", {}, Lfa),
    "expiry": ("expiry", {}, Expiry),
    "expiry-insert": ("expiry", {"renew_on_hit": False}, Expiry),
    "lease": ("lease", {"lease_ns": 60.0}, Lease),
    "lease-0": ("lease", {"lease_ns": 0.0}, Lease),
    "soft_pin": ("soft_pin", {"lease_ns": 40.0, "pin_ns": 90.0}, SoftPin),
    "soft_pin-hard": (
        "soft_pin",
        {"lease_ns": 30.0, "pin_ns": 200.0, "pin_priority": 2, "evict_pinned": False},
        SoftPin,
    ),
    "flop_aware": ("flop_aware", {}, FlopAware),
    "flop_aware-half": ("flop_aware", {"alpha": 0.5, "context_weight": 0.25}, FlopAware),
    "pgdsf": ("pgdsf", {}, Pgdsf),
    "tlru": ("tlru", {}, Tlru),
    "tlru-tight": ("tlru", {"threshold_blocks": 2, "next_prompt_blocks": 0}, Tlru),
    "phase_bit": ("phase_bit", {}, PhaseBit),
    "phase_bit-wrong": ("phase_bit", {"error_rate": 0.3}, PhaseBit),
    "discard_bit": ("discard_bit", {}, DiscardBit),
    "discard_bit-wrong": ("discard_bit", {"error_rate": 0.3, "switch_ratio": 1.0}, DiscardBit),
    "discard_bit-trusting": ("discard_bit", {"robust": False}, DiscardBit),
}
BYTES_A_BLOCK = {"soft_pin": 46, "pgdsf": 56, "discard_bit": 33}  # where it is more than 32
