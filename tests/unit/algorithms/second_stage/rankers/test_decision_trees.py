"""Trees as tensors: against the walk from the root, node by node, in double precision."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers import decision_trees as module
from metarec_ray.algorithms.second_stage.rankers.decision_trees import (
    MOST_LEAVES,
    tree_sums,
    tree_tensors,
)

Z = 5
Node = dict[str, Any]


def split(feature: int, threshold: float, left: Node, right: Node) -> Node:
    return {
        "split_feature": feature,
        "threshold": threshold,
        "left_child": left,
        "right_child": right,
    }


def leaf(value: float) -> Node:
    return {"leaf_value": value}


def grown(leaves: int, drawn: np.random.Generator) -> Node:
    """A tree of any shape, with thresholds that no float32 equals."""
    if leaves == 1:
        return leaf(float(drawn.normal()))
    left = int(drawn.integers(1, leaves))
    below = grown(left, drawn), grown(leaves - left, drawn)
    return split(int(drawn.integers(Z)), float(drawn.normal()), *below)


def walked(node: Node, row: list[float]) -> float:
    while "leaf_value" not in node:
        goes_left = row[node["split_feature"]] <= node["threshold"]
        node = node["left_child" if goes_left else "right_child"]
    return node["leaf_value"]


def by_hand(trees: list[Node], rows: Tensor) -> Tensor:
    sums = [sum(walked(tree, row) for tree in trees) for row in rows.double().tolist()]
    return torch.tensor(sums)


def thresholds(node: Node) -> list[float]:
    if "leaf_value" in node:
        return []
    return [node["threshold"], *thresholds(node["left_child"]), *thresholds(node["right_child"])]


def rows_near(trees: list[Node], count: int) -> Tensor:
    """Rows of drawn numbers, and of the float32 numbers next to thresholds on both sides."""
    drawn = np.random.default_rng(1)
    near = np.array([at for tree in trees for at in thresholds(tree)] or [0.0], np.float32)
    beside = [np.nextafter(near, np.float32(to)) for to in (-np.inf, np.inf)]
    every = np.concatenate([near, *beside, drawn.normal(size=len(near)).astype(np.float32)])
    return torch.from_numpy(drawn.choice(every, (count, Z)))


def test_a_tree_of_three_leaves_is_what_it_says() -> None:
    tree = split(1, 0.5, split(0, -1.0, leaf(1.0), leaf(2.0)), leaf(4.0))
    tensors = tree_tensors([tree], trees=1, leaves=3)
    rows = torch.tensor([[-1.0, 0.5], [-0.9, 0.5], [-1.0, 0.6], [3.0, 9.0]])
    assert tree_sums(tensors, rows).tolist() == [[1.0, 2.0, 4.0, 4.0]]


@pytest.mark.parametrize("leaves", [1, 2, 3, 8, MOST_LEAVES])
def test_sums_are_those_of_the_walk_from_the_root(leaves: int) -> None:
    drawn = np.random.default_rng(leaves)
    trees = [grown(leaves, drawn) for _ in range(12)]
    rows = rows_near(trees, 300)
    found = tree_sums(tree_tensors(trees, trees=12, leaves=max(2, leaves)), rows)
    torch.testing.assert_close(found, by_hand(trees, rows)[None], rtol=1e-5, atol=1e-5)


def test_what_is_missing_of_the_trees_and_of_their_leaves_adds_nothing() -> None:
    drawn = np.random.default_rng(0)
    trees = [grown(leaves, drawn) for leaves in (1, 4, 2, 7)]
    rows = rows_near(trees, 50)
    exact = tree_sums(tree_tensors(trees, trees=4, leaves=7), rows)
    assert torch.equal(tree_sums(tree_tensors(trees, trees=9, leaves=20), rows), exact)
    assert not tree_sums(tree_tensors([], trees=3, leaves=5), rows).any()


def test_ensembles_side_by_side_and_any_number_of_rows_are_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = np.random.default_rng(3)
    parts = [[grown(6, drawn) for _ in range(5)] for _ in range(3)]
    rows = rows_near(parts[0], 40)
    each = [tree_tensors(part, trees=5, leaves=6) for part in parts]
    together = {name: torch.cat([one[name] for one in each]) for name in each[0]}
    right = torch.cat([tree_sums(one, rows) for one in each])
    assert torch.equal(tree_sums(together, rows), right)
    monkeypatch.setattr(module, "_ROWS", 7)
    torch.testing.assert_close(tree_sums(together, rows), right, rtol=1e-6, atol=1e-6)
    assert tree_sums(together, rows[:1]).shape == (3, 1)


def test_a_threshold_is_rounded_so_that_the_same_float32_numbers_go_left() -> None:
    third = 1 / 3
    above, below = np.nextafter(np.float32(third), np.array([1, -1], np.float32))
    tensors = tree_tensors([split(0, third, leaf(1.0), leaf(2.0))], trees=1, leaves=2)
    rows = torch.tensor([[above], [np.float32(third)], [below]])
    assert float(np.float32(third)) > third  # the nearest float32 is above, and goes right
    assert tree_sums(tensors, rows).tolist() == [[2.0, 2.0, 1.0]]
    assert float(tensors["threshold"][0, 0, 0]) == float(below)
