"""One size of buffer, that of the largest object, for every object: ZeRO-Infinity's pool of pinned memory.

DeepSpeed's `AsyncPartitionedParameterSwapper` (deepspeed/runtime/swap_tensor/partitioned_param_swapper.py) cuts one
pinned tensor into `buffer_count` buffers of `buffer_size` each, through which parameters pass on their way to an SSD; a
buffer has to hold the largest tensor, which is the embedding, so that most of it is lost to all others. MemAscend (Liaw
and Chen 2025, arXiv 2505.23254) names this as the main waste, see `adaptive_slots`. Here the size is that of the
largest object there will be, and there are as many buffers as are needed at once (DeepSpeed is told a number, and
fails where it is too small).

`alignment_bytes`: slots are rounded up to it; 1,024 is DeepSpeed's AIO_ALIGNED_BYTES. `power_of_two`: each slot is a
pinned tensor of its own, whose size PyTorch rounds up to a power of two (aten/src/ATen/core/CachingHostAllocator.h).
"""

from __future__ import annotations

import numpy as np

from sim.allocation._slots import HOOKS, make_state, slot_sizes
from sim.policy import Allocator


def init(context, *, alignment_bytes=1024, power_of_two=False):
    sizes = slot_sizes(context, alignment_bytes, power_of_two)
    return make_state(context, [sizes.max(initial=1)], np.zeros(max(1, sizes.size), np.int64))


ALLOCATOR = Allocator(name="equal_slots", init=init, needs=("final_bytes",), **HOOKS)
