"""The optimum against arithmetic, against brute force, and above what knows less."""

import itertools

import numpy as np
import pytest

from metarec_ray.data.datasets import synthetic
from metarec_ray.data.datasets.optimum import optimum
from metarec_ray.data.datasets.synthetic import Floats, Truth
from metarec_ray.data.settings import Feedback, Synthetic

ITEMS = np.array([[0.5], [-1.0], [2.0], [0.0]])
POPULARITY = np.array([0.3, 0.0, -0.5, 0.1])
PRIOR = 0.4
GRID = np.linspace(-8, 8, 4001)[:, None]


def truth(feedback: Feedback, offset: float = 0.0) -> Truth:
    return Truth(
        feedback=feedback,
        popularity=POPULARITY,
        item_factors=ITEMS,
        user_prior=np.array([[PRIOR]]),
        taste_std=1.0,
        offset=offset,
        noise_std=0.5,
    )


def averaged(value: Floats, likelihood: Floats) -> Floats:
    """Integrate over the one factor on a grid, under prior times likelihood."""
    weight = likelihood * np.exp(-0.5 * (GRID[:, 0] - PRIOR) ** 2)
    return (value * weight[:, None]).sum(axis=0) / weight.sum()


def scores(model: Truth, support: list[int], labels: list[float] | None = None) -> Floats:
    return optimum(
        model,
        np.array([0]),
        support=np.array([support], dtype=np.int64),
        candidates=np.arange(4),
        labels=None if labels is None else np.array([labels]),
        draws=20_000,
    )[0]


@pytest.mark.parametrize("support", [[], [2], [2, 0]])
def test_choices_agree_with_integration_on_a_grid(support: list[int]) -> None:
    weight = np.exp(POPULARITY + GRID @ ITEMS.T)
    likelihood, left = np.ones(len(GRID)), np.ones(4)
    for item in support:
        likelihood = likelihood * weight[:, item] / (weight * left).sum(axis=1)
        left[item] = 0.0
    expected = averaged(weight / (weight * left).sum(axis=1, keepdims=True), likelihood)
    others = [item for item in range(4) if item not in support]
    found = scores(truth("implicit"), support)
    np.testing.assert_allclose(found[others], expected[others], rtol=0.02)
    assert found[others].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("labels", [[1.0, 0.0], [0.0, 0.0]])
def test_clicks_agree_with_integration_on_a_grid(labels: list[float]) -> None:
    chance = 1 / (1 + np.exp(-(-0.5 + POPULARITY + GRID @ ITEMS.T)))
    likelihood = np.ones(len(GRID))
    for item, label in zip([2, 1], labels, strict=True):
        likelihood = likelihood * (chance[:, item] if label else 1 - chance[:, item])
    found = scores(truth("binary", offset=-0.5), [2, 1], labels)
    np.testing.assert_allclose(found, averaged(chance, likelihood), rtol=0.02)


def test_ratings_have_the_closed_form_of_ridge_regression() -> None:
    # one rating of item 2: x = 2, prior 0.4, variance 1, noise variance 0.25
    rating, base = 5.0, 3.5 - 0.5
    mean = PRIOR + (2.0 / 0.25) * (rating - base - 2.0 * PRIOR) / (1.0 + 4.0 / 0.25)
    expected = 3.5 + POPULARITY + mean * ITEMS[:, 0]
    np.testing.assert_allclose(scores(truth("explicit", 3.5), [2], [rating]), expected)


def test_an_empty_support_ranks_by_the_prior() -> None:
    expected = 3.5 + POPULARITY + PRIOR * ITEMS[:, 0]
    np.testing.assert_allclose(scores(truth("explicit", 3.5), [], []), expected)


def test_the_users_of_a_call_do_not_touch_each_other() -> None:
    log = synthetic.generate(Synthetic(users=60, items=40, factors=3), "implicit", 0)
    users = np.arange(40)
    rows = log.events.sort("user", "time").group_by("user", maintain_order=True).head(3)
    support = rows["item"].to_numpy().reshape(-1, 3)[:40] - 1
    catalogue = np.arange(40)
    together = optimum(log.truth, users, support=support, candidates=catalogue)
    for user in (0, 35):
        alone = optimum(log.truth, users[[user]], support=support[[user]], candidates=catalogue)
        np.testing.assert_allclose(alone[0], together[user], rtol=1e-9)


def test_more_support_ranks_what_comes_next_higher_and_popularity_lower_still() -> None:
    log = synthetic.generate(Synthetic(users=400, items=100, factors=4), "implicit", 0)
    lists = log.events.sort("user", "time").group_by("user", maintain_order=True).agg("item")
    kept = [(row, items) for row, items in enumerate(lists["item"].to_list()) if len(items) >= 11]
    users = np.array([row for row, _ in kept])
    order = np.array([items[:11] for _, items in kept]) - 1

    def rank_of_next(scored: Floats) -> float:
        masked = scored.copy()
        np.put_along_axis(masked, order[:, :10], -np.inf, axis=1)
        target = np.take_along_axis(masked, order[:, 10:], axis=1)
        return float((masked > target).sum(axis=1).mean())

    found = [
        rank_of_next(
            optimum(log.truth, users, support=order[:, :k], candidates=np.arange(100), draws=64)
        )
        for k in (0, 3, 10)
    ]
    popular = rank_of_next(np.tile(log.truth.popularity, (len(users), 1)))
    assert all(worse > better for worse, better in itertools.pairwise([popular, *found]))
