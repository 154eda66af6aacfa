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


class Call(NamedTuple):
    """What a scheduling policy may know of a call of a language model; fields may be added, so read them by name."""

    index: int  # which call of the trace this is, from 0
    now_ns: float
    arrival_ns: float
    input_tokens: int  # of its prompt
    predicted_tokens: float  # how many it will generate, as a predictor says
    generated_tokens: int  # so far
    hit_tokens: int  # of its prompt, in the accelerator's memory now; -1 where the policy did not ask to see it
    first_block: int  # dense number of its prompt's first block; -1 where the trace has no hashes
    tenant: int  # dense number; 0 where the trace does not say
    priority: int  # a call of a higher one matters more; 0 where the trace does not say
    program: int  # dense number of the program (agent, session) that makes the call; -1 where the trace does not say
    program_arrival_ns: float  # of the first call of its program; its own where it is of none
    has_next: bool  # its program makes another call after this one
    admission: int  # order in which it was last admitted, from 0; -1 while it never was
    preemptions: int  # of this call, so far


@inlined
def make_call(
    index,
    now_ns,
    arrival_ns,
    input_tokens,
    predicted_tokens,
    generated_tokens=0,
    hit_tokens=-1,
    first_block=-1,
    tenant=0,
    priority=0,
    program=-1,
    program_arrival_ns=0.0,
    has_next=False,
    admission=-1,
    preemptions=0,
):
    """A call of exactly the types that every kernel passes to the hooks, so that each is compiled once."""
    return Call(
        np.int64(index),
        np.float64(now_ns),
        np.float64(arrival_ns),
        np.int64(input_tokens),
        np.float64(predicted_tokens),
        np.int64(generated_tokens),
        np.int64(hit_tokens),
        np.int64(first_block),
        np.int64(tenant),
        np.int64(priority),
        np.int64(program),
        np.float64(program_arrival_ns if program >= 0 else arrival_ns),
        bool(has_next),
        np.int64(admission),
        np.int64(preemptions),
    )


SYSTEM_CALLS = ("system_allocations", "system_releases", "maps", "unmaps", "copies", "copied_bytes")
SYSTEM_ALLOCATIONS, SYSTEM_RELEASES, MAPS, UNMAPS, COPIES, COPIED_BYTES = range(len(SYSTEM_CALLS))


class Objects(NamedTuple):
    """What is known of the objects that an allocator places, before they come; int64[objects] each.

    Where a trace does not say one of them, it has no elements. `final_bytes`, `born` and `dies` are of the future:
    only bounds, and what is named after an oracle, may look at them.
    """

    first_bytes: np.ndarray  # asked for at first
    final_bytes: np.ndarray  # the most that it will come to
    most_bytes: np.ndarray  # the most that it may come to, as whoever asks for it knows (a limit of tokens)
    unit_bytes: np.ndarray  # what it grows by (the KV cache of a token)
    born: np.ndarray  # number of the operation that allocates it
    dies: np.ndarray  # number of the operation that releases it, NEVER where none does
    stream: np.ndarray  # queue of an accelerator that it is used on, from 0
    kind: np.ndarray  # what it is, a code that its trace has a name for
    group: np.ndarray  # part of the program that it lives and dies in (a pass of a layer), from 0; -1: in none


@dataclass(frozen=True)
class Context:
    """What a plugin's `init` is told.

    objects: what is known of what an allocator places; None where nothing is.

    capacity: in bytes, in objects where sizes are ignored; unit_sizes: they are ignored, each block counts 1.
    calls, tenants, programs: of language models, numbered densely from 0; 0 where the trace has none.
    """

    capacity: int
    blocks: int
    seed: int = 0
    unit_sizes: bool = False
    calls: int = 0
    tenants: int = 0
    programs: int = 0
    objects: Objects | None = None
