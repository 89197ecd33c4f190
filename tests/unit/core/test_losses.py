import math

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metarec_ray.core.losses import (
    choosable,
    cross_entropy,
    full_softmax,
    masked_mean,
    softmax,
    squared_error,
)

YES, NO = [True, True, False], [False, False, False]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_masked_mean_counts_real_entries_only() -> None:
    assert float(masked_mean(numbers(1, 4, 100), torch.tensor(YES))) == (1 + 4) / 2
    assert float(masked_mean(numbers(1, 4, 100), torch.tensor(NO))) == 0.0


def test_squared_error_is_the_mean_square_of_the_differences() -> None:
    found = squared_error(numbers(1, 5, 9), numbers(3, 4, 0), torch.tensor(YES))
    assert float(found) == ((1 - 3) ** 2 + (5 - 4) ** 2) / 2


def test_cross_entropy_is_the_mean_surprise_at_the_labels() -> None:
    found = cross_entropy(numbers(math.log(3), 0, 7), numbers(1, 0, 0), torch.tensor(YES))
    # log-odds log 3 are 3/4, and 0 is 1/2.
    assert float(found) == pytest.approx((-math.log(3 / 4) - math.log(1 / 2)) / 2, rel=1e-12)


def test_softmax_adds_each_positive_to_its_competitors() -> None:
    positives, others = numbers(math.log(2), math.log(5), 9), numbers(math.log(1), math.log(3))
    found = softmax(positives, others, torch.tensor(YES))
    expected = -(math.log(2 / (2 + 1 + 3)) + math.log(5 / (5 + 1 + 3))) / 2
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_a_positive_does_not_compete_with_itself() -> None:
    positives, others = numbers(math.log(2), math.log(5), 9), torch.log(numbers(1, 3, 7))
    competes = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    found = softmax(positives, others, torch.tensor(YES), competes=competes)
    expected = -(math.log(2 / (2 + 1 + 3)) + math.log(5 / (5 + 3))) / 2
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("score", [-700.0, 0.0, 700.0])
def test_a_positive_that_nothing_competes_with_has_loss_and_gradient_zero(score: float) -> None:
    def loss(scores: Tensor) -> Tensor:
        alone = torch.zeros(1, 2, dtype=torch.bool)
        return softmax(scores[:1], scores[1:], torch.tensor([True]), competes=alone)

    # Both others are the positive itself, drawn with log-probability -1.
    scores = numbers(score, score + 1, score + 1)
    assert float(loss(scores)) == pytest.approx(0, abs=1e-300)
    assert grad(loss)(scores).tolist() == pytest.approx([0, 0, 0], abs=1e-300)


def test_softmax_without_competitors_is_zero_and_has_no_gradient() -> None:
    def loss(positives: Tensor) -> Tensor:
        return softmax(positives, numbers(), torch.tensor(YES))

    assert float(loss(numbers(1, 2, 3))) == 0.0
    assert grad(loss)(numbers(1, 2, 3)).tolist() == [0.0, 0.0, 0.0]


def chosen(scores: Tensor, item: Tensor, excluded: Tensor, mask: Tensor) -> Tensor:
    return full_softmax(scores, item, *choosable(excluded, item, mask))


def test_full_softmax_leaves_the_support_out_of_the_sum() -> None:
    scores = torch.log(numbers(1, 2, 3, 94))
    excluded = torch.tensor([False, False, False, True])
    item, mask = torch.tensor([2, 0, 3]), torch.tensor(YES)
    found = chosen(scores, item, excluded, mask)
    assert float(found) == pytest.approx(-(math.log(3 / 6) + math.log(1 / 6)) / 2, rel=1e-12)


def test_a_positive_that_the_support_already_holds_does_not_count() -> None:
    scores = torch.log(numbers(1, 2, 3, 94))
    excluded = torch.tensor([False, False, False, True])
    repeated = chosen(scores, torch.tensor([2, 3]), excluded, torch.tensor([True, True]))
    assert float(repeated) == pytest.approx(-math.log(3 / 6), rel=1e-12)


def test_where_nothing_is_left_to_choose_the_loss_and_its_gradient_are_zero() -> None:
    def loss(scores: Tensor) -> Tensor:
        everything = torch.tensor([True, True, True])
        return chosen(scores, torch.tensor([0, 2]), everything, torch.tensor([True, True]))

    assert float(loss(numbers(1, -2, 3))) == 0.0
    assert grad(loss)(numbers(1, -2, 3)).tolist() == [0.0, 0.0, 0.0]


def test_an_empty_set_has_loss_and_gradient_zero() -> None:
    label, mask = numbers(1, 0, 1), torch.tensor(NO)
    excluded = torch.tensor([True, False, False])
    for loss in (
        lambda scores: squared_error(scores, label, mask),
        lambda scores: cross_entropy(scores, label, mask),
        lambda scores: softmax(scores, numbers(1, 2), mask),
        lambda scores: chosen(scores, torch.tensor([0, 0, 0]), excluded, mask),
    ):
        assert float(loss(numbers(1, -2, 3))) == 0.0
        assert grad(loss)(numbers(1, -2, 3)).tolist() == [0.0, 0.0, 0.0]
