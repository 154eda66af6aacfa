"""Slow and obvious forms of the policies that know of times, priorities, LLM calls and predictions."""

from __future__ import annotations

from tests.oracles import Oracle


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
}
BYTES_A_BLOCK = {"soft_pin": 45}  # where it is more than 32
