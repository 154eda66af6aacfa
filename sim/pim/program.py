"""An operation as the stream of commands that a channel gets: steps, each so many columns of one row of one bank set.

A product: the outputs are shared out over the units of all channels, as many to a unit as it has accumulators (a tile
of outputs); the vector comes in tiles of as many vectors as the units hold. A tile of both takes one column for each
accumulator and each vector. Sums are added up over all tiles of the vector, and then leave the unit. A vector that fits
into the registers is loaded once. Where rows are opened ahead, the matrix goes from bank set to bank set row by row;
otherwise each set has its share of the vector's tiles, one set after the other. A vector that does not fit, for units
whose sums leave over the bus, is loaded once all the same if that is less traffic: then each tile's sums leave, and the
host adds them up.

An element-wise kernel: elements are spread over all banks of all channels. A tile fills the registers of a unit from
one bank set, and writes the results to a row of the same set.

Registers keep what they hold when the host has the channel between two tiles. Every channel gets the same stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.errors import InputError
from sim.pim.operations import Operation
from sim.pim.parameters import PimParameters

# kinds of steps; those from LOAD to MODE and STORE write, all others read
KINDS = ("MODE", "PARK", "CRF", "SRF", "LOAD", "MAC", "FILL", "ADD", "MUL", "MAD", "RELU", "MOV", "STORE", "RESULT")
MODE, PARK, CRF, SRF, LOAD, MAC, FILL, ADD, MUL, MAD, RELU, MOV, STORE, RESULT = range(len(KINDS))
WRITES = (MODE, CRF, SRF, LOAD, STORE)
_ELEMENTWISE = {"add": (FILL, ADD), "mul": (FILL, MUL), "mad": (MAD,), "relu": (RELU,), "mov": (MOV,)}
# columns of a step: what; the bank set; its row, -1 where no bank is used; its first column there (of a set of several
# groups, counted in turn through them); how many; how many vectors are loaded beside; activations that open the row;
# whether the host may have the channel after it
KIND, SET, ROW, FIRST, COUNT, BESIDE, ACTIVATIONS, CUT = range(8)
STEP_COLUMNS = 8
# parts of a program: what comes first; PIM mode on; the operation itself; PIM mode off; what comes last
ENTER, START, BODY, STOP, LEAVE = range(5)


@dataclass(frozen=True)
class Program:
    """steps: int64[n, 8], ENTER to LEAVE one after the other; begins: int64[6], where each part begins, and the end.

    result_columns: of a channel's banks, which the host reads afterwards; matrix_columns: read by MAC commands in each
    bank of a set, all sets together.
    """

    steps: np.ndarray
    begins: np.ndarray
    result_columns: int
    matrix_columns: int
    host_additions: int

    @cached_property
    def alone(self) -> np.ndarray:
        """The steps where the host never has the channel in between."""
        parts = [self.steps[self.begins[part] : self.begins[part + 1]] for part in (ENTER, BODY, LEAVE)]
        return np.concatenate(parts)


def compile_operation(p: PimParameters, operation: Operation) -> Program:
    """Raises InputError where the units cannot do it, or where it does not fit."""
    if operation.kind not in p.operations.split():
        raise InputError("these units cannot do", value=operation.kind, expected=p.operations)
    writer = _Writer(p)
    enter, start = writer.enter(), writer.mode(0, p.start_writes)
    body, matrix_columns, result_columns = writer.body(operation)
    stop, leave = writer.mode(0, p.start_writes), writer.leave()
    parts = [enter, start, body, stop, leave]
    steps = np.array([step for part in parts for step in part], np.int64).reshape(-1, STEP_COLUMNS)
    begins = np.cumsum([0, *map(len, parts)])
    of_lanes = operation.outputs * (p.lanes - 1) if operation.kind == "gemv" and p.lane_sums else 0
    return Program(steps, begins.astype(np.int64), result_columns, matrix_columns, writer.additions + of_lanes)


class _Writer:
    """Writes steps: lists of tuples, as the columns are."""

    def __init__(self, p: PimParameters):
        self.p = p
        self.last_set = p.sets - 1
        self.additions = 0
        self.registers, self.entry, self.exit, self.parking = range(p.usable_rows, p.usable_rows + 4)

    def step(self, kind, which, row, count, first=0, beside=0, single=False, cut=0):
        """`single`: banks of the set are opened one by one, as outside of all-bank mode."""
        activations = min(count, self.p.working_banks) if single else self.p.activations
        return (kind, which, row, first, count, beside, activations, cut)

    # --- modes

    def enter(self):
        p = self.p
        steps = []
        if p.park_reads:
            each = p.working_banks * p.set_groups
            steps += [self.step(PARK, which, self.parking, each, single=True) for which in range(p.sets)]
        return steps + self.spread(p.enter_writes, self.entry)

    def leave(self):
        p = self.p
        steps = self.spread(p.leave_writes, self.exit)
        if p.park_reads:
            steps += [self.step(PARK, which, self.parking, 1, single=True) for which in range(min(2, p.sets))]
        return steps

    def spread(self, writes, row):
        """Mode writes to single banks, of all sets in turn."""
        each = [writes // self.p.sets + (which < writes % self.p.sets) for which in range(self.p.sets)]
        return [self.step(MODE, which, row, count, single=True) for which, count in enumerate(each) if count]

    def mode(self, which, writes):
        return [self.step(MODE, which, self.registers, writes)] if writes else []

    def register_writes(self, kind, count):
        row = self.registers if self.p.register_row else -1
        return [self.step(kind, self.last_set, row, count)] if count else []

    # --- operations

    def body(self, operation):
        steps = self.instructions(operation)
        if operation.kind == "mad":
            steps += self.register_writes(SRF, 1)
        if operation.kind == "gemv":
            return self.product(operation, steps)
        return self.elementwise(operation, steps)

    def instructions(self, operation):
        """Writing the kernel into the command registers: for each bank set its commands, then a jump and the end."""
        p = self.p
        if p.instruction_entries == 0:
            return []
        of_set = 2 if operation.kind == "gemv" else len(_ELEMENTWISE[operation.kind]) + 1
        needed = of_set * p.sets + 2
        if needed > p.instruction_entries:
            problem = f"{operation.kind} takes {needed} instructions; instruction_entries is"
            raise InputError(problem, value=p.instruction_entries)
        return self.register_writes(CRF, -(-needed // p.instructions_per_write))

    def product(self, operation, steps):
        p = self.p
        at_once = p.units_per_channel * p.dram.channels
        vectors = -(-operation.inputs // p.lanes)
        layout = _Layout(p)
        if self.loads_once(operation, at_once, vectors):
            return self.product_by_inputs(operation, steps, at_once, vectors, layout)
        held, results, columns = False, 0, 0
        result_row = self.rows_of_product(operation, at_once, vectors)
        for first_output in range(0, operation.outputs, at_once * p.accumulators):
            sums = min(p.accumulators, -(-(operation.outputs - first_output) // at_once))
            steps += self.mode(0, p.start_writes)
            steps += self.tiles_of(vectors, sums, layout, held)
            held = vectors <= p.operand_vectors
            columns += sums * vectors
            steps += self.results(result_row, results, sums)
            results += sums
            steps += self.mode(0, p.start_writes)
        return steps, columns, results * p.units_per_channel if p.results_to_bank else 0

    def loads_once(self, operation, at_once, vectors):
        """Whether less goes over the bus if each tile of the vector is loaded once and its sums leave at once."""
        p = self.p
        if p.results_to_bank or p.own_operand_path or vectors <= p.operand_vectors:
            return False
        tiles = -(-vectors // p.tile_vectors)
        outputs = -(-operation.outputs // (at_once * p.accumulators))
        moved = self.results(0, 0, p.accumulators)[0][COUNT]
        return vectors + tiles * outputs * moved < outputs * (vectors + moved)

    def product_by_inputs(self, operation, steps, at_once, vectors, layout):
        """Tile by tile of the vector, all outputs: the host adds up the sums of the tiles."""
        p = self.p
        self.rows_of_product(operation, at_once, vectors)
        columns = 0
        steps += self.mode(0, p.start_writes)
        for at in range(0, vectors, p.tile_vectors):
            tile = min(p.tile_vectors, vectors - at)
            steps += self.register_writes(LOAD, tile)
            for first_output in range(0, operation.outputs, at_once * p.accumulators):
                sums = min(p.accumulators, -(-(operation.outputs - first_output) // at_once))
                pieces = layout.take(sums * tile, at // p.tile_vectors % p.sets)
                steps += [self.step(MAC, which, row, count, first) for which, row, first, count in pieces]
                steps += self.results(0, 0, sums)
                steps[-1] = (*steps[-1][:CUT], 1)
                columns += sums * tile
        steps += self.mode(0, p.start_writes)
        self.additions += operation.outputs * (-(-vectors // p.tile_vectors) - 1)
        return steps, columns, 0

    def rows_of_product(self, operation, at_once, vectors):
        """The first row after the matrix. Raises InputError where matrix and results do not fit."""
        p = self.p
        sums = -(-operation.outputs // at_once)
        tiles = -(-vectors // p.tile_vectors)
        if p.opens_ahead:
            columns = -(-sums * vectors // (p.sets * p.columns_per_row)) * p.columns_per_row
        else:
            columns = sums * -(-tiles // p.sets) * p.tile_vectors
        rows = -(-columns // p.columns_per_row)
        results = -(-sums // p.columns_per_row) if p.results_to_bank else 0
        if rows + results > p.usable_rows:
            problem = f"{operation} takes {rows + results} rows of each bank; there are"
            raise InputError(problem, value=p.usable_rows, expected="a smaller matrix, or more channels")
        return rows

    def tiles_of(self, vectors, sums, layout, held):
        """Loads and columns of one tile of outputs."""
        p = self.p
        tiles = [min(p.tile_vectors, vectors - at) for at in range(0, vectors, p.tile_vectors)]
        order = range(len(tiles))
        if not p.opens_ahead:
            order = [tile for which in range(p.sets) for tile in range(which, len(tiles), p.sets)]
        steps = []
        for position, tile in enumerate(order):
            if not held and (position == 0 or not p.own_operand_path):
                steps += self.register_writes(LOAD, tiles[tile])
            pieces = layout.take(sums * tiles[tile], tile % p.sets)
            beside = 0
            if p.own_operand_path and not held and position + 1 < len(order):
                beside = tiles[order[position + 1]]
            for i, (which, row, first, count) in enumerate(pieces):
                share = beside * (i + 1) // len(pieces) - beside * i // len(pieces)
                steps.append(self.step(MAC, which, row, count, first, share, cut=i == len(pieces) - 1))
        return steps

    def results(self, row, done, sums):
        p = self.p
        if p.results_to_bank:
            place = row + done // p.columns_per_row
            return [self.step(STORE, self.last_set, place, sums, done % p.columns_per_row)]
        width = p.transaction_bytes if p.lane_sums else p.element_bytes
        return [self.step(RESULT, 0, -1, -(-sums * p.units_per_channel * width // p.transaction_bytes))]

    def elementwise(self, operation, steps):
        p = self.p
        kinds = _ELEMENTWISE[operation.kind]
        bursts = -(-operation.outputs // p.lanes)
        at_once = p.operand_vectors * p.working_banks * p.sets * p.dram.channels
        tiles = -(-bursts // at_once)
        rows = -(-tiles * p.operand_vectors // p.columns_per_row)
        if rows * (operation.operands + 1) > p.usable_rows:
            problem = f"{operation} takes {rows * (operation.operands + 1)} rows of each bank; there are"
            raise InputError(problem, value=p.usable_rows, expected="fewer elements, or more channels")
        steps += self.mode(0, p.start_writes)
        for tile in range(tiles):
            pieces = _pieces(tile * p.operand_vectors, p.operand_vectors, p.columns_per_row)
            for which in range(p.sets):
                for operand, kind in enumerate((*kinds, STORE)):
                    for row, first, count in pieces:
                        steps.append(self.step(kind, which, operand * rows + row, count, first))
            if p.jump_columns:
                row, first, count = pieces[-1]
                place = len(kinds) * rows + row
                steps.append(self.step(STORE, self.last_set, place, p.jump_columns, first + count - 1))
            steps[-1] = (*steps[-1][:CUT], 1)
        steps += self.mode(0, p.start_writes)
        return steps, 0, 0


class _Layout:
    """Where the columns of a matrix are, taken one after the other: row by row through the sets, or set by set."""

    def __init__(self, p: PimParameters):
        self.p = p
        self.taken = [0] * p.sets

    def take(self, count, which):
        """The next columns as (set, row, first, count), none across a row or a fence."""
        p = self.p
        if not p.opens_ahead:
            begin, self.taken[which] = self.taken[which], self.taken[which] + count
            return [(which, *piece) for piece in _pieces(begin, count, p.columns_per_row, p.columns_per_fence)]
        begin, self.taken[0] = self.taken[0], self.taken[0] + count
        pieces = _pieces(begin, count, p.columns_per_row, p.columns_per_fence)
        return [(row % p.sets, row // p.sets, first, length) for row, first, length in pieces]


def _pieces(begin, count, columns_per_row, columns_per_fence=0):
    """(row, first column, count) of so many columns from `begin` on, cut at the end of a row and at a fence."""
    pieces, at = [], begin
    while at < begin + count:
        row, first = divmod(at, columns_per_row)
        length = min(columns_per_row - first, begin + count - at)
        if columns_per_fence:
            length = min(length, columns_per_fence - (at - begin) % columns_per_fence)
        pieces.append((row, first, length))
        at += length
    return pieces
