"""A pool of buffers for each size of object, with slots of just that size: MemAscend's adaptive buffer pool.

MemAscend (Liaw and Chen 2025, arXiv 2505.23254) replaces ZeRO-Infinity's pool, whose buffers are all as large as the
largest tensor (`equal_slots`), by one pool for each shape of tensor that a language model has: of the embedding, of the
projections of the feed-forward layers, of those of attention. What a model's tensors are is known before it runs; here
from the objects' final sizes. There is no fallback to a slot of another size.

`alignment_bytes`: slots are rounded up to it; 1,024 is DeepSpeed's AIO_ALIGNED_BYTES. `power_of_two`: each slot is a
pinned tensor of its own, whose size PyTorch rounds up to a power of two (aten/src/ATen/core/CachingHostAllocator.h),
which is then what is modelled: its free blocks are kept by these sizes, too. Off, as MemAscend pins memory without it.
"""

from __future__ import annotations

import numpy as np

from sim.allocation._slots import HOOKS, make_state, slot_sizes
from sim.policy import Allocator


def init(context, *, alignment_bytes=1024, power_of_two=False):
    sizes = slot_sizes(context, alignment_bytes, power_of_two)
    slots, pool_of = np.unique(sizes, return_inverse=True)
    return make_state(context, slots if slots.size else [1], pool_of if pool_of.size else np.zeros(1, np.int64))


ALLOCATOR = Allocator(name="adaptive_slots", init=init, needs=("final_bytes",), **HOOKS)
