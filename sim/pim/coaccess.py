"""Host and units at once: what an operation costs the host's requests, and they the operation, under each policy.

The host reads at random places, one transaction each, with so many outstanding, from the start of the operation to its
end; every completion brings the next request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.devices import pim
from sim.errors import InputError
from sim.kernels.compile import kernel, subroutine
from sim.pim.operations import Operation
from sim.pim.parameters import POLICIES, PimParameters
from sim.pim.program import compile_operation
from sim.pim.sharing import FINISHED, SWITCHES, finished_ns, start

_PLACES = 1 << 14  # addresses are drawn beforehand, and used again and again
SUM, WORST, DONE, NOW = range(4)


@dataclass(frozen=True)
class CoAccess:
    """policy: `alone` is the host without any operation. operation_ns: nan there.

    host_ns: from the first request to the last completion; switches: how often units took a channel.
    """

    policy: str
    operation_ns: float
    host_requests: int
    host_ns: float
    mean_ns: float
    worst_ns: float
    bandwidth_bytes_per_ns: float
    switches: int


def measure_coaccess(p: PimParameters, operation: Operation, outstanding: int, seed: int = 1) -> list[CoAccess]:
    """Under each policy, then the host alone for as long as the longest took. Raises InputError."""
    if outstanding < 1:
        raise InputError("outstanding is", value=outstanding, expected="at least 1")
    program = compile_operation(p, operation)
    rng = np.random.default_rng(seed)
    places = rng.integers(0, p.capacity_bytes // p.transaction_bytes, _PLACES) * p.transaction_bytes
    rows = []
    for policy in POLICIES:
        shared = p.model_copy(update={"host_policy": policy})
        state = pim.MODEL.init(shared, program)
        start(state, 0.0)
        rows.append(_row(policy, state, p, places, outstanding, np.inf))
    longest_ns = max(row.operation_ns for row in rows)
    return [*rows, _row("alone", pim.MODEL.init(p), p, places, outstanding, longest_ns)]


def _row(policy: str, state, p: PimParameters, places: np.ndarray, outstanding: int, until_ns: float) -> CoAccess:
    outcome = np.zeros(4)
    sent_ns, free = np.zeros(outstanding), np.arange(outstanding)
    _drive(pim.MODEL, state, places, sent_ns, free, p.transaction_bytes, until_ns, outcome)
    requests, host_ns = int(outcome[DONE]), float(outcome[NOW])
    return CoAccess(
        policy=policy,
        operation_ns=finished_ns(state) if policy != "alone" else float("nan"),
        host_requests=requests,
        host_ns=host_ns,
        mean_ns=float(outcome[SUM]) / requests,
        worst_ns=float(outcome[WORST]),
        bandwidth_bytes_per_ns=requests * p.transaction_bytes / host_ns,
        switches=int(state.own[SWITCHES]),
    )


@kernel
def _drive(model, state, places, sent_ns, free, size_bytes, until_ns, outcome):
    """A closed loop, a ticket for each request outstanding, until the operation is done, or until_ns; then the rest.

    sent_ns: float64[outstanding]; free: int64[outstanding], all tickets.
    """
    left, sent, now_ns = free.size, 0, 0.0
    while True:
        while _goes_on(state, now_ns, until_ns) and left > 0:
            ticket = free[left - 1]
            if not model.submit(state, ticket, now_ns, places[sent % places.size], size_bytes, False):
                break
            sent_ns[ticket] = now_ns
            left, sent = left - 1, sent + 1
        if left == free.size:
            break
        now_ns = model.next_event(state)
        count = model.advance(state, now_ns)
        for i in range(count):
            took_ns = state.done_ns[i] - sent_ns[state.done_ticket[i]]
            outcome[SUM] += took_ns
            outcome[WORST] = max(outcome[WORST], took_ns)
            free[left] = state.done_ticket[i]
            left += 1
        outcome[DONE] += count
    outcome[NOW] = now_ns


@subroutine
def _goes_on(state, now_ns, until_ns):
    """Whether the host asks for more: the operation is not done in every channel, or the time is not over."""
    if until_ns < np.inf:
        return now_ns < until_ns
    unfinished = 0
    for index in range(state.turn.shape[0]):
        unfinished += state.turn[index, FINISHED] == 0
    return unfinished > 0
