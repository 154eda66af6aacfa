"""Slow, obvious allocators over a map with one entry a byte: what the compiled ones are held equal to.

`owner[i]` is the block that byte i belongs to, FREE or TAIL. Every number is counted from that map by a linear scan.
"""

from __future__ import annotations

FREE = -1
TAIL = -2  # beyond the last whole unit: in no allocation, and never used


class ByteMap:
    """What the allocators have in common; `place` of a subclass says where a request goes, or that it is refused."""

    def __init__(self, capacity: int, unit: int):
        self.unit = unit
        self.usable = capacity // unit * unit
        self.owner = [FREE] * self.usable + [TAIL] * (capacity - self.usable)
        self.asked: dict[int, int] = {}

    def place(self, size: int) -> int | None:
        raise NotImplementedError

    def footprint(self, size: int) -> int:
        return -(-size // self.unit) * self.unit

    def allocate(self, block: int, size: int) -> bool:
        start = self.place(size)
        if start is None:
            return False
        self.put(block, size, start)
        return True

    def put(self, block: int, size: int, start: int) -> None:
        end = start + self.footprint(size)
        assert end <= self.usable and set(self.owner[start:end]) == {FREE}, "blocks overlap"
        self.owner[start:end] = [block] * (end - start)
        self.asked[block] = size

    def release(self, block: int) -> None:
        del self.asked[block]
        self.owner = [FREE if owner == block else owner for owner in self.owner]

    def address(self, block: int) -> int:
        return self.owner.index(block) if block in self.asked else -1

    def runs(self) -> list[tuple[int, int]]:
        """(address, bytes) of each run of free bytes."""
        runs, start = [], None
        for at, owner in enumerate([*self.owner, TAIL]):
            if owner == FREE and start is None:
                start = at
            elif owner != FREE and start is not None:
                runs.append((start, at - start))
                start = None
        return runs

    def free_bytes(self) -> int:
        return self.owner.count(FREE)

    def internal_bytes(self) -> int:
        return self.usable - self.free_bytes() - sum(self.asked.values())

    def largest_free_bytes(self) -> int:
        """By trying every size."""
        return max((size for size in range(1, self.usable + 1) if self.place(size) is not None), default=0)


class FirstFit(ByteMap):
    def place(self, size):
        return min((at for at, run in self.runs() if run >= self.footprint(size)), default=None)


class BestFit(ByteMap):
    def place(self, size):
        fitting = [(run, at) for at, run in self.runs() if run >= self.footprint(size)]
        return min(fitting)[1] if fitting else None


class Buddy(ByteMap):
    """A block of order k may lie at each multiple of its size; the free ones are those in no larger free one."""

    def footprint(self, size):
        footprint = self.unit
        while footprint < size:
            footprint *= 2
        return footprint

    def place(self, size):
        fitting = [(length, at) for at, length in self.free_blocks() if length >= self.footprint(size)]
        return min(fitting)[1] if fitting else None

    def free_blocks(self) -> list[tuple[int, int]]:
        blocks, at = [], 0
        while at < self.usable:
            length = self.largest_free_at(at)
            if length:
                blocks.append((at, length))
            at += length or self.unit
        return blocks

    def largest_free_at(self, at: int) -> int:
        largest, length = 0, self.unit
        while at % length == 0 and at + length <= self.usable and set(self.owner[at : at + length]) == {FREE}:
            largest, length = length, length * 2
        return largest


class Paged(ByteMap):
    """The pages of a block may lie anywhere; the map takes the first free ones."""

    def place(self, size):
        return 0 if self.footprint(size) <= self.free_bytes() else None

    def put(self, block, size, start):
        free = [at for at, owner in enumerate(self.owner) if owner == FREE]
        for at in free[: self.footprint(size)]:
            self.owner[at] = block
        self.asked[block] = size


class Slab(ByteMap):
    """Judges a placement rather than choosing one: which chunk of its class a block gets is the allocator's affair."""

    def __init__(self, capacity: int, slab: int, sizes: list[int]):
        super().__init__(capacity, slab)
        self.slab, self.sizes = slab, sizes

    def class_of(self, size: int) -> int | None:
        return next((chunk for chunk in self.sizes if chunk >= size), None)

    def footprint(self, size):
        return self.class_of(size) or super().footprint(size)

    def slabs(self) -> dict[int, int | None]:
        """Start of each slab, and the class it is cut for; None where nothing is in it, 0 under a large block."""
        return {start: self.cut_for(start) for start in range(0, self.usable, self.slab)}

    def cut_for(self, start: int) -> int | None:
        inside = {owner for owner in self.owner[start : start + self.slab] if owner != FREE}
        classes = {self.class_of(self.asked[block]) or 0 for block in inside}
        assert len(classes) <= 1, "two classes in a slab"
        return classes.pop() if classes else None

    def chunks(self, start: int, size: int) -> list[int]:
        """Addresses of the free chunks in a slab."""
        ends = range(start, start + self.slab - size + 1, size)
        return [at for at in ends if set(self.owner[at : at + size]) == {FREE}]

    def candidates(self, size: int) -> list[int]:
        """Where a request may go: chunks of its class in slabs of its class, or else the lowest free slabs."""
        chunk = self.class_of(size)
        slabs = self.slabs()
        if chunk is not None:
            inside = [at for start, cut in slabs.items() if cut == chunk for at in self.chunks(start, chunk)]
            if inside:
                return inside
        needed = -(-size // self.slab)
        starts = [start for start in slabs if all(slabs.get(start + i * self.slab, 0) is None for i in range(needed))]
        return starts[:1]

    def place(self, size):
        return next(iter(self.candidates(size)), None)
