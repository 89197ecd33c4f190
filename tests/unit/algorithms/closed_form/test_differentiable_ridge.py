"""Differentiable ridge against dense normal equations in float64."""

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from metarec_ray.algorithms.closed_form.differentiable_ridge import DifferentiableRidge
from metarec_ray.algorithms.problem import EncodedItems, make_problem
from metarec_ray.core.batch import Encoded
from metarec_ray.core.linear_head import ridge
from metarec_ray.core.parameters import values
from metarec_ray.models.head import head_score

LEARNER = DifferentiableRidge(penalty=0.5)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


ITEMS, USER = random(7, 3), random(3, seed=1)
META = {
    "head.out.weight": random(3, seed=2),
    "head.out.bias": torch.tensor(0.25).double(),
    "offset.scale": torch.tensor(1.0).double(),
    **{n: v.double() for n, v in values(LEARNER.init({}, torch.Generator())).items()},
    "ridge.scale": torch.tensor(0.8).double(),
}
LOG_Q = torch.tensor([-0.5, -1.0, -2.0], dtype=torch.float64)
REFERENCE = [4, 5, 6]


def events(item: list[int], label: list[float] | None = None, *, present: int = 99) -> Encoded:
    at, n = torch.tensor(item), len(item)
    return Encoded(
        index=at,
        item=ITEMS[at],
        offset=0.1 * at.double(),
        user=USER,
        context=torch.zeros(1, 3, dtype=torch.float64),
        label=torch.tensor(label or [1.0] * n, dtype=torch.float64),
        age=torch.arange(n - 1, -1, -1).double(),
        mask=torch.arange(n) < present,
        time=torch.zeros(n, dtype=torch.int64),
        place=at,
    )


def problem(feedback):
    at = torch.tensor(REFERENCE)
    items = EncodedItems(at, ITEMS[at], 0.1 * at.double(), torch.arange(len(at)))
    return make_problem(feedback, items, LOG_Q, USER, torch.zeros(1, 3, dtype=torch.float64))


def dense(features: Tensor, target: Tensor, weight: Tensor, penalty: float) -> Tensor:
    """Return (X' W X + penalty)^-1 X' W y with the constant in X."""
    x = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    gram = x.T @ torch.diag(weight) @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.inv(gram) @ x.T @ torch.diag(weight) @ target


@pytest.mark.parametrize("rows", [2, 4, 5, 9])
def test_both_forms_of_ridge_solve_the_normal_equations(rows: int) -> None:
    x, y, weight = random(rows, 4), random(rows, seed=1), random(rows, seed=2).abs()
    weight[0] = 0.0
    gram = x.T @ torch.diag(weight) @ x + 0.3 * torch.eye(4, dtype=torch.float64)
    expected = torch.linalg.solve(gram, x.T @ (weight * y))
    penalty = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(ridge(x, y, weight, penalty), expected)
    batched = vmap(ridge, in_dims=(0, 0, 0, None))(x[None], y[None], weight[None], penalty)
    torch.testing.assert_close(batched[0], expected)


@pytest.mark.parametrize("rows", [2, 9])
def test_ridge_can_be_differentiated_at_a_weight_of_zero(rows: int) -> None:
    x, y, weight = random(rows, 4), random(rows, seed=1), torch.zeros(rows).double()
    penalty = torch.tensor(0.3, dtype=torch.float64)
    slope = grad(lambda w: ridge(x, y, w, penalty).sum())(weight)
    # Near no weight at all the solution is x' W y / penalty.
    torch.testing.assert_close(slope, x.sum(1) * y / 0.3)


@pytest.mark.parametrize("item", [[0, 1], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("feedback", ["explicit", "binary"])
def test_the_residuals_of_labels_are_regressed(feedback, item: list[int]) -> None:
    label = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0][: len(item)]
    support = events(item, label)
    prior = head_score(META, support)
    expected = torch.sigmoid(prior) if feedback == "binary" else prior
    found = LEARNER.adapt(problem(feedback), META, support)
    solution = 0.8 * dense(
        support.item, support.label - expected, torch.ones(len(item)).double(), 0.5
    )
    torch.testing.assert_close(
        found["head.out.weight"], META["head.out.weight"] + solution[:3], rtol=1e-6, atol=1e-9
    )
    torch.testing.assert_close(found["head.out.bias"], 0.25 + solution[3], rtol=1e-6, atol=1e-9)


def test_positives_are_told_from_reference_items_of_the_same_total_weight() -> None:
    support = events([0, 1, 2, 3], present=3)
    prior = torch.softmax(head_score(META, events(REFERENCE)) - LOG_Q, 0)
    weight = torch.cat([torch.tensor([1.0, 1.0, 1.0]).double(), 3 * prior])
    target = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0]).double()
    solution = 0.8 * dense(ITEMS[[0, 1, 2, *REFERENCE]], target, weight, 0.5)
    found = LEARNER.adapt(problem("implicit"), META, support)
    torch.testing.assert_close(
        found["head.out.weight"], META["head.out.weight"] + solution[:3], rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("feedback", ["explicit", "binary", "implicit"])
def test_without_support_the_prior_scores(feedback) -> None:
    fast = LEARNER.adapt(problem(feedback), META, events([1, 2], [5.0, 1.0], present=0))
    assert torch.equal(fast["head.out.weight"], META["head.out.weight"])
    assert torch.equal(fast["head.out.bias"], META["head.out.bias"])
