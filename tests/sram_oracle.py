"""A banked SRAM with queues that are really there, cycle by cycle: slow, and with nothing that the model is built of.

All parameters in whole cycles of 1 ns, requests of at most one line. Two partitions have room for all copies or none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Server:
    hold: int
    free_at: int = 0
    queue: deque = field(default_factory=deque)  # (order of entry, line, what it does once served, for how long)


@dataclass
class Line:
    ticket: int
    near: int
    home: int
    bank: int
    size: int
    write: bool


class Oracle:
    def __init__(self, p, all_copied: bool):
        self.p, self.all_copied = p, all_copied
        self.port = [Server(0) for _ in range(p.slices)]
        self.bank = {(s, b): Server(int(p.bank_cycles)) for s in range(p.slices) for b in range(p.banks_per_slice)}
        self.link = [Server(round(p.line_link_ns)) for _ in range(2)]
        self.queued = [0] * p.slices
        self.later = []  # (cycle, order of entry, what, line)
        self.entries = 0
        self.done = {}

    def run(self, requests) -> dict[int, int]:
        """Cycle in which each of the requests (arrival cycle, Line) is done; they enter in order, as room is found."""
        waiting, now = deque(requests), 0
        while len(self.done) < len(requests):
            while self._one_thing(now):
                pass
            while waiting and waiting[0][0] <= now and self.queued[waiting[0][1].near] < self.p.queue:
                line = waiting.popleft()[1]
                self.queued[line.near] += 1
                self._join(self.bank[line.near, line.bank], line, self._looked_up)
                while self._one_thing(now):
                    pass
            now += 1
        return self.done

    def _one_thing(self, now) -> bool:
        """Whatever is due in this cycle and entered first: a line's move, or a server that takes its next line."""
        servers = [*self.port, *self.bank.values(), *self.link]
        due = [(entry, what, line, None) for cycle, entry, what, line in self.later if cycle <= now]
        due += [(s.queue[0][0], s.queue[0][2], s.queue[0][1], s) for s in servers if s.queue and s.free_at <= now]
        if not due:
            return False
        entry, what, line, server = min(due, key=lambda one: one[0])
        if server is None:
            self.later = [one for one in self.later if one[1] != entry]
        else:
            server.free_at = now + (server.hold or round(self.p.port_ns(line.size)))
            server.queue.popleft()
        what(line, now)
        return True

    def _entry(self) -> int:
        self.entries += 1
        return self.entries

    def _join(self, server, line, what):
        server.queue.append((self._entry(), line, what))

    def _at(self, cycle, line, what):
        self.later.append((cycle, self._entry(), what, line))

    def _looked_up(self, line, now):
        if line.near == line.home or (self.all_copied and not line.write):
            self._join(self.port[line.near], line, self._leaves)
        elif line.write:
            self._join(self.link[2 * line.home // self.p.slices], line, self._sent_home)
        else:
            self._at(now + int(self.p.link_cycles), line, self._at_home)

    def _sent_home(self, line, now):
        self._at(now + round(self.p.line_link_ns) + int(self.p.link_cycles), line, self._at_home)

    def _at_home(self, line, now):
        self._join(self.bank[line.home, line.bank], line, self._served_home)

    def _served_home(self, line, now):
        if line.write:
            self.queued[line.near] -= 1
            self._at(now + int(self.p.link_cycles + self.p.latency_ns), line, self._finished)
        else:
            self._join(self.link[2 * line.near // self.p.slices], line, self._sent_back)

    def _sent_back(self, line, now):
        self._at(now + round(self.p.line_link_ns) + int(self.p.link_cycles), line, self._back)

    def _back(self, line, now):
        self._join(self.bank[line.near, line.bank], line, self._filled)

    def _filled(self, line, now):
        self._join(self.port[line.near], line, self._leaves)

    def _leaves(self, line, now):
        self.queued[line.near] -= 1
        self._at(now + round(self.p.port_ns(line.size)) + int(self.p.latency_ns), line, self._finished)

    def _finished(self, line, now):
        assert line.ticket not in self.done
        self.done[line.ticket] = now
