"""Where objects go whose sizes and lifetimes are all known beforehand: heuristics, optima of small cases, and a bound.

Offline dynamic storage allocation (Garey & Johnson 1979, problem SR2) is strongly NP-hard. Methods:

greedy_by_size: from the largest object down, each into the tightest gap of its lifetime (Pisarchyk & Lee 2020,
"Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288; TensorFlow Lite's
greedy_by_size_assignment.cc).
greedy_by_breadth: from the moment of the highest load down, of each moment the largest object first (ibid.).
best_fit_decreasing: as greedy_by_size, of equal sizes the longest lifetime first.
exact: the best of these where it needs no more than the highest load, and so is optimal; else a mixed integer program,
solved by HiGHS (`sim.fragmentation.exact_plan`), for small cases.
memo: as MEMO (Zhao et al. 2024, arXiv 2407.12117), in two levels: what lives and dies within one pass of a layer
(`Objects.group`) is planned exactly, once for all passes that are alike, and is then one block among the rest. The rest
is planned exactly, too, as long as it is no more than `most_objects`, else by the best of the heuristics (MEMO, which
moves what is kept for the backward pass to buffers of its own, has so few objects there that it always solves it).

An object has the most bytes that it will come to, from its birth to its death. The lower bound is the highest load, the
sum of what lives at a time, or what the solver has proven. Where objects grow, an allocator that gives them room when
they do may come below it, and one that moves objects or cuts them into pages may come below the best plan; only
`Operations.peak_live_bytes` bounds all. The heuristics take O(n^2) for n objects in the worst case: 131,287 of a heap
take ten seconds, a million would take ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sim.errors import InputError
from sim.fragmentation.shelves import make_shelves, place_all
from sim.hook_arguments import Objects


class Plan(NamedTuple):
    """addresses: int64[objects]. peak_bytes: the highest end. proven_bound_bytes: no plan comes below."""

    addresses: np.ndarray
    peak_bytes: int
    proven_bound_bytes: int

    @property
    def is_optimal(self) -> bool:
        return self.peak_bytes == self.proven_bound_bytes


class Lives(NamedTuple):
    """What is planned: int64[n] each; `dies` is the first moment at which an object is there no more."""

    size_bytes: np.ndarray
    born: np.ndarray
    dies: np.ndarray


class Limits(NamedTuple):
    """Of an exact solution."""

    most_objects: int
    time_s: float


def plan(
    objects: Objects,
    method: str = "best_fit_decreasing",
    *,
    alignment_bytes: int = 1,
    most_objects: int = 64,
    time_limit_s: float = 60.0,
) -> Plan:
    """Addresses, multiples of `alignment_bytes`, at which no two objects overlap while both live.

    most_objects: exact solutions are tried for no more; time_limit_s: of each. Raises InputError for an unknown method,
    more objects than that, groups that nobody told, or a solver that is not installed.
    """
    methods = _methods()
    if method not in methods:
        raise InputError("unknown method of planning", value=method, candidates=methods)
    if alignment_bytes < 1:
        raise InputError("alignment_bytes is", value=alignment_bytes, expected="a positive whole number")
    sizes = -(-objects.final_bytes // alignment_bytes)
    lives = Lives(sizes, objects.born, objects.dies)
    made = methods[method](lives, objects.group, Limits(most_objects, time_limit_s))
    return Plan(*(alignment_bytes * part for part in made))


def highest_load(lives: Lives) -> int:
    """The most bytes that live at a time."""
    count = lives.born.size
    moments = np.concatenate([lives.dies, lives.born])  # at one moment deaths come first
    changes = np.concatenate([-lives.size_bytes, lives.size_bytes])[np.argsort(moments, kind="stable")]
    return int(np.cumsum(changes).max()) if count else 0


def place_in_order(lives: Lives, order: np.ndarray) -> Plan:
    """Each object in this order in the tightest gap of its lifetime."""
    addresses = np.zeros(lives.born.size, np.int64)
    place_all(make_shelves(lives.born.size), order, *lives, True, addresses)
    return Plan(addresses, int((addresses + lives.size_bytes).max(initial=0)), highest_load(lives))


def best_fit_decreasing(lives: Lives) -> Plan:
    return place_in_order(lives, np.lexsort((lives.born, lives.born - lives.dies, -lives.size_bytes)))


def _greedy_by_size(lives: Lives) -> Plan:
    return place_in_order(lives, np.lexsort((lives.born, -lives.size_bytes)))


def _greedy_by_breadth(lives: Lives) -> Plan:
    return place_in_order(lives, np.lexsort((lives.born, -lives.size_bytes, _moment_ranks(lives))))


def _moment_ranks(lives: Lives) -> np.ndarray:
    """int64[n] among moments by falling load, then by time, the rank of the first at which each object lives.

    Only births count as moments: the load is highest at one of them.
    """
    moments, at = np.unique(lives.born, return_inverse=True)
    ends = np.searchsorted(moments, lives.dies)
    change = np.bincount(at, lives.size_bytes, moments.size + 1) - np.bincount(ends, lives.size_bytes, moments.size + 1)
    load = np.cumsum(change)[:-1]
    rank = np.empty(moments.size, np.int64)
    rank[np.lexsort((moments, -load))] = np.arange(moments.size)
    return _range_minima(rank, at, ends)


def _range_minima(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The least of values[start:end] of each range, none of them empty, from the minima of all powers of two."""
    result = np.empty(starts.size, values.dtype)
    level = np.frexp(ends - starts)[1] - 1
    for power in range(int(level.max(initial=-1)) + 1):
        width = 1 << power
        here = level == power
        result[here] = np.minimum(values[starts[here]], values[ends[here] - width])
        values = np.minimum(values, np.concatenate([values[width:], values[-1:].repeat(width)])[: values.size])
    return result


def _best_heuristic(lives: Lives) -> Plan:
    plans = [method(lives) for method in (best_fit_decreasing, _greedy_by_size, _greedy_by_breadth)]
    return min(plans, key=lambda one: one.peak_bytes)


def _exact(lives: Lives, limits: Limits) -> Plan:
    from sim.fragmentation.exact_plan import solve

    heuristic = _best_heuristic(lives)
    if heuristic.is_optimal:
        return heuristic
    if lives.born.size > limits.most_objects:
        expected = f"at most {limits.most_objects} (most_objects allows more)"
        raise InputError("too many objects for an exact plan:", value=lives.born.size, expected=expected)
    return solve(lives, heuristic, limits.time_s)


def _memo(lives: Lives, group: np.ndarray, limits: Limits) -> Plan:
    if group.size != lives.born.size:
        problem = "method memo needs to know which objects live within one pass of a layer"
        expected = 'objects with groups, or with labels such as "layer 3 attention scores"'
        raise InputError(problem, expected=expected)
    alone = np.flatnonzero(group < 0)
    members = np.argsort(group, kind="stable")[alone.size :]
    parts = np.split(members, np.flatnonzero(np.diff(group[members])) + 1) if members.size else []
    alike: dict[bytes, Plan] = {}
    inner = [_once(Lives(*(column[part] for column in lives)), limits, alike) for part in parts]
    blocks = Lives(
        np.array([one.peak_bytes for one in inner], np.int64),
        np.array([lives.born[part].min() for part in parts], np.int64),
        np.array([lives.dies[part].max() for part in parts], np.int64),
    )
    rest = Lives(*(np.concatenate([column[alone], more]) for column, more in zip(lives, blocks, strict=True)))
    outer = _best(rest, limits)
    addresses = np.empty(lives.born.size, np.int64)
    addresses[alone] = outer.addresses[: alone.size]
    for start, one, part in zip(outer.addresses[alone.size :], inner, parts, strict=True):
        addresses[part] = start + one.addresses
    return Plan(addresses, outer.peak_bytes, highest_load(lives))


def _once(lives: Lives, limits: Limits, alike: dict[bytes, Plan]) -> Plan:
    """The exact plan of objects, made once for all that are alike but for the time between their births and deaths."""
    moments = np.unique(np.concatenate([lives.born, lives.dies]))
    same = Lives(lives.size_bytes, np.searchsorted(moments, lives.born), np.searchsorted(moments, lives.dies))
    key = np.concatenate(same).tobytes()
    if key not in alike:
        alike[key] = _exact(same, limits)
    return alike[key]


def _best(lives: Lives, limits: Limits) -> Plan:
    return _exact(lives, limits) if lives.born.size <= limits.most_objects else _best_heuristic(lives)


def _methods() -> dict[str, Callable[[Lives, np.ndarray, Limits], Plan]]:
    return {
        "best_fit_decreasing": lambda lives, group, limits: best_fit_decreasing(lives),
        "greedy_by_size": lambda lives, group, limits: _greedy_by_size(lives),
        "greedy_by_breadth": lambda lives, group, limits: _greedy_by_breadth(lives),
        "exact": lambda lives, group, limits: _exact(lives, limits),
        "memo": _memo,
    }
