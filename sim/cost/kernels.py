"""How long the kernels of a language model take on one accelerator: the formulas, for compiled code and for Python.

All times are ns, sizes bytes, rates bytes or FLOPs per ns. An accelerator has `processors` that run one thread block
(or `_DECODE_BLOCKS`) at a time, so that work is done in rounds and an incomplete round costs as much as a whole one.
The constants are fitted to measured kernels (`sim.cost.fitting`). Efficiencies are shares of the data sheet's peaks, at
most 1, so that no time of a product or of attention is below the roofline max(flops / peak, bytes / bandwidth).

The attention formulas follow FlashAttention-2 (Dao, 2023): blocks of 64 queries of one head walk over keys and values;
where there are few blocks, decoding splits the walk (flash-decoding). The rule for how often is the public kernel's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sim.kernels.compile import subroutine

TILE = 64  # queries of a block of attention, and keys that it reads at once
_DECODE_BLOCKS = 2  # blocks of decoding at a time on a processor
_MOST_SPLITS = 128
_GOOD_ROUND = 0.85  # of the best use of processors, enough to split no further
_NO_SPLIT = 0.8  # of all blocks at a time: with more there is nothing to split for
_LARGEST_TILES = 1 / 256 + 1 / 128


class Machine(NamedTuple):
    """One accelerator: peak FLOPs per ns, peak bytes per ns of its memory, processors (SMs)."""

    flops_per_ns: float
    bytes_per_ns: float
    processors: float


class Linear(NamedTuple):
    """Of matrix products. tile_penalty: how fast efficiency falls with smaller tiles; wave_ns: start and end of a
    tile; wave_fill: share of the work that fills processors left idle by an incomplete round (split or persistent
    kernels): 0 none, 1 all.
    """

    compute_efficiency: float
    memory_efficiency: float
    overhead_ns: float
    wave_ns: float
    tile_penalty: float
    wave_fill: float


class Prefill(NamedTuple):
    """Of attention of several new tokens. diagonal: how much longer a block takes over tokens of its own chunk, where
    masks are applied; splits: 1 where the kernel splits the walk of few blocks, else 0; split_ns: for summing up.
    """

    compute_efficiency: float
    overhead_ns: float
    round_ns: float
    split_ns: float
    diagonal: float
    splits: float


class Decode(NamedTuple):
    """Of attention of one new token each of several sequences. block_bytes_per_ns: what one block can read alone."""

    memory_efficiency: float
    overhead_ns: float
    round_ns: float
    split_ns: float
    block_bytes_per_ns: float


class Mixed(NamedTuple):
    """Of decoding in one kernel with chunks of prefill: a block of 64 rows, one of them used, for each query head.

    present: 0 where no such kernel was measured; decoding is then a kernel of its own. compute_share: time of such a
    block in blocks of prefill. cache_bytes: so much of one key-value head stays in the cache for the next query head.
    """

    present: float
    memory_efficiency: float
    round_ns: float
    compute_share: float
    cache_bytes: float


class Elementwise(NamedTuple):
    """Of an operator that moves bytes: the first `cache_bytes` of a call at `cache_efficiency` of the memory's peak
    (above 1 where they stay in a cache), the rest at `memory_efficiency`.
    """

    overhead_ns: float
    cache_efficiency: float
    memory_efficiency: float
    cache_bytes: float


class AllReduce(NamedTuple):
    """Of a ring: overhead once, hop_ns for each further device, efficiency of the link's bandwidth."""

    overhead_ns: float
    hop_ns: float
    efficiency: float


class Heads(NamedTuple):
    """Attention of one layer on one device. score_dim, value_dim: numbers of a head that scores and sums use, when
    prefilling and when decoding (latents then, for MLA); kv_bytes: of one token and one key-value head.
    """

    heads: float
    kv_heads: float
    prefill_dims: float
    decode_dims: float
    kv_bytes: float


@subroutine
def product_ns(machine, linear, tokens, k, n, groups, weight_bytes, activation_bytes):
    """Products of `tokens` rows in all with `groups` matrices of k x n (1, or the experts touched).

    weight_bytes, activation_bytes: of one number. The best of eight tile sizes is taken, as libraries do.
    """
    rows = tokens / groups
    flops_per_ns = machine.flops_per_ns / machine.processors * linear.compute_efficiency
    compute_ns = np.inf
    for shape in range(8):
        high, wide = _tile(shape)
        rounds = math.ceil(rows / high) * math.ceil(n / wide) * groups / machine.processors
        whole = float(math.ceil(rounds))
        filled = max(rounds, 1.0)
        rounds = whole + linear.wave_fill * (filled - whole)
        slower = 1.0 + linear.tile_penalty * (1.0 / high + 1.0 / wide - _LARGEST_TILES)
        compute_ns = min(compute_ns, rounds * (2.0 * k * high * wide * slower / flops_per_ns + linear.wave_ns))
    moved = groups * k * n * weight_bytes + tokens * (k + n) * activation_bytes
    memory_ns = moved / (machine.bytes_per_ns * linear.memory_efficiency)
    return linear.overhead_ns + both(compute_ns, memory_ns)


@subroutine
def _tile(shape):
    """(256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64)."""
    if shape < 3:
        return (256.0 if shape == 0 else 128.0), (256.0 if shape == 1 else 128.0)
    if shape < 5:
        return (256.0 if shape == 3 else 64.0), (256.0 if shape == 4 else 64.0)
    return (128.0 if shape == 5 else 64.0), (128.0 if shape == 6 else 64.0)


@subroutine
def both(one, other):
    """Two things that overlap, less well the more alike they are: (one^4 + other^4)^(1/4), at least the larger."""
    larger = max(one, other)
    ratio = min(one, other) / larger if larger > 0.0 else 0.0
    square = ratio * ratio
    return larger * math.sqrt(math.sqrt(1.0 + square * square))


@subroutine
def splits_of(blocks, tiles, slots):
    """Into how many parts the walk of each of `blocks` over `tiles` is split, where `slots` blocks run at a time.

    The least number that uses the slots nearly as well as the best one does.
    """
    if blocks >= _NO_SPLIT * slots:
        return 1.0
    most = int(min(_MOST_SPLITS, slots, tiles))
    best = 0.0
    for parts in range(1, most + 1):
        best = max(best, _use(blocks, tiles, slots, parts))
    for parts in range(1, most + 1):
        if _use(blocks, tiles, slots, parts) >= _GOOD_ROUND * best:
            return float(parts)
    return 1.0


@subroutine
def _use(blocks, tiles, slots, parts):
    """Share of the slots in use; 0 where one part fewer gives parts of the same length."""
    if parts > 1 and math.ceil(tiles / parts) == math.ceil(tiles / (parts - 1)):
        return 0.0
    rounds = blocks * parts / slots
    return rounds / math.ceil(rounds)


# --- attention -------------------------------------------------------------------------------------------------------

BLOCKS, CONTEXT, OWN, LONGEST_CONTEXT, LONGEST_OWN, KV_TOKENS = range(6)
WORK = 6  # numbers that chunks of prefill add up to


@subroutine
def add_chunk(work, heads, new_tokens, context, window):
    """Add one chunk, `new_tokens` after `context` tokens, to work float64[WORK]; window: tokens that each sees at most.

    For each block: tokens before the chunk and tokens of the chunk that it walks over.
    """
    blocks = math.ceil(new_tokens / TILE) * heads
    all_before = min(max(window - context, 0.0), new_tokens)  # so many see all before the chunk, then ever fewer
    some_before = min(max(window, all_before), new_tokens)
    fewer = (some_before - all_before) * (2.0 * window - 1.0 - all_before - some_before) / 2.0
    before = (all_before * context + fewer) / new_tokens
    growing = min(new_tokens, window)
    own = (growing * (growing + 1.0) / 2.0 + (new_tokens - growing) * window) / new_tokens
    longest = min(new_tokens, window + TILE)
    work[BLOCKS] += blocks
    work[CONTEXT] += blocks * before
    work[OWN] += blocks * min(longest, own + 0.5 * (TILE - 1))
    work[LONGEST_CONTEXT] = max(work[LONGEST_CONTEXT], min(context, window))
    work[LONGEST_OWN] = max(work[LONGEST_OWN], longest)
    work[KV_TOKENS] += min(context + new_tokens, window + new_tokens)


@subroutine
def prefill_ns(machine, prefill, heads, work):
    """Attention of one layer for all chunks added to `work`, one kernel; 0 where there is none.

    A block starts when a processor is free, so that the last one ends at most one longest block after the time that all
    would take if they were spread evenly (Graham, 1969), and after as many longest ones as there are rounds.
    """
    blocks = work[BLOCKS]
    if blocks == 0.0:
        return 0.0
    tiles = math.ceil((work[LONGEST_CONTEXT] + work[LONGEST_OWN]) / TILE)
    parts = splits_of(blocks, tiles, machine.processors) if prefill.splits > 0.0 else 1.0
    rounds = float(math.ceil(blocks * parts / machine.processors))
    slots = machine.processors / parts
    context = min(rounds * work[LONGEST_CONTEXT], work[CONTEXT] / slots + work[LONGEST_CONTEXT])
    own = min(rounds * work[LONGEST_OWN], work[OWN] / slots + work[LONGEST_OWN])
    walk_ns = (context + prefill.diagonal * own) / parts * block_token_ns(machine, prefill, heads)
    memory_ns = work[KV_TOKENS] * heads.kv_heads * heads.kv_bytes / machine.bytes_per_ns
    split_ns = prefill.split_ns if parts > 1.0 else 0.0
    return prefill.overhead_ns + rounds * prefill.round_ns + split_ns + max(walk_ns, memory_ns)


@subroutine
def block_token_ns(machine, prefill, heads):
    """Of one block of 64 queries for one token that it walks over."""
    return 2.0 * TILE * heads.prefill_dims * machine.processors / (machine.flops_per_ns * prefill.compute_efficiency)


@subroutine
def decode_ns(machine, decode, heads, sequences, tokens):
    """Attention of one layer for one new token of each sequence, a kernel of its own; tokens: cached, of all together.

    The queries of one key-value head are one block (of MLA, one for each 64 of them).
    """
    if sequences <= 0.0:
        return 0.0
    slots = machine.processors * _DECODE_BLOCKS
    tiles = math.ceil(tokens / sequences / TILE)
    blocks = sequences * heads.kv_heads * math.ceil(heads.heads / heads.kv_heads / TILE)
    parts = splits_of(blocks, tiles, slots)
    blocks *= parts
    whole = math.floor(blocks / slots)
    left = blocks - whole * slots
    read = math.ceil(tiles / parts) * TILE * heads.kv_bytes
    round_ns = read * slots / (machine.bytes_per_ns * decode.memory_efficiency)
    walk_ns = whole * round_ns + (max(read / decode.block_bytes_per_ns, round_ns * left / slots) if left > 0.0 else 0.0)
    rounds = whole + (1.0 if left > 0.0 else 0.0)
    fixed_ns = decode.overhead_ns + rounds * decode.round_ns + (decode.split_ns if parts > 1.0 else 0.0)
    flops_ns = 2.0 * heads.heads * heads.decode_dims * tokens / machine.flops_per_ns
    return fixed_ns + max(walk_ns, flops_ns)


@subroutine
def mixed_decode_ns(machine, mixed, prefill, heads, sequences, tokens):
    """What decoding adds to a kernel of prefill that does it, too, one layer.

    There each query head has a block of its own, and heads come one after the other, each with all sequences. Those of
    one key-value head share what they read if they run at the same time, which they do the more the fewer sequences
    there are, or if it stays in the cache until the next head comes: all of it up to its size, none from twice that.
    """
    if sequences <= 0.0:
        return 0.0
    rounds = math.ceil(sequences * heads.heads / machine.processors)
    padded = math.ceil(tokens / sequences / TILE) * TILE
    compute_ns = rounds * padded * block_token_ns(machine, prefill, heads) * mixed.compute_share
    group = heads.heads / heads.kv_heads
    apart = group / min(max(machine.processors / sequences, 1.0), group)
    kept = min(max(2.0 - tokens * heads.kv_bytes / mixed.cache_bytes, 0.0), 1.0)
    read = tokens * heads.kv_heads * heads.kv_bytes * (apart + (1.0 - apart) * kept)
    memory_ns = read / (machine.bytes_per_ns * mixed.memory_efficiency)
    return rounds * mixed.round_ns + max(compute_ns, memory_ns)


@subroutine
def attention_ns(machine, prefill, decode, mixed, heads, work, sequences, tokens):
    """Attention of one layer: chunks of prefill and one token of each decoding sequence; the two terms add up."""
    chunks_ns = prefill_ns(machine, prefill, heads, work)
    if chunks_ns > 0.0 and mixed.present > 0.0:
        return chunks_ns + mixed_decode_ns(machine, mixed, prefill, heads, sequences, tokens)
    return chunks_ns + decode_ns(machine, decode, heads, sequences, tokens)


# --- the rest --------------------------------------------------------------------------------------------------------


@subroutine
def elementwise_ns(machine, moves, moved):
    """An operator that reads and writes `moved` bytes."""
    near = min(moved, moves.cache_bytes)
    far = moved - near
    return moves.overhead_ns + (near / moves.cache_efficiency + far / moves.memory_efficiency) / machine.bytes_per_ns


@subroutine
def all_reduce_ns(reduce, link_bytes_per_ns, devices, size_bytes):
    """A sum of `size_bytes` over devices, left on each; link_bytes_per_ns: of one device, one way."""
    if devices <= 1.0:
        return 0.0
    passed = 2.0 * (devices - 1.0) / devices * size_bytes
    return reduce.overhead_ns + (devices - 1.0) * reduce.hop_ns + passed / (link_bytes_per_ns * reduce.efficiency)
