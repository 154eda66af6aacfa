"""Slow and obvious forms of the policies that know of times, priorities, LLM calls and predictions."""

from __future__ import annotations

from decimal import Decimal

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
    def start(self, lease_ns=5e9, keep_leases=True):
        super().start()
        self.lease_ns, self.keep_leases = lease_ns, keep_leases

    def access(self, block, request, hit):
        until = request.arrival_ns
        if hit:
            until = max(self.rank[block][0], until + self.lease_ns)
        self.rank[block] = (until, self.clock)

    def victim(self, request):
        if self.keep_leases and min(self.rank.values())[0] > request.arrival_ns:
            return request.block
        return super().victim(request)


class SoftPin(Lease):
    def start(self, lease_ns=5e9, pin_ns=1.8e12, pin_priority=1, evict_pinned=True, keep_leases=True):
        super().start(lease_ns, keep_leases)
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
        choices = [ended & free, ended & pinned if self.evict_pinned else set()]
        if not self.keep_leases:
            choices += [free, pinned]
        elif not any(choices):
            return request.block
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
        compute = request.cost * (1.0 + self.context_weight * request.position)
        self.saved[block] = compute / request.size_bytes

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
    def start(self, seed=0, robust=True, switch_ratio=1.1, error_rate=0.0):
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
    "lease-broken": ("lease", {"lease_ns": 60.0, "keep_leases": False}, Lease),
    "soft_pin": ("soft_pin", {"lease_ns": 40.0, "pin_ns": 90.0}, SoftPin),
    "soft_pin-broken": ("soft_pin", {"lease_ns": 40.0, "pin_ns": 90.0, "keep_leases": False}, SoftPin),
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
BYTES_A_BLOCK = {"soft_pin": 46, "pgdsf": 56, "discard_bit": 33, "flop_aware": 69}  # where it is more than 32
OUT_OF_RANGE = [
    ("lease", {"lease_ns": -1.0}, "lease_ns is -1.0; expected at least 0"),
    ("soft_pin", {"lease_ns": -1.0}, "lease_ns is -1.0; expected at least 0"),
    ("soft_pin", {"pin_ns": -1.0}, "pin_ns is -1.0; expected at least 0"),
    ("flop_aware", {"alpha": -1.0}, "alpha is -1.0; expected at least 0"),
    ("flop_aware", {"context_weight": -0.1}, "context_weight is -0.1; expected at least 0"),
    ("tlru", {"threshold_blocks": -1}, "threshold_blocks is -1; expected at least 0"),
    ("tlru", {"next_prompt_blocks": -1}, "next_prompt_blocks is -1; expected at least 0"),
    ("phase_bit", {"error_rate": 1.5}, "error_rate is 1.5; expected 0 to 1"),
    ("discard_bit", {"error_rate": -0.5}, "error_rate is -0.5; expected 0 to 1"),
    ("discard_bit", {"switch_ratio": 0.5}, "switch_ratio is 0.5; expected at least 1"),
]


# ------------------------------------------------------------------------------------------------------------ admission


class Frequencies:
    """Accesses of late, exactly: what the sketch has as long as no two blocks share a counter."""

    def __init__(self, doorkeeper=False):
        self.counts, self.door, self.doorkeeper, self.added = {}, set(), doorkeeper, 0

    def add(self, block, period):
        if not self.doorkeeper or block in self.door:
            self.counts[block] = min(self.counts.get(block, 0) + 1, 15)
        self.door.add(block)
        self.added += 1
        if self.added >= period:
            self.counts = {one: count // 2 for one, count in self.counts.items()}
            self.door.clear()
            self.added //= 2

    def of(self, block):
        return self.counts.get(block, 0) + (self.doorkeeper and block in self.door)


class CountMin:
    def __init__(self, threshold=2, sample_factor=10, counters=0):
        self.frequencies, self.threshold, self.period = Frequencies(), threshold, sample_factor * counters

    def admit(self, block):
        self.frequencies.add(block, self.period)
        return self.frequencies.of(block) >= self.threshold


class TinyLfu:
    """The list goes from the block that would leave first to the one accessed last."""

    def __init__(self, capacity, sample_factor=10, counters=0, doorkeeper=False):
        self.capacity, self.sample_factor, self.frequencies = capacity, sample_factor, Frequencies(doorkeeper)
        self.queue, self.size, self.most = [], {}, 0

    def access(self, block):
        self.frequencies.add(block, self.sample_factor * max(self.most, 1))
        if block in self.queue:
            self.queue.remove(block)
            self.queue.append(block)

    def used(self):
        return sum(self.size[one] for one in self.queue)

    def admit(self, block, size):
        if block in self.queue:
            self.queue.remove(block)
        if size > self.capacity:
            return False
        full = self.used() + size > self.capacity
        if full and self.frequencies.of(block) <= self.frequencies.of(self.queue[0]):
            return False
        while self.used() + size > self.capacity:
            self.queue.pop(0)
        self.queue.append(block)
        self.size[block] = size
        self.most = max(self.most, len(self.queue))
        return True


class DecayedFrequency:
    def __init__(self, threshold=2, decay_ns=6e11, most_blocks=1_000_000):
        self.threshold, self.decay_ns, self.most_blocks = threshold, decay_ns, most_blocks
        self.counts, self.decay_at_ns = {}, decay_ns

    def decay(self):
        self.counts = {block: count - 1 for block, count in self.counts.items() if count > 1}

    def admit(self, block, arrival_ns):
        while self.decay_at_ns <= arrival_ns:
            self.decay()
            self.decay_at_ns += self.decay_ns
        self.counts[block] = 2 * self.counts[block] if block in self.counts else 1
        admitted = self.counts[block] >= self.threshold
        if len(self.counts) > self.most_blocks:
            self.decay()
        return admitted


def model_hit_ratio(limit, rates, sizes, capacity):
    """AdaptSize's model, its characteristic time found by halving."""
    populations = list(zip(rates, sizes, strict=True))

    def resident(time):
        odds = [Decimal(-size / limit).exp() * (Decimal(rate * time).exp() - 1) for rate, size in populations]
        return [float(one / (1 + one)) for one in odds]

    low, high = 0.0, 2e4
    for _ in range(60):
        middle = (low + high) / 2
        held = sum(size * share for size, share in zip(sizes, resident(middle), strict=True))
        low, high = (middle, high) if held < capacity else (low, middle)
    return sum(rate * share for rate, share in zip(rates, resident(low), strict=True)) / sum(rates)


# ------------------------------------------------------------------------------------------------------------- prefetch


class Obl:
    """With a tag for every address."""

    def __init__(self):
        self.tagged = set()

    def propose(self, address, hit):
        first_use = address in self.tagged
        self.tagged.discard(address)
        if hit and not first_use:
            return []
        self.tagged.add(address + 1)
        return [address + 1]


class Markov:
    """With a list for every address."""

    def __init__(self, degree, on):
        self.degree, self.on, self.followed, self.last = degree, on, {}, None

    def propose(self, address, hit):
        if hit and self.on == "miss":
            return []
        if self.last is not None:
            others = [one for one in self.followed.get(self.last, []) if one != address]
            self.followed[self.last] = [address, *others][: self.degree]
        self.last = address
        return self.followed.get(address, [])


class Pg:
    """With edges in lists of [target, count]; a node is there from its first access on."""

    def __init__(self, degree, lookahead, min_chance, edges):
        self.degree, self.lookahead, self.min_chance, self.most_edges = degree, lookahead, min_chance, edges
        self.edges, self.recent = {}, []

    def propose(self, address, hit):
        for before in self.recent:
            if before != address:
                self.add(self.edges[before], address)
        self.recent = [*self.recent, address][-self.lookahead :]
        edges = self.edges.setdefault(address, [])
        total = sum(count for _, count in edges)
        likely = [edge for edge in edges if edge[1] >= self.min_chance * total]
        return [target for target, _ in sorted(likely, key=lambda edge: -edge[1])][: self.degree]

    def add(self, edges, target):
        for edge in edges:
            if edge[0] == target:
                edge[1] += 1
                return
        if len(edges) < self.most_edges:
            edges.append([target, 1])
        else:
            edges[edges.index(min(edges, key=lambda edge: edge[1]))] = [target, 1]


class AmpStream:
    def __init__(self, address, step):
        self.p, self.g, self.end, self.sets = step, step // 2, address, []

    def fetch(self, now_ns):
        """The last set is [its addresses, when it was asked for]; no time once its first use was seen."""
        ahead = list(range(self.end + 1, self.end + 1 + self.p))
        self.end = ahead[-1]
        self.sets = [*self.sets, [ahead, now_ns]][-2:]
        return ahead


class Amp:
    """Streams from the one unused for longest to the one used last."""

    def __init__(self, degree, step, streams, fetch_ns):
        self.degree, self.step, self.most, self.fetch_ns = degree, step, streams, fetch_ns
        self.streams, self.slots, self.seen = [], [None] * streams, set()

    def propose(self, address, hit, now_ns):
        # of several streams that expect the address, the one in the first place takes it
        stream = next((one for one in self.slots if one and one.last < address <= one.end + 1), None)
        if stream is not None:
            ahead = self.advance(stream, address, hit, now_ns)
        elif address - 1 in self.seen:
            stream = AmpStream(address, self.step)
            at = self.slots.index(self.streams.pop(0) if None not in self.slots else None)
            self.slots[at] = stream
            ahead = stream.fetch(now_ns)
        else:
            self.seen.add(address)
            return []
        stream.last = address
        self.streams = [*(one for one in self.streams if one is not stream), stream]
        return ahead

    def advance(self, stream, address, hit, now_ns):
        if address == stream.end + 1 or not hit:
            if address <= stream.end:
                stream.p = max(stream.p - 1, 1)
                stream.g = max(min(stream.g - 1, stream.p - 1), 0)
            stream.end = address
            stream.sets = []
            return stream.fetch(now_ns)
        latest, asked_ns = stream.sets[-1]
        if address in latest and asked_ns is not None:
            if now_ns - asked_ns < self.fetch_ns:
                stream.g = min(stream.g + 1, self.degree - 1)
                stream.p = max(stream.p, stream.g + 1)
            stream.sets[-1][1] = None
        if address in [addresses[-1] for addresses, _ in stream.sets]:
            stream.p = min(stream.p + self.step, self.degree)
        return stream.fetch(now_ns) if address >= stream.end - stream.g else []
