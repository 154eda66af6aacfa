"""What the formulas of `sim.cost.kernels` leave: factors by the size of a kernel, learned in calibration.

A factor is measured / formula, by one or two sizes (never by an operator, so that it holds for other models): nodes, linear
between them in the logarithm of the sizes, constant beyond. It is fitted to the logarithms of the ratios by least
squares that pay for differences between neighbours; how dearly, cross-validation settles: on folds of the rows
fitted to, the dearest prices are taken that do as well as the best, and no correction at all where that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.cost.kernels import Factors

LEAST, MOST = 0.7, 1.5
_PRICES = (0.03, 0.3, 3.0, 30.0, 300.0)
_FOLDS = 5
_SEED = 0
_ROUNDS = 8  # of reweighting, for outliers
_NEAR = 0.03  # a log error from which on it counts linearly, not by its square
_AS_GOOD = 1.01  # times the least error
_CHEAP = 1e-3  # price of a factor other than 1, so that nodes without rows are determined


Nodes = tuple[tuple[float, ...], tuple[float, ...]]


class Correction(NamedTuple):
    """rows, columns: sizes, rising; factors: one for each row and column."""

    rows: tuple[float, ...]
    columns: tuple[float, ...]
    factors: tuple[tuple[float, ...], ...]

    @property
    def arrays(self) -> Factors:
        """As compiled code takes it."""
        return Factors(np.log(self.rows), np.log(self.columns), np.array(self.factors))


NONE = Correction((1.0,), (1.0,), ((1.0,),))


def learn(
    nodes: Nodes, sizes: np.ndarray, predicted: np.ndarray, measured: np.ndarray, groups: np.ndarray | None = None
) -> tuple[Correction, float]:
    """The correction of formulas, NONE where it does not pay, and the mean log error that is left on rows not seen.

    nodes: of rows and columns; sizes float64[samples, 2]; predicted, measured: ns. groups: of samples that are told from
    others, not from each other (all of one matrix, say), so that what is learned holds for sizes that were not measured.
    """
    rows, columns = (_inside(own, sizes[:, at]) for at, own in enumerate(nodes))
    wanted = np.log(measured / predicted)
    fit = _Fit(
        basis=_basis(rows, columns, sizes),
        wanted=wanted.clip(np.log(LEAST), np.log(MOST)),
        fold=_folds(np.arange(len(wanted)) if groups is None else groups),
        fences=_fences(len(rows), len(columns)),
    )
    left = {None: np.abs(wanted).mean()}
    for along in _PRICES:
        for across in _PRICES if len(columns) > 1 else (0.0,):
            left[along, across] = np.abs(fit.unseen(along, across) - wanted).mean()
    good = [prices for prices, error in left.items() if error <= min(left.values()) * _AS_GOOD]
    if None in good:
        return NONE, left[None]
    best = max(good, key=sum)
    found = np.exp(fit.solved(np.ones(len(wanted), bool), *best)).clip(LEAST, MOST)
    told = np.round(found.reshape(len(rows), len(columns)), 4)
    return Correction(rows, columns, tuple(tuple(map(float, row)) for row in told)), left[best]


@dataclass(frozen=True)
class _Fit:
    """basis float64[samples, nodes], wanted float64[samples] log factors, fold int[samples], fences: of two kinds."""

    basis: np.ndarray
    wanted: np.ndarray
    fold: np.ndarray
    fences: tuple[np.ndarray, np.ndarray]

    def unseen(self, along: float, across: float) -> np.ndarray:
        """What is told of each fold by the others."""
        told = np.zeros(len(self.wanted))
        for one in np.unique(self.fold):
            kept = self.fold != one
            told[~kept] = self.basis[~kept] @ self.solved(kept, along, across)
        return told

    def solved(self, chosen: np.ndarray, along: float, across: float) -> np.ndarray:
        """float64[nodes], by reweighted least squares; the prices are of differences along and across the rows."""
        basis, wanted = self.basis[chosen], self.wanted[chosen]
        paid = along * self.fences[0] + across * self.fences[1] + _CHEAP * np.eye(basis.shape[1])
        weights, found = np.ones(len(wanted)), np.zeros(basis.shape[1])
        for _ in range(_ROUNDS):
            weighed = basis.T * weights
            found = np.linalg.solve(weighed @ basis + paid, weighed @ wanted)
            weights = np.minimum(1.0, _NEAR / np.maximum(np.abs(basis @ found - wanted), 1e-9))
        return found


def _folds(groups: np.ndarray) -> np.ndarray:
    """int[samples], below _FOLDS: samples of one group in one fold."""
    names, at = np.unique(groups, return_inverse=True)
    return (np.random.default_rng(_SEED).permutation(len(names)) % _FOLDS)[at]


def _inside(nodes: tuple[float, ...], sizes: np.ndarray) -> tuple[float, ...]:
    """Those nodes that have rows on both sides, and the two next ones."""
    low = max(np.searchsorted(nodes, sizes.min(), "right") - 1, 0)
    high = min(np.searchsorted(nodes, sizes.max(), "left"), len(nodes) - 1)
    return tuple(float(node) for node in nodes[low : high + 1])


def _hats(nodes: tuple[float, ...], sizes: np.ndarray) -> np.ndarray:
    """float64[sizes, nodes]: what each node counts."""
    at = np.interp(np.log(sizes), np.log(nodes), np.arange(len(nodes)))
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(len(nodes))))


def _basis(rows: tuple[float, ...], columns: tuple[float, ...], sizes: np.ndarray) -> np.ndarray:
    across = _hats(rows, sizes[:, 0])[:, :, None] * _hats(columns, sizes[:, 1])[:, None, :]
    return across.reshape(len(sizes), -1)


def _fences(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """float64[nodes, nodes] twice: quadratic forms of the differences of neighbours along, and across the rows' axis."""
    at = np.arange(rows * columns).reshape(rows, columns)
    return tuple(
        _differences(first.ravel(), second.ravel(), rows * columns)
        for first, second in ((at[:-1], at[1:]), (at[:, :-1], at[:, 1:]))
    )


def _differences(first: np.ndarray, second: np.ndarray, nodes: int) -> np.ndarray:
    differences = np.zeros((len(first), nodes))
    differences[np.arange(len(first)), first] = 1.0
    differences[np.arange(len(first)), second] = -1.0
    return differences.T @ differences
