"""The network: its formula, and that at first it changes nothing."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.rankers.inputs import standardised
from metarec_ray.algorithms.second_stage.rankers.networks import initial_network, net_scores
from metarec_ray.core.batch import Params
from tests.unit.algorithms.second_stage.rankers.lists import (
    FEATURES,
    ITEMS,
    LISTS,
    SIZES,
    inputs,
    scale,
)


def net(seed: int = 0) -> Params:
    """A network that says something at every place."""
    generator = torch.Generator().manual_seed(seed)
    found = initial_network(FEATURES, SIZES, generator)
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in found.items()
    }


def test_a_fresh_network_gives_the_scores_of_the_first_stage() -> None:
    asked = inputs()
    nothing = initial_network(FEATURES, SIZES, torch.Generator().manual_seed(7))
    found = net_scores(nothing, standardised(scale(), asked), asked)
    assert torch.equal(found, asked.score.unsqueeze(0))


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
