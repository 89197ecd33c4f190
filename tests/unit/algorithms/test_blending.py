"""Weights of what is added up to a ranking."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.blending import best_of, ranking_quality, select, sharpness, weights_row
from metarec_ray.errors import NotFinite


def closeness(scores: Tensor) -> Tensor:
    return -(scores - 1.0).square().mean(1)


def test_the_selection_finds_the_mix_that_no_member_is() -> None:
    parts = torch.stack([torch.zeros(3, 4), torch.full((3, 4), 4.0)])
    assert select(parts, closeness, rounds=20).tolist() == [0.75, 0.25]


def test_a_selection_that_only_gets_worse_keeps_its_best_round() -> None:
    parts = torch.stack([torch.ones(3, 4), torch.full((3, 4), 5.0)])
    assert select(parts, closeness, rounds=7).tolist() == [1.0, 0.0]


def test_sharpness_undoes_a_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 30, generator=generator)
    query = torch.multinomial(
        torch.softmax(4 * logits, 1), 8, replacement=True, generator=generator
    )
    every = torch.ones_like(logits, dtype=torch.bool)
    assert sharpness(logits, query, every) == pytest.approx(4.0, rel=0.5)
    assert sharpness(16 * logits, query, every) == pytest.approx(0.25, rel=0.5)
    # What is no candidate does not count, however sure a learner is of it.
    beside = torch.cat([logits, torch.full((200, 1), 50.0)], 1)
    candidates = torch.cat([every, torch.zeros(200, 1, dtype=torch.bool)], 1)
    assert sharpness(beside, query, candidates) == sharpness(logits, query, every)


def test_a_support_has_the_weights_of_the_largest_size_it_reaches() -> None:
    sizes = torch.tensor([1, 3, 10])
    events = torch.tensor([0, 1, 2, 3, 9, 10, 50])
    assert weights_row(events, sizes).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert weights_row(torch.tensor(4), sizes).item() == 1


def test_the_first_of_equally_good_values_is_chosen() -> None:
    assert best_of((0.0, 0.5, 1.0, 2.0), lambda value: torch.tensor([min(value, 1.0)])) == 1.0


def test_a_quality_is_the_same_in_every_call_though_all_scores_tie() -> None:
    scores, every = torch.zeros(3, 40), torch.ones(3, 40, dtype=torch.bool)
    gains = torch.eye(40)[:3]
    first = ranking_quality(scores, gains, candidates=every)
    assert torch.equal(first, ranking_quality(scores, gains, candidates=every))
    assert ranking_quality(gains, gains, candidates=every).tolist() == [1.0] * 3


def test_nothing_is_chosen_by_a_quality_that_is_no_number() -> None:
    silent = torch.full((3, 4), 1.0)
    silent[1, 2] = torch.nan
    with pytest.raises(NotFinite, match="must be finite, number 2 of 2 has nan"):
        select(torch.stack([torch.zeros(3, 4), silent]), closeness, rounds=7)
    with pytest.raises(NotFinite, match="must be finite, number 1 of 2 has inf"):
        best_of((0.0, 0.5), lambda value: torch.tensor([1.0 / value if value else torch.inf]))
