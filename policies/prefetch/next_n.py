"""Sequential prefetch: the `n` addresses that follow the one accessed are fetched (one block lookahead for n = 1, Smith
1982).

on: "always" after every access, "miss" after misses alone.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import PrefetchPolicy


class State(NamedTuple):
    n: int
    misses_only: bool


def init(context, *, n=1, on="always"):
    if not 1 <= n <= 1024:
        raise ValueError(f"n is {n}; expected 1 to 1024")
    if on not in ("always", "miss"):
        raise ValueError(f"on is {on!r}; expected 'always' or 'miss'")
    return State(n, on == "miss")


def propose(state, request, hit, proposals):
    if hit and state.misses_only:
        return 0
    for i in range(state.n):
        proposals[i] = request.address + 1 + i
    return state.n


def degree(parameters):
    return parameters["n"]


POLICY = PrefetchPolicy(name="next_n", init=init, propose=propose, degree=degree, needs=("address",))
