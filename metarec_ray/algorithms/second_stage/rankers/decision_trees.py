"""Ensembles of decision trees as tensors, and their sums for many rows at once.

Knows the shape and the walk; does not know how trees are grown.

A tree is followed without branches [Lucchese et al., 2015, QuickScorer]: its leaves are bits, the
leftmost the lowest, and each split whose feature is above the threshold strikes out the leaves to
its left. The lowest bit that stays is the leaf of the row.

Axes: R ensembles side by side, B trees of each, T = R x B, N splits of a tree, L = N + 1 leaves,
P rows, Z features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarec_ray.core.batch import Params

MOST_LEAVES = 31  # bits of an int32 beside its sign
_ROWS = 1024  # that are walked side by side: their bits stay in the cache
_SIGN, _MANTISSA, _BIAS = 31, 23, 127  # of a float32: bits to shift by, and of the exponent
Split = tuple[int, float, int]
"""Feature, threshold, and the bits of the leaves on its left."""


def tree_tensors(roots: Sequence[Mapping[str, Any]], *, trees: int, leaves: int) -> Params:
    """Return trees as tensors [1, B, *]; those that `roots` lacks of B = `trees` add nothing.

    Args:
        roots: of each tree, as LightGBM dumps it: a node with `split_feature`, `threshold`,
            `left_child` and `right_child`, or with `leaf_value`.
        trees: B.
        leaves: L, at most `MOST_LEAVES`.

    """
    feature = torch.zeros(trees, leaves - 1, dtype=torch.int64)
    threshold, value = torch.full(feature.shape, torch.inf), torch.zeros(trees, leaves)
    struck = torch.zeros(feature.shape, dtype=torch.int32)
    for tree, root in enumerate(roots):
        splits, values = list[Split](), list[float]()
        _read(root, splits, values)
        for place, (of, at, left) in enumerate(splits):
            feature[tree, place], struck[tree, place] = of, left
            threshold[tree, place] = _rounded_down(at)
        value[tree, : len(values)] = torch.tensor(values)
    found = {"feature": feature, "threshold": threshold, "struck": struck, "leaf": value}
    return {name: tensor.unsqueeze(0) for name, tensor in found.items()}


def tree_sums(ensembles: Params, rows: Tensor) -> Tensor:
    """Return the sum [R, P] of the leaves that rows [P, Z] reach in the trees of each ensemble."""
    flat = {name: tensor.flatten(0, 1) for name, tensor in ensembles.items()}
    of_splits = {n: flat[n].T.contiguous() for n in ("feature", "threshold", "struck")}
    reached = [
        flat["leaf"].gather(1, _leaves(of_splits, some.T.contiguous()))
        for some in rows.split(_ROWS)
    ]
    return torch.cat([one.unflatten(0, ensembles["leaf"].shape[:2]).sum(1) for one in reached], 1)


def _leaves(of_splits: Params, columns: Tensor) -> Tensor:
    """Return the leaf [T, P] of each row in each tree; splits are [N, T], columns [Z, P]."""
    shape = of_splits["feature"].shape[1], columns.shape[1]
    gone = torch.zeros(shape, dtype=torch.int32)
    for feature, threshold, struck in zip(*of_splits.values(), strict=True):
        below = threshold.unsqueeze(1) - columns.index_select(0, feature)
        # The sign as a mask, all ones where the feature is above the threshold: a comparison and a
        # choice would take twice as long.
        above = below.view(torch.int32).bitwise_right_shift_(_SIGN)
        gone |= above.bitwise_and_(struck.unsqueeze(1))
    lowest = (~gone & (gone + 1)).float()  # a power of two: the leaf is its exponent
    return ((lowest.view(torch.int32) >> _MANTISSA) - _BIAS).long()


def _read(node: Mapping[str, Any], splits: list[Split], values: list[float]) -> None:
    """Add the splits below a node and, from left to right, the leaves."""
    if "leaf_value" in node:
        values.append(float(node["leaf_value"]))
        return
    first = len(values)
    _read(node["left_child"], splits, values)
    left = (1 << len(values)) - (1 << first)
    splits.append((int(node["split_feature"]), float(node["threshold"]), left))
    _read(node["right_child"], splits, values)


def _rounded_down(threshold: float) -> float:
    """Return the largest float32 <= a float64: the same float32 numbers are <= both."""
    near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near)
