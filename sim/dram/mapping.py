"""Which channel, bank, row and column an address of a DRAM device is: orders of bits by name, or spelled out.

An order lists parts of the address from the most to the least significant; below the last one are the bytes of a
transaction. The names are Ramulator's: RoBaRaCoCh (row, bank, bank group, rank, pseudo-channel, column, channel),
ChRaBaRoCo (channel, pseudo-channel, rank, bank group, bank, row, column) and MOP4CLXOR (Kaseridis et al., "Minimalist
Open-page", MICRO 2011: four transactions of a row, then the next bank; the numbers of banks and row are XORed with
column bits). Stack ids stand where ranks do. An order of one's own is a list such as
"row:16, bank:2, group:2, column:7": each part with its bits, all of a field's bits among them; `channel` may stand
without bits, and has then as many values as there are channels, a power of two or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.errors import InputError

FIELDS = ("channel", "pseudo_channel", "rank", "group", "bank", "row", "column")
CHANNEL, PSEUDO_CHANNEL, RANK, GROUP, BANK, ROW, COLUMN = range(len(FIELDS))
_ORDERS = {
    "RoBaRaCoCh": ("row", "bank", "group", "rank", "pseudo_channel", "column", "channel"),
    "ChRaBaRoCo": ("channel", "pseudo_channel", "rank", "group", "bank", "row", "column"),
}
_MOP = ("row", "column", "bank", "group", "rank", "pseudo_channel", "column:2", "channel")
NAMES = (*_ORDERS, "MOP4CLXOR")


def segments(mapping: str, sizes: Sequence[int]) -> tuple[np.ndarray, bool]:
    """The parts of an address from the least significant: int64[parts, 3] of field, size and place in the field; and
    whether numbers are XORed with the column.

    sizes: how many values each of FIELDS has. Raises InputError where the mapping does not cover them.
    """
    if mapping == "MOP4CLXOR":
        if sizes[COLUMN] < 4:
            raise InputError("mapping MOP4CLXOR needs four transactions in a row; there are", value=sizes[COLUMN])
        return _laid_out(_MOP, mapping, sizes), True
    if mapping in _ORDERS:
        return _laid_out(_ORDERS[mapping], mapping, sizes), False
    if ":" not in mapping:
        raise InputError("unknown mapping", value=mapping, candidates=NAMES)
    return _laid_out([part.strip() for part in mapping.split(",")], mapping, sizes), False


def _laid_out(order: Sequence[str], mapping: str, sizes: Sequence[int]) -> np.ndarray:
    """Parts without a number of bits take what the others of their field leave."""
    named = [_part(text, mapping) for text in order]
    told = [sum(bits for field, bits in named if field == wanted and bits is not None) for wanted in range(len(FIELDS))]
    rows, done = [], [0] * len(FIELDS)
    for field, bits in reversed(named):
        size = sizes[field] >> told[field] if bits is None else 1 << bits
        rows.append((field, size, done[field]))
        done[field] += size.bit_length() - 1
    for field, size in enumerate(sizes):
        covered = int(np.prod([row[1] for row in rows if row[0] == field]))
        if covered != size:
            problem = f"mapping {mapping!r} does not cover the address: it has {covered} values of {FIELDS[field]!r}"
            raise InputError(f"{problem}, the device {size}")
    return np.array(rows, np.int64)


def _part(text: str, mapping: str) -> tuple[int, int | None]:
    name, colon, bits = text.partition(":")
    if name.strip() not in FIELDS:
        raise InputError(f"mapping {mapping!r}: unknown part", value=name.strip(), candidates=FIELDS)
    if colon and not bits.strip().isdigit():
        raise InputError(f"mapping {mapping!r}: part {name.strip()!r} has", value=bits, expected="a number of bits")
    return FIELDS.index(name.strip()), int(bits) if colon else None
