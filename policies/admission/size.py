"""Blocks larger than `max_bytes` are not admitted: the size threshold of web caches (LRU-Threshold, Abrams et al.
1995).
"""

from __future__ import annotations

from typing import NamedTuple

from sim.policy import AdmissionPolicy


class State(NamedTuple):
    max_bytes: int


def init(context, *, max_bytes=1 << 20):
    if max_bytes < 1:
        raise ValueError(f"max_bytes is {max_bytes}; expected at least 1")
    return State(max_bytes)


def admit(state, request):
    return request.size_bytes <= state.max_bytes


POLICY = AdmissionPolicy(name="size", init=init, admit=admit)
