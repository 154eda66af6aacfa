"""Slow, obvious heaps over a map with one entry a byte, beside those of allocator_oracle.py, with their books."""

from __future__ import annotations

from tests.allocator_oracle import FREE, BestFit, ByteMap, FirstFit


class Headed(ByteMap):
    """With `header` bytes in front of each object."""

    def __init__(self, capacity: int, unit: int, header: int = 0):
        super().__init__(capacity, unit)
        self.header = header

    def footprint(self, size):
        return super().footprint(size + self.header)

    def address(self, block):
        return super().address(block) + self.header if block in self.asked else -1

    def metadata_bytes(self) -> int:
        return self.header * len(self.asked)

    def internal_bytes(self):
        return super().internal_bytes() - self.metadata_bytes()


class HeadedFirstFit(Headed, FirstFit):
    pass


class HeadedBestFit(Headed, BestFit):
    pass


class WorstFit(Headed):
    def place(self, size):
        fitting = [(-run, at) for at, run in self.runs() if run >= self.footprint(size)]
        return min(fitting)[1] if fitting else None


class NextFit(Headed):
    """A run that the last placed object ends in or before is tried first."""

    end = 0

    def place(self, size):
        fitting = [(at, run) for at, run in self.runs() if run >= self.footprint(size)]
        after = [at for at, run in fitting if at + run > self.end]
        return next(iter([*after, *(at for at, _ in fitting)]), None)

    def put(self, block, size, start):
        super().put(block, size, start)
        self.end = start + self.footprint(size)


class Bump(Headed):
    """Of the chunk at hand it is known up to where it was used; in any other an object goes to its start."""

    def __init__(self, capacity: int, unit: int, chunk: int):
        super().__init__(capacity, unit)
        self.chunk = max(unit, min(chunk or self.usable, self.usable))
        self.usable = capacity // self.chunk * self.chunk
        self.owner = [FREE] * self.usable
        self.at_hand, self.top = None, 0

    def footprint(self, size):
        aligned = super().footprint(size)
        return aligned if aligned <= self.chunk else -(-aligned // self.chunk) * self.chunk

    def chunks_of(self, at: int, size: int) -> range:
        return range(at // self.chunk * self.chunk, at + size, self.chunk)

    def is_free(self, start: int) -> bool:
        return start < self.usable and set(self.owner[start : start + self.chunk]) == {FREE}

    def place(self, size):
        taken = self.footprint(size)
        if self.at_hand is not None and self.top + taken <= self.at_hand + self.chunk:
            return self.top
        starts = range(0, self.usable, self.chunk)
        return next((at for at in starts if all(self.is_free(start) for start in self.chunks_of(at, taken))), None)

    def put(self, block, size, start):
        super().put(block, size, start)
        if self.footprint(size) <= self.chunk:
            self.at_hand, self.top = start // self.chunk * self.chunk, start + self.footprint(size)

    def release(self, block):
        super().release(block)
        if self.at_hand is not None and self.is_free(self.at_hand):
            self.at_hand = None


class Tlsf(Headed):
    """Free blocks in lists by size, the one put there last first; a list is named by its smallest size."""

    def __init__(self, capacity: int, unit: int, header: int, smallest: int, bits: int):
        super().__init__(capacity, unit, header)
        self.smallest, self.taken = smallest, {}
        if self.usable < smallest:
            self.usable, self.owner = 0, []
        self.bounds = [units * unit for units in range(1 << bits)]
        step = unit
        while self.bounds[-1] <= capacity:
            self.bounds += [((1 << bits) + i) * step for i in range(1 << bits)]
            step *= 2
        self.lists: dict[int, list[tuple[int, int]]] = {bound: [] for bound in self.bounds}
        if self.usable:
            self.push(0, self.usable)

    def push(self, at: int, size: int) -> None:
        self.lists[max(bound for bound in self.bounds if bound <= size)].insert(0, (at, size))

    def pull(self, free: tuple[int, int]) -> None:
        next(own for own in self.lists.values() if free in own).remove(free)

    def footprint(self, size):
        return max(self.smallest, super().footprint(size))

    def chosen(self, size: int) -> tuple[int, int] | None:
        fitting = (own for bound, own in self.lists.items() if bound >= self.footprint(size) and own)
        return next(fitting, [None])[0]

    def place(self, size):
        return self.chosen(size)[0] if self.chosen(size) else None

    def put(self, block, size, start):
        free = self.chosen(size)
        self.pull(free)
        taken = self.footprint(size)
        if free[1] - taken >= self.smallest:
            self.push(start + taken, free[1] - taken)
        else:
            taken = free[1]
        assert set(self.owner[start : start + taken]) == {FREE}, "blocks overlap"
        self.owner[start : start + taken] = [block] * taken
        self.asked[block] = size

    def release(self, block):
        start, size = self.owner.index(block), self.owner.count(block)
        super().release(block)
        at, length = next((at, length) for at, length in self.runs() if at <= start < at + length)
        for free in ((at, start - at), (start + size, at + length - start - size)):
            if free[1]:
                self.pull(free)
        self.push(at, length)


class PowerOfTwo(Headed):
    """Free blocks in one list a size, from the end of which they are taken; whole pages are cut into such a list."""

    def __init__(self, capacity: int, page: int, header: int, smallest: int):
        super().__init__(capacity, page, header)
        self.page, self.smallest, self.top, self.lists = page, smallest, 0, {}

    def footprint(self, size):
        footprint = self.smallest
        while footprint < size + self.header:
            footprint *= 2
        return footprint

    def place(self, size):
        taken = self.footprint(size)
        if self.lists.get(taken):
            return self.lists[taken][-1]
        return self.top if self.top + max(taken, self.page) <= self.usable else None

    def put(self, block, size, start):
        super().put(block, size, start)
        taken = self.footprint(size)
        own = self.lists.setdefault(taken, [])
        if not own:
            end = self.top + max(taken, self.page)
            own += reversed(range(self.top, end, taken))
            self.top = end
        assert own.pop() == start

    def release(self, block):
        self.lists[self.footprint(self.asked[block])].append(self.owner.index(block))
        super().release(block)


class Spans(Headed):
    """Slabs of whole pages for classes of chunks; judges a placement rather than choosing one of the free chunks."""

    def __init__(self, capacity: int, page: int, classes: list[tuple[int, int]], header: int = 0):
        super().__init__(capacity, page)
        self.page, self.classes, self.in_slab = page, classes, header
        self.slabs: dict[int, tuple[int, int]] = {}  # by address: bytes of a chunk and of the slab

    def class_of(self, size: int) -> tuple[int, int] | None:
        return next((own for own in self.classes if own[0] >= size), None)

    def footprint(self, size):
        own = self.class_of(size)
        return own[0] if own else super().footprint(size)

    def free_pages(self, size: int) -> int | None:
        """The lowest address of so many bytes in pages that are nobody's."""
        taken = [owner != FREE for owner in self.owner]
        for at, (_, length) in self.slabs.items():
            taken[at : at + length] = [True] * length
        return next((at for at in range(0, self.usable - size + 1, self.page) if not any(taken[at : at + size])), None)

    def candidates(self, size: int) -> list[int]:
        own = self.class_of(size)
        if own is None:
            at = self.free_pages(self.footprint(size))
            return [] if at is None else [at]
        chunk, length = own
        inside = [
            at
            for start, cut in self.slabs.items()
            if cut == own
            for at in range(start, start + length - self.in_slab - chunk + 1, chunk)
            if set(self.owner[at : at + chunk]) == {FREE}
        ]
        at = self.free_pages(length)
        return inside or ([] if at is None else [at])

    def place(self, size):
        return next(iter(self.candidates(size)), None)

    def put(self, block, size, start):
        own = self.class_of(size)
        if own and not any(at <= start < at + length for at, (_, length) in self.slabs.items()):
            self.slabs[start] = own
        super().put(block, size, start)

    def release(self, block):
        super().release(block)
        self.slabs = {at: own for at, own in self.slabs.items() if set(self.owner[at : at + own[1]]) != {FREE}}

    def metadata_bytes(self):
        return len(self.slabs) * self.in_slab

    def internal_bytes(self):
        return sum(self.footprint(size) - size for size in self.asked.values())

    def free_bytes(self):
        return super().free_bytes() - self.metadata_bytes()

    def outside_bytes(self, slab_bytes: int, page_bytes: int, chunk_bits: int) -> int:
        large = {block: size for block, size in self.asked.items() if self.class_of(size) is None}
        pages = sum(length for _, length in self.slabs.values()) + sum(map(self.footprint, large.values()))
        bits = chunk_bits * sum((length - self.in_slab) // chunk for chunk, length in self.slabs.values())
        return (len(self.slabs) + len(large)) * slab_bytes + pages // self.page * page_bytes + -(-bits // 8)
