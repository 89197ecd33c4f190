import math
from typing import NamedTuple

import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from metarec_ray.errors import DataError, NotFinite
from metarec_ray.evaluation.scoring import Method
from metarec_ray.evaluation.table.ranking_measures import Condition, Measured, measure
from metarec_ray.evaluation.table.rating_measures import Asked, Worth, measure_ratings
from metarec_ray.evaluation.table.rows import Header, judge
from metarec_ray.inference.supports import Supports

ITEMS = 60


class Tasks(NamedTuple):
    """Two entities; item 0 answers the first, items 0 and 1 the second; nothing is masked."""

    entity: Tensor = torch.tensor([7, 9])
    trained: Tensor = torch.ones(ITEMS, dtype=torch.bool)
    share: Tensor = torch.full((ITEMS,), 1 / 4).index_fill(0, torch.tensor([0]), 1 / 2)

    def candidates(self, k: int) -> Tensor:
        return torch.ones(2, ITEMS, dtype=torch.bool)

    def gains(self) -> Tensor:
        gains = torch.zeros(2, ITEMS)
        gains[0, 0] = gains[1, 0] = gains[1, 1] = 1
        return gains

    def supports(self, k: int) -> Supports:
        raise NotImplementedError


def by_row(k: int) -> Tensor:
    """Without events items are ranked from the last; with some, from the first."""
    order = torch.arange(float(ITEMS)).expand(2, -1)
    return order if k == 0 else -order


def found(k: int):
    method = Method("ours", "learner", 2.0, by_row)
    one = torch.eye(ITEMS)
    return measure(
        Tasks(),
        method,
        ks=[0, k],
        seed=3,
        ties=0,
        clock=iter([0.0, 1.0, 5.0, 7.0]).__next__,
        vectors=csr_array(one.numpy()),
    )[1]


@pytest.mark.parametrize(("wrong", "k"), [(0, 0), (2, 2)])
def test_a_candidate_without_a_number_as_score_is_no_ranking(wrong: int, k: int):
    def scores(events: int) -> Tensor:
        given = by_row(events).clone()
        given[1, 5] = torch.nan if events == wrong else 0.0
        return given

    with pytest.raises(
        NotFinite, match=rf"ours gives nan for entity 9 after k = {k} events \(1 of 2 entities"
    ):
        measure(
            Tasks(), Method("ours", "learner", 0.0, scores), ks=[2], seed=0, ties=0,
            clock=lambda: 0.0,
        )  # fmt: skip


def test_what_is_no_candidate_needs_no_score():
    class Fewer(Tasks):
        def candidates(self, k: int) -> Tensor:
            return torch.arange(ITEMS).expand(2, -1) != 7

    given = by_row(2).clone()
    given[:, 7] = -torch.inf
    method = Method("ours", "learner", 0.0, lambda k: given)
    one = measure(Fewer(), method, ks=[2], seed=0, ties=0, clock=lambda: 0.0)[0]
    assert one.values["ndcg@10"].tolist() == [1.0, 1.0]


def test_a_prediction_of_padding_may_be_anything():
    label, mask = torch.ones(2, 6), torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    predicted = torch.where(mask, label, torch.nan)
    assert measure_ratings(predicted, Asked(label, mask), ties=0).values["mae"].sum() == 0


def test_a_ranking_has_a_value_an_entity_of_every_metric():
    one = found(2)
    assert (one.method, one.kind, one.seed, one.condition) == ("ours", "learner", 3, Condition(k=2))
    assert one.entity == ["7", "9"]
    expected = {
        "ndcg@10": [1, 1],
        "hr@10": [1, 1],
        "recall@10": [1, 1],
        "recall@50": [1, 1],
        "precision@10": [1 / 10, 2 / 10],
        "mrr@10": [1, 1],
        "map@10": [1, 1],
        "auc": [1, 1],
        "novelty": [(1 + 9 * 2) / 10] * 2,
        "popularity@10": [(1 / 2 + 9 / 4) / 10] * 2,
        # What the entity chose: 1/2 for the first, (1/2 + 1/4) / 2 for the second.
        "popularity_bias@10": [0.275 - 1 / 2, 0.275 - 3 / 8],
        "gain": [1, 1],  # the order of the empty support finds nothing among the first ten
        "diversity@10": [1, 1],  # no two items are alike
    }
    assert set(one.values) == set(expected)
    for name, values in expected.items():
        assert one.values[name].tolist() == pytest.approx(values), name
    assert one.facts == pytest.approx(
        {
            "coverage@10": 10 / ITEMS,
            "fit_seconds": 2.0,
            "score_seconds": 2.0,
            "adapt_ms": 1000.0,
            "adapted": 0.0,
        }
    )


LABEL = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 2.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0]])
MASK = torch.tensor([[True] * 7, [True] * 6 + [False]])


ASKED = Asked(LABEL, MASK, scale=(1.0, 5.0))


def rated(predicted: Tensor, prior: Tensor | None = None) -> Worth:
    return measure_ratings(predicted, ASKED, ties=0, prior=prior)


def test_the_truth_has_no_error_and_is_calibrated():
    one = rated(LABEL, prior=torch.full_like(LABEL, 3.0))
    assert one.values["squared_error"].tolist() == [0, 0]
    assert one.values["ndcg@5"].tolist() == pytest.approx([1, 1])
    assert one.values["pearson"][0].item() == pytest.approx(1)
    assert math.isnan(one.values["pearson"][1].item())  # the second likes everything alike
    assert one.values["auc"][0].item() == 1
    assert one.weight.tolist() == [7, 6]
    assert one.facts["calibration_error"] == pytest.approx(0, abs=1e-6)
    assert one.facts["calibration_slope"] == pytest.approx(1)
    # Of 3 for everything the squared error of the first was (4 + 1 + 0 + 1 + 4 + 4 + 1) / 7.
    assert one.values["gain"].tolist() == pytest.approx([15 / 7, 0])


def test_predictions_are_clipped_to_the_scale_before_anything_is_measured():
    one = rated(torch.full_like(LABEL, 9.0))
    assert one.values["mae"].tolist() == pytest.approx([(0 + 1 + 2 + 3 + 4 + 4 + 3) / 7, 2])


def test_a_task_with_no_more_rated_items_than_places_has_no_list():
    few = MASK.clone()
    few[1, 5] = False
    one = measure_ratings(LABEL, Asked(LABEL, few), ties=0)
    assert one.values["ndcg@1"][0].item() == pytest.approx(1)
    assert math.isnan(one.values["ndcg@1"][1].item())
    alone = measure_ratings(LABEL[1:], Asked(LABEL[1:], few[1:]), ties=0)
    for depth in (1, 3, 5):
        assert alone.values[f"ndcg@{depth}"].isnan().all()
    assert alone.values["squared_error"].tolist() == [0]


def test_a_long_query_has_a_long_list_too():
    label = torch.arange(1.0, 13.0).expand(2, 12)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, 7:] = False
    found = measure_ratings(label, Asked(label, mask), ties=0).values
    assert found["ndcg@10"][0].item() == pytest.approx(1)
    assert found["ndcg@10"].isnan().tolist() == [False, True]
    assert not found["ndcg@5"].isnan().any()
    assert "ndcg@10" not in measure_ratings(label[1:], Asked(label[1:], mask[1:]), ties=0).values


def test_clicks_are_judged_by_their_likelihood():
    label = (LABEL >= 3).float()
    asked = Asked(label, MASK, feedback="binary")
    one = measure_ratings(torch.zeros_like(label), asked, ties=0)
    assert one.values["log_loss"].tolist() == pytest.approx([math.log(2)] * 2)
    assert one.values["squared_error"].tolist() == pytest.approx([1 / 4] * 2)
    # Nine of thirteen clicks against a half each.
    assert one.facts["calibration_error"] == pytest.approx(9 / 13 - 1 / 2)


def test_errors_are_means_over_query_rows_and_lists_means_over_tasks():
    # Ten rows in a perfect order beside a hundred in the worst one.
    label = torch.arange(100.0).remainder(5).add(1).expand(2, -1).clone()
    mask = torch.ones(2, 100, dtype=torch.bool)
    mask[0, 10:] = False
    predicted = torch.stack([label[0], 6 - label[1]])
    worth = measure_ratings(predicted, Asked(label, mask), ties=0)
    one = Measured("ours", "learner", 0, Condition(k=1), ["a", "b"], *worth)
    row = judge([one], Header("films", "explicit", 0, "item_kshot"), resamples=100)[0]
    # Errors of the second are 4 2 0 2 4: 40 / 5 a row.
    assert row["rmse"] == pytest.approx((100 * 40 / 5 / 110) ** 0.5)
    assert row["mae"] == pytest.approx(100 * 12 / 5 / 110)
    assert row["pearson"] == pytest.approx((1 - 1) / 2, abs=1e-6)
    assert row["spearman"] == pytest.approx((1 - 1) / 2, abs=1e-6)
    assert row["auc"] == pytest.approx((1 + 0) / 2)
    # The first five of the second are ones among twenty fives: gains of 1 instead of 31.
    assert row["ndcg@5"] == pytest.approx((1 + 1 / 31) / 2)


def test_gains_of_ratings_on_any_scale_are_counted_from_its_lowest():
    label = torch.tensor([[-10.0, -5.0, 0.0, 5.0, 10.0, -10.0]])
    asked = Asked(label, torch.ones_like(label, dtype=torch.bool), scale=(-10.0, 10.0))
    assert measure_ratings(label, asked, ties=0).values["ndcg@5"].tolist() == [1]
    reverse = measure_ratings(-label, asked, ties=0).values["ndcg@5"].item()
    discount = [1 / math.log2(place + 2) for place in range(5)]
    gains = [2.0**point - 1 for point in (20, 15, 10, 5, 0)]
    best = sum(gain * weight for gain, weight in zip(gains, discount, strict=True))
    # -10 -10 -5 0 5 are shown: gains 0 0 and those of 5, 10 and 15 points above the lowest.
    found = sum(gains[i] * weight for i, weight in zip((3, 2, 1), discount[2:], strict=True))
    assert reverse == pytest.approx(found / best)
    with pytest.raises(DataError, match=r"labels must span <= 60 .* got 0 to 200 \(data.feedback"):
        measure_ratings(label, asked._replace(scale=(0.0, 200.0)), ties=0)


def test_coverage_is_of_the_items_that_are_a_candidate_for_somebody():
    method = Method("ours", "learner", 0.0, by_row)
    # Training met five items only, but all may be recommended.
    tasks = Tasks(trained=torch.arange(ITEMS) < 5)
    one = measure(tasks, method, ks=[0], seed=0, ties=0, clock=lambda: 0.0)[0]
    assert one.facts["coverage@10"] == pytest.approx(10 / ITEMS)


@pytest.mark.parametrize("items", [2, 3, 5, 10])
def test_the_ndcg_of_a_small_catalogue_is_that_of_the_whole_list(items: int):
    tasks, few = Tasks(), torch.arange(ITEMS) < items

    class Few(Tasks):
        def candidates(self, k: int) -> Tensor:
            return few.expand(2, -1)

    assert tasks.candidates(0).all()
    (one,) = measure(
        Few(),
        Method("ours", "learner", 0.0, lambda k: by_row(0)),  # the wanted items come last
        ks=[0],
        seed=0,
        ties=0,
        clock=iter([0.0, 1.0]).__next__,
        vectors=csr_array(torch.eye(ITEMS).numpy()),
    )
    last = [1 / math.log2(1 + place) for place in (items, items - 1)]
    both = (last[0] + last[1]) / (1 + 1 / math.log2(3))
    assert one.values["ndcg@10"].tolist() == pytest.approx([last[0], both])
    for name in ("hr@10", "recall@50", "precision@10", "novelty", "diversity@10"):
        assert one.values[name].isnan().all(), name
    assert math.isnan(one.facts["coverage@10"])
