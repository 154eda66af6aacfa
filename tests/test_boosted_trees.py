"""Boosted trees: against slow ones grown from the definition, and on functions that they must learn."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kernels import boosted_trees
from sim.kernels.boosted_trees import BINNED_ROWS, make_trees, make_workshop
from sim.kernels.compile import kernel

predict, train = kernel(boosted_trees.predict), kernel(boosted_trees.train)
JIT = not numba.config.DISABLE_JIT
pytestmark = pytest.mark.uncompiled


def learn(features, labels, trees=4, leaves=5, bins=8, least_rows=2, rate=0.5):
    rows, width = features.shape
    model, shop = make_trees(trees, leaves), make_workshop(rows, width, leaves, bins)
    train(model, shop, features, labels, rows, least_rows, rate)
    return model, predictions_of(model, features)


def predictions_of(model, features):
    predictions, left = np.zeros(len(features)), np.zeros(len(features), np.uint32)
    predict(model, np.ascontiguousarray(features.T), len(features), left, predictions)
    return predictions


# ---------------------------------------------------------------------------------------------------------- slow oracle


def edges_of(values, bins):
    values = np.sort(values[:: -(-values.size // BINNED_ROWS)])
    distinct = np.unique(values)
    if distinct.size <= bins:
        return distinct[:-1]
    cuts = {values[q * values.size // bins] for q in range(1, bins)}
    return np.array(sorted(cut for cut in cuts if cut < values[-1]), np.float32)


def error(rest):
    return float(((rest - rest.mean()) ** 2).sum())


def splits(features, rest, rows, edges, least_rows):
    """Each possible split of a leaf: how much it lowers the squared error, and the rows of both children."""
    for f, cuts in enumerate(edges):
        for cut in cuts:
            left = rows[features[rows, f] <= cut]
            right = rows[features[rows, f] > cut]
            if min(left.size, right.size) >= least_rows:
                yield error(rest[rows]) - error(rest[left]) - error(rest[right]), left, right


def slow_errors(features, labels, trees=4, leaves=5, bins=8, least_rows=2, rate=0.5):
    """What each tree in turn leaves over of the labels; and the least lead of a chosen split over the next one."""
    edges = [edges_of(features[:, f], bins) for f in range(features.shape[1])]
    rest, lead = labels - labels.mean(), np.inf
    for _ in range(trees):
        grown = [np.arange(labels.size)]
        while len(grown) < leaves:
            found = [(s, i) for i, rows in enumerate(grown) for s in splits(features, rest, rows, edges, least_rows)]
            found.sort(key=lambda one: -one[0][0])
            if not found or found[0][0][0] <= 1e-9:
                break
            (gain, left, right), leaf = found[0]
            others = [s[0] for s, i in found if i != leaf or not np.array_equal(s[1], left)]
            lead = min([lead, *(gain - other for other in others)])
            grown[leaf : leaf + 1] = [left, right]
        for rows in grown:
            rest = rest.copy()
            rest[rows] -= rate * rest[rows].mean()
    return rest, lead


values = st.integers(0, 20).map(float) | st.floats(0, 100, width=32) | st.just(float("inf"))


@settings(max_examples=150 if JIT else 30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 3), st.data())
def test_trees_leave_over_what_slow_ones_do(rows, width, data):
    table = data.draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=rows, max_size=rows))
    labels = np.array(data.draw(st.lists(st.integers(-1000, 1000), min_size=rows, max_size=rows)), np.float64)
    features = np.array(table, np.float32)
    rest, lead = slow_errors(features, labels)
    _, predictions = learn(features, labels)
    if lead > 1e-6:  # else rounding may choose between splits that are as good
        assert labels - predictions == pytest.approx(rest, abs=1e-6)


@pytest.mark.parametrize("seed", range(20 if JIT else 4))
def test_trees_of_many_rows_leave_over_what_slow_ones_do(seed):
    rng = np.random.default_rng(seed)
    features = rng.lognormal(3, 2, (300, 4)).astype(np.float32)
    features[rng.random(features.shape) < 0.2] = np.inf
    labels = np.log1p(features[:, 0].clip(0, 1000)) + (features[:, 1] > 20) + rng.normal(0, 0.1, 300)
    rest, lead = slow_errors(features, labels, trees=6, leaves=8, bins=16, least_rows=5, rate=0.1)
    _, predictions = learn(features, labels, trees=6, leaves=8, bins=16, least_rows=5, rate=0.1)
    assert lead > 1e-9
    assert labels - predictions == pytest.approx(rest, abs=1e-9)


# ----------------------------------------------------------------------------------------------------------------- laws


def test_labels_that_are_all_equal_give_one_leaf():
    model, predictions = learn(np.arange(10, dtype=np.float32)[:, None], np.full(10, 3.0))
    assert (model.splits == 0).all()
    assert (predictions == 3).all()


def test_a_step_is_found_where_it_is():
    features = np.arange(100, dtype=np.float32)[:, None]
    labels = np.where(features[:, 0] <= 41, 1.0, 5.0)
    model, predictions = learn(features, labels, trees=1, leaves=2, bins=256, rate=1.0)
    assert model.threshold[0, 0] == 41
    assert predictions == pytest.approx(labels)


def test_no_leaf_has_fewer_rows_than_asked_for():
    features = np.arange(9, dtype=np.float32)[:, None]
    labels = np.array([100.0, 0, 0, 0, 0, 0, 0, 0, 0])
    _, predictions = learn(features, labels, trees=1, leaves=4, least_rows=3, bins=16, rate=1.0)
    _, rows = np.unique(predictions, return_counts=True)
    assert rows.min() >= 3


def test_missing_values_go_their_own_way():
    features = np.array([[1], [2], [np.inf], [np.inf]], np.float32)
    labels = np.array([1.0, 1, 9, 9])
    _, predictions = learn(features, labels, trees=1, leaves=2, rate=1.0)
    assert predictions.tolist() == [1, 1, 9, 9]


def test_a_new_model_replaces_the_one_before():
    features = np.arange(8, dtype=np.float32)[:, None]
    model, shop = make_trees(2, 4), make_workshop(8, 1, 4, 8)
    train(model, shop, features, np.arange(8.0), 8, 1, 1.0)
    train(model, shop, features, np.full(8, 2.0), 8, 1, 1.0)
    assert (predictions_of(model, features) == 2).all()


@pytest.mark.skipif(not JIT, reason="long without compilation")
def test_many_rows_and_bins_learn_a_smooth_function():
    rng = np.random.default_rng(1)
    features = rng.random((40_000, 3)).astype(np.float32)
    labels = np.sin(6 * features[:, 0]) * features[:, 1]
    _, predictions = learn(features, labels, trees=60, leaves=32, bins=255, least_rows=20, rate=0.2)
    assert np.mean((labels - predictions) ** 2) < 0.003 * labels.var()
