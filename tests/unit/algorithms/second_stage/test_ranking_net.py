"""The network: at first it changes nothing; lists do not know of padding or of each other."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.ranking_net import (
    CLIP,
    Inputs,
    initial_network,
    net_scores,
    scale_of,
    standardised,
)
from metarec_ray.core.batch import Params

LISTS, ITEMS, FEATURES, SIZES = 6, 12, 5, 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs() -> Inputs:
    """Lists of 12, 11 ... 7 real items."""
    return Inputs(
        features=10 + 3 * drawn(LISTS, ITEMS, FEATURES),
        score=-drawn(LISTS, ITEMS, seed=1).abs(),
        real=torch.arange(ITEMS) < ITEMS - torch.arange(LISTS).unsqueeze(1),
        size=torch.arange(LISTS) % SIZES,
    )


def net(seed: int = 0) -> Params:
    """A network that says something at every place."""
    generator = torch.Generator().manual_seed(seed)
    found = initial_network(FEATURES, SIZES, generator)
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in found.items()
    }


def scale() -> Params:
    return scale_of(inputs().features, inputs().real)


def test_the_scale_is_that_of_real_items() -> None:
    asked = inputs()
    wrong = asked.features.masked_fill(~asked.real.unsqueeze(-1), float("nan"))
    rows = asked.features[asked.real]
    for features in (asked.features, wrong):
        found = scale_of(features, asked.real)
        torch.testing.assert_close(found["mean"], rows.mean(0))
        torch.testing.assert_close(found["std"], rows.std(0, correction=0))


def test_a_feature_that_never_changes_has_a_scale_to_divide_by() -> None:
    found = scale_of(torch.full((2, 3, 1), 4.0), torch.ones(2, 3, dtype=torch.bool))
    assert found["mean"].tolist() == [4]
    assert float(found["std"]) > 0
    assert bool(scale_of(torch.zeros(0, 3, 1), torch.zeros(0, 3).bool())["std"] > 0)


def test_a_fresh_network_gives_the_scores_of_the_first_stage() -> None:
    asked = inputs()
    nothing = initial_network(FEATURES, SIZES, torch.Generator().manual_seed(7))
    found = net_scores(nothing, standardised(scale(), asked), asked)
    assert torch.equal(found, asked.score.unsqueeze(0))


def test_inputs_are_standard_among_all_lists_and_within_each() -> None:
    asked = inputs()
    found = standardised(scale(), asked)
    assert found.shape == (LISTS, ITEMS, 2 * FEATURES)
    rows = found[asked.real][:, :FEATURES]
    torch.testing.assert_close(rows.mean(0), torch.zeros(FEATURES), rtol=0, atol=1e-5)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(FEATURES))
    for one, real in zip(found[..., FEATURES:], asked.real, strict=True):
        within = one[real]
        torch.testing.assert_close(within.mean(0), torch.zeros(FEATURES), rtol=0, atol=1e-5)
        torch.testing.assert_close(within.std(0, correction=0), torch.ones(FEATURES))


@pytest.mark.parametrize("wrong", [1e6, -1e6])
def test_what_padding_holds_does_not_matter(wrong: float) -> None:
    asked = inputs()
    other = asked._replace(
        features=asked.features.masked_fill(~asked.real.unsqueeze(-1), wrong),
        score=asked.score.masked_fill(~asked.real, 3.0),
    )
    plain = standardised(scale(), asked)
    assert torch.equal(standardised(scale(), other), plain)
    assert not plain[~asked.real].any()
    told = net_scores(net(), standardised(scale(), other), other)
    assert torch.equal(told[:, asked.real], net_scores(net(), plain, asked)[:, asked.real])


def test_more_padding_changes_nothing() -> None:
    asked = inputs()
    wider = Inputs(
        torch.cat([asked.features, torch.full((LISTS, 4, FEATURES), -8.0)], 1),
        torch.cat([asked.score, torch.zeros(LISTS, 4)], 1),
        torch.cat([asked.real, torch.zeros(LISTS, 4).bool()], 1),
        asked.size,
    )
    found = standardised(scale(), wider)
    torch.testing.assert_close(found[:, :ITEMS], standardised(scale(), asked))


def test_far_out_is_cut_and_alike_within_a_list_is_nobody_s_advantage() -> None:
    asked = inputs()
    asked.features[0, 3, 1] = 1e4
    asked.features[1, :, 2] = 17.0
    found = standardised(scale(), asked)
    assert float(found.abs().max()) == CLIP == float(found[0, 3, 1])
    assert bool(found[1, asked.real[1], 2].all())
    assert not found[1, :, FEATURES + 2].any()


def test_one_item_alone_does_not_stand_out() -> None:
    asked = inputs().at(torch.tensor([0]))
    alone = asked._replace(real=torch.arange(ITEMS)[None] < 1)
    found = standardised(scale(), alone)
    assert bool(found.isfinite().all())
    assert not found[..., FEATURES:].any()


def by_hand(one: Params, z: Tensor, score: Tensor, size: int) -> Tensor:
    """The score of an item, from its inputs [Z]."""
    w = {name: value[0] for name, value in one.items()}
    hidden = torch.nn.functional.relu(z @ w["hidden"] + w["hidden.size"][size])
    hidden = torch.nn.functional.relu(hidden @ w["second"] + w["second.bias"])
    linear = z @ (w["linear"] + w["linear.size"][size])
    return w["first_stage_weight"][size] * score + linear + hidden @ w["out"]


def test_scores_are_the_formula_for_each_item() -> None:
    asked = inputs()
    z = standardised(scale(), asked)
    found = net_scores(net(), z, asked)[0]
    for group in range(LISTS):
        size = int(asked.size[group])
        for place in range(ITEMS):
            right = by_hand(net(), z[group, place], asked.score[group, place], size)
            torch.testing.assert_close(found[group, place], right, rtol=1e-4, atol=1e-4)


def test_networks_side_by_side_are_a_loop_over_them() -> None:
    asked, nets = inputs(), [net(seed) for seed in range(4)]
    z = standardised(scale(), asked)
    together = net_scores({n: torch.cat([one[n] for one in nets]) for n in nets[0]}, z, asked)
    assert together.shape == (4, LISTS, ITEMS)
    for row, one in enumerate(nets):
        torch.testing.assert_close(
            together[row], net_scores(one, z, asked)[0], rtol=1e-4, atol=1e-4
        )


def test_units_are_left_out_in_training_only() -> None:
    asked = inputs()
    z = standardised(scale(), asked)
    whole = net_scores(net(), z, asked)
    assert torch.equal(whole, net_scores(net(), z, asked))
    assert not torch.equal(whole, net_scores(net(), z, asked, dropped=0.5))
