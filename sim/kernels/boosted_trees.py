"""Gradient boosted regression trees for least squares (Friedman 2001), grown on histograms and best leaf first (as in
Ke et al., NIPS 2017), trained and asked inside kernels.

A model is a mean and trees, each fitted to what those before leave over, times `learning_rate`. Features are float32;
inf stands for a value that is missing, and is larger than all. Before training each feature is cut into at most `bins`
bins, of one value each where there are so few, else of about equally many rows of a sample; a split is at a bin's upper
edge, its left child has the values up to it. Of all leaves the one is split next whose best split lowers the squared
error most, until there are `leaves` or none can be split into children of at least `least_rows` rows.

A tree is asked without walking it (after Lucchese et al., QuickScorer, SIGIR 2015): each split whose answer is "right"
strikes out the leaves of its left child, and the leftmost leaf that remains is the answer. Splits are tried one after
the other on many rows at once, which compiles to vector instructions and mispredicts no branch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.kernels.bits import highest_bit
from sim.kernels.compile import inlined, subroutine

BINNED_ROWS = 1 << 14  # of which bins are made
MOST_BINS = 256  # a power of two
MOST_LEAVES = 32  # a bit each
SUM, ROWS = 0, 1  # last index of histograms
FIRST, COUNT, ABOVE, FEATURE, BIN = range(5)  # columns of leaves
ALL = np.uint32(0xFFFFFFFF)


class Trees(NamedTuple):
    """A model; the splits of a tree are numbered as they were made."""

    feature: np.ndarray  # int32[trees, splits]: what a split asks for
    threshold: np.ndarray  # float32[trees, splits]: its left child has values up to this
    spared: np.ndarray  # uint32[trees, splits]: a bit for each leaf that is not in the left child
    splits: np.ndarray  # int64[trees]: how many the tree has
    value: np.ndarray  # float64[trees, leaves]: what a leaf adds to the prediction; leaf 0 is the rightmost one
    base: np.ndarray  # float64[1]: mean of the labels
    grown: np.ndarray  # int64[1]: how many trees there are; 0: nothing was learnt yet


class Workshop(NamedTuple):
    """Room for training on up to `rows` rows."""

    bins: np.ndarray  # uint8[rows, features]: the bin of each value
    edges: np.ndarray  # float32[features, MOST_BINS]: upper edge of each bin but the last, then inf
    edge_count: np.ndarray  # int64[features]
    order: np.ndarray  # uint32[2, rows]: the rows, leaf by leaf; room for parting them
    rest: np.ndarray  # float64[rows]: labels less what the trees so far predict
    histograms: np.ndarray  # float64[leaves, features, bins, 2]: sum of rests, and rows
    leaves: (
        np.ndarray
    )  # int64[leaves, 5]: first row in order, rows, the split above and side (2 split + side), best split
    above: np.ndarray  # int64[splits]: the split above each split, and side
    gains: np.ndarray  # float64[leaves]: of each leaf's best split
    sorted: np.ndarray  # float32[BINNED_ROWS]


def make_trees(trees: int, leaves: int) -> Trees:
    """Room for a model of up to `trees` trees of up to `leaves` leaves, at most 32."""
    shape = (trees, leaves - 1)
    return Trees(
        feature=np.zeros(shape, np.int32),
        threshold=np.zeros(shape, np.float32),
        spared=np.zeros(shape, np.uint32),
        splits=np.zeros(trees, np.int64),
        value=np.zeros((trees, leaves), np.float64),
        base=np.zeros(1, np.float64),
        grown=np.zeros(1, np.int64),
    )


def make_workshop(rows: int, features: int, leaves: int, bins: int) -> Workshop:
    """Room for training; `bins` at most 256."""
    return Workshop(
        bins=np.zeros((rows, features), np.uint8),
        edges=np.zeros((features, MOST_BINS), np.float32),
        edge_count=np.zeros(features, np.int64),
        order=np.zeros((2, rows), np.uint32),
        rest=np.zeros(rows, np.float64),
        histograms=np.zeros((leaves, features, bins, 2), np.float64),
        leaves=np.zeros((leaves, 5), np.int64),
        above=np.zeros(leaves - 1, np.int64),
        gains=np.zeros(leaves, np.float64),
        sorted=np.zeros(BINNED_ROWS, np.float32),
    )


@subroutine
def _sort(values, count):
    """Sort the first `count` values, with Shell's method."""
    gap = 1
    while gap < count // 3:
        gap = 3 * gap + 1
    while gap >= 1:
        for i in range(gap, count):
            value = values[i]
            at = i
            while at >= gap and values[at - gap] > value:
                values[at] = values[at - gap]
                at -= gap
            values[at] = value
        gap //= 3


@subroutine
def _cut(values, count, edges):
    """Upper edges of the bins of sorted values; returns how many."""
    distinct = 1
    for i in range(1, count):
        distinct += values[i] != values[i - 1]
    bins, cut = edges.size, 0
    if distinct <= bins:
        for i in range(1, count):
            if values[i] != values[i - 1]:
                edges[cut] = values[i - 1]
                cut += 1
        return cut
    for q in range(1, bins):
        value = values[q * count // bins]
        if value < values[count - 1] and (cut == 0 or value > edges[cut - 1]):
            edges[cut] = value
            cut += 1
    return cut


@inlined
def _bin_of(edges, value):
    """How many edges are below `value`, found without a branch to mispredict."""
    at, half = 0, MOST_BINS >> 1
    while half > 0:
        at += half if edges[at + half - 1] < value else 0
        half >>= 1
    return at


@subroutine
def _make_bins(shop, features, rows):
    step = (rows + BINNED_ROWS - 1) // BINNED_ROWS
    for f in range(shop.edges.shape[0]):
        count = 0
        for i in range(0, rows, step):
            shop.sorted[count] = features[i, f]
            count += 1
        _sort(shop.sorted, count)
        edges = shop.edges[f]
        cut = _cut(shop.sorted, count, edges[: shop.histograms.shape[2]])
        edges[cut:] = np.inf
        shop.edge_count[f] = cut
        for i in range(rows):
            shop.bins[i, f] = _bin_of(edges, features[i, f])


@subroutine
def _fill(histogram, order, bins, rest, first, count):
    """Sum rests and rows by feature and bin, over the rows of a leaf."""
    for f in range(histogram.shape[0]):
        for b in range(histogram.shape[1]):
            histogram[f, b, SUM] = 0.0
            histogram[f, b, ROWS] = 0.0
    for i in range(first, first + count):
        row = order[0, i]
        value = rest[row]
        for f in range(histogram.shape[0]):
            b = bins[row, f]
            histogram[f, b, SUM] += value
            histogram[f, b, ROWS] += 1.0


@subroutine
def _subtract(whole, part):
    for f in range(whole.shape[0]):
        for b in range(whole.shape[1]):
            whole[f, b, SUM] -= part[f, b, SUM]
            whole[f, b, ROWS] -= part[f, b, ROWS]


@subroutine
def _find_split(shop, leaf, least_rows):
    """Note the best split of a leaf: the first of those that lower the squared error most. No gain: there is none."""
    histogram, edge_count = shop.histograms[leaf], shop.edge_count
    rows = np.float64(shop.leaves[leaf, COUNT])
    best, best_feature, best_bin = 0.0, np.int64(-1), np.int64(-1)
    total = 0.0
    for b in range(edge_count[0] + 1):
        total += histogram[0, b, SUM]
    before = total * total / rows
    for f in range(histogram.shape[0]):
        left_sum = left_rows = 0.0
        for b in range(edge_count[f]):
            left_sum += histogram[f, b, SUM]
            left_rows += histogram[f, b, ROWS]
            right_rows = rows - left_rows
            if left_rows < least_rows or right_rows < least_rows:
                continue
            right_sum = total - left_sum
            gain = left_sum * left_sum / left_rows + right_sum * right_sum / right_rows - before
            if gain > best:
                best, best_feature, best_bin = gain, np.int64(f), np.int64(b)
    shop.gains[leaf] = best
    shop.leaves[leaf, FEATURE] = best_feature
    shop.leaves[leaf, BIN] = best_bin


@subroutine
def _part(shop, leaf):
    """Move the rows of a leaf that its split sends left before the others, in their order; returns how many."""
    first, count = shop.leaves[leaf, FIRST], shop.leaves[leaf, COUNT]
    feature, at_bin = shop.leaves[leaf, FEATURE], shop.leaves[leaf, BIN]
    order, bins = shop.order, shop.bins
    left = right = 0
    for i in range(first, first + count):
        row = order[0, i]
        if bins[row, feature] <= at_bin:
            order[0, first + left] = row
            left += 1
        else:
            order[1, right] = row
            right += 1
    for i in range(right):
        order[0, first + left + i] = order[1, i]
    return left


@subroutine
def _split(shop, trees, tree, leaf, new):
    """Split a leaf into itself, the left child, and leaf number `new`; it is split number `new - 1` of the tree."""
    leaves, split = shop.leaves, new - 1
    feature = leaves[leaf, FEATURE]
    trees.feature[tree, split] = feature
    trees.threshold[tree, split] = shop.edges[feature, leaves[leaf, BIN]]
    shop.above[split] = leaves[leaf, ABOVE]
    left = _part(shop, leaf)
    first, count = leaves[leaf, FIRST], leaves[leaf, COUNT]
    leaves[leaf, COUNT], leaves[leaf, ABOVE] = left, 2 * split
    leaves[new, FIRST], leaves[new, COUNT], leaves[new, ABOVE] = first + left, count - left, 2 * split + 1
    small, large = (leaf, new) if left <= count - left else (new, leaf)
    histograms = shop.histograms
    if small == leaf:  # the histogram of the whole is where the left child's belongs
        _fill(histograms[new], shop.order, shop.bins, shop.rest, first, left)
        _subtract(histograms[leaf], histograms[new])
        _swap(histograms[leaf], histograms[new])
    else:
        _fill(histograms[new], shop.order, shop.bins, shop.rest, first + left, count - left)
        _subtract(histograms[large], histograms[new])


@subroutine
def _swap(one, other):
    for f in range(one.shape[0]):
        for b in range(one.shape[1]):
            for k in range(2):
                one[f, b, k], other[f, b, k] = other[f, b, k], one[f, b, k]


@subroutine
def _settle(shop, trees, tree, leaf, leaves, learning_rate):
    """Give a leaf of a finished tree its number and value, and tell the splits that have it on their left."""
    first, count = shop.leaves[leaf, FIRST], shop.leaves[leaf, COUNT]
    number = 0
    for other in range(leaves):
        number += shop.leaves[other, FIRST] > first
    above = shop.leaves[leaf, ABOVE]
    while above >= 0:
        if above & 1 == 0:
            trees.spared[tree, above >> 1] &= ~np.uint32(np.int64(1) << number)
        above = shop.above[above >> 1]
    total = 0.0
    for i in range(first, first + count):
        total += shop.rest[shop.order[0, i]]
    value = learning_rate * total / count
    trees.value[tree, number] = value
    for i in range(first, first + count):
        shop.rest[shop.order[0, i]] -= value


@subroutine
def _grow(shop, trees, tree, rows, least_rows, learning_rate):
    """Fit one tree to what is left over, and take its predictions off that."""
    shop.leaves[0, FIRST], shop.leaves[0, COUNT], shop.leaves[0, ABOVE] = 0, rows, -1
    _fill(shop.histograms[0], shop.order, shop.bins, shop.rest, 0, rows)
    _find_split(shop, 0, least_rows)
    leaves = 1
    while leaves < shop.gains.size:
        best = 0
        for leaf in range(1, leaves):
            if shop.gains[leaf] > shop.gains[best]:
                best = leaf
        if shop.leaves[best, FEATURE] < 0:
            break
        _split(shop, trees, tree, best, leaves)
        _find_split(shop, best, least_rows)
        _find_split(shop, leaves, least_rows)
        leaves += 1
    trees.splits[tree] = leaves - 1
    for split in range(leaves - 1):
        trees.spared[tree, split] = ALL
    for leaf in range(leaves):
        _settle(shop, trees, tree, leaf, leaves, learning_rate)


@subroutine
def train(trees, shop, features, labels, rows, least_rows, learning_rate):
    """Learn a new model from the first `rows` rows of features, float32[rows, features], and their labels.

    Replaces what `trees` held. rows: 1 to the workshop's; least_rows: of a leaf, at least 1.
    """
    _make_bins(shop, features, rows)
    total = 0.0
    for i in range(rows):
        total += np.float64(labels[i])
    base = total / rows
    trees.base[0] = base
    for i in range(rows):
        shop.rest[i] = np.float64(labels[i]) - base
        shop.order[0, i] = i
    for tree in range(trees.feature.shape[0]):
        _grow(shop, trees, tree, rows, least_rows, learning_rate)
    trees.grown[0] = trees.feature.shape[0]


@subroutine
def _strike_out(left, values, threshold, spared, count):
    for i in range(count):
        left[i] &= spared if values[i] > threshold else ALL


@subroutine
def predict(trees, features, count, left, predictions):
    """Write what the model says of `count` rows into predictions, float64[at least count].

    features: float32[features, at least count], a column for each row; left: uint32[at least count], room.
    """
    for i in range(count):
        predictions[i] = trees.base[0]
    for tree in range(trees.grown[0]):
        for i in range(count):
            left[i] = ALL >> np.uint32(31 - trees.splits[tree])
        for split in range(trees.splits[tree]):
            values = features[trees.feature[tree, split]]
            _strike_out(left, values, trees.threshold[tree, split], trees.spared[tree, split], count)
        for i in range(count):
            predictions[i] += trees.value[tree, highest_bit(np.uint64(left[i]))]
