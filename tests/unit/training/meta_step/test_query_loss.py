import math

import pytest
import torch

from metarec_ray.training.meta_step.query_loss import ndcg_at_10


def ndcg(positives: list[float], others: list[float], real: list[bool] | None = None) -> float:
    scores = torch.tensor(positives)
    mask = torch.tensor(real or [True] * len(positives))
    return float(ndcg_at_10(scores, torch.cat([scores, torch.tensor(others)]), mask))


def test_the_training_metric_is_ndcg_at_10() -> None:
    # Places 1 and 3 of four.
    expected = (1 / math.log2(2) + 1 / math.log2(4)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert ndcg([0.9, 0.5], [0.7, 0.1]) == pytest.approx(expected)
    assert ndcg([0.9, 0.8], [0.7, 0.1]) == pytest.approx(1.0)
    assert ndcg([0.0], [1.0] * 10) == 0.0


def test_a_constant_scorer_gets_the_middle_not_the_top() -> None:
    # One of five at the same score: its mean rank is 2 (counted from 0).
    assert ndcg([1.0], [1.0] * 4) == pytest.approx(1 / math.log2(2 + 2))
    assert ndcg([1.0], [1.0] * 60) == 0.0


def test_a_score_that_is_not_a_number_is_the_last() -> None:
    assert ndcg([math.nan], [math.nan] * 20) == 0.0


def test_padding_is_no_positive() -> None:
    assert ndcg([0.9, 9.0], [0.1], [True, False]) < 1
    assert ndcg([0.9, -9.0], [0.1], [True, False]) == pytest.approx(1.0)


def test_only_the_best_21_are_looked_at_and_every_tie_counts() -> None:
    drawn = torch.Generator().manual_seed(0)
    for levels in (3, 40, 4000):  # nearly all tie, some tie, none
        rivals = torch.randint(levels, (20, 500), generator=drawn).double()
        positives = rivals[:, :6]
        ahead = (rivals[:, None] > positives[..., None]).sum(-1)
        level = (rivals[:, None] == positives[..., None]).sum(-1)
        rank = ahead + (level - 1) / 2
        gain = torch.where(rank < 10, 1 / torch.log2(rank + 2), 0.0).sum(-1)
        ideal = sum(1 / math.log2(place + 2) for place in range(6))
        found = ndcg_at_10(positives, rivals, torch.ones(20, 6, dtype=torch.bool))
        torch.testing.assert_close(found, gain / ideal)
