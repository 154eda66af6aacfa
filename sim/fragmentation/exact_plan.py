"""The least memory for objects of known lifetimes, as a mixed integer program for HiGHS (Huangfu & Hall 2018).

A variable for each address and one for the peak, which is minimised; for each two objects that live at a time, a binary
one says which of them lies below (the model of MEMO's level 1, arXiv 2407.12117). Addresses are rebuilt
from the order found, in whole numbers, so that the solver's tolerances cannot make objects overlap; what it has proven
is taken as it says, to within 1e-9 of a variable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.fragmentation.planning import Lives, Plan

_TOLERANCE = 1e-9
_ROUNDING = 1e-4  # of a bound that is a whole number


def solve(lives: Lives, heuristic: Plan, time_limit_s: float) -> Plan:
    """The best plan found within the time, no worse than the heuristic one, and the bound proven by then."""
    highspy = _solver()
    unit = int(np.gcd.reduce(lives.size_bytes))
    sizes = lives.size_bytes // unit
    below, above = _pairs(lives)
    lowest, highest = heuristic.proven_bound_bytes // unit, heuristic.peak_bytes // unit
    solver = highspy.Highs()
    options = {"output_flag": False, "time_limit": float(time_limit_s), "mip_rel_gap": 0.0, "threads": 1}
    tolerances = ("mip_feasibility_tolerance", "primal_feasibility_tolerance", "dual_feasibility_tolerance")
    for name, value in {**options, **dict.fromkeys(tolerances, _TOLERANCE)}.items():
        solver.setOptionValue(name, value)
    solver.passModel(_model(highspy, sizes, below, above, lowest, highest))
    start = highspy.HighsSolution()
    known = heuristic.addresses // unit
    start.col_value = [*known.tolist(), float(highest), *(known[below] < known[above]).astype(float).tolist()]
    solver.setSolution(start)
    solver.run()
    bound = max(lowest, math.ceil(solver.getInfo().mip_dual_bound - _ROUNDING))
    values = np.array(solver.getSolution().col_value[: sizes.size])
    addresses = _settled(sizes, values if values.size else known, below, above)
    peak = int((addresses + sizes).max())
    if peak > highest:
        addresses, peak = known, highest
    return heuristic._replace(
        addresses=unit * addresses, peak_bytes=unit * peak, proven_bound_bytes=unit * min(bound, peak)
    )


def _solver():
    try:
        import highspy
    except ImportError as error:
        problem = "exact plans need the package highspy, which is not installed"
        raise InputError(problem, expected="`pip install memhier[planning]` before, or another method") from error
    return highspy


def _pairs(lives: Lives) -> tuple[np.ndarray, np.ndarray]:
    """Both numbers of each two objects that live at a time."""
    together = (lives.born[:, None] < lives.dies) & (lives.born < lives.dies[:, None])
    return np.nonzero(np.triu(together, 1))


def _model(highspy, sizes: np.ndarray, below: np.ndarray, above: np.ndarray, lowest: int, highest: int):
    """Rows a_i + s_i <= peak of each object, and of each pair a_i + s_i <= a_j or a_j + s_j <= a_i."""
    objects, pairs = sizes.size, below.size
    columns = objects + 1 + pairs
    choice = objects + 1 + np.arange(pairs)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns, objects + 2 * pairs
    model.col_cost_ = np.eye(1, columns, objects)[0]
    model.col_lower_ = np.concatenate([np.zeros(objects), [lowest], np.zeros(pairs)])
    model.col_upper_ = np.concatenate([highest - sizes, [highest], np.ones(pairs)]).astype(float)
    kinds = highspy.HighsVarType
    model.integrality_ = [kinds.kContinuous] * (objects + 1) + [kinds.kInteger] * pairs
    model.row_lower_ = np.full(objects + 2 * pairs, -highspy.kHighsInf)
    model.row_upper_ = np.concatenate([-sizes, highest - sizes[below], -sizes[above]]).astype(float)
    ones, most = np.ones(pairs), np.full(pairs, float(highest))
    index = [
        np.stack([np.arange(objects), np.full(objects, objects)], 1).ravel(),
        np.stack([below, above, choice], 1).ravel(),
        np.stack([above, below, choice], 1).ravel(),
    ]
    orders = [np.stack([ones, -ones, sign * most], 1).ravel() for sign in (1, -1)]
    lengths = np.concatenate([np.full(objects, 2), np.full(2 * pairs, 3)])
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    model.a_matrix_.index_ = np.concatenate(index).astype(np.int32)
    model.a_matrix_.value_ = np.concatenate([np.tile([1.0, -1.0], objects), *orders])
    return model


def _settled(sizes: np.ndarray, values: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Whole addresses: each object, from the lowest up, rests on those that it may not overlap."""
    together = np.zeros((sizes.size, sizes.size), bool)
    together[below, above] = together[above, below] = True
    ends = np.zeros(sizes.size, np.int64)
    for number in np.argsort(values, kind="stable"):
        ends[number] = sizes[number] + ends[together[number]].max(initial=0)
    return ends - sizes
