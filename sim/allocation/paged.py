"""Fixed-size pages, any of which serves any request, as PagedAttention's KV blocks (Kwon et al., SOSP 2023).

The last page of a block is partly wasted (internal); nothing is lost between blocks (external is 0). The capacity is
rounded down to whole pages; the tail beyond is neither free nor allocated, so allocated + free + tail = capacity. A
block that grows gets pages at its end, one that shrinks gives back its last ones: what it keeps stays where it is.

Free pages are taken in `order`: `fifo` is vLLM's `FreeKVCacheBlockQueue` (vllm/v1/core/kv_cache_utils.py) without
prefix caching, in order of their numbers at first, and then those that were released first, of a request its last one
first; `lifo` is a stack, as many allocators of fixed size are; `lowest` that with the lowest address. The table of each
block's pages lies outside of the memory and takes `entry_bytes` for each page in use: 4, as in vLLM's block table, an
int32 tensor (vllm/v1/worker/block_table.py), which is made for the longest sequences, however long they are in truth.
What the allocator holds are the pages in use: a pool of just as many would do.

With `places`, every page has 4 bytes of links, mapped where it was ever used. Without, pages are counted and not named:
which ones a block holds makes no difference to whether a later one fits. The state then depends on the number of blocks
alone, and nothing knows where they lie. Allocating and releasing take O(1), and O(1) for each page that is taken.
"""

from __future__ import annotations

from sim.allocation._page_tables import HOOKS, make_state
from sim.policy import Allocator


def init(context, *, page_bytes=4096, order="fifo", entry_bytes=4, places=True):
    return make_state(context, page_bytes=page_bytes, tensors=1, order=order, entry_bytes=entry_bytes, places=places)


ALLOCATOR = Allocator(name="paged", init=init, **HOOKS)
