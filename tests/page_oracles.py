"""Slow, obvious allocators of pages and slots, over lists and dictionaries, to hold the compiled ones equal to."""

from __future__ import annotations

from sim.kernels.random import below, make_rng


def merged(pages: list[int], page_bytes: int) -> list[tuple[int, int]]:
    """(address, bytes) of the runs of pages, neighbours in the list that are neighbours in memory merged."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and runs[-1][1] == page:
            runs[-1][1] = page + 1
        else:
            runs.append([page, page + 1])
    return [(start * page_bytes, (end - start) * page_bytes) for start, end in runs]


class Accounts:
    """Sizes of what is placed, and what follows from them; a subclass says where it lies."""

    def __init__(self, capacity: int, unit: int):
        self.capacity, self.unit = capacity, unit
        self.asked: dict[int, int] = {}

    def pages_of(self, size: int) -> int:
        return -(-size // self.unit)

    def used_pages(self) -> int:
        return sum(map(self.pages_of, self.asked.values()))

    def internal_bytes(self) -> int:
        return self.used_pages() * self.unit - sum(self.asked.values())

    def reserved_bytes(self) -> int:
        return 0


class NamedPages(Accounts):
    """Every free page in a list, the next one to take first."""

    def __init__(self, capacity: int, unit: int, order: str):
        super().__init__(capacity, unit)
        self.order, self.free = order, list(range(capacity // unit))
        self.tables: dict[int, list[int]] = {}

    def take(self) -> int:
        return self.free.pop(self.free.index(min(self.free)) if self.order == "lowest" else 0)

    def give(self, pages: list[int]) -> None:
        """The last page of an object first."""
        back = pages[::-1]
        self.free = self.free + back if self.order == "fifo" else back + self.free

    def allocate(self, block: int, size: int) -> bool:
        if self.pages_of(size) > len(self.free):
            return False
        self.tables[block] = [self.take() for _ in range(self.pages_of(size))]
        self.asked[block] = size
        return True

    def resize(self, block: int, size: int) -> bool:
        table, pages = self.tables[block], self.pages_of(size)
        if pages - len(table) > len(self.free):
            return False
        table += [self.take() for _ in range(pages - len(table))]
        self.give(table[pages:])
        del table[pages:]
        self.asked[block] = size
        return True

    def release(self, block: int) -> None:
        self.give(self.tables.pop(block))
        del self.asked[block]

    def free_bytes(self) -> int:
        return len(self.free) * self.unit

    def largest_free_bytes(self) -> int:
        return self.free_bytes()

    def held_bytes(self) -> int:
        return self.used_pages() * self.unit

    def runs(self, block: int) -> list[tuple[int, int]]:
        return merged(self.tables[block], self.unit)


class SpreadPages(NamedPages):
    """Each number is a page in each of several tensors, which lie one after the other."""

    def __init__(self, capacity: int, page_bytes: int, tensors: int, order: str):
        super().__init__(capacity, page_bytes * tensors, order)
        self.page_bytes, self.tensors = page_bytes, tensors
        self.numbers = len(self.free)

    def runs(self, block: int) -> list[tuple[int, int]]:
        spread = [tensor * self.numbers + page for page in self.tables[block] for tensor in range(self.tensors)]
        return merged(spread, self.page_bytes)


class Groups(Accounts):
    """A map of pages with their owners; of each object, its groups, and how many pages of the last one it does not use.

    Whose pages are taken back is drawn as the allocator draws it: from a list in which the last one fills a gap.
    """

    def __init__(self, capacity: int, unit: int, group_pages: int, seed: int = 0):
        super().__init__(capacity, unit)
        self.group_pages, self.owner = group_pages, [-1] * (capacity // unit)
        self.groups: dict[int, list[list[int]]] = {}
        self.room: dict[int, int] = {}
        self.holders: list[int] = []
        self.rng = make_rng(seed)

    def free_runs(self) -> list[tuple[int, int]]:
        """(pages, first page) of the runs of free pages."""
        runs, start = [], None
        for page, owner in enumerate([*self.owner, 0]):
            if owner == -1 and start is None:
                start = page
            elif owner != -1 and start is not None:
                runs.append((page - start, start))
                start = None
        return runs

    def set_room(self, block: int, room: int) -> None:
        had = self.room.get(block, 0)
        self.room[block] = room
        if had == 0 and room:
            self.holders.append(block)
        elif had and room == 0:
            at, last = self.holders.index(block), self.holders.pop()
            if last != block:
                self.holders[at] = last

    def find(self, wanted: int) -> list[int]:
        runs = self.free_runs()
        fitting = [run for run in runs if run[0] >= wanted]
        largest = max(length for length, _ in runs)
        length, start = min(fitting) if fitting else min(run for run in runs if run[0] == largest)
        return list(range(start, start + min(length, wanted)))

    def take_back(self, most: int) -> list[int]:
        victim = self.holders[int(below(self.rng, len(self.holders)))]
        group, taken = self.groups[victim][-1], min(self.room[victim], most)
        gone = group[len(group) - taken :]
        del group[len(group) - taken :]
        self.set_room(victim, self.room[victim] - taken)
        return gone

    def extend(self, block: int, pages: int) -> bool:
        if pages > self.owner.count(-1) + sum(self.room.values()):
            return False
        room = self.room.get(block, 0)
        self.set_room(block, 0)
        while room < pages:
            needed = pages - room
            any_free = -1 in self.owner
            group = self.find(max(needed, self.group_pages)) if any_free else self.take_back(needed)
            for page in group:
                self.owner[page] = block
            self.groups.setdefault(block, []).append(group)
            room += len(group)
        self.set_room(block, room - pages)
        return True

    def allocate(self, block: int, size: int) -> bool:
        if not self.extend(block, self.pages_of(size)):
            return False
        self.asked[block] = size
        return True

    def resize(self, block: int, size: int) -> bool:
        more = self.pages_of(size) - self.pages_of(self.asked[block])
        if more > 0 and not self.extend(block, more):
            return False
        if more < 0:
            room = self.room[block] - more
            while room >= len(self.groups[block][-1]):
                room -= len(self.groups[block][-1])
                self.drop(self.groups[block].pop())
            self.set_room(block, room)
        self.asked[block] = size
        return True

    def drop(self, group: list[int]) -> None:
        for page in group:
            self.owner[page] = -1

    def release(self, block: int) -> None:
        self.set_room(block, 0)
        for group in self.groups.pop(block):
            self.drop(group)
        del self.asked[block], self.room[block]

    def free_bytes(self) -> int:
        return self.owner.count(-1) * self.unit

    def reserved_bytes(self) -> int:
        return sum(self.room.values()) * self.unit

    def largest_free_bytes(self) -> int:
        return self.free_bytes() + self.reserved_bytes()

    def held_bytes(self) -> int:
        return self.used_pages() * self.unit + self.reserved_bytes()

    def runs(self, block: int) -> list[tuple[int, int]]:
        pages = [page for group in self.groups[block] for page in group]
        return merged(pages[: self.pages_of(self.asked[block])], self.unit)


class Slots:
    """Pools of slots, each a list of the addresses of its free ones; new ones are cut side by side."""

    def __init__(self, capacity: int, slot_of: list[int]):
        self.capacity, self.slot_of, self.cut = capacity, slot_of, 0
        self.spare: dict[int, list[int]] = {size: [] for size in slot_of}
        self.asked: dict[int, int] = {}
        self.at: dict[int, int] = {}

    def allocate(self, block: int, size: int) -> bool:
        slot = self.slot_of[block]
        if size > slot or not (self.spare[slot] or self.cut + slot <= self.capacity):
            return False
        if not self.spare[slot]:
            self.spare[slot].append(self.cut)
            self.cut += slot
        self.at[block], self.asked[block] = self.spare[slot].pop(), size
        return True

    def resize(self, block: int, size: int) -> bool:
        if size > self.slot_of[block]:
            return False
        self.asked[block] = size
        return True

    def release(self, block: int) -> None:
        del self.asked[block]
        self.spare[self.slot_of[block]].append(self.at.pop(block))

    def internal_bytes(self) -> int:
        return sum(self.slot_of[block] - size for block, size in self.asked.items())

    def reserved_bytes(self) -> int:
        return 0

    def free_bytes(self) -> int:
        return self.capacity - sum(self.slot_of[block] for block in self.asked)

    def largest_free_bytes(self) -> int:
        fits = [size for size, spare in self.spare.items() if spare or self.cut + size <= self.capacity]
        return max(fits, default=0)

    def held_bytes(self) -> int:
        return self.cut

    def runs(self, block: int) -> list[tuple[int, int]]:
        return [(self.at[block], self.slot_of[block])]
