"""Unified paging: KV caches and adapters in one pool of pages of a hidden vector each (S-LoRA, Sheng et al. 2024).

A page is `page_bytes`: one vector of the model's hidden dimension, 8 KiB for the 4,096 numbers of 16 bits of Llama-7B,
with which S-LoRA (MLSys 2024, arXiv 2311.03285) is evaluated. The KV cache of s tokens takes s pages of each tensor,
the matrices of an adapter of rank r take r pages each; pages of both kinds lie among each other, wherever one is free.
So neither kind is kept out by room set aside for the other, and nothing is rounded but the last page. What is allocated
may be of any kind: its size alone counts.

`tensors`: how many tensors have their pages under one number. With 1, each page has its own number. S-LoRA's code
(slora/common/mem_allocator.py) has a tensor of keys and one of values for each layer, 64 for Llama-7B, all indexed by
the same cells: a token takes one cell, an adapter of rank r on four projections 4 r cells, its A among the keys and its
B among the values. The memory then is `tensors` regions, one after the other, and a number is a page in each of them.
What is left over of the capacity is a tail that is neither free nor allocated.

Free pages are taken in `order`, `lowest` as in that code (the lowest free cells); see the allocator `paged` for others.
The tables of pages lie outside of the memory, and take `entry_bytes` for each number in use: 8 there (`a_loc` of
infer_adapter.py, integers of 64 bits). Not modelled: which of the pages the kernels read together.
"""

from __future__ import annotations

from sim.allocation._page_tables import HOOKS, make_state
from sim.policy import Allocator


def init(context, *, page_bytes=8192, tensors=1, order="lowest", entry_bytes=8):
    return make_state(context, page_bytes=page_bytes, tensors=tensors, order=order, entry_bytes=entry_bytes)


ALLOCATOR = Allocator(name="unified_paging", init=init, **HOOKS)
