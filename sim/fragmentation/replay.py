"""One allocator on one stream of allocations: the whole replay, looked at every so often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.fragmentation import replaying as r
from sim.fragmentation.operations import Operations
from sim.hook_arguments import SYSTEM_CALLS, Context, Objects
from sim.kernels.by_reference import by_reference
from sim.policy import Allocator


@dataclass(frozen=True)
class Player:
    """An allocator with its state in the midst of a stream; `advance` goes on."""

    operations: Operations
    allocator: Allocator
    state: Any
    board: r.Board
    capacity_bytes: int
    empty_bytes: int  # free before the first operation
    moves: bool

    def advance(self, start: int, stop: int, until_failure: bool = False) -> int:
        """Do the operations from `start` up to `stop`; the row after the last one done."""
        ops = self.operations
        touches = self.allocator.names_places and not self.allocator.tells_held
        arguments = (self.allocator, self.state, self.board, ops.time_ns, ops.op, ops.object, ops.size_bytes)
        return int(r.play(*arguments, start, stop, self.moves, touches, self.empty_bytes, until_failure))

    @property
    def live_bytes(self) -> int:
        """Of all objects now."""
        return int(self.board.totals[r.LIVE_BYTES])

    @property
    def refused(self) -> int:
        """Allocations and resizes so far."""
        return int(self.board.totals[r.FAILURES])

    def look(self) -> tuple[dict[str, int], dict[str, int], float]:
        """What the allocator says of its memory, the calls that it made so far, and how long these were waited for."""
        told, calls = np.zeros(len(r.LOOKED), np.int64), np.zeros(len(SYSTEM_CALLS), np.int64)
        waited_ns = r.look(self.allocator, self.state, self.board, self.empty_bytes, told, calls)
        named = dict(zip(SYSTEM_CALLS, calls.tolist(), strict=True))
        named["copies"] += int(self.board.totals[r.MOVES])
        named["copied_bytes"] += int(self.board.totals[r.MOVED_BYTES])
        return dict(zip(r.LOOKED, told.tolist(), strict=True)), named, float(waited_ns)

    def runs(self) -> np.ndarray:
        """int64[m, 3] (address, bytes, object) of the runs of all live objects, by object; of no rows where no places
        are named."""
        if not self.allocator.names_places:
            return np.zeros((0, 3), np.int64)
        objects = self.board.size.size
        room, out = np.zeros((64, 2), np.int64), np.zeros((1024, 3), np.int64)
        while True:
            many = int(r.gather(self.allocator, self.state, self.board, objects, room, out))
            if many < 0:
                room = np.zeros((-1 - many, 2), np.int64)
            elif many > out.shape[0]:
                out = np.zeros((many, 3), np.int64)
            else:
                return out[:many]


def make_player(
    operations: Operations, allocator: Allocator, parameters: Mapping[str, Any], capacity_bytes: int, seed: int = 0
) -> Player:
    """Raises InputError where a parameter is bad, or the allocator needs to know what the stream does not say."""
    moves = not allocator.can_resize
    objects, count = operations.objects, operations.objects.born.size
    for need in allocator.needs:
        if need not in operations.provides:
            problem = f"allocator {allocator.name!r} needs {need!r} of each object, which {operations.name!r}"
            raise InputError(f"{problem} does not say")
    if moves:
        objects, count = _twice(objects), 2 * count
    context = Context(capacity=capacity_bytes, blocks=max(1, count), seed=seed, objects=objects)
    state = by_reference(allocator.make_state(context, parameters))
    board = r.make_board(operations, capacity_bytes)
    player = Player(operations, allocator, state, board, capacity_bytes, 0, moves)
    return replace(player, empty_bytes=player.look()[0]["free_bytes"])


def _twice(objects: Objects) -> Objects:
    return Objects(*(np.concatenate([column, column]) for column in objects))
