import pytest
import torch

from metarec_ray.algorithms.rivals.content import ContentProfile, ContentRidge
from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError
from tests.unit.algorithms.rivals.small import clicks, liked, ratings, scores, support


def genres(data: Histories, *genre: int) -> Histories:
    """Give item i the category `genre[i]`, rows 1.. of the token table."""
    tokens = torch.tensor(genre).unsqueeze(1)
    features = Features(tokens, torch.ones(tokens.shape), torch.zeros(len(genre), 0))
    size = max(genre) + 1
    return data._replace(
        items=SideInformation(features, (FieldSpan("genre", True, 1, size),), size)
    )


def test_a_user_is_the_ridge_regression_of_residuals_on_content_and_a_bias():
    # w = (X'X + diag(bias_penalty, penalty, ...))^-1 X'(r - mean - b_i), x = (1, content).
    learner = ContentRidge(penalty=2.0, bias_penalty=3.0)
    meta = learner.fit(ratings())
    x = torch.cat([torch.ones(12, 1), meta["content"]], 1)
    at = torch.tensor([0, 3, 4])
    residual = torch.tensor([5.0, 2.0, 4.0]) - meta["mean"] - meta["item"][at]
    penalty = torch.diag(torch.tensor([3.0] + [2.0] * (x.shape[1] - 1)))
    w = torch.linalg.solve(x[at].T @ x[at] + penalty, x[at].T @ residual)
    given = support((0, 5.0), (3, 2.0), (4, 4.0), padding=2)
    found = scores(learner, meta, given, "explicit")
    assert torch.allclose(found, meta["mean"] + meta["item"] + x @ w, atol=1e-4)


def test_item_biases_shrink_towards_what_content_says():
    # Trust t = n / (n + shrink). B minimises sum t (b / t - c'B)^2 + item_penalty |B|^2, and the
    # bias becomes b + (1 - t) c'B: an item that nobody rated has c'B alone.
    data = ratings()
    known = ContentRidge(item_penalty=1.0, item_shrink=5.0)
    plain = ContentRidge(item_penalty=1.0, item_shrink=5.0).fit(data.without_features())["item"]
    count = torch.bincount(data.item, minlength=12).float()
    trust = count / (count + 5.0)
    meta = known.fit(data)
    c = meta["content"]
    weights = torch.linalg.solve(
        c.T @ torch.diag(trust) @ c + torch.eye(c.shape[1]), c.T @ (trust * (plain / trust))
    )
    assert torch.allclose(meta["item"], plain + (1 - trust) * (c @ weights), atol=1e-5)


def test_without_content_the_ridge_is_the_bias_model():
    learner = ContentRidge(bias_penalty=4.0)
    meta = learner.fit(ratings().without_features())
    left = (5 - meta["mean"] - meta["item"][0]) + (4 - meta["mean"] - meta["item"][1])
    found = scores(learner, meta, support((0, 5.0), (1, 4.0)), "explicit")
    assert torch.allclose(found, meta["mean"] + meta["item"] + left / (2 + 4.0), atol=1e-5)


def test_without_ratings_the_ridge_predicts_mean_and_item_bias():
    learner = ContentRidge()
    meta = learner.fit(ratings())
    found = scores(learner, meta, support(padding=2), "explicit")
    assert torch.allclose(found, meta["mean"] + meta["item"], atol=1e-6)


def test_a_profile_is_the_shrunk_sum_of_unit_content():
    # Four events, half of each genre: centred columns are +-1/2, deviations 1/2, so an item is
    # +-(1, -1) / sqrt 2 and matches its own genre by 1, the other by -1.
    data = genres(clicks([0, 1], [0, 2], n_items=3), 1, 2, 2)
    learner = ContentProfile(strength=3.0, shrink=1.0)
    meta = learner.fit(data)
    found = scores(learner, meta, liked(0, padding=1))
    log = torch.log(torch.tensor([2.0, 1.0, 1.0]) + 1)
    assert torch.allclose(found, log + 3.0 * torch.tensor([0.5, -0.5, -0.5]), atol=1e-5)


@pytest.mark.parametrize("padding", [0, 2])
def test_a_profile_without_events_ranks_by_popularity(padding: int):
    learner = ContentProfile()
    meta = learner.fit(genres(clicks([0, 1], [0, 2], n_items=3), 1, 2, 2))
    expected = torch.log(torch.tensor([3.0, 2.0, 2.0]))
    assert torch.allclose(scores(learner, meta, liked(padding=padding)), expected)


def test_a_profile_without_content_ranks_by_popularity():
    learner = ContentProfile()
    meta = learner.fit(clicks([0, 1], [0, 2], n_items=3))
    assert torch.allclose(scores(learner, meta, liked(1)), torch.log(torch.tensor([3.0, 2.0, 2.0])))


@pytest.mark.parametrize("learner", [ContentRidge(max_features=2), ContentProfile(max_features=2)])
def test_content_that_would_not_fit_is_refused(learner: ContentRidge | ContentProfile):
    data = genres(clicks([0, 1], n_items=2), 1, 2)
    with pytest.raises(DataError, match="items of at most 2 columns of content, got 3"):
        learner.fit(data)
