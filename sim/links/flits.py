"""How CXL.mem messages are packed into flits, slot by slot, and how many bytes of the line a line of data then takes.

A flit has slots of 16 B, of which the first takes headers only. A message is a header (`plain`: a read's request, a
write's completion) or a header followed by its data in four slots (`loaded`: a write, the data of a read). Data go into
the next slots that take any, the oldest first; a new header comes into a slot that no data wants. A flit is all data
where that is allowed and enough data waits. (CXL 2.0 specification, 4.2.3 to 4.2.5 for flits of 68 B; CXL 3.0, 4.3 for
256 B; recalled, not re-read. Messages of CXL.cache and CXL.io, retries and credit-only flits are left out.)
"""

from __future__ import annotations

import numpy as np

from sim.kernels.compile import subroutine
from sim.links.protocol import LINE_BYTES, LinkProtocol

# places of `rule`: of the flit, then how many headers a slot holds: the first slot, another; for each direction
SLOTS, ALL_DATA, LINE_SLOTS, CAPACITY = 0, 1, 2, 3
PLAIN_FIRST, PLAIN, LOADED_FIRST, LOADED = range(4)
DOWN, UP = 0, 4
RULES = 11


def flit_rules(protocol: LinkProtocol) -> np.ndarray:
    """int64[11] for `pack`."""
    p = protocol
    down = (p.plain_down_first, p.plain_down, p.loaded_down_first, p.loaded_down)
    up = (p.plain_up_first, p.plain_up, p.loaded_up_first, p.loaded_up)
    return np.array((p.slots_per_flit, p.all_data_flits, p.line_slots, *down, *up), np.int64)


@subroutine
def pack(rule, way, plain, loaded, left, turn):
    """One flit of what waits: (plain headers, loaded headers, data slots) that it takes, and whose turn is next.

    way: DOWN or UP; plain, loaded: messages whose headers wait; left: data slots of headers that were sent; turn: 1
    where a loaded header goes before a plain one. Headers of the two kinds take turns, slot by slot.
    """
    slots, at = rule[SLOTS], CAPACITY + way
    if rule[ALL_DATA] and left >= slots:
        return 0, 0, slots, turn
    plain_taken, loaded_taken, sent = 0, 0, 0
    for slot in range(slots):
        later = 1 if slot > 0 else 0
        if later and left > 0:
            left -= 1
            sent += 1
            continue
        more_plain, more_loaded = plain - plain_taken, loaded - loaded_taken
        if left >= slots:  # data enough for the next flits: no further header with data
            more_loaded = 0
        if more_loaded > 0 and (turn or more_plain == 0):
            count = min(more_loaded, rule[at + LOADED_FIRST + later])
            loaded_taken += count
            left += count * rule[LINE_SLOTS]
            turn = 0
        elif more_plain > 0:
            plain_taken += min(more_plain, rule[at + PLAIN_FIRST + later])
            turn = 1
    return plain_taken, loaded_taken, sent, turn


def line_bytes(protocol: LinkProtocol, way: int, loaded: bool, lines: int = 4096) -> float:
    """Bytes on the line for each message where nothing but such messages wait: by packing so many of them."""
    rule = flit_rules(protocol)
    waiting, left, turn, flits = lines, 0, 1, 0
    while waiting or left:
        plain_taken, loaded_taken, sent, turn = pack(
            rule, way, 0 if loaded else waiting, waiting if loaded else 0, left, turn
        )
        waiting -= plain_taken + loaded_taken
        left += loaded_taken * protocol.line_slots - sent
        flits += 1
    return flits * protocol.flit_bytes / lines


def slot_bytes(protocol: LinkProtocol) -> float:
    """A slot's share of a flit on the line."""
    return protocol.flit_bytes / protocol.slots_per_flit


__all__ = ["DOWN", "LINE_BYTES", "UP", "flit_rules", "line_bytes", "pack", "slot_bytes"]
