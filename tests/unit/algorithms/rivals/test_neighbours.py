import pytest
import torch

from metarec_ray.algorithms.base import StatisticalLearner
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.errors import DataError
from tests.unit.algorithms.rivals.small import clicks, histories, scores, support


def test_item_knn_reproduces_a_shrunk_cosine():
    # Items 0 and 1: two entities met both, 0 has three and 1 has two.
    data = clicks([0, 1], [0, 1], [0, 2], n_items=4)
    learner = ItemKNN(shrink=20)
    found = scores(learner, learner.fit(data), support((0, 1.0)))
    expected = [0, 2 / (3 * 2) ** 0.5 * 2 / 22, 1 / (3 * 1) ** 0.5 * 1 / 21, 0]
    assert found.tolist() == pytest.approx(expected)


def test_item_knn_keeps_only_the_nearest_when_asked():
    data = clicks([0, 1], [0, 1], [0, 2], n_items=4)
    learner = ItemKNN(neighbours=1)
    found = scores(learner, learner.fit(data), support((0, 1.0)))
    assert (found > 0).tolist() == [False, True, False, False]


def test_ease_equals_the_constrained_least_squares_solution():
    # Column j of B is the ridge regression of item j on all other items: no item explains itself.
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 5, generator=generator) < 0.4).float()
    data = clicks(*[row.nonzero().flatten().tolist() for row in x], n_items=5)
    similarity = Ease(penalty=2.0).fit(data)["similarity"]
    for j in range(5):
        others = [i for i in range(5) if i != j]
        a = x[:, others].T @ x[:, others] + 2.0 * torch.eye(4)
        expected = torch.linalg.solve(a, x[:, others].T @ x[:, j])
        assert torch.allclose(similarity[others, j], expected, atol=1e-5)
        assert similarity[j, j] == 0


@pytest.mark.parametrize("learner", [ItemKNN(), Ease(penalty=2.0)], ids=lambda one: one.name)
def test_without_evidence_neighbours_rank_by_popularity(learner: StatisticalLearner):
    meta = learner.fit(clicks([0, 1], [0], n_items=3))
    assert scores(learner, meta, support()).tolist() == [2, 1, 0]
    assert scores(learner, meta, support(padding=2)).tolist() == [2, 1, 0]


@pytest.mark.parametrize("learner", [ItemKNN(max_items=3), Ease(max_items=3)])
def test_a_catalogue_that_would_not_fit_is_refused(learner: StatisticalLearner):
    with pytest.raises(DataError, match="takes at most 3 items, got a catalogue of 4"):
        learner.fit(clicks([0], n_items=4))


def test_a_disliked_item_is_no_evidence():
    data = histories([(0, 5.0), (1, 5.0)], [(1, 5.0), (2, 5.0)], n_items=3)
    learner = ItemKNN(positive_min=4)
    meta = learner.fit(data)
    given = scores(learner, meta, support((0, 5.0), (2, 1.0)))
    assert torch.equal(given, scores(learner, meta, support((0, 5.0))))
