"""AMP: each sequential stream has its own prefetch degree and trigger distance, which adapt (Gill and Bathen, "AMP:
Adaptive multi-stream prefetching in a shared cache", FAST 2007).

A stream begins where an address is accessed just after the one before it. Its first `step` addresses ahead are fetched
at once. Once it comes within its trigger distance g of the end of what was fetched, the next p are. It learns by this:

- the last address of a set that was fetched is used while it is there: p grows by `step`, up to `degree`;
- an address of a set is missed, so it was evicted before it was used: p shrinks by 1, g to at most p - 1 and by 1;
- an address had to be waited for: g grows by 1, and p, where it must, to g + 1.

There are up to `streams` at a time; the one unused for longest makes room. Addresses that are in no stream are
remembered in a table of `table_size`, found by the address modulo that, in order to know what follows them.

What this policy is not told it infers: of evictions it learns when the address is missed, where AMP hears of each at
once; and that an address had to be waited for it takes from the first use of a set coming within `fetch_ns` of when the
set was asked for. Set fetch_ns to what a fetch takes on the machine; 0 leaves g to shrink alone. A new stream begins
with p = step and g = p / 2; what the paper begins with we do not know.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine
from sim.policy import PrefetchPolicy

# columns of streams: a flag; address used last; ends of the set fetched last and of the one before; p, g; last use
USED, LAST, END, END_BEFORE, DEGREE, TRIGGER, ACCESSED = range(7)
NONE = -1


class State(NamedTuple):
    streams: np.ndarray  # int64[streams, 7]
    asked_ns: np.ndarray  # float64[streams]: when the last set was asked for; -inf once its first use was seen
    recent: np.ndarray  # int64[table_size, 2]: a flag, and an address in no stream
    accesses: np.ndarray  # int64[1]: so far
    degree: int
    step: int
    fetch_ns: float


def init(context, *, degree=64, step=4, streams=32, table_size=4096, fetch_ns=0.0):
    if not 1 <= degree <= 1024:
        raise ValueError(f"degree is {degree}; expected 1 to 1024")
    if not 1 <= step <= degree:
        raise ValueError(f"step is {step}; expected 1 to the degree, {degree}")
    if not 1 <= streams <= 4096:
        raise ValueError(f"streams is {streams}; expected 1 to 4096")
    if not 1 <= table_size <= 1 << 24:
        raise ValueError(f"table_size is {table_size}; expected 1 to {1 << 24}")
    if not fetch_ns >= 0:
        raise ValueError(f"fetch_ns is {fetch_ns}; expected at least 0")
    return State(
        streams=np.zeros((streams, 7), np.int64),
        asked_ns=np.full(streams, -np.inf),
        recent=np.zeros((table_size, 2), np.int64),
        accesses=np.zeros(1, np.int64),
        degree=degree,
        step=step,
        fetch_ns=fetch_ns,
    )


@subroutine
def _stream_of(streams, address):
    """The stream that expects this address, as one of those fetched or the one after them; NONE where none does."""
    for i in range(streams.shape[0]):
        if streams[i, USED] and streams[i, LAST] < address <= streams[i, END] + 1:
            return i
    return NONE


@subroutine
def _begin(state, address):
    """A new stream, which has come to `address`, in place of the one unused for longest."""
    streams, oldest = state.streams, 0
    for i in range(streams.shape[0]):
        if streams[i, ACCESSED] < streams[oldest, ACCESSED]:
            oldest = i
    streams[oldest, USED] = 1
    streams[oldest, DEGREE] = state.step
    streams[oldest, TRIGGER] = state.step // 2
    streams[oldest, END] = address
    return oldest


@subroutine
def _fetch(state, at, now_ns, proposals):
    """Ask for the stream's next set; how many addresses."""
    stream = state.streams[at]
    for i in range(stream[DEGREE]):
        proposals[i] = stream[END] + 1 + i
    stream[END_BEFORE] = stream[END]
    stream[END] += stream[DEGREE]
    state.asked_ns[at] = now_ns
    return stream[DEGREE]


@subroutine
def _advance(state, at, address, hit, now_ns, proposals):
    """A stream that comes to an address ahead of it; how many are to be fetched."""
    stream = state.streams[at]
    if address > stream[END] or not hit:
        if address <= stream[END]:
            stream[DEGREE] = max(stream[DEGREE] - 1, 1)
            stream[TRIGGER] = max(min(stream[TRIGGER] - 1, stream[DEGREE] - 1), 0)
        stream[END] = address
        return _fetch(state, at, now_ns, proposals)
    if address > stream[END_BEFORE]:
        if now_ns - state.asked_ns[at] < state.fetch_ns:
            stream[TRIGGER] = min(stream[TRIGGER] + 1, state.degree - 1)
            stream[DEGREE] = max(stream[DEGREE], stream[TRIGGER] + 1)
        state.asked_ns[at] = -np.inf
    if address == stream[END_BEFORE] or address == stream[END]:
        stream[DEGREE] = min(stream[DEGREE] + state.step, state.degree)
    if address >= stream[END] - stream[TRIGGER]:
        return _fetch(state, at, now_ns, proposals)
    return 0


@subroutine
def propose(state, request, hit, proposals):
    address, recent = request.address, state.recent
    state.accesses[0] += 1
    at = _stream_of(state.streams, address)
    if at == NONE:
        before = recent[(address - 1) % recent.shape[0]]
        if before[0] == 0 or before[1] != address - 1:
            mine = recent[address % recent.shape[0]]
            mine[0], mine[1] = 1, address
            return 0
        at = _begin(state, address)
        count = _fetch(state, at, request.arrival_ns, proposals)
    else:
        count = _advance(state, at, address, hit, request.arrival_ns, proposals)
    state.streams[at, LAST], state.streams[at, ACCESSED] = address, state.accesses[0]
    return count


def degree(parameters):
    return parameters["degree"]


POLICY = PrefetchPolicy(name="amp", init=init, propose=propose, degree=degree, needs=("address",), uses=("arrival_ns",))
