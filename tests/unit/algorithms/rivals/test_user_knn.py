import pytest
import torch

from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.user_knn import RatingUserKNN, UserKNN
from metarec_ray.errors import DataError
from tests.unit.algorithms.rivals.small import clicks, histories, liked, ratings, scores, support

THREE = ([0, 1, 2], [1, 2], [3])


def test_neighbours_vote_with_their_shrunk_cosine():
    # Support {0, 1}: 2 items in common with the first, 1 with the second, none with the third.
    learner = UserKNN(shrink=10.0, neighbours=3)
    found = scores(learner, learner.fit(clicks(*THREE, n_items=5)), liked(0, 1))
    first = 2 / (2 * 3) ** 0.5 * 2 / (2 + 10)
    second = 1 / (2 * 2) ** 0.5 * 1 / (1 + 10)
    assert found.tolist() == pytest.approx([first, first + second, first + second, 0, 0])


def test_only_the_nearest_users_are_asked():
    learner = UserKNN(shrink=0.0, neighbours=1)
    found = scores(learner, learner.fit(clicks(*THREE, n_items=5)), liked(0, 1))
    assert found.tolist() == pytest.approx([2 / 6**0.5] * 3 + [0, 0])


def test_without_evidence_the_ranking_is_popularity():
    learner = UserKNN()
    meta = learner.fit(clicks(*THREE, n_items=5))
    assert scores(learner, meta, liked()).tolist() == [1, 2, 2, 1, 0]
    assert scores(learner, meta, liked(padding=2)).tolist() == [1, 2, 2, 1, 0]


def test_a_disliked_item_makes_no_neighbours():
    data = histories([(0, 5.0), (1, 5.0)], [(1, 5.0), (2, 5.0), (0, 1.0)], n_items=3)
    learner = UserKNN(positive_min=4)
    meta = learner.fit(data)
    given = scores(learner, meta, support((0, 5.0), (2, 1.0)))
    assert torch.equal(given, scores(learner, meta, support((0, 5.0))))
    assert given[2] == 0


def test_neighbours_of_ratings_add_their_mean_centred_rating():
    # Centred ratings e = r - mean - b_i - b_u; the candidate's is sum s e / (sum s + damping),
    # s = cosine over common items x common / (common + shrink), where that is > 0.
    learner = RatingUserKNN(shrink=2.0, neighbours=100, damping=0.5)
    data = ratings(users=20)
    meta = learner.fit(data)
    bias = UserItemBias(item_shrink=3.0, user_shrink=4.0)
    given = support((0, 5.0), (3, 2.0), (4, 4.0))
    b_u = bias.adapt(None, bias.fit(data), given)["user"]  # type: ignore[arg-type]
    own = {i: r - float(meta["mean"] + meta["item"][i] + b_u) for i, r in ((0, 5), (3, 2), (4, 4))}
    top, mass = torch.zeros(12), torch.full((12,), 0.5)
    for user in range(20):
        span = slice(int(data.offsets[user]), int(data.offsets[user + 1]))
        items = data.item[span].tolist()
        left = data.label[span] - meta["mean"] - meta["item"][data.item[span]]
        e = dict(zip(items, (left - left.sum() / (len(items) + 4.0)).tolist(), strict=True))
        common = [i for i in own if i in e]
        dot = sum(own[i] * e[i] for i in common)
        if dot > 0:
            norm = sum(own[i] ** 2 for i in common) * sum(e[i] ** 2 for i in common)
            similarity = dot / norm**0.5 * len(common) / (len(common) + 2.0)
            for i in items:
                top[i] += similarity * e[i]
                mass[i] += similarity
    expected = meta["mean"] + meta["item"] + b_u + top / mass
    assert torch.allclose(scores(learner, meta, given, "explicit"), expected, atol=1e-4)


def test_the_last_rating_of_an_item_counts_where_there_are_several():
    learner = RatingUserKNN(shrink=1.0)
    others = [[(0, 4.0), (1, 2.0), (2, 5.0)], [(0, 2.0), (1, 4.0)]]
    twice = [*others, [(0, 1.0), (1, 3.0), (0, 5.0)]]
    meta = learner.fit(histories(*twice, n_items=3))
    left = 5.0 - meta["mean"] - meta["item"][0]
    total = sum(r - meta["mean"] - meta["item"][i] for i, r in twice[2])
    assert meta["centred"][0, 2].item() == pytest.approx(float(left - total / (3 + 4.0)), abs=1e-5)
    found = scores(learner, meta, support((0, 1.0), (0, 5.0)), "explicit")
    other = scores(learner, meta, support((0, 5.0), (0, 1.0)), "explicit")
    assert not torch.allclose(found, other)


def test_without_ratings_a_user_gets_mean_and_item_bias():
    learner = RatingUserKNN()
    meta = learner.fit(ratings(users=20))
    found = scores(learner, meta, support(padding=2), "explicit")
    assert torch.allclose(found, meta["mean"] + meta["item"], atol=1e-6)


@pytest.mark.parametrize("learner", [UserKNN(max_cells=14), RatingUserKNN(max_cells=14)])
def test_users_and_items_that_would_not_fit_are_refused(learner: UserKNN | RatingUserKNN):
    rule = "takes at most 14 cells, got 5 items x 3 users"
    with pytest.raises(DataError, match=rule):
        learner.fit(clicks(*THREE, n_items=5))
