import math
from itertools import combinations

import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from metarec_ray.core import metrics
from metarec_ray.errors import DataError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def test_binary_metrics_reproduce_arithmetic_written_out():
    # Order by score: items 3, 0, 4, 1, 2; the relevant ones are 0 and 1, at positions 2 and 4.
    scores, gains = row(0.8, 0.3, 0.1, 0.9, 0.5), row(1, 1, 0, 0, 0)
    ranked = metrics.rank(scores, gains, depth=4, generator=seeded())
    assert ranked.item.tolist() == [[3, 0, 4, 1]]
    best = 1 / math.log2(2) + 1 / math.log2(3)
    assert metrics.ndcg(ranked, 4).item() == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(5)) / best
    )
    assert metrics.ndcg(ranked, 1).item() == 0
    assert metrics.hit_rate(ranked, 1).item() == 0
    assert metrics.hit_rate(ranked, 2).item() == 1
    assert metrics.recall(ranked, 3).item() == pytest.approx(1 / 2)
    assert metrics.precision(ranked, 3).item() == pytest.approx(1 / 3)
    assert metrics.reciprocal_rank(ranked, 4).item() == pytest.approx(1 / 2)


def test_graded_ndcg_uses_two_to_the_rating_minus_one():
    # Ratings 5, 3, 1 ranked 3, 5, 1: gains 7, 31, 1.
    gains = metrics.graded(row(5, 3, 1, 0))
    assert gains.tolist() == [[31, 7, 1, 0]]
    ranked = metrics.rank(row(0.5, 0.9, 0.1, 0.0), gains, depth=3, generator=seeded())
    found = 7 + 31 / math.log2(3) + 1 / math.log2(4)
    best = 31 + 7 / math.log2(3) + 1 / math.log2(4)
    assert metrics.ndcg(ranked, 3).item() == pytest.approx(found / best)


def test_gains_of_the_usual_scales_are_the_published_ones():
    for scale in ((1.0, 5.0), (0.0, 5.0), (0.5, 5.0), (1.0, 10.0)):
        labels = torch.arange(scale[0], scale[1] + 1)
        assert metrics.graded(labels, scale).equal(torch.exp2(labels) - 1)
        assert metrics.graded(labels, scale).equal(metrics.graded(labels))


def test_gains_of_other_scales_are_counted_from_the_lowest_label():
    assert metrics.graded(row(-10, -9, 0, 10), (-10, 10)).tolist() == [[0, 1, 1023, 2**20 - 1]]
    assert metrics.graded(row(41, 43, 100), (41, 100)).tolist() == [[0, 3, pytest.approx(2**59)]]
    # Below the lowest of training there is nothing to gain.
    assert metrics.graded(row(-12, -10), (-10, 10)).tolist() == [[0, 0]]
    assert metrics.graded(row(-1, 5), (0, 5)).tolist() == [[0, 31]]


def test_a_scale_whose_gains_are_no_numbers_is_refused():
    with pytest.raises(DataError, match=r"labels must span <= 60 .* got 0 to 200 \(data.feedback"):
        metrics.graded(row(0, 200), (0, 200))


def test_candidates_that_are_masked_are_neither_shown_nor_counted():
    candidates = torch.tensor([[False, True, True, True]])
    ranked = metrics.rank(
        row(9, 3, 2, 1), row(1, 0, 1, 0), depth=2, generator=seeded(), candidates=candidates
    )
    assert ranked.item.tolist() == [[1, 2]]
    assert ranked.relevant.tolist() == [1]
    assert metrics.ndcg(ranked, 2).item() == pytest.approx(1 / math.log2(3))


def test_coverage_counts_the_distinct_items_that_anybody_is_shown():
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 1.0, 2.0, 0.0]])
    ranked = metrics.rank(scores, torch.ones(2, 4), depth=3, generator=seeded())
    assert metrics.coverage(ranked, 1, catalogue=4) == 1 / 4
    assert metrics.coverage(ranked, 2, catalogue=4) == 3 / 4


def test_novelty_is_the_mean_surprise_of_what_is_shown():
    ranked = metrics.rank(row(3, 2, 1), row(1, 0, 0), depth=2, generator=seeded())
    share = torch.tensor([1 / 2, 1 / 8, 1.0])
    assert metrics.novelty(ranked, 2, share=share).item() == pytest.approx((1 + 3) / 2)


def test_average_precision_is_the_mean_precision_at_the_relevant_positions():
    # Order 3, 0, 4, 1, 2; relevant 0 and 1 at positions 2 and 4: (1/2 + 2/4) / 2.
    ranked = metrics.rank(
        row(0.8, 0.3, 0.1, 0.9, 0.5), row(1, 1, 0, 0, 0), depth=4, generator=seeded()
    )
    assert metrics.average_precision(ranked, 4).item() == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics.average_precision(ranked, 3).item() == pytest.approx((1 / 2) / 2)
    # One place can hold one of the two: a hit there would be all that is possible.
    assert metrics.average_precision(ranked, 1).item() == 0


def test_popularity_is_the_mean_share_of_what_is_shown():
    ranked = metrics.rank(row(3, 2, 1), row(1, 0, 0), depth=2, generator=seeded())
    share = torch.tensor([1 / 2, 1 / 8, 1.0])
    assert metrics.popularity(ranked, 2, share=share).item() == pytest.approx((1 / 2 + 1 / 8) / 2)


def test_diversity_is_the_mean_distance_of_the_pairs_that_are_shown():
    vectors = torch.nn.functional.normalize(torch.rand(7, 3, generator=seeded(7)), dim=1)
    vectors[6] = 0  # nothing is known of it: at distance 1 from the others
    scores = torch.rand(4, 7, generator=seeded(8))
    scores[:, 6] = 2
    ranked = metrics.rank(scores, torch.ones(4, 7), depth=4, generator=seeded())
    found = metrics.diversity(ranked, 4, vectors=csr_array(vectors.numpy()))
    for task in range(4):
        pairs = combinations(ranked.item[task].tolist(), 2)
        distances = [1 - (vectors[i] @ vectors[j]).item() for i, j in pairs]
        assert found[task].item() == pytest.approx(sum(distances) / 6, abs=1e-5)


def test_lists_agree_with_scikit_learn():
    # Here and not above: it takes a second, and of several workers one needs it.
    from sklearn.metrics import average_precision_score, ndcg_score

    scores = torch.rand(20, 30, generator=seeded(9))
    gains = (torch.rand(20, 30, generator=seeded(10)) < 0.3).float()
    gains[:, 0] = 1
    ranked = metrics.rank(scores, gains, depth=29, generator=seeded())
    found = metrics.ndcg(ranked, 10)
    whole = metrics.average_precision(ranked, 29)
    for task in range(20):
        truth, score = gains[task].numpy(), scores[task].numpy()
        assert found[task].item() == pytest.approx(ndcg_score([truth], [score], k=10), abs=1e-5)
        # The item that misses the list of 29 is the worst; without it the whole order is judged.
        if not gains[task, scores[task].argmin()]:
            expected = average_precision_score(truth, score)
            assert whole[task].item() == pytest.approx(expected, abs=1e-5)


# The four predictors that tell an honest metric from a broken one.
TASKS, ITEMS, K = 2000, 40, 10


def ratings() -> Tensor:
    return torch.randint(1, 6, (TASKS, ITEMS), generator=seeded(1)).float()


def mean_ndcg(scores: Tensor, labels: Tensor) -> float:
    ranked = metrics.rank(scores, metrics.graded(labels), depth=K, generator=seeded(2))
    return metrics.ndcg(ranked, K).mean().item()


def test_the_perfect_predictor_gets_one():
    labels = ratings()
    assert mean_ndcg(labels, labels) == pytest.approx(1)


def test_constant_user_mean_and_random_predictors_get_the_random_floor():
    labels = ratings()
    gains = metrics.graded(labels)
    discount = 1 / torch.log2(torch.arange(2, K + 2).float())
    # Under a random order each position holds the task's mean gain.
    floor = gains.mean(1) * discount.sum() / (gains.topk(K).values @ discount)
    noise = torch.rand(TASKS, ITEMS, generator=seeded(3))
    mean = labels.mean(1, keepdim=True).expand(-1, ITEMS)
    for scores in (torch.zeros(TASKS, ITEMS), mean, noise):
        assert mean_ndcg(scores, labels) == pytest.approx(floor.mean().item(), abs=0.005)


def test_a_constant_does_not_inherit_the_order_of_the_file():
    # Every relevant item stands first: an order-keeping tie-break would find all of them.
    gains = torch.zeros(TASKS, ITEMS)
    gains[:, :5] = 1
    ranked = metrics.rank(torch.zeros(TASKS, ITEMS), gains, depth=K, generator=seeded())
    assert metrics.recall(ranked, K).mean().item() == pytest.approx(K / ITEMS, abs=0.02)


def test_ties_inside_the_list_are_shuffled_too():
    # Two items tie for the first place and everything else is below: each leads half of the time.
    scores = torch.zeros(TASKS, 6)
    scores[:, 2:4] = 1
    ranked = metrics.rank(scores, torch.ones(TASKS, 6), depth=3, generator=seeded())
    assert set(ranked.item[:, :2].unique().tolist()) == {2, 3}
    assert (ranked.item[:, 0] == 2).float().mean().item() == pytest.approx(1 / 2, abs=0.05)


def test_the_same_seed_breaks_ties_alike():
    scores, gains = torch.zeros(5, 30), torch.ones(5, 30)
    first = metrics.rank(scores, gains, depth=8, generator=seeded(4)).item
    assert torch.equal(first, metrics.rank(scores, gains, depth=8, generator=seeded(4)).item)
    assert not torch.equal(first, metrics.rank(scores, gains, depth=8, generator=seeded(5)).item)


def test_the_list_equals_a_full_sort_where_nothing_ties():
    scores = torch.rand(50, 200, generator=seeded(6))
    ranked = metrics.rank(scores, torch.ones(50, 200), depth=20, generator=seeded())
    assert torch.equal(ranked.item, scores.argsort(1, descending=True)[:, :20])


def test_a_candidate_of_minus_infinity_still_comes_before_a_masked_one():
    candidates = torch.tensor([[True, False, True, True]])
    scores = row(-math.inf, 5, 1, -math.inf)
    ranked = metrics.rank(
        scores, row(1, 1, 1, 1), depth=2, generator=seeded(), candidates=candidates
    )
    assert ranked.item[0, 0] == 2
    assert ranked.item[0, 1] in (0, 3)


def test_a_nan_score_is_refused():
    with pytest.raises(
        DataError, match=r"must be a number, got NaN \(task 1 of the score matrix\)"
    ):
        metrics.rank(
            torch.tensor([[1.0, 2.0], [1.0, math.nan]]),
            torch.ones(2, 2),
            depth=1,
            generator=seeded(),
        )


def test_a_list_is_no_longer_than_the_candidates():
    candidates = torch.tensor([[True, True, True, False]])
    given = (row(1, 2, 3, 4), row(1, 0, 0, 0))
    whole = metrics.rank(*given, depth=3, generator=seeded(), candidates=candidates)
    assert whole.item.tolist() == [[2, 1, 0]]
    assert metrics.ndcg(whole, 3).item() == pytest.approx(1 / math.log2(4))
    with pytest.raises(DataError, match="k <= number of candidates, got k 4 of 3 candidates"):
        metrics.rank(*given, depth=4, generator=seeded(), candidates=candidates)


def test_a_task_with_nothing_to_find_is_refused():
    ranked = metrics.rank(row(3, 2, 1), row(0, 0, 0), depth=2, generator=seeded())
    with pytest.raises(DataError, match=r"needs a candidate with a gain > 0, got none \(task 0"):
        metrics.ndcg(ranked, 2)


def test_a_k_beyond_the_list_is_refused():
    ranked = metrics.rank(row(3, 2, 1), row(1, 0, 0), depth=2, generator=seeded())
    with pytest.raises(DataError, match=r"k must lie in 1\.\.2.*got 3"):
        metrics.hit_rate(ranked, 3)


def of_positives(
    positives: list[float], others: list[float], real: list[bool] | None = None
) -> float:
    scores = torch.tensor(positives)
    mask = torch.tensor(real or [True] * len(positives))
    return float(
        metrics.ndcg_of_positives(
            scores, torch.cat([scores, torch.tensor(others)]), mask=mask, k=10
        )
    )


def test_the_training_metric_is_ndcg_at_10() -> None:
    # Places 1 and 3 of four.
    expected = (1 / math.log2(2) + 1 / math.log2(4)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert of_positives([0.9, 0.5], [0.7, 0.1]) == pytest.approx(expected)
    assert of_positives([0.9, 0.8], [0.7, 0.1]) == pytest.approx(1.0)
    assert of_positives([0.0], [1.0] * 10) == 0.0


def test_a_constant_scorer_gets_the_middle_not_the_top() -> None:
    # One of five at the same score: its mean rank is 2 (counted from 0).
    assert of_positives([1.0], [1.0] * 4) == pytest.approx(1 / math.log2(2 + 2))
    assert of_positives([1.0], [1.0] * 60) == 0.0


def test_a_score_that_is_not_a_number_is_the_last() -> None:
    assert of_positives([math.nan], [math.nan] * 20) == 0.0


def test_padding_is_no_positive() -> None:
    assert of_positives([0.9, 9.0], [0.1], [True, False]) < 1
    assert of_positives([0.9, -9.0], [0.1], [True, False]) == pytest.approx(1.0)


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
        found = metrics.ndcg_of_positives(
            positives, rivals, mask=torch.ones(20, 6, dtype=torch.bool), k=10
        )
        torch.testing.assert_close(found, gain / ideal)
