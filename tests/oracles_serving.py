"""A slow model of one serving engine: lists, sets and dictionaries, from the rules alone.

The rules are vLLM v1's, first come first served:

- An iteration has `max_num_batched_tokens`. Calls that run come first, in order of admission, each with what it lacks
  of its sequence. One that finds no blocks preempts the call that was admitted last, itself if need be, which gives up
  all its blocks and waits again in its old place. Where none was preempted, waiting calls follow in order of arrival
  until one does not fit: its whole sequence must fit at once, though blocks are given chunk by chunk.
- A call finds the longest run of complete blocks of its sequence, but for the last token, first in G1 and from there on
  in the lower tiers. Lower blocks are loaded, a transfer for each tier, while the call waits outside of the batch.
- Where nothing runs, nothing moves, and the first waiting call finds no blocks, the waiting call that began to load
  last gives up those that it has.
- A block enters the index as the tokens that complete it are scheduled; one of generated tokens when the next token is.
  Two calls may compute the same block: the second keeps its own for itself.
- Blocks of G1 are free in the order in which calls released them, a call's last block first. Free blocks are evicted
  from the front. One in use that an eviction passes over goes to the end once nobody uses it any more.
- A lower tier is LRU of what came into it or was found in it. write_through: a copy of what enters G1, and of what is
  found there and missing here; of the third tier from the second one. write_through_selective: of what has been
  accessed twice. write_back, exclusive: of what G1 evicts; an exclusive tier gives up what it gives back.
- Victims of G1 are copied away before the next iteration begins, other copies start when the one at hand has ended, and
  hold their block in G1 until they have arrived. A copy that waits for the second tier to have the block is not made
  where the third has given it up meanwhile. What arrives for a block that has left and come back counts as its data.
- At one moment: copies go on, the iteration ends, calls arrive, the next iteration is planned.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from sim.cost.kernels import WORK
from sim.cost.step import add_step_chunk, iteration_ns


@dataclass
class Server:
    """A device or one way of a link: channels that are free from some time on."""

    free_ns: list
    interleave: int
    busy_ns: float = 0.0

    def pass_through(self, access, head_ns, size):
        """When the first byte is out, when the last would be if all had been there."""
        channels = len(self.free_ns)
        stripes = min(channels, -(-size // self.interleave)) if size > self.interleave and channels > 1 else 1
        hold_ns = access.occupancy_ns + size / stripes * (channels / access.bandwidth_bytes_per_ns)
        ends = []
        for _ in range(stripes):
            first = min(range(channels), key=lambda c: self.free_ns[c])
            self.free_ns[first] = max(head_ns, self.free_ns[first]) + hold_ns
            ends.append(self.free_ns[first])
        start_ns = max(ends) - hold_ns
        return start_ns + access.occupancy_ns + access.latency_ns, max(ends) + access.latency_ns


@dataclass(eq=False)
class Transfer:
    kind: str
    blocks: list
    target: int
    stages: deque
    head_ns: float
    tail_ns: float
    call: object = None
    drains: bool = False
    size: int = 0
    copies: int = 1


@dataclass(eq=False)
class Call:
    index: int
    arrival_ns: float
    prompt: int
    output: int
    hashes: list
    fresh: list
    tokens: int = 0
    filled: int = 0
    used: list = field(default_factory=list)  # blocks of the index that it uses, by position; None: its own
    own: int = 0
    new: int = 0
    pending: int = 0
    loaded_to: int = 0
    admitted: int = 0
    started: bool = False  # it has what it found, and is to go on from there
    most: int = 0
    first_scheduled: float = math.nan
    first_token: float = math.nan
    finish: float = math.nan
    hits: list = None
    preemptions: int = 0
    recomputed: int = 0

    def block(self, position):
        rows = len(self.hashes)
        return self.hashes[position] if position < rows else self.fresh[position - rows]

    @property
    def blocks(self):
        return self.own + sum(one is not None for one in self.used)


class Lru:
    """Blocks in order of use, the first to leave first."""

    def __init__(self, capacity):
        self.capacity, self.order = capacity, []

    def __contains__(self, block):
        return block in self.order

    def touch(self, block):
        if block in self.order:
            self.order.remove(block)
        self.order.append(block)


class Engine:
    def __init__(self, setup):
        o = setup.options
        self.o, self.step_shape = o, None
        work = setup.workload
        self.b = setup.blocks.block_tokens
        self.block_bytes = setup.memory.block_bytes
        self.modes = [None, *(tier.offload.name for tier in o.tiers[1:])]
        self.capacity = setup.memory.capacity_blocks[0]
        self.queue = []  # blocks of the index in G1, in the order in which they may go
        self.passed_over = set()
        self.index = set()
        self.uses = {}
        self.private = 0
        self.lower = [None, *(Lru(n) for n in setup.memory.capacity_blocks[1:])]
        self.under_way = [set() for _ in o.tiers]
        self.awaits = [set() for _ in o.tiers]
        self.touches = {}
        self.moves = []
        self.counts = {"evictions": 0, "preemptions": 0, "iterations": 0}
        self.calls = [self._call(work, i) for i in range(work.arrival_ns.size)]
        self._routes(setup)
        self.copier_ns = [0.0, 0.0]
        self.events, self.entries = [], 0
        self.traffic = {}
        self.waiting, self.running, self.loading = [], [], []
        self.draining = self.admissions = 0

    def _call(self, work, i):
        rows = work.block[work.first_row[i] : work.first_row[i + 1]].tolist()
        fresh = list(range(int(work.fresh_first[i]), int(work.fresh_first[i + 1])))
        prompt, output = int(work.input_tokens[i]), int(work.output_tokens[i])
        call = Call(i, float(work.arrival_ns[i]), prompt, output, rows, fresh, tokens=prompt)
        call.hits = [0] * len(self.o.tiers)
        return call

    def _routes(self, setup):
        profile = setup.profile
        tiers = [profile.tier(tier.name) for tier in self.o.tiers]
        boxes = [Server([0.0] * t.device.channels, t.device.interleave_bytes) for t in tiers]
        lines = {}
        for name, link in profile.links.items():
            for way in (False, True):
                lines[name, way] = Server([0.0] * link.channels, link.interleave_bytes), link.access(way), name
        self.routes = {}
        for a, source in enumerate(tiers):
            for z, target in enumerate(tiers):
                up, down = list(source.path), list(target.path)
                while up and down and up[-1] == down[-1]:
                    up.pop()
                    down.pop()
                ends = (boxes[a], source.device.access(False), a), (boxes[z], target.device.access(True), z)
                way = [lines[name, False] for name in up] + [lines[name, True] for name in reversed(down)]
                self.routes[a, z] = [ends[0], *way, ends[1]]

    # --- copies ------------------------------------------------------------------------------------------------------

    def start(self, kind, source, target, blocks, call=None, drains=False):
        copies = -(-len(blocks) // self.o.copy_blocks) if self.o.copy_blocks else 1
        way = 0 if target < source else 1
        begin_ns = max(self.now, self.copier_ns[way])
        self.copier_ns[way] = begin_ns + copies * self.o.copy_overhead_ns
        one = Transfer(kind, blocks, target, deque(self.routes[source, target]), 0.0, self.copier_ns[way], call, drains)
        one.head_ns = begin_ns + self.o.copy_overhead_ns
        one.size, one.copies = len(blocks) * self.block_bytes, copies
        self.draining += drains
        self.at(one.head_ns, one)

    def at(self, time_ns, one):
        heapq.heappush(self.events, (time_ns, self.entries, one))
        self.entries += 1

    def go_on(self, one):
        if not one.stages:
            self.arrived(one)
            return
        server, access, name = one.stages.popleft()
        asked = one.copies if isinstance(name, int) else 1  # of a device each copy asks by itself
        sizes = [one.size * (nth + 1) // asked - one.size * nth // asked for nth in range(asked)]
        passed = [server.pass_through(access, one.head_ns, size) for size in sizes]
        first_ns, end_ns = min(first for first, _ in passed), max(end for _, end in passed)
        one.head_ns, one.tail_ns = first_ns, max(end_ns, one.tail_ns + access.latency_ns)
        self.traffic[name] = self.traffic.get(name, 0) + one.size
        self.at(first_ns if one.stages else one.tail_ns, one)

    def arrived(self, one):
        self.replan = True
        onward = []
        for block in one.blocks:
            self.under_way[one.target].discard(block)
            if one.kind == "copy":
                self.unuse(block, touch=False)
            further = one.target + 1
            if one.kind != "load" and further < len(self.o.tiers) and block in self.awaits[further]:
                self.awaits[further].discard(block)
                onward.append(block)
        if onward:
            self.start("lower", one.target, one.target + 1, onward)
        self.draining -= one.drains
        if one.kind == "load":
            call = one.call
            call.pending -= 1
            if call.pending == 0:
                self.loading.remove(call)
                call.filled = call.loaded_to * self.b
                call.most = max(call.most, call.filled)
                call.started = True
                self.commit(call, call.loaded_to)
                self.wait(call)
        if self.draining == 0 and self.held_back:
            self.held_back = False
            self.begin()

    def send(self, with_copies):
        tiers = range(len(self.o.tiers))
        for source in tiers:
            for target in tiers:
                for why in ("victim", "copy") if with_copies else ("victim",):
                    blocks = [b for s, t, b, w in self.moves if (s, t, w) == (source, target, why)]
                    if not blocks:
                        continue
                    if source == 0 and why == "copy":
                        for block in blocks:
                            self.use(block)
                    kind = "copy" if source == 0 and why == "copy" else "lower"
                    # what was put in last comes first when it arrives
                    self.start(kind, source, target, blocks[::-1], drains=source == 0 and why == "victim")
        self.moves = [] if with_copies else [move for move in self.moves if move[3] == "copy"]

    # --- who holds what ----------------------------------------------------------------------------------------------

    @property
    def in_use(self):
        return sum(n > 0 for n in self.uses.values()) + self.private

    def use(self, block):
        self.uses[block] = self.uses.get(block, 0) + 1

    def unuse(self, block, touch):
        self.uses[block] -= 1
        if block in self.passed_over:
            if self.uses[block] == 0:
                self.passed_over.remove(block)
                self.queue.append(block)
        elif touch:
            self.queue.remove(block)
            self.queue.append(block)

    def make_room(self, blocks):
        while len(self.index) + self.private + blocks > self.capacity:
            block = self.queue.pop(0)
            if self.uses.get(block, 0):
                self.passed_over.add(block)
                continue
            self.index.remove(block)
            self.counts["evictions"] += 1
            if len(self.o.tiers) > 1:
                self.come_down(0, block)

    def come_down(self, source, block):
        """A tier has evicted a block; the tier below takes it, or nobody."""
        target = source + 1
        if target == len(self.o.tiers) or self.modes[target] not in ("write_back", "exclusive"):
            return
        if block in self.lower[target]:
            self.lower[target].touch(block)
            return
        at = len(self.moves)
        self.moves.append(None)
        victims = self.place(target, block)
        self.moves[at] = source, target, block, "victim"
        self.under_way[target].add(block)
        for victim in victims:
            self.come_down(target, victim)

    def place(self, tier, block):
        """Put a block into a lower tier; what had to leave for it."""
        lru, gone = self.lower[tier], []
        while len(lru.order) >= lru.capacity:
            gone.append(lru.order[0])
            self.leave(tier, lru.order[0])
        lru.order.append(block)
        return gone

    def leave(self, tier, block):
        self.lower[tier].order.remove(block)
        self.under_way[tier].discard(block)
        self.awaits[tier].discard(block)

    def access(self, block):
        """A block is used in G1, where it is put if it is not there."""
        lower = range(1, len(self.o.tiers))
        held = [tier for tier in lower if block in self.lower[tier]]
        self.touches[block] = self.touches.get(block, 0) + 1
        if block in self.index:
            if block not in self.passed_over:
                self.queue.remove(block)
                self.queue.append(block)
        else:
            self.index.add(block)
            self.queue.append(block)
            if held and self.modes[held[0]] == "exclusive":
                self.leave(held[0], block)
        for tier in lower:
            wanted = self.modes[tier] == "write_through"
            wanted |= self.modes[tier] == "write_through_selective" and self.touches[block] >= 2
            if wanted and block not in self.lower[tier]:
                victims = self.place(tier, block)
                self.copy_to(tier, block)
                for victim in victims:
                    self.come_down(tier, victim)
        for tier in held:
            if block in self.lower[tier]:
                self.lower[tier].touch(block)

    def copy_to(self, tier, block):
        source = tier - 1 if tier > 1 and block in self.lower[tier - 1] else 0
        if source and block in self.under_way[source]:
            self.awaits[tier].add(block)
        else:
            self.moves.append((source, tier, block, "copy"))
        self.under_way[tier].add(block)

    # --- calls -------------------------------------------------------------------------------------------------------

    def wait(self, call):
        self.waiting.append(call)
        self.waiting.sort(key=lambda one: (one.arrival_ns, one.index))

    def look_up(self, call):
        """How many of its first blocks are in G1, and for each further block of the run the tier that has it."""
        most = (call.tokens - 1) // self.b
        near = 0
        while near < most and call.block(near) in self.index:
            near += 1
        below = []
        while near + len(below) < most:
            block = call.block(near + len(below))
            found = [
                tier
                for tier in range(1, len(self.o.tiers))
                if block in self.lower[tier] and block not in self.under_way[tier]
            ]
            if not found:
                break
            below.append(found[0])
        return near, below

    def free(self):
        return self.capacity - self.in_use

    def grow(self, call, tokens):
        need = -(-tokens // self.b) - call.blocks
        if need <= 0:
            return True
        if self.free() < need:
            return False
        self.make_room(need)
        self.private += need
        call.own += need
        return True

    def commit(self, call, upto):
        for position in range(len(call.used), upto):
            block = call.block(position)
            if block in self.index:
                call.used.append(None)
                continue
            self.private -= 1
            call.own -= 1
            self.access(block)
            self.use(block)
            call.used.append(block)

    def commit_ahead(self, call):
        generated = call.new == 1 and call.filled > 0
        self.commit(call, (call.filled if generated else call.filled + call.new) // self.b)

    def release(self, call):
        for block in reversed(call.used):
            if block is not None:
                self.unuse(block, touch=True)
        self.private -= call.own
        call.used, call.own = [], 0

    def preempt(self, call):
        self.running.remove(call)
        self.release(call)
        self.counts["preemptions"] += 1
        call.preemptions += 1
        call.new, call.filled, call.started = 0, 0, False
        self.wait(call)

    def plan(self):
        o, budget, preempted, place = self.o, self.o.max_num_batched_tokens, False, 0
        while place < len(self.running) and budget > 0:
            call = self.running[place]
            new = call.tokens - call.filled
            if o.long_prefill_token_threshold:
                new = min(new, o.long_prefill_token_threshold)
            new = min(new, budget)
            while call in self.running and not self.grow(call, call.filled + new):
                last = self.running[-1]
                budget += last.new
                self.preempt(last)
                preempted = True
            if call not in self.running:
                break
            call.new = new
            self.commit_ahead(call)
            budget -= new
            place += 1
        self.replan = preempted and not self.running
        while not preempted and self.waiting and budget > 0 and len(self.running) < o.max_num_seqs:
            call = self.waiting[0]
            used = self.admit(call, budget)
            if used is None:
                if not self.running and not self.events and self.take_back(call):
                    continue
                break
            self.waiting.remove(call)
            budget -= used

    def take_back(self, first):
        others = [call for call in self.waiting if call is not first and call.blocks]
        if not others:
            return False
        call = max(others, key=lambda one: one.admitted)
        self.release(call)
        self.counts["preemptions"] += 1
        call.preemptions += 1
        call.filled, call.started = 0, False
        return True

    def admit(self, call, budget):
        """Tokens that a waiting call gets in the batch, 0 where it loads; None: it does not fit."""
        near, below = (0, []) if call.started else self.look_up(call)
        filled = call.filled if call.started else (near + len(below)) * self.b
        new = call.tokens - filled
        if self.o.long_prefill_token_threshold:
            new = min(new, self.o.long_prefill_token_threshold)
        if not below:
            if not self.o.chunked_prefill and new > budget:
                return None
            new = min(new, budget)
        found = [call.block(position) for position in range(near)]
        target = call.tokens if self.o.reserve_full_prompt else filled + (0 if below else new)
        need = -(-target // self.b) - call.blocks - near + sum(not self.uses.get(block, 0) for block in found)
        if need + int(self.o.watermark * self.capacity) > self.free():
            return None
        for block in found:
            self.use(block)
            self.access(block)
            call.used.append(block)
        assert self.grow(call, filled + (0 if below else new))
        if not call.started:  # what it has not had before
            for position, tier in enumerate([0] * near + below):
                upto = min(call.prompt, (position + 1) * self.b)
                call.hits[tier] += max(0, upto - max(call.most, position * self.b))
        if below:
            for tier in range(1, len(self.o.tiers)):
                if tier in below:
                    self.start("load", tier, 0, [None] * below.count(tier), call=call)
                    call.pending += 1
            call.loaded_to = near + len(below)
            self.loading.append(call)
            self.admissions += 1
            call.admitted = self.admissions
            return 0
        call.filled, call.new = filled, new
        call.most = max(call.most, filled)
        if math.isnan(call.first_scheduled):
            call.first_scheduled = self.now
        self.running.append(call)
        self.commit_ahead(call)
        return new

    # --- iterations --------------------------------------------------------------------------------------------------

    def duration_ns(self):
        work, decoding, seen, windowed, outputs = np.zeros((2, WORK)), 0, 0, 0, 0
        batch = [call for call in self.running if call.new]
        for call in batch:
            outputs += call.filled + call.new == call.tokens
            if call.new == 1 and call.filled > 0:
                decoding += 1
                seen += call.filled + 1
                windowed += min(call.filled + 1, self.step.window)
            else:
                add_step_chunk(self.step, work, float(call.new), float(call.filled))
        tokens = sum(call.new for call in batch)
        sums = float(decoding), float(seen), float(windowed)
        return iteration_ns(self.step, float(tokens), float(outputs), work, *sums)

    def begin(self):
        self.idle = False
        if self.draining:
            self.held_back = True
            return
        self.counts["iterations"] += 1
        self.ends_ns = self.now + self.duration_ns()

    def finish(self):
        for call in list(self.running):
            if not call.new:
                continue
            call.recomputed += max(0, min(call.filled + call.new, call.most) - call.filled)
            call.filled += call.new
            call.most = max(call.most, call.filled)
            call.new = 0
            if call.filled < call.tokens:
                continue
            call.tokens += 1
            if math.isnan(call.first_token):
                call.first_token = self.now
            if call.tokens == call.prompt + call.output:
                call.finish = self.now
                self.running.remove(call)
                self.release(call)

    def run(self, step, refused=()):
        self.step, self.now, self.idle, self.held_back = step, 0.0, True, False
        self.ends_ns, self.replan = math.inf, False
        to_come = deque(call for call in self.calls if call.index not in refused)
        while True:
            arrival_ns = to_come[0].arrival_ns if to_come else math.inf
            copy_ns = self.events[0][0] if self.events else math.inf
            next_ns = min(arrival_ns, copy_ns, self.ends_ns)
            if self.replan and self.idle and next_ns > self.now:
                self.replan = False
                self.plan()
                self.send(with_copies=False)
                if any(call.new for call in self.running):
                    self.begin()
                continue
            if next_ns == math.inf:
                return self
            self.now = next_ns
            if copy_ns == next_ns:
                self.go_on(heapq.heappop(self.events)[2])
            elif self.ends_ns == next_ns:
                self.ends_ns, self.idle, self.replan = math.inf, True, True
                self.finish()
                self.send(with_copies=True)
            else:
                self.wait(to_come.popleft())
                self.replan = True
