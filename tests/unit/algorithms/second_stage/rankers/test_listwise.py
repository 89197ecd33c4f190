"""What rankers are fitted by and judged by: the loss and the measure, by hand."""

import math

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers.listwise import (
    concatenated,
    listwise_derivatives,
    listwise_loss,
    ndcg_of,
)
from metarec_ray.core import metrics
from tests.unit.algorithms.second_stage.rankers.lists import planted, two_lists

SCORES = [[0.5, -1.0, 2.0, 0.0], [1.0, 0.0, -2.0, 9.0]]


def by_hand(scores: list[float], relevant: list[int], n_relevant: int) -> float:
    total = math.log(sum(math.exp(one) for one in scores))
    return sum(total - scores[place] for place in relevant) / n_relevant


def test_the_loss_is_the_mean_negative_log_probability_of_relevant_items() -> None:
    found = listwise_loss(torch.tensor(SCORES), two_lists())
    right = [by_hand(SCORES[0], [0, 2], 3), by_hand(SCORES[1][:3], [1], 1)]
    assert found.tolist() == pytest.approx(right, rel=1e-5)
    several = listwise_loss(torch.tensor([SCORES, SCORES]), two_lists())
    torch.testing.assert_close(several, found.expand(2, -1))


def test_the_derivatives_are_those_of_autograd() -> None:
    shortlists = planted(6, 16)
    missed = shortlists.relevant & (torch.arange(20) > 2)
    shortlists = shortlists._replace(relevant=missed, n_relevant=torch.full((6,), 5.0))
    scores = torch.randn(6, 20, dtype=torch.float64, requires_grad=True)
    loss = listwise_loss(scores, shortlists).sum()
    (gradient,) = torch.autograd.grad(loss, scores, create_graph=True)
    curvature = torch.stack(
        [
            torch.autograd.grad(gradient[row, item], scores, retain_graph=True)[0][row, item]
            for row in range(6)
            for item in range(20)
        ]
    ).view(6, 20)
    found = listwise_derivatives(scores.detach(), shortlists)
    torch.testing.assert_close(found[0], gradient.detach())
    torch.testing.assert_close(found[1], curvature)
    assert not any(one[~shortlists.inputs.real].any() for one in found)


def test_a_missed_item_costs_the_same_whatever_the_scores() -> None:
    # As one of `n_relevant` it makes the others count less; beyond that nothing depends on it.
    shortlists = two_lists()
    more = shortlists._replace(n_relevant=shortlists.n_relevant + 2)
    for seed in range(3):
        scores = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
        whole, part = listwise_loss(scores, shortlists), listwise_loss(scores, more)
        torch.testing.assert_close(whole * shortlists.n_relevant, part * more.n_relevant)


def test_padding_has_no_gradient_and_a_list_with_nothing_relevant_no_loss() -> None:
    shortlists = two_lists()
    shortlists = shortlists._replace(relevant=shortlists.relevant & torch.tensor([[True], [False]]))
    scores = torch.tensor(SCORES, requires_grad=True)
    loss = listwise_loss(scores, shortlists)
    loss.sum().backward()
    assert scores.grad is not None
    assert loss.detach()[1] == 0
    assert not scores.grad[1].any()
    assert bool(scores.grad.isfinite().all())
    assert bool(scores.grad[0].all())


def quality_by_hand(order: list[bool], n_relevant: int, depth: int) -> float:
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(order[:depth]) if hit)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(n_relevant, depth)))


@pytest.mark.parametrize("depth", [1, 3, 10])
def test_quality_is_the_ndcg_where_every_item_is_listed(depth: int) -> None:
    shortlists = planted(40, 13)
    shortlists = shortlists._replace(
        inputs=shortlists.inputs._replace(real=torch.ones(40, 20).bool())
    )
    scores = torch.randn(40, 20)
    ranked = metrics.rank(
        scores, shortlists.relevant.float(), depth=depth, generator=torch.Generator()
    )
    found = ndcg_of(scores, shortlists, depth=depth)
    torch.testing.assert_close(found.float(), metrics.ndcg(ranked, depth))


def test_quality_counts_what_a_list_has_not_as_missed_and_leaves_padding_out() -> None:
    shortlists, scores = two_lists(), torch.tensor(SCORES)
    found = ndcg_of(scores, shortlists, depth=3)
    # The first list is ranked 2, 0, 3, 1; the second 0, 1, 2, whatever padding scores.
    right = [quality_by_hand([True, True, False], 3, 3), quality_by_hand([False, True], 1, 3)]
    assert found.tolist() == pytest.approx(right)
    first = ndcg_of(scores, shortlists, depth=1)
    assert first.tolist() == pytest.approx([1.0, 0.0])


def test_a_list_that_is_shorter_than_the_depth_misses_what_it_has_no_place_for() -> None:
    shortlists = two_lists()
    shortlists = shortlists._replace(n_relevant=torch.tensor([8.0, 8.0]))
    found = ndcg_of(torch.tensor(SCORES), shortlists, depth=10)
    right = [quality_by_hand([True, True], 8, 10), quality_by_hand([False, True], 8, 10)]
    assert found.tolist() == pytest.approx(right)


def test_equal_scores_are_in_the_order_of_the_list_and_no_number_is_no_quality() -> None:
    shortlists = two_lists()
    equal = torch.zeros(len(SCORES), len(SCORES[0]))
    served = torch.arange(equal.shape[1], 0.0, -1.0).expand_as(equal)
    assert torch.equal(ndcg_of(equal, shortlists, depth=3), ndcg_of(served, shortlists, depth=3))
    equal[1, 0] = torch.nan
    assert ndcg_of(equal, shortlists, depth=3).isnan().tolist() == [False, True]


def test_concatenated_lists_are_the_lists_one_after_another() -> None:
    parts = [planted(3, 14), planted(2, 15)]
    whole = concatenated(parts)
    columns: list[tuple[Tensor, ...]] = [(*one.inputs, *one[1:]) for one in parts]
    for column, (a, b) in zip((*whole.inputs, *whole[1:]), zip(*columns, strict=True), strict=True):
        assert torch.equal(column, torch.cat([a, b]))
    assert torch.equal(whole.at(torch.tensor([4])).inputs.score, parts[1].inputs.score[1:])
