import pytest
import torch

from metarec_ray.algorithms.base import FittedLearner, Fitting
from metarec_ray.algorithms.rivals.als import IAls, MfFoldIn
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.core.batch import nothing_known
from metarec_ray.core.histories import Histories
from tests.unit.algorithms.rivals.small import (
    clicks,
    histories,
    liked,
    ratings,
    scores,
    support,
    tastes,
)


def met_matrix(data: Histories) -> torch.Tensor:
    users = torch.arange(len(data.offsets) - 1).repeat_interleave(data.offsets.diff())
    return torch.zeros(len(data.offsets) - 1, data.n_items).index_put(
        (users, data.item), torch.ones(len(users))
    )


def test_ials_folds_a_user_in_by_the_closed_form_over_the_whole_catalogue():
    # Minimise sum_met (1 - s)^2 + unobserved sum_all s^2 + penalty (n + unobserved I)^f |w|^2.
    learner = IAls(factors=3, unobserved=0.2, penalty=0.05, frequency=0.5, sweeps=3)
    meta = learner.fit(tastes())
    q = meta["item"].double()
    weight = torch.full((24,), 0.2, dtype=torch.float64)
    weight[[2, 7]] += 1
    target = torch.zeros(24, dtype=torch.float64).index_fill(0, torch.tensor([2, 7]), 1.0)
    strength = 0.05 * (2 + 0.2 * 24) ** 0.5
    normal = q.T @ (weight.unsqueeze(1) * q) + strength * torch.eye(3, dtype=torch.float64)
    expected = q @ torch.linalg.solve(normal, q.T @ target)
    assert torch.allclose(scores(learner, meta, liked(2, 7)).double(), expected, atol=1e-5)


def test_ials_reaches_a_point_where_both_sides_are_at_their_best():
    # At a fixed point the gradient of the objective vanishes; users are solved last by hand.
    learner = IAls(factors=2, unobserved=0.3, penalty=0.05, sweeps=60)
    data = tastes(users=20, items=10, length=4)
    q = learner.fit(data)["item"].double()
    met = met_matrix(data).double()
    eye = torch.eye(2, dtype=torch.float64)
    users = torch.stack(
        [
            torch.linalg.solve(
                q.T @ torch.diag(row + 0.3) @ q + 0.05 * (row.sum() + 0.3 * 10) * eye, q.T @ row
            )
            for row in met
        ]
    )
    q.requires_grad_()
    s = users @ q.T
    size = 0.05 * (met.sum(0) + 0.3 * 20)
    loss = (met * (1 - s) ** 2).sum() + 0.3 * (s**2).sum() + (size * q.square().sum(1)).sum()
    (gradient,) = torch.autograd.grad(loss, q)
    assert gradient.abs().max() < 2e-3


def test_ials_finds_the_half_of_the_catalogue_a_user_keeps_to():
    learner = IAls(factors=4, unobserved=0.1, penalty=0.003)
    found = scores(learner, learner.fit(tastes()), liked(0, 2, 4))
    assert found[6::2].mean() > found[1::2].mean() + 0.1


def test_ials_without_events_ranks_by_popularity():
    data = clicks([0, 1], [0], [0, 1, 2], n_items=4)
    learner = IAls(factors=2)
    meta = learner.fit(data)
    assert scores(learner, meta, liked()).tolist() == [3, 2, 1, 0]
    assert scores(learner, meta, liked(padding=2)).tolist() == [3, 2, 1, 0]


def test_ials_leaves_what_was_not_liked_out_of_support_and_training():
    data = histories([(0, 5.0), (1, 1.0)], [(1, 5.0), (2, 4.0)], n_items=3)
    learner = IAls(factors=2, positive_min=4)
    meta = learner.fit(data)
    assert meta["count"].tolist() == [1, 1, 1]
    given = scores(learner, meta, support((0, 5.0), (2, 1.0)))
    assert torch.allclose(given, scores(learner, meta, support((0, 5.0))))


@pytest.mark.parametrize("learner", [IAls(factors=2, sweeps=2), MfFoldIn(factors=2, sweeps=2)])
def test_a_seed_decides_the_first_factors(learner: IAls | MfFoldIn):
    data = ratings()
    one = learner.fit(data, Fitting(seed=1))["item"]
    assert torch.equal(one, learner.fit(data, Fitting(seed=1))["item"])
    assert not torch.equal(one, learner.fit(data, Fitting(seed=2))["item"])


def test_mf_folds_a_user_in_by_ridge_regression_on_item_factors():
    # w = (X'X + diag(bias_penalty, penalty, penalty))^-1 X'(r - mean - b_i), x = (1, q_i).
    learner = MfFoldIn(factors=2, bias_penalty=3.0, penalty=5.0)
    meta = learner.fit(ratings())
    x = torch.cat([torch.ones(3, 1), meta["item"][[0, 3, 4], 1:]], 1)
    residual = torch.tensor([5.0, 2.0, 4.0]) - meta["mean"] - meta["item"][[0, 3, 4], 0]
    normal = x.T @ x + torch.diag(torch.tensor([3.0, 5.0, 5.0]))
    w = torch.linalg.solve(normal, x.T @ residual)
    expected = meta["mean"] + meta["item"][:, 0] + w[0] + meta["item"][:, 1:] @ w[1:]
    found = scores(learner, meta, support((0, 5.0), (3, 2.0), (4, 4.0)), "explicit")
    assert torch.allclose(found, expected, atol=1e-4)


def test_mf_without_events_predicts_mean_and_item_bias():
    learner = MfFoldIn(factors=2)
    meta = learner.fit(ratings())
    found = scores(learner, meta, support(padding=2), "explicit")
    assert torch.allclose(found, meta["mean"] + meta["item"][:, 0])


def test_mf_gives_an_item_without_ratings_the_mean():
    learner = MfFoldIn(factors=2)
    meta = learner.fit(ratings()._replace(items=nothing_known(13)))
    assert meta["item"][12].tolist() == [0, 0, 0]


def test_mf_explains_held_out_ratings_better_than_biases():
    data = ratings(users=300)
    train, rest = data.take(torch.arange(250)), data.take(torch.arange(250, 300))
    factors, bias = MfFoldIn(factors=2, bias_penalty=1.0, penalty=1.0), UserItemBias()
    assert last_error(factors, train, rest) < 0.4 * last_error(bias, train, rest)


def last_error(learner: FittedLearner, train: Histories, rest: Histories) -> float:
    """Mean squared error on each entity's last rating after all the others."""
    meta, errors = learner.fit(train), []
    for start, end in zip(rest.offsets[:-1].tolist(), rest.offsets[1:].tolist(), strict=True):
        item, label = rest.item[start:end], rest.label[start:end]
        given = support(*zip(item[:-1].tolist(), label[:-1].tolist(), strict=True))
        found = scores(learner, meta, given, "explicit")
        errors.append(float(found[item[-1]] - label[-1]) ** 2)
    return sum(errors) / len(errors)
