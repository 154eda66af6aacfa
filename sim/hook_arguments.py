"""What hooks are told: of an access, of a call of a language model, and, at their making, of the cache or engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import inlined

NEVER = np.iinfo(np.int64).max  # next_access of a block that is not accessed again
NO_BLOCK = -1  # block of a request for room alone, such as the migration daemon's


class Request(NamedTuple):
    """What a hook may know of the access at hand; fields may be added, so read them by name."""

    index: int  # which access of the trace this is, from 0
    block: int  # dense number of the block
    address: int  # number of the block in the trace's own numbering: neighbours there are neighbours here
    size_bytes: int  # 1 where object sizes are ignored
    arrival_ns: float
    is_write: bool
    tenant: int
    next_access: int  # index of the next access to this block, NEVER where there is none
    position: int  # which block of its LLM call this is, from 0; 0 where the trace has no calls
    cost: float  # of computing or fetching the block anew, in the trace's own unit; 1 where it does not say
    ttl_ns: float  # how long the block may be used from this access on; infinite where the trace does not say
    frequency_hint: int  # how often the block is expected to be accessed; 0 where the trace does not say
    prediction: float  # what a predictor says of the block; -1 where the trace does not say
    priority: int  # a block of a higher one is to stay longer; 0 where the trace does not say


@inlined
def make_request(
    index,
    block,
    address,
    size_bytes=1,
    arrival_ns=0.0,
    is_write=False,
    tenant=0,
    next_access=-1,
    position=0,
    cost=1.0,
    ttl_ns=np.inf,
    frequency_hint=0,
    prediction=-1.0,
    priority=0,
):
    """A request of exactly the types that every kernel passes to the hooks, so that each is compiled once."""
    return Request(
        np.int64(index),
        np.int64(block),
        np.int64(address),
        np.int64(size_bytes),
        np.float64(arrival_ns),
        bool(is_write),
        np.int64(tenant),
        np.int64(next_access),
        np.int64(position),
        np.float64(cost),
        np.float64(ttl_ns),
        np.int64(frequency_hint),
        np.float64(prediction),
        np.int64(priority),
    )


@dataclass(frozen=True)
class Context:
    """What a plugin's `init` is told.

    capacity: in bytes, in objects where sizes are ignored; unit_sizes: they are ignored, each block counts 1.
    """

    capacity: int
    blocks: int
    seed: int = 0
    unit_sizes: bool = False
