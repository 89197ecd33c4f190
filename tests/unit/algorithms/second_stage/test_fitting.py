"""Fitting: the loss by hand, and a network that finds what was planted."""

import math

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.fitting import (
    Hyperparameters,
    LabelledShortlists,
    concatenated,
    fit_network,
    listwise_loss,
    ndcg_of,
)
from metarec_ray.algorithms.second_stage.ranking_net import (
    Inputs,
    initial_network,
    net_scores,
    scale_of,
    standardised,
)
from metarec_ray.core import metrics
from metarec_ray.core.batch import Params

ITEMS, FEATURES, SIZES = 20, 3, 2
QUICK = Hyperparameters(epochs=8, learning_rate=0.01, weight_decay=0.1, dropout=0.1)


def planted(lists: int, seed: int, *, items: int = ITEMS) -> LabelledShortlists:
    """Lists whose relevant items have a large second feature; the first stage knows a little."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(lists, items, FEATURES, generator=generator)
    real = torch.arange(items) < items - torch.randint(5, (lists, 1), generator=generator)
    noise = torch.randn(lists, items, generator=generator)
    value = (features[..., 1] + 0.3 * noise).masked_fill(~real, -torch.inf)
    relevant = torch.zeros(lists, items).bool().scatter(1, value.topk(3, 1).indices, True)
    score = (0.5 * relevant + torch.randn(lists, items, generator=generator)).clamp(max=3) - 3
    size = torch.randint(SIZES, (lists,), generator=generator)
    inputs = Inputs(features, score, real, size)
    return LabelledShortlists(inputs, relevant, torch.full((lists,), 3.0), torch.ones(lists))


def fitted(
    shortlists: LabelledShortlists, *, seed: int = 0, hyperparameters: Hyperparameters = QUICK
) -> Params:
    scale = scale_of(shortlists.inputs.features, shortlists.inputs.real)
    return fit_network(shortlists, scale, sizes=SIZES, hyperparameters=hyperparameters, seed=seed)


def quality(net: Params, shortlists: LabelledShortlists, like: LabelledShortlists) -> float:
    scale = scale_of(like.inputs.features, like.inputs.real)
    scores = net_scores(net, standardised(scale, shortlists.inputs), shortlists.inputs)[0]
    return float(ndcg_of(scores, shortlists, depth=10).mean())


def by_hand(scores: list[float], relevant: list[int], n_relevant: int) -> float:
    total = math.log(sum(math.exp(one) for one in scores))
    return sum(total - scores[place] for place in relevant) / n_relevant


def two_lists() -> LabelledShortlists:
    """Four and three real items; of three and one relevant ones two and one are listed."""
    real = torch.tensor([[True] * 4, [True] * 3 + [False]])
    relevant = torch.tensor([[True, False, True, False], [False, True, False, False]])
    inputs = Inputs(torch.zeros(2, 4, 1), torch.zeros(2, 4), real, torch.zeros(2).long())
    return LabelledShortlists(inputs, relevant, torch.tensor([3.0, 1.0]), torch.ones(2))


SCORES = [[0.5, -1.0, 2.0, 0.0], [1.0, 0.0, -2.0, 9.0]]


def test_the_loss_is_the_mean_negative_log_probability_of_relevant_items() -> None:
    found = listwise_loss(torch.tensor(SCORES), two_lists())
    right = [by_hand(SCORES[0], [0, 2], 3), by_hand(SCORES[1][:3], [1], 1)]
    assert found.tolist() == pytest.approx(right, rel=1e-5)
    several = listwise_loss(torch.tensor([SCORES, SCORES]), two_lists())
    torch.testing.assert_close(several, found.expand(2, -1))


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


def test_a_planted_feature_is_found_on_lists_that_were_not_seen() -> None:
    train, unseen = planted(600, 1), planted(200, 2)
    before = float(ndcg_of(unseen.inputs.score, unseen, depth=10).mean())
    found = quality(fitted(train), unseen, train)
    assert before < 0.55
    assert found > 0.85


def test_what_only_the_first_stage_knows_is_kept() -> None:
    train, unseen = planted(600, 3), planted(200, 4)
    features = torch.zeros_like(train.inputs.features)
    blind = train._replace(inputs=train.inputs._replace(features=features))
    asked = unseen._replace(
        inputs=unseen.inputs._replace(features=torch.zeros_like(unseen.inputs.features))
    )
    before = float(ndcg_of(asked.inputs.score, asked, depth=10).mean())
    assert quality(fitted(blind), asked, blind) == pytest.approx(before, abs=1e-6)


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before() -> None:
    train = planted(150, 5)
    one = fitted(train, seed=3)
    torch.rand(7)
    state = torch.get_rng_state()
    two = fitted(train, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    other = fitted(train, seed=4)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
        assert not value.requires_grad
    assert not torch.equal(one["linear"], other["linear"])


def test_lists_without_a_relevant_item_teach_nothing() -> None:
    train = planted(130, 6)
    empty = planted(70, 7)
    empty = empty._replace(relevant=torch.zeros_like(empty.relevant))
    scale = scale_of(train.inputs.features, train.inputs.real)
    nets = [
        fit_network(shortlists, scale, sizes=SIZES, hyperparameters=QUICK, seed=0)
        for shortlists in (train, concatenated([train, empty]))
    ]
    for name, value in nets[0].items():
        assert torch.equal(value, nets[1][name]), name


def test_nothing_to_learn_from_leaves_the_first_stage() -> None:
    empty = planted(5, 8)
    empty = empty._replace(relevant=torch.zeros_like(empty.relevant))
    right = initial_network(FEATURES, SIZES, torch.Generator().manual_seed(9))
    for shortlists in (empty, empty.at(torch.arange(0))):
        found = fitted(shortlists, seed=9)
        assert all(torch.equal(found[name], value) for name, value in right.items())


def test_one_list_is_enough_for_a_step() -> None:
    found = fitted(planted(1, 10), hyperparameters=QUICK._replace(epochs=1))
    assert all(bool(value.isfinite().all()) for value in found.values())


def test_a_task_without_weight_teaches_nothing() -> None:
    # Half of the lists say the opposite, and have no weight.
    train, unseen = planted(600, 11), planted(200, 12)
    opposite = train.at(torch.arange(300))
    features = -opposite.inputs.features
    opposite = opposite._replace(
        inputs=opposite.inputs._replace(features=features), weight=torch.zeros(300)
    )
    both = concatenated([opposite, train.at(torch.arange(300, 600))])
    assert quality(fitted(both), unseen, both) > 0.8


def quality_by_hand(order: list[bool], n_relevant: int, depth: int) -> float:
    gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(order[:depth]) if hit)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(n_relevant, depth)))


@pytest.mark.parametrize("depth", [1, 3, 10])
def test_quality_is_the_ndcg_where_every_item_is_listed(depth: int) -> None:
    shortlists = planted(40, 13)
    shortlists = shortlists._replace(
        inputs=shortlists.inputs._replace(real=torch.ones(40, ITEMS).bool())
    )
    scores = torch.randn(40, ITEMS)
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


def test_concatenated_lists_are_the_lists_one_after_another() -> None:
    parts = [planted(3, 14), planted(2, 15)]
    whole = concatenated(parts)
    columns: list[tuple[Tensor, ...]] = [(*one.inputs, *one[1:]) for one in parts]
    for column, (a, b) in zip((*whole.inputs, *whole[1:]), zip(*columns, strict=True), strict=True):
        assert torch.equal(column, torch.cat([a, b]))
    assert torch.equal(whole.at(torch.tensor([4])).inputs.score, parts[1].inputs.score[1:])
