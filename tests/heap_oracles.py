"""Slow, obvious heaps over a map with one entry a byte, beside those of allocator_oracle.py, with their books."""

from __future__ import annotations

from tests.allocator_oracle import BestFit, ByteMap, FirstFit


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
