import math

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.core.linear_head import (
    bernoulli_posterior,
    choice_posterior,
    gaussian_posterior,
    solve_spd,
)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def test_solving_is_the_inverse_of_multiplying() -> None:
    root = random(4, 4)
    matrix, vector = root @ root.T + torch.eye(4, dtype=torch.float64), numbers(1, 2, 3, 4)
    torch.testing.assert_close(solve_spd(matrix, matrix @ vector), vector)


def test_one_weight_is_a_precision_weighted_mean() -> None:
    x, residual, weight, precision = (2.0, -1.0), (3.0, 5.0), (0.5, 2.0), 4.0
    found = gaussian_posterior(
        numbers(*x).unsqueeze(1), numbers(*residual), numbers(*weight), numbers(precision)
    )
    moment = 0.5 * 2 * 3 + 2 * -1 * 5
    assert float(found) == pytest.approx(moment / (4 + 0.5 * 2**2 + 2 * 1), rel=1e-12)


def test_the_gaussian_posterior_is_ridge_regression() -> None:
    x, y, weight, precision = random(6, 3), random(6), random(6).abs(), numbers(0.5, 1, 2)
    root = torch.cat([torch.diag(precision.sqrt()), x * weight.sqrt().unsqueeze(1)])
    target = torch.cat([torch.zeros(3, dtype=torch.float64), y * weight.sqrt()])
    expected = torch.linalg.lstsq(root, target.unsqueeze(1)).solution.squeeze(1)
    torch.testing.assert_close(gaussian_posterior(x, y, weight, precision), expected)


def test_padding_with_weight_zero_counts_for_nothing() -> None:
    x, y, weight, precision = random(4, 2), random(4), numbers(1, 1, 0, 0), numbers(1, 1)
    torch.testing.assert_close(
        gaussian_posterior(x, y, weight, precision),
        gaussian_posterior(x[:2], y[:2], weight[:2], precision),
    )


def test_one_newton_step_on_one_click_by_hand() -> None:
    # At w = 0 with even odds: gradient -(1 - 1/2) x, curvature 1/4 x^2.
    found = bernoulli_posterior(
        numbers(2).unsqueeze(1), numbers(1), numbers(0), numbers(1), numbers(3), steps=1
    )
    assert float(found) == pytest.approx(0.5 * 2 / (3 + 0.25 * 2**2), rel=1e-12)


def test_newton_reaches_the_mode_of_clicks() -> None:
    x, label, prior = random(8, 3), (random(8) > 0).double(), random(8)
    weight, precision = numbers(*[1.0] * 7, 0.0), numbers(0.5, 1, 2)
    w = bernoulli_posterior(x, label, prior, weight, precision, steps=12)
    slope = precision * w - x.T @ (weight * (label - torch.sigmoid(prior + x @ w)))
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-10, rtol=0)


def test_one_newton_step_on_one_choice_by_hand() -> None:
    # Two reference items at +1 and -1, equally likely: mean 0, variance 1. Chosen: the one at +1.
    found = choice_posterior(
        numbers(1).unsqueeze(1),
        numbers(1),
        numbers(1, -1).unsqueeze(1),
        numbers(0, 0),
        numbers(3),
        steps=1,
    )
    assert float(found) == pytest.approx((1 - 0) / (3 + 1 * 1), rel=1e-12)


def test_newton_reaches_the_mode_of_choices() -> None:
    reference, logits, precision = random(9, 3), random(9), numbers(0.5, 1, 2)
    chosen, weight = reference[[1, 4]], numbers(1, 0.5)
    w = choice_posterior(chosen, weight, reference, logits, precision, steps=12)
    p = torch.softmax(logits + reference @ w, 0)
    slope = precision * w - (weight @ chosen - weight.sum() * (p @ reference))
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-10, rtol=0)


def test_sampling_correction_makes_a_doubled_item_count_once() -> None:
    reference, logits = numbers(1, -2, 0.5).unsqueeze(1), numbers(0.3, -0.1, 0)
    doubled = torch.cat([reference, reference[:1]])
    corrected = numbers(0.3 - math.log(2), -0.1, 0, 0.3 - math.log(2))
    one, other = (
        choice_posterior(numbers(1).unsqueeze(1), numbers(1), r, q, numbers(1), steps=3)
        for r, q in ((reference, logits), (doubled, corrected))
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_observed_leaves_the_prior(n: int) -> None:
    x, zeros, precision = random(n, 2), torch.zeros(n, dtype=torch.float64), numbers(1, 1)
    reference = (random(4, 2), random(4))
    for w in (
        gaussian_posterior(x, zeros + 9, zeros, precision),
        bernoulli_posterior(x, zeros, zeros, zeros, precision, steps=2),
        choice_posterior(x, zeros, *reference, precision, steps=2),
    ):
        assert w.tolist() == [0.0, 0.0]


def test_a_batch_of_tasks_is_a_loop_over_them() -> None:
    x, y, precision = random(5, 6, 3), random(5, 6), numbers(1, 2, 3)
    weight = torch.ones(5, 6, dtype=torch.float64)
    together = vmap(gaussian_posterior, in_dims=(0, 0, 0, None))(x, y, weight, precision)
    for task in range(5):
        alone = gaussian_posterior(x[task], y[task], weight[task], precision)
        torch.testing.assert_close(together[task], alone)
