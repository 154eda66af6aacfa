"""What the formulas of `sim.cost.kernels` leave: factors by the size of a kernel, learned in calibration.

A factor is measured / formula, by one or two sizes (never by an operator, so that it holds for other models): told at
nodes, linear between them in the logarithms of the sizes, constant beyond. Factors are fitted to the logarithms of the
ratios by least squares that pay for differences between neighbours; how dearly, cross-validation settles: the dearest
prices are taken that do as well as the best, and no correction at all where that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sim.cost.kernels import Factors

LEAST, MOST = 0.7, 1.5
_PRICES = (0.02, 0.1, 0.5, 2.5, 12.0, 60.0)
_FOLDS = 8
_SEED = 0
_TRIED = 1200  # samples that prices are chosen by
_ROUNDS = 5  # of reweighting, for outliers
_NEAR = 0.03  # a log error from which on it counts linearly, not by its square
_AS_GOOD = 1.005  # times the least error
_CORNERS = 4  # nodes around a sample
_EDGE = 1.1  # neighbours nearer than this are the sides of an edge
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
) -> Correction:
    """The correction of formulas; NONE where it does not pay.

    nodes: of rows and columns; sizes float64[samples, 2]; predicted, measured: ns. groups: of samples that are told
    from others, not from each other (all of one matrix, say), so that what is learned holds for what was not measured.
    """
    rows, columns = (_inside(own, sizes[:, at]) for at, own in enumerate(nodes))
    told = np.log(measured / predicted).clip(np.log(LEAST), np.log(MOST))
    fit = _Fit(_basis(rows, columns, sizes), told, _fences(rows, columns))
    few = np.random.default_rng(_SEED).permutation(len(told))[:_TRIED]
    prices = _best_prices(fit.of(few), _folds((np.arange(len(told)) if groups is None else groups)[few]), len(columns))
    if prices is None:
        return NONE
    found = np.round(np.exp(fit.solved(*prices)).clip(LEAST, MOST).reshape(len(rows), len(columns)), 4)
    return Correction(rows, columns, tuple(tuple(map(float, row)) for row in found))


def _best_prices(fit: _Fit, fold: np.ndarray, columns: int) -> tuple[float, float] | None:
    """Of differences along and across the rows' axis; None where what is not corrected is told as well, or where all
    samples are of one fold, so that there are no others to tell it by.
    """
    if np.unique(fold).size < 2:
        return None
    left = {None: np.abs(fit.told).mean()}
    for along in _PRICES:
        for across in _PRICES if columns > 1 else (0.0,):
            left[along, across] = _unseen_error(fit, fold, along, across)
    good = [prices for prices, error in left.items() if error <= min(left.values()) * _AS_GOOD]
    return None if None in good else max(good, key=sum)


def _unseen_error(fit: _Fit, fold: np.ndarray, along: float, across: float) -> float:
    """The mean log error of what is told of each fold by the others."""
    told = np.zeros(len(fit.told))
    for one in np.unique(fold):
        told[fold == one] = fit.basis[fold == one] @ fit.of(fold != one).solved(along, across)
    return np.abs(told - fit.told).mean()


@dataclass(frozen=True)
class _Fit:
    """basis float64[samples, nodes]; told float64[samples]: log factors; fences: of differences of neighbours."""

    basis: np.ndarray
    told: np.ndarray
    fences: tuple[np.ndarray, np.ndarray]

    def of(self, chosen: np.ndarray) -> _Fit:
        return _Fit(self.basis[chosen], self.told[chosen], self.fences)

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        """int and float64[samples, pairs]: of the few nodes that count for a sample, places and products."""
        at = np.argpartition(-self.basis, min(_CORNERS, self.basis.shape[1]) - 1, axis=1)[:, :_CORNERS]
        part = np.take_along_axis(self.basis, at, axis=1)
        places = at[:, :, None] * self.basis.shape[1] + at[:, None, :]
        return places.reshape(len(at), -1), (part[:, :, None] * part[:, None, :]).reshape(len(at), -1)

    def solved(self, along: float, across: float) -> np.ndarray:
        """float64[nodes], by reweighted least squares; prices of differences along and across the rows' axis."""
        paid = along * self.fences[0] + across * self.fences[1] + _CHEAP * np.eye(self.basis.shape[1])
        places, products = self._corners()
        weights, found = np.ones(len(self.told)), np.zeros(self.basis.shape[1])
        for _ in range(_ROUNDS):
            squares = np.bincount(places.ravel(), (products * weights[:, None]).ravel(), paid.size)
            found = np.linalg.solve(squares.reshape(paid.shape) + paid, self.basis.T @ (weights * self.told))
            weights = np.minimum(1.0, _NEAR / np.maximum(np.abs(self.basis @ found - self.told), 1e-9))
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


def _fences(rows: tuple[float, ...], columns: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """float64[nodes, nodes] twice: quadratic forms of the differences of neighbours along, and across the rows' axis.

    The two sides of an edge, as of a tile that is full, may differ as they like.
    """
    at = np.arange(len(rows) * len(columns)).reshape(len(rows), len(columns))
    smooth = np.array([high / low > _EDGE for low, high in pairwise(rows)], bool)
    pairs = ((at[:-1][smooth], at[1:][smooth]), (at[:, :-1], at[:, 1:]))
    return tuple(_differences(first.ravel(), second.ravel(), at.size) for first, second in pairs)


def _differences(first: np.ndarray, second: np.ndarray, nodes: int) -> np.ndarray:
    differences = np.zeros((len(first), nodes))
    differences[np.arange(len(first)), first] = 1.0
    differences[np.arange(len(first)), second] = -1.0
    return differences.T @ differences
