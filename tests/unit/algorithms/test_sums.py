import pytest
import torch

from metarec_ray.algorithms.base import StatisticalLearner
from metarec_ray.algorithms.rivals.counts import Popularity, RecencyPopularity
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.sums import positives
from tests.unit.algorithms.rivals.small import support


def test_positives_are_the_newest_event_of_each_item_that_is_liked():
    given = support((3, 5.0), (1, 1.0), (3, 5.0), (3, 1.0), (0, 4.0), (2, 2.0), padding=2)
    found = positives(given, 4.0)
    assert found.tolist() == [False, False, True, False, True, False, False, False]
    taken = positives(given, None)
    assert taken.tolist() == [False, True, False, True, True, True, False, False]
    assert positives(support(), None).tolist() == []


@pytest.mark.parametrize(
    "learner", [Popularity(), RecencyPopularity(), ItemKNN(), Ease()], ids=lambda one: one.name
)
def test_shares_are_those_of_the_counts_beside_a_tenth_spread_over_the_catalogue(
    learner: StatisticalLearner,
):
    share = learner.log_share(torch.tensor([[3000.0, 1000.0, 0.0]])).exp()
    assert (share - 0.1 / 3).tolist() == [pytest.approx([3 / 4, 1 / 4, 0], abs=1e-6)]


def test_a_score_below_zero_is_no_share_whatever_its_size():
    # EASE gives what goes against the support a score < 0.
    share = Ease().log_share(torch.tensor([0.03, 0.01, -0.5, 0.0])).exp()
    expected = [3 / 4 + 0.1 / 4, 1 / 4 + 0.1 / 4, 0.1 / 4, 0.1 / 4]
    assert share.tolist() == pytest.approx(expected)
