"""Inputs of rankers: lists do not know of padding or of each other."""

import pytest
import torch

from metarec_ray.algorithms.second_stage.rankers.inputs import CLIP, Inputs, scale_of, standardised
from tests.unit.algorithms.second_stage.rankers.lists import FEATURES, ITEMS, LISTS, inputs, scale


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


@pytest.mark.parametrize("wrong", [1e6, -1e6])
def test_what_padding_holds_does_not_matter(wrong: float) -> None:
    asked = inputs()
    other = asked._replace(features=asked.features.masked_fill(~asked.real.unsqueeze(-1), wrong))
    plain = standardised(scale(), asked)
    assert torch.equal(standardised(scale(), other), plain)
    assert not plain[~asked.real].any()
