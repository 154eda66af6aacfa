"""PyTorch's CUDA caching allocator and GMLake's stitching as plainly as can be: lists, searched from end to end.

After c10/cuda/CUDACachingAllocator.cpp. The device is a list of its pages of 2 MiB; a segment takes the lowest gap, and
a handle of an expandable segment any free pages, the lowest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1 << 20
PAGE = 2 * MIB


@dataclass(eq=False)
class Block:
    at: int
    size: int
    pool: tuple[int, bool]  # stream, large
    in_use: bool = False
    mapped: bool = True
    born: int = 0


@dataclass
class Caching:
    capacity: int
    expandable: bool = False
    divisions: int = 0
    max_split: int | None = None
    max_excess: int = 20 * MIB
    collect: float = 0.0
    segments: list[list[Block]] = field(default_factory=list)
    placed: dict[int, tuple[Block, int]] = field(default_factory=dict)
    searches: int = 0
    calls: dict[str, int] = field(default_factory=lambda: {"malloc": 0, "free": 0, "map": 0, "unmap": 0})

    def __post_init__(self):
        self.pages = [True] * (self.capacity // PAGE)  # which are free
        self.frame_of: dict[tuple[tuple[int, bool], int], int] = {}

    @property
    def counted(self) -> dict[str, int]:
        return self.calls

    # --- sizes

    def rounded(self, size: int) -> int:
        if size < 512:
            return 512
        if self.divisions > 1 and size > 512 * self.divisions:
            power = 1
            while 2 * power <= size:
                power *= 2
            return -(-size // (power // self.divisions)) * (power // self.divisions)
        return -(-size // 512) * 512

    def segment_size(self, size: int) -> int:
        if size <= MIB:
            return 2 * MIB
        return 20 * MIB if size < 10 * MIB else -(-size // PAGE) * PAGE

    @property
    def held(self) -> int:
        return sum(block.size for segment in self.segments for block in segment if block.mapped)

    @property
    def free(self) -> int:
        return len(self.pages) * PAGE - sum(block.size for block, _ in self.placed.values())

    @property
    def internal(self) -> int:
        return sum(block.size - asked for block, asked in self.placed.values())

    # --- requests

    def allocate(self, number: int, asked: int, stream: int = 0) -> bool:
        size = self.rounded(asked)
        pool = (stream, size > MIB)
        block = self.cached_block(pool, size) or self.new_block(pool, size)
        if block is None:
            return False
        rest = block.size - size
        small = self.expandable or not pool[1]
        if rest >= 512 if small else (size < (self.max_split or 1 << 62) and rest > MIB):
            segment = self.segment_of(block)
            upper = Block(block.at + size, rest, pool, born=self.searches)
            segment.insert(segment.index(block) + 1, upper)
            block.size = size
        block.in_use = True
        self.placed[number] = block, asked
        return True

    def release(self, number: int) -> None:
        block, _ = self.placed.pop(number)
        block.in_use, block.born = False, self.searches
        self.merge(self.segment_of(block))

    def segment_of(self, block: Block) -> list[Block]:
        return next(segment for segment in self.segments if block in segment)

    def merge(self, segment: list[Block]) -> None:
        at = 0
        while at + 1 < len(segment):
            low, high = segment[at], segment[at + 1]
            if not low.in_use and not high.in_use and low.mapped == high.mapped:
                low.size += high.size
                low.born = self.searches
                segment.remove(high)
            else:
                at += 1

    def cached(self, pool) -> list[Block]:
        blocks = [b for segment in self.segments for b in segment if b.pool == pool and b.mapped and not b.in_use]
        return sorted(blocks, key=lambda block: (block.size, block.at))

    def cached_block(self, pool, size: int) -> Block | None:
        if self.collect and pool[1]:
            self.searches += 1
        fitting = [block for block in self.cached(pool) if block.size >= size]
        if not fitting:
            return None
        block = fitting[0]
        for following in fitting[1:] if self.expandable else []:
            if self.growing(following) >= self.growing(block):
                break
            block = following
        if self.max_split and size < self.max_split <= block.size:
            return None
        if self.max_split and size >= self.max_split and block.size >= size + self.max_excess:
            return None
        return block

    def growing(self, block: Block) -> int:
        segment = self.segment_of(block)
        after = segment[segment.index(block) + 1 :][:1]
        return block.size + (after[0].size if after and not after[0].mapped else 0)

    def new_block(self, pool, size: int) -> Block | None:
        if self.expandable:
            return self.grow(pool, size) or (self.release_cached(), self.grow(pool, size))[1]
        if self.collect:
            self.collect_garbage()
        wanted = self.segment_size(size)
        block = self.malloc(pool, wanted)
        if block is None and self.max_split and self.release_oversize(pool, max(size, self.max_split)):
            block = self.malloc(pool, wanted)
        if block is None:
            self.release_cached()
            block = self.malloc(pool, wanted)
        return block

    # --- segments of cudaMalloc

    def malloc(self, pool, size: int) -> Block | None:
        count = size // PAGE
        for page in range(len(self.pages) - count + 1):
            if all(self.pages[page : page + count]):
                self.pages[page : page + count] = [False] * count
                block = Block(page * PAGE, size, pool, born=self.searches)
                self.segments.append([block])
                self.calls["malloc"] += 1
                return block
        return None

    def free_segment(self, block: Block) -> None:
        self.segments = [segment for segment in self.segments if segment[0] is not block]
        for page in range(block.at // PAGE, (block.at + block.size) // PAGE):
            self.pages[page] = True
        self.calls["free"] += 1

    def whole(self, large_only: bool = False) -> list[Block]:
        alone = [segment[0] for segment in self.segments if len(segment) == 1 and not segment[0].in_use]
        return [block for block in alone if block.pool[1] or not large_only]

    def release_oversize(self, pool, least: int) -> bool:
        fitting = [block for block in self.cached(pool) if block.size >= least]
        if fitting:
            self.free_segment(fitting[0])
            return True
        returned = 0
        for block in reversed(self.cached(pool)):
            if returned >= least or block.size < self.max_split:
                break
            returned += block.size
            self.free_segment(block)
        return returned >= least

    def collect_garbage(self) -> None:
        target = self.held - int(self.collect * len(self.pages) * PAGE)
        freed = 0
        while freed < target and self.whole(large_only=True):
            idle = self.whole(large_only=True)
            average = sum(self.searches - block.born for block in idle) / len(idle)
            for block in [block for block in idle if self.searches - block.born >= average]:
                freed += block.size
                self.free_segment(block)

    def release_cached(self) -> None:
        if self.expandable:
            for segment in self.segments:
                for block in [b for b in segment if b.mapped and not b.in_use]:
                    self.unmap(segment, block)
        else:
            for block in self.whole():
                self.free_segment(block)

    # --- expandable segments

    def handle(self, pool) -> int:
        return 20 * MIB if pool[1] else 2 * MIB

    def grow(self, pool, size: int) -> Block | None:
        if not any(segment[0].pool == pool for segment in self.segments):
            room = -(-8 * len(self.pages) * PAGE // (20 * MIB)) * 20 * MIB
            self.segments.append([Block(0, room, pool, mapped=False)])
        segment = next(segment for segment in self.segments if segment[0].pool == pool)
        for block in [block for block in segment if not block.mapped]:
            at = segment.index(block)
            if at and not segment[at - 1].in_use:
                at -= 1
            room, end = 0, at
            while end < len(segment) and not segment[end].in_use and room < size:
                room += segment[end].size
                end += 1
            if room >= size:
                return self.map_from(segment, segment[at].at, size)
        return None

    def map_from(self, segment: list[Block], start: int, size: int) -> Block | None:
        while True:
            block = next(block for block in segment if block.at == start)
            if block.mapped and block.size >= size:
                return block
            upper = segment[segment.index(block) + 1] if block.mapped else block
            wanted = min(upper.size, size - (block.size if block.mapped else 0))
            if not self.map(segment, upper, wanted):
                return None

    def map(self, segment: list[Block], block: Block, size: int) -> bool:
        handle = self.handle(block.pool)
        handles = -(-size // handle)
        if handles * handle // PAGE > sum(self.pages):
            return False
        rest = block.size - handles * handle
        if rest:
            upper = Block(block.at + handles * handle, rest, block.pool, mapped=False)
            segment.insert(segment.index(block) + 1, upper)
        block.size, block.mapped, block.born = handles * handle, True, self.searches
        for page in range(block.at // PAGE, (block.at + block.size) // PAGE):
            frame = self.pages.index(True)
            self.pages[frame] = False
            self.frame_of[block.pool, page] = frame
        self.calls["map"] += handles
        self.merge(segment)
        return True

    def unmap(self, segment: list[Block], block: Block) -> None:
        handle = self.handle(block.pool)
        first, end = -(-block.at // handle) * handle, (block.at + block.size) // handle * handle
        if first >= end:
            return
        parts = [Block(block.at, first - block.at, block.pool), Block(first, end - first, block.pool, mapped=False)]
        parts.append(Block(end, block.at + block.size - end, block.pool))
        at = segment.index(block)
        segment[at : at + 1] = [part for part in parts if part.size]
        for page in range(first // PAGE, end // PAGE):
            self.pages[self.frame_of.pop((block.pool, page))] = True
        self.calls["unmap"] += (end - first) // handle
        self.merge(segment)

    # --- where a request lies

    def runs(self, number: int) -> list[tuple[int, int]]:
        block, _ = self.placed[number]
        if not self.expandable:
            return [(block.at, block.size)]
        runs, at = [], block.at
        while at < block.at + block.size:
            until = min(block.at + block.size, (at // PAGE + 1) * PAGE)
            place = self.frame_of[block.pool, at // PAGE] * PAGE + at % PAGE
            if runs and runs[-1][0] + runs[-1][1] == place:
                runs[-1] = runs[-1][0], runs[-1][1] + until - at
            else:
                runs.append((place, until - at))
            at = until
        return runs


@dataclass(eq=False)
class Primitive:
    chunks: list[int]
    stream: int
    active: bool = True


@dataclass(eq=False)
class Stitched:
    parts: list[Primitive]
    stream: int
    size: int
    in_use: bool = True
    used: int = 0

    @property
    def free(self) -> bool:
        return not any(part.active for part in self.parts)


@dataclass
class Stitching:
    """`small` has the device's pages, too. Sizes here are in chunks."""

    capacity: int
    stitched_from: int
    most_stitched: int
    primitive: list[Primitive] = field(default_factory=list)
    stitched: list[Stitched] = field(default_factory=list)
    placed: dict[int, tuple[Primitive | Stitched | None, int]] = field(default_factory=dict)
    clock: int = 0
    calls: dict[str, int] = field(default_factory=lambda: {"malloc": 0, "free": 0, "map": 0, "unmap": 0})

    def __post_init__(self):
        self.small = Caching(self.capacity)

    @property
    def counted(self) -> dict[str, int]:
        return {name: self.calls[name] + self.small.calls[name] for name in self.calls}

    @property
    def held(self) -> int:
        return self.small.held + sum(len(block.chunks) for block in self.primitive) * PAGE

    def taken(self, number: int) -> int:
        return sum(size for _, size in self.runs(number))

    @property
    def free(self) -> int:
        return len(self.small.pages) * PAGE - sum(map(self.taken, self.placed))

    @property
    def internal(self) -> int:
        return sum(self.taken(number) - asked for number, (_, asked) in self.placed.items())

    def rounded(self, size: int) -> int:
        return -(-size // 512) * 512

    def allocate(self, number: int, asked: int, stream: int = 0) -> bool:
        if asked <= MIB:
            if not self.small.allocate(number, asked, stream):
                self.give_back()
                if not self.small.allocate(number, asked, stream):
                    return False
            self.placed[number] = None, asked
            return True
        block = self.block(-(-asked // PAGE), stream)
        if block is None:
            return False
        for part in block.parts if isinstance(block, Stitched) else [block]:
            part.active = True
        if isinstance(block, Stitched):
            block.in_use = True
        self.placed[number] = block, asked
        return True

    def block(self, size: int, stream: int) -> Primitive | Stitched | None:
        free = [block for block in self.primitive if block.stream == stream and not block.active]
        free.sort(key=lambda block: (len(block.chunks), block.chunks[0]))
        exact = [block for block in free if len(block.chunks) == size]
        exact += [block for block in self.stitched if block.stream == stream and block.size == size and block.free]
        if exact:
            return exact[0]
        larger = [block for block in free if len(block.chunks) > size]
        if larger:
            return self.split(larger[0], size)
        rest = size - sum(len(block.chunks) for block in free)
        if free and size >= self.stitched_from and rest <= sum(self.small.pages):
            return self.stitch(free, size, stream)
        if size > sum(self.small.pages):
            self.give_back()
        return self.create(size, stream) if size <= sum(self.small.pages) else None

    def split(self, block: Primitive, size: int) -> Primitive:
        upper = Primitive(block.chunks[size:], block.stream, active=False)
        block.chunks = block.chunks[:size]
        self.primitive.append(upper)
        for over in self.stitched:
            if block in over.parts:
                over.parts.insert(over.parts.index(block) + 1, upper)
        return block

    def stitch(self, free: list[Primitive], size: int, stream: int) -> Stitched:
        parts, wanted = [], size
        for block in reversed(free):
            if wanted:
                part = self.split(block, wanted) if len(block.chunks) > wanted else block
                part.active = True
                parts.append(part)
                wanted -= len(part.chunks)
        if wanted:
            parts.append(self.create(wanted, stream))
        self.calls["map"] += size
        over = Stitched(parts, stream, size)
        self.stitched.append(over)
        self.keep_within()
        return over

    def create(self, size: int, stream: int) -> Primitive:
        chunks = [page for page, free in enumerate(self.small.pages) if free][:size]
        for page in chunks:
            self.small.pages[page] = False
        self.calls["malloc"] += size
        self.calls["map"] += size
        self.primitive.append(Primitive(chunks, stream))
        return self.primitive[-1]

    def give_back(self) -> None:
        for block in [block for block in self.primitive if not block.active]:
            for over in [over for over in self.stitched if block in over.parts]:
                self.unstitch(over)
            for page in block.chunks:
                self.small.pages[page] = True
            self.calls["free"] += len(block.chunks)
            self.calls["unmap"] += len(block.chunks)
            self.primitive.remove(block)
        self.small.release_cached()

    def unstitch(self, over: Stitched) -> None:
        self.calls["unmap"] += over.size
        self.stitched.remove(over)

    def keep_within(self) -> None:
        unused = sorted((over for over in self.stitched if not over.in_use), key=lambda over: over.used)
        for over in unused:
            if sum(block.size for block in self.stitched) > self.most_stitched:
                self.unstitch(over)

    def release(self, number: int) -> None:
        block, _ = self.placed.pop(number)
        if block is None:
            self.small.release(number)
        elif isinstance(block, Primitive):
            block.active = False
        else:
            for part in block.parts:
                part.active = False
            self.clock += 1
            block.in_use, block.used = False, self.clock
            self.keep_within()

    def runs(self, number: int) -> list[tuple[int, int]]:
        block, _ = self.placed[number]
        if block is None:
            return self.small.runs(number)
        parts = block.parts if isinstance(block, Stitched) else [block]
        runs = []
        for chunk in [chunk for part in parts for chunk in part.chunks]:
            if runs and runs[-1][0] + runs[-1][1] == chunk * PAGE:
                runs[-1] = runs[-1][0], runs[-1][1] + PAGE
            else:
                runs.append((chunk * PAGE, PAGE))
        return runs
