"""Slow, obvious models of the allocators of contiguous KV memory, which the compiled ones are held equal to."""

from __future__ import annotations

from tests.allocator_oracle import BestFit, Buddy, FirstFit

FREE = -1


class Reservation:
    """A byte map in which each block's place is all that it may come to."""

    def __init__(self, placement: str, form: str, capacity: int, unit: int, objects):
        self.bytes = {"buddy": Buddy, "first_fit": FirstFit, "best_fit": BestFit}[placement](capacity, unit)
        self.form, self.objects = form, objects
        self.size: dict[int, int] = {}

    def to_reserve(self, block: int) -> int:
        first, final = int(self.objects.first_bytes[block]), int(self.objects.final_bytes[block])
        most, unit = int(self.objects.most_bytes[block]), int(self.objects.unit_bytes[block])
        if self.form == "max":
            return most
        if self.form == "exact":
            return final
        units, doubled = -(-(final - first) // unit), 1
        while doubled < units:
            doubled *= 2
        return min(most, first + (doubled if units else 0) * unit)

    def place_bytes(self, block: int) -> int:
        return self.bytes.owner.count(block)

    def allocate(self, block: int, size: int) -> bool:
        placed = self.bytes.allocate(block, max(size, self.to_reserve(block)))
        if placed:
            self.size[block] = size
        return placed

    def resize(self, block: int, size: int) -> bool:
        if size > self.place_bytes(block):
            return False
        self.size[block] = size
        return True

    def release(self, block: int) -> None:
        self.bytes.release(block)
        del self.size[block]

    def free_bytes(self) -> int:
        return self.bytes.free_bytes()

    def split(self) -> tuple[int, int]:
        """Bytes that their blocks will use but do not yet, and bytes that they never will."""
        reserved = internal = 0
        for block, size in self.size.items():
            for at in range(self.place_bytes(block)):
                if at >= max(size, int(self.objects.final_bytes[block])):
                    internal += 1
                elif at >= size:
                    reserved += 1
        return reserved, internal

    def extents(self, block: int) -> list[tuple[int, int]]:
        return [(self.bytes.address(block), self.place_bytes(block))]


class VirtualPages:
    """Lists of groups by slot; the thread in the background is asked at each tick what it has had time for."""

    def __init__(self, capacity, group, slots, units, *, ahead=9, eager=0, map_ns=1.0, unmap_ns=1.0, deferred=True):
        self.group, self.units, self.ahead, self.eager = group, units, ahead, eager
        self.map_ns, self.unmap_ns, self.deferred = map_ns, unmap_ns, deferred
        self.count = capacity // group
        self.unmapped = list(range(self.count))[::-1]  # the last is taken
        self.mapped: list[list[int]] = [[] for _ in range(slots)]
        self.block: list[int | None] = [None] * slots
        self.size: dict[int, int] = {}
        self.queue: list[int] = []
        self.now = self.started = self.waited = 0.0
        self.maps = self.unmaps = 0

    def groups(self, size: int) -> int:
        return -(-size // self.group)

    def slot(self, block: int) -> int:
        return self.block.index(block)

    def needed(self, slot: int) -> int:
        return 0 if self.block[slot] is None else self.groups(self.size[self.block[slot]])

    def wanted(self, slot: int) -> int:
        block = self.block[slot]
        return 0 if block is None else self.groups(self.size[block] + self.ahead * self.units[block])

    def kept(self) -> int:
        """Groups mapped ahead for their blocks."""
        active = (slot for slot, block in enumerate(self.block) if block is not None)
        return sum(min(len(self.mapped[slot]), self.wanted(slot)) - self.needed(slot) for slot in active)

    def available(self) -> int:
        return self.count - sum(map(self.needed, range(len(self.block)))) - self.kept()

    def idle(self) -> list[int]:
        return [slot for slot, block in enumerate(self.block) if block is None]

    def group_ns(self) -> float:
        return self.map_ns + (0.0 if self.unmapped else self.unmap_ns)

    def pop(self, slot: int) -> None:
        self.unmapped.append(self.mapped[slot].pop())
        self.unmaps += 1

    def push(self, slot: int, ours: int | None = None) -> None:
        if not self.unmapped:
            full = [other for other in self.idle() if self.mapped[other] and other != ours]
            active = [other for other, block in enumerate(self.block) if block is not None and other != ours]
            spare = [other for other in active if len(self.mapped[other]) > self.wanted(other)]
            self.pop(max(full, key=lambda other: (len(self.mapped[other]), -other)) if full else min(spare))
        self.mapped[slot].append(self.unmapped.pop())
        self.maps += 1

    def queue_if_lacking(self, slot: int) -> None:
        if len(self.mapped[slot]) < self.wanted(slot) and slot not in self.queue:
            if not self.queue:
                self.started = max(self.started, self.now)
            self.queue.append(slot)

    def map_now(self, slot: int, groups: int) -> None:
        for _ in range(groups):
            took_ns = self.group_ns()
            if self.queue and self.queue[0] == slot:
                took_ns = max(0.0, took_ns - (self.now - self.started))
                self.started = self.now
            self.waited += took_ns
            self.push(slot, slot)

    def allocate(self, block: int, size: int) -> bool:
        needed, idle = self.groups(size), self.idle()
        if needed > self.available() or not idle:
            return False
        enough = [slot for slot in idle if len(self.mapped[slot]) >= needed]
        most = max(len(self.mapped[slot]) for slot in idle)
        few = min((len(self.mapped[slot]) for slot in enough), default=most)
        slot = min(slot for slot in idle if len(self.mapped[slot]) == few)
        self.block[slot], self.size[block] = block, size
        self.map_now(slot, needed - len(self.mapped[slot]))
        self.queue_if_lacking(slot)
        return True

    def resize(self, block: int, size: int) -> bool:
        slot = self.slot(block)
        others = self.available() - max(0, len(self.mapped[slot]) - self.wanted(slot))
        lacking = self.groups(size) - len(self.mapped[slot])
        if lacking > 0 and lacking > others:
            return False
        self.size[block] = size
        self.map_now(slot, lacking)
        self.queue_if_lacking(slot)
        return True

    def release(self, block: int) -> None:
        slot = self.slot(block)
        del self.size[block]
        self.block[slot] = None
        while not self.deferred and self.mapped[slot]:
            self.pop(slot)
            self.waited += self.unmap_ns

    def tick(self, now: float) -> None:
        while self.queue:
            slot = self.queue[0]
            if len(self.mapped[slot]) >= self.wanted(slot) or self.available() == 0:
                self.queue.pop(0)
                continue
            if self.started + self.group_ns() > now:
                self.now = now
                return
            self.started += self.group_ns()
            self.queue.pop(0)
            self.push(slot, slot)
            self.queue_if_lacking(slot)
        while self.lacks_eager() and self.started + self.map_ns <= now:
            self.started += self.map_ns
            self.push(self.fullest_idle())
        if not self.lacks_eager():
            self.started = now
        self.now = now

    def fullest_idle(self) -> int:
        return max(self.idle(), key=lambda slot: (len(self.mapped[slot]), -slot))

    def lacks_eager(self) -> bool:
        return bool(self.idle() and self.unmapped) and len(self.mapped[self.fullest_idle()]) < self.eager

    def free_bytes(self) -> int:
        return self.available() * self.group

    def split(self) -> tuple[int, int]:
        needed = sum(self.groups(size) for size in self.size.values()) * self.group
        return self.kept() * self.group, needed - sum(self.size.values())

    def extents(self, block: int) -> list[tuple[int, int]]:
        runs: list[tuple[int, int]] = []
        for number in self.mapped[self.slot(block)][: self.groups(self.size[block])]:
            if runs and sum(runs[-1]) == number * self.group:
                runs[-1] = runs[-1][0], runs[-1][1] + self.group
            else:
                runs.append((number * self.group, self.group))
        return runs
