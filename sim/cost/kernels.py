"""How long the kernels of a language model take on one accelerator: the formulas, for compiled code and for Python.

All times are ns, sizes bytes, rates bytes or FLOPs per ns. An accelerator has `processors` that run one thread block
(or a few) at a time, so that work is done in rounds and an incomplete round costs as much as a whole one.
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
_SPLIT_BLOCKS = 2  # blocks at a time on a processor that the rule of decoding splits for, whatever really fit
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
    kernels): 0 none, 1 all; row_penalty: how much longer memory takes where the tile has 256 rows, not 16: the rows of
    the tile are read again for each tile of columns, and take what else would keep more of the matrix on its way.
    """

    compute_efficiency: float
    memory_efficiency: float
    overhead_ns: float
    wave_ns: float
    tile_penalty: float
    wave_fill: float
    row_penalty: float


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
    """Of attention of one new token each of several sequences. block_bytes_per_ns: what one block can read alone;
    together: blocks at a time on a processor, as many as its shared memory has room for (1 or 2).
    """

    memory_efficiency: float
    overhead_ns: float
    round_ns: float
    split_ns: float
    block_bytes_per_ns: float
    together: float


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
    empty_ns: float
    crowd: float


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


class Factors(NamedTuple):
    """A correction (`sim.cost.correction`): float64 logarithms of sizes, rising, and factors[rows, columns]."""

    rows: np.ndarray
    columns: np.ndarray
    factors: np.ndarray


class Tables(NamedTuple):
    """The corrections of the families that have but one; of elementwise operators, each has its own."""

    linear: Factors
    prefill: Factors
    decode: Factors
    mixed: Factors
    all_reduce: Factors


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
        filled = whole + linear.wave_fill * (rounds - whole)
        slower = 1.0 + linear.tile_penalty * (1.0 / high + 1.0 / wide - _LARGEST_TILES)
        walk_ns = 2.0 * k * high * wide * slower / flops_per_ns
        compute_ns = min(compute_ns, filled * walk_ns + max(filled, 1.0) * linear.wave_ns)
    moved = groups * k * n * weight_bytes + tokens * (k + n) * activation_bytes
    slower = 1.0 + linear.row_penalty * _rows_above_least(rows)
    memory_ns = moved * slower / (machine.bytes_per_ns * linear.memory_efficiency)
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
def _rows_above_least(rows):
    """Of the tile of least rows that has so many, of 16, 64, 128 and 256: its rows above 16, as a share of 240."""
    if rows <= 64.0:
        return 0.0 if rows <= 16.0 else 0.2
    return 112.0 / 240.0 if rows <= 128.0 else 1.0


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

    The least number that uses the slots nearly as well as the best one does. Only the least number of parts of each
    length is looked at: tiles = 64 has 15 of them.
    """
    if blocks >= _NO_SPLIT * slots:
        return 1.0
    most = min(_MOST_SPLITS, slots, tiles)
    best, parts = 0.0, 1.0
    while parts <= most and best < 1.0:
        best = max(best, _use(blocks, slots, parts))
        parts = _next_parts(tiles, parts)
    parts = 1.0
    while _use(blocks, slots, parts) < _GOOD_ROUND * best:
        parts = _next_parts(tiles, parts)
    return parts


@subroutine
def _next_parts(tiles, parts):
    """The least number of parts shorter than these; more than there are tiles where there is none."""
    length = math.ceil(tiles / parts)
    return math.ceil(tiles / (length - 1.0)) if length > 1.0 else tiles + 1.0


@subroutine
def _use(blocks, slots, parts):
    """Share of the slots in use."""
    rounds = blocks * parts / slots
    return rounds / math.ceil(rounds)


# --- attention -------------------------------------------------------------------------------------------------------

BLOCKS, CONTEXT, OWN, LONGEST_CONTEXT, LONGEST_OWN, KV_TOKENS, LONGEST_NEW = range(7)
WORK = 7  # numbers that chunks of prefill add up to


@subroutine
def _walked_own(new_tokens):
    """Tokens of the chunk that the blocks of one head walk over, all together: each up to its last query."""
    whole = math.floor(new_tokens / TILE)
    return TILE * whole * (whole + 1.0) / 2.0 + (new_tokens if new_tokens > whole * TILE else 0.0)


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
    about = blocks * min(longest, own + 0.5 * (TILE - 1))
    work[OWN] += _walked_own(new_tokens) * heads if new_tokens <= window else about
    work[LONGEST_CONTEXT] = max(work[LONGEST_CONTEXT], min(context, window))
    work[LONGEST_OWN] = max(work[LONGEST_OWN], longest)
    work[LONGEST_NEW] = max(work[LONGEST_NEW], new_tokens)
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
    longest = work[LONGEST_CONTEXT] + prefill.diagonal * work[LONGEST_OWN]
    even = (work[CONTEXT] + prefill.diagonal * work[OWN]) / slots
    walk_ns = min(rounds * longest, even + longest) / parts * block_token_ns(machine, prefill, heads)
    memory_ns = work[KV_TOKENS] * heads.kv_heads * heads.kv_bytes / machine.bytes_per_ns
    split_ns = prefill.split_ns if parts > 1.0 else 0.0
    return prefill.overhead_ns + rounds * prefill.round_ns + split_ns + max(walk_ns, memory_ns)


@subroutine
def block_token_ns(machine, prefill, heads):
    """Of one block of 64 queries for one token that it walks over."""
    return 2.0 * TILE * heads.prefill_dims * machine.processors / (machine.flops_per_ns * prefill.compute_efficiency)


@subroutine
def _keys_at_once(heads):
    """Of a block that decodes: the public kernel's rule, by the numbers of a head."""
    if heads.decode_dims <= 128.0:
        return 256.0
    return 128.0 if heads.decode_dims <= 256.0 else 64.0


@subroutine
def decode_ns(machine, decode, heads, sequences, tokens):
    """Attention of one layer for one new token of each sequence, a kernel of its own; tokens: cached, of all together.

    The queries of one key-value head are one block (of MLA, one for each 64 of them). It walks over the cached tokens
    and its own by whole tiles, of which an incomplete one takes as long as a block alone needs for a whole one.
    """
    if sequences <= 0.0:
        return 0.0
    each, tile = tokens / sequences, _keys_at_once(heads)
    tiles = math.ceil((each + 1.0) / tile)
    blocks, _ = decode_sizes(heads, sequences, tokens)
    parts = splits_of(blocks, tiles, machine.processors * _SPLIT_BLOCKS)
    slots = machine.processors * decode.together
    rounds = blocks * parts / slots
    whole = math.floor(rounds)
    left = rounds - whole
    alone_ns = math.ceil(tiles / parts) * tile * heads.kv_bytes / decode.block_bytes_per_ns
    shared_ns = each / parts * heads.kv_bytes * slots / (machine.bytes_per_ns * decode.memory_efficiency)
    walk_ns = whole * max(alone_ns, shared_ns) + (max(alone_ns, shared_ns * left) if left > 0.0 else 0.0)
    rounds = whole + (1.0 if left > 0.0 else 0.0)
    fixed_ns = decode.overhead_ns + rounds * decode.round_ns + (decode.split_ns if parts > 1.0 else 0.0)
    flops_ns = 2.0 * heads.heads * heads.decode_dims * tokens / machine.flops_per_ns
    return fixed_ns + max(walk_ns, flops_ns)


@subroutine
def _filled_ns(one, one_ns, one_longest_ns, other, other_ns, other_longest_ns, empty_ns, processors, crowd):
    """Until the last of two kinds of blocks ends, of each its blocks, time of all together, and time of the longest.

    Those of the kind with longer blocks hold processors while the others run on what is left, so that the last long
    one starts late: `crowd` says how much of the processors that they hold in the end is gone for the others. No more
    than one longest block after the time of all spread evenly, nor than a longest one each round.
    """
    longest_ns = max(one_longest_ns, other_longest_ns)
    even_ns = (one_ns + other_ns + empty_ns) / processors
    if one_longest_ns < other_longest_ns:
        one, other, one_ns, other_ns = other, one, other_ns, one_ns
    alone_ns = min(math.ceil(one / processors) * longest_ns, one_ns / processors + longest_ns)
    left = processors * (1.0 - crowd * min(one / processors, 1.0))
    rounds_ns = math.ceil((one + other) / processors) * longest_ns + empty_ns / processors
    return min(alone_ns + (other_ns + empty_ns) / left, even_ns + longest_ns, rounds_ns)


@subroutine
def mixed_ns(machine, mixed, prefill, heads, work, sequences, tokens):
    """Attention of one layer in one kernel for chunks of prefill and one token of each of `sequences`.

    Each query head of each sequence that decodes has a block of its own, of 64 rows of which one is used, and as many
    blocks without work as the longest chunk has more. All blocks share the processors, so that those that decode fill
    what the chunks leave idle. Heads come one after the other, each with all sequences. Those of one key-value head
    share what they read if they run at the same time, which they do the more the fewer sequences there are, or if it
    stays in the cache until the next head comes: all of it up to its size, none from twice that.
    """
    each = block_token_ns(machine, prefill, heads)
    tile = _keys_at_once(heads)
    blocks = sequences * heads.heads
    decode_ns = math.ceil((tokens / sequences + 1.0) / tile) * tile * each * mixed.compute_share + mixed.round_ns
    chunk_ns = (work[CONTEXT] + prefill.diagonal * work[OWN]) * each + work[BLOCKS] * prefill.round_ns
    longest_ns = (work[LONGEST_CONTEXT] + prefill.diagonal * work[LONGEST_OWN]) * each + prefill.round_ns
    empty_ns = blocks * (math.ceil(work[LONGEST_NEW] / TILE) - 1.0) * mixed.empty_ns
    compute_ns = _filled_ns(
        work[BLOCKS],
        chunk_ns,
        longest_ns,
        blocks,
        blocks * decode_ns,
        decode_ns,
        empty_ns,
        machine.processors,
        mixed.crowd,
    )
    group = heads.heads / heads.kv_heads
    apart = group / min(max(machine.processors / sequences, 1.0), group)
    kept = min(max(2.0 - tokens * heads.kv_bytes / mixed.cache_bytes, 0.0), 1.0)
    read = (tokens * (apart + (1.0 - apart) * kept) + work[KV_TOKENS]) * heads.kv_heads * heads.kv_bytes
    memory_ns = read / (machine.bytes_per_ns * mixed.memory_efficiency)
    return prefill.overhead_ns + both(compute_ns, memory_ns)


# --- corrections -----------------------------------------------------------------------------------------------------

# By which sizes each family is corrected: two subroutines for a family, so that calibration and use cannot differ.


@subroutine
def product_sizes(tokens, k, n, groups):
    """Rows of one matrix, and its numbers."""
    return tokens / groups, k * n


@subroutine
def prefill_sizes(work):
    """Blocks, and tokens before the chunk that each walks over."""
    return work[BLOCKS], work[CONTEXT] / work[BLOCKS] + 1.0


@subroutine
def decode_sizes(heads, sequences, tokens):
    """Blocks before they are split, and tokens of a sequence."""
    return sequences * heads.kv_heads * math.ceil(heads.heads / heads.kv_heads / TILE), tokens / sequences


@subroutine
def mixed_sizes(heads, sequences, tokens):
    """Blocks that decode, and tokens of a sequence."""
    return sequences * heads.heads, tokens / sequences


@subroutine
def factor(table, row, column):
    """Of two sizes: linear in their logarithms, constant beyond the table."""
    if table.factors.size == 1:
        return table.factors[0, 0]
    at, above = _place(table.rows, row)
    beside, right = _place(table.columns, column)
    f = table.factors
    last, end = min(at + 1, len(table.rows) - 1), min(beside + 1, len(table.columns) - 1)
    low = f[at, beside] + right * (f[at, end] - f[at, beside])
    high = f[last, beside] + right * (f[last, end] - f[last, beside])
    return low + above * (high - low)


@subroutine
def _place(nodes, size):
    """The node below a size, and how far it is to the next, 0 to 1."""
    there = math.log(max(size, 1e-9))
    if there <= nodes[0]:
        return 0, 0.0
    last = len(nodes) - 1
    if there >= nodes[last]:
        return last, 0.0
    at = 0
    while nodes[at + 1] <= there:
        at += 1
    return at, (there - nodes[at]) / (nodes[at + 1] - nodes[at])


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


# --- corrected times -------------------------------------------------------------------------------------------------


@subroutine
def attention_ns(machine, prefill, decode, mixed, tables, heads, work, sequences, tokens):
    """Attention of one layer: chunks of prefill and one token of each decoding sequence, in one kernel where there is
    one for both, which takes no less than the chunks alone; otherwise the two add up.
    """
    chunks_ns = 0.0
    if work[BLOCKS] > 0.0:
        blocks, context = prefill_sizes(work)
        chunks_ns = prefill_ns(machine, prefill, heads, work) * factor(tables.prefill, blocks, context)
    if sequences <= 0.0:
        return chunks_ns
    if chunks_ns > 0.0 and mixed.present > 0.0:
        blocks, each = mixed_sizes(heads, sequences, tokens)
        both_ns = mixed_ns(machine, mixed, prefill, heads, work, sequences, tokens)
        return max(chunks_ns, both_ns * factor(tables.mixed, blocks, each))
    blocks, each = decode_sizes(heads, sequences, tokens)
    return chunks_ns + decode_ns(machine, decode, heads, sequences, tokens) * factor(tables.decode, blocks, each)
