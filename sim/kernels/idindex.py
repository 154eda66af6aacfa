"""Raw 64-bit ids to dense int32 ids in order of first appearance, and what follows from dense ids.

The table is open addressing with linear probing and holds dense ids only; the raw id is looked up in `address`, where
the objects that appear first (the popular ones, mostly) lie together. At most half of the table is taken.
"""

from __future__ import annotations

import numpy as np

from sim.errors import InputError
from sim.kernels.compile import kernel

_EMPTY = -1
_SMALLEST_BITS = 12
_TILE = 512
_PIECE = 1 << 14
_MOST_BLOCKS = np.iinfo(np.int32).max
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: spreads ids that differ in any bits


@kernel
def _densify(ids, homes, first, table, address, known, most, blocks, base, first_rows, guess):
    """Number `ids` into `blocks` until done or until `most` are known; return (rows done, known).

    ids[0] is row `first` of the chunk, whose new objects are `base` and on; `guess` is scratch, as long as a tile.
    What probably stands at each home is fetched for a whole tile first, with no branch between the loads, so that the
    cache misses overlap; the walk that follows finds most of what it needs close by, and is right whatever the guesses
    were.
    """
    mask = table.size - 1
    for tile in range(0, ids.size, guess.size):
        end = min(tile + guess.size, ids.size)
        for row in range(tile, end):
            guess[row - tile] = table[homes[row]]
        for row in range(tile, end):
            block = guess[row - tile]
            if address[max(block, 0)] != ids[row]:
                block = _EMPTY
            guess[row - tile] = block
        for row in range(tile, end):
            block = guess[row - tile]
            if block == _EMPTY:
                raw = ids[row]
                slot = homes[row]
                block = table[slot]
                while block != _EMPTY and address[block] != raw:
                    slot = (slot + 1) & mask
                    block = table[slot]
                if block == _EMPTY:
                    if known == most:
                        return row, known
                    block = known
                    table[slot] = block
                    address[block] = raw
                    first_rows[block - base] = first + row
                    known += 1
            blocks[row] = block
    return ids.size, known


@kernel
def _refill(homes, table):
    """Put dense ids 0, 1, ... into an empty table at their homes."""
    mask = table.size - 1
    for block in range(homes.size):
        slot = homes[block]
        while table[slot] != _EMPTY:
            slot = (slot + 1) & mask
        table[slot] = block


@kernel
def next_access_backwards(blocks, first_row, upcoming, out):
    """Fill out[i] with the row of the next access to blocks[i], walking back from the end of a chunk.

    upcoming: int64[n_blocks] row of the nearest later access to each block, NEVER at first; updated.
    """
    for i in range(blocks.size - 1, -1, -1):
        block = blocks[i]
        out[i] = upcoming[block]
        upcoming[block] = first_row + i


@kernel
def previous_access_forwards(blocks, first_row, latest, out):
    """Fill out[i] with the row of the access before to blocks[i], walking from the start of a chunk.

    latest: int64[n_blocks] row of the latest earlier access to each block, -1 at first; updated.
    """
    for i in range(blocks.size):
        block = blocks[i]
        out[i] = latest[block]
        latest[block] = first_row + i


class IdIndex:
    """A growing map from raw int64 ids to dense int32 ids."""

    def __init__(self) -> None:
        self.known = 0
        self._address = np.empty(0, np.int64)
        self._grow(_SMALLEST_BITS)

    @property
    def address(self) -> np.ndarray:
        """int64[known] raw id of each dense id."""
        return self._address[: self.known]

    def densify(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dense ids of `ids` (int64[n] -> int32[n]), and the row of `ids` where each new one first appears."""
        ids = np.ascontiguousarray(ids, np.int64)
        blocks = np.empty(ids.size, np.int32)
        first_rows = np.empty(ids.size, np.int64)
        guess = np.empty(_TILE, np.int32)
        before, done = self.known, 0
        while done < ids.size:  # a piece at a time, so that its homes stay in the processor's cache
            piece = ids[done : done + _PIECE]
            if not ids.flags.writeable:  # of another type to Numba, for which all would be compiled once more
                piece = piece.copy()
            rows, self.known = _densify(
                piece,
                _homes(piece, self._bits),
                done,
                self._table,
                self._address,
                self.known,
                self._most,
                blocks[done:],
                before,
                first_rows,
                guess,
            )
            done += rows
            if rows < piece.size:
                self._grow(self._bits + 1)
        return blocks, first_rows[: self.known - before]

    def _grow(self, bits: int) -> None:
        if self.known >= _MOST_BLOCKS:
            raise InputError("more than 2^31 - 1 distinct ids in one trace")
        self._bits = bits
        self._most = min(1 << (bits - 1), _MOST_BLOCKS)
        self._table = None  # let go of the old table before the new one is made
        self._table = np.full(1 << bits, _EMPTY, np.int32)
        _refill(_homes(self.address, bits), self._table)
        self._address = _lengthened(self._address, self._most)


def _homes(ids: np.ndarray, bits: int) -> np.ndarray:
    """int64[n] slot of each id in a table of 2**bits, by multiplicative hashing."""
    mixed = ids.view(np.uint64) >> np.uint64(32)
    mixed ^= ids.view(np.uint64)  # arrays wrap silently, in numpy as in C
    mixed *= _MULTIPLIER
    mixed >>= np.uint64(64 - bits)
    return mixed.view(np.int64)


def _lengthened(array: np.ndarray, size: int) -> np.ndarray:
    longer = np.empty(size, array.dtype)
    longer[: array.size] = array
    return longer
