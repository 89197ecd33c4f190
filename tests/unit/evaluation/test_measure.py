import math
from typing import NamedTuple

import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from metarec_ray.errors import DataError
from metarec_ray.evaluation.measure import Condition, mean, measure
from metarec_ray.evaluation.measure_ratings import measure_ratings
from metarec_ray.evaluation.scoring import Method
from metarec_ray.predictor import Supports

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
        {"coverage@10": 10 / ITEMS, "fit_seconds": 2.0, "score_seconds": 2.0, "adapt_ms": 1000.0}
    )


def test_a_mean_counts_weights_and_leaves_out_what_has_no_value():
    values, weight = torch.tensor([1.0, 4.0, math.nan]), torch.tensor([3.0, 1.0, 50.0])
    assert mean(values, weight) == pytest.approx((3 * 1 + 4) / 4)
    assert math.isnan(mean(torch.tensor([math.nan]), torch.ones(1)))


LABEL = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 2.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0]])
MASK = torch.tensor([[True] * 7, [True] * 6 + [False]])


def rated(predicted: Tensor, **more):
    return measure_ratings(
        predicted,
        LABEL,
        MASK,
        method="ours",
        kind="learner",
        condition=Condition(scenario="user_cold"),
        entity=["a", "b"],
        seed=0,
        ties=0,
        scale=(1.0, 5.0),
        **more,
    )


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
    one = measure_ratings(
        LABEL, LABEL, few, method="ours", kind="learner", condition=Condition(k=1),
        entity=["a", "b"], seed=0, ties=0,
    )  # fmt: skip
    assert one.values["ndcg@1"][0].item() == pytest.approx(1)
    assert math.isnan(one.values["ndcg@1"][1].item())
    with pytest.raises(DataError, match="got k 5 of 5 candidates"):
        measure_ratings(
            LABEL[1:], LABEL[1:], few[1:], method="ours", kind="learner", condition=Condition(k=1),
            entity=["b"], seed=0, ties=0,
        )  # fmt: skip


def test_clicks_are_judged_by_their_likelihood():
    label = (LABEL >= 3).float()
    one = measure_ratings(
        torch.zeros_like(label), label, MASK, method="ours", kind="learner",
        condition=Condition(k=1), entity=["a", "b"], seed=0, ties=0, feedback="binary",
    )  # fmt: skip
    assert one.values["log_loss"].tolist() == pytest.approx([math.log(2)] * 2)
    assert one.values["squared_error"].tolist() == pytest.approx([1 / 4] * 2)
    # Nine of thirteen clicks against a half each.
    assert one.facts["calibration_error"] == pytest.approx(9 / 13 - 1 / 2)
