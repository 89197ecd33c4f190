import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarec_ray.core.linear_head import bernoulli_posterior, choice_posterior, gaussian_posterior

TASKS = 8  # of the likelihoods that are drawn
Posterior = Callable[[int], Tensor]
Objective = Callable[[Tensor], Tensor]
Made = tuple[Posterior, Objective]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


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


def test_the_first_step_of_a_click_goes_along_newtons_by_hand() -> None:
    # At w = 0 with even odds: gradient 1/2 x, curvature diag(precision) + 1/4 x x'.
    x, precision = numbers(2, -1), numbers(3, 1)
    curvature = torch.diag(precision) + 0.25 * torch.outer(x, x)
    newton = torch.linalg.solve(curvature, 0.5 * x)
    w = bernoulli_posterior(x.unsqueeze(0), numbers(1), numbers(0), numbers(1), precision, steps=1)
    torch.testing.assert_close(w / w.norm(), newton / newton.norm(), rtol=1e-12, atol=0)


def test_a_step_ends_where_its_line_is_highest() -> None:
    # One weight has one line, so that one step ends at the mode: precision w = x (label - p).
    w = float(bernoulli_posterior(numbers(2).unsqueeze(1), *map(numbers, (1, 0, 1, 3)), steps=1))
    assert 3 * w == pytest.approx(2 / (1 + math.exp(2 * w)), rel=1e-5)
    # Reference items at +1 and -1: the mean is tanh w. Chosen: the one at +1.
    both, even = numbers(1, -1).unsqueeze(1), numbers(0, 0)
    w = float(choice_posterior(both[:1], numbers(1), both, even, numbers(3), steps=1))
    assert 3 * w == pytest.approx(1 - math.tanh(w), rel=1e-5)


def test_newton_reaches_the_mode_of_clicks() -> None:
    x, label, prior = random(8, 3), (random(8) > 0).double(), random(8)
    weight, precision = numbers(*[1.0] * 7, 0.0), numbers(0.5, 1, 2)
    w = bernoulli_posterior(x, label, prior, weight, precision, steps=12)
    gradient = precision * w - x.T @ (weight * (label - torch.sigmoid(prior + x @ w)))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


def test_the_first_step_of_a_choice_goes_along_newtons_by_hand() -> None:
    # Two reference items, equally likely: their mean and covariance are those of a coin.
    reference, precision = torch.stack([numbers(1, 2), numbers(-1, 0)]), numbers(3, 1)
    mean, half = numbers(0, 1), numbers(1, 1)
    curvature = torch.diag(precision) + torch.outer(half, half)
    newton = torch.linalg.solve(curvature, reference[0] - mean)
    w = choice_posterior(reference[:1], numbers(1), reference, numbers(0, 0), precision, steps=1)
    torch.testing.assert_close(w / w.norm(), newton / newton.norm(), rtol=1e-12, atol=0)


def test_newton_reaches_the_mode_of_choices() -> None:
    reference, logits, precision = random(9, 3), random(9), numbers(0.5, 1, 2)
    chosen, weight = reference[[1, 4]], numbers(1, 0.5)
    w = choice_posterior(chosen, weight, reference, logits, precision, steps=12)
    p = torch.softmax(logits + reference @ w, 0)
    gradient = precision * w - (weight @ chosen - weight.sum() * (p @ reference))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-10, rtol=0)


def clicks(norm: float) -> Made:
    """Return clicks on features of one norm: `steps -> w`, and the log-posterior of w."""
    x, prior, weight, precision = drawn(lambda g: [feature_rows(6, norm, g), *uniform(g, 6, 6, 3)])
    label, prior = (torch.arange(6) % 2).double().expand(TASKS, 6), 6 * prior - 3

    def objective(w: Tensor) -> Tensor:
        odds = (2 * label - 1) * (prior + times(x, w))
        likelihood = (weight * torch.nn.functional.logsigmoid(odds)).sum(-1)
        return likelihood - 0.5 * (precision * w * w).sum(-1)

    return lambda n: bernoulli_posterior(x, label, prior, weight, precision, steps=n), objective


def choices(norm: float) -> Made:
    """Return the same of three choices among twelve."""
    reference, weight, logits, precision, chosen = drawn(
        lambda g: [feature_rows(12, norm, g), *uniform(g, 3, 12, 3), feature_rows(3, norm, g)]
    )
    logits = 6 * logits - 3

    def objective(w: Tensor) -> Tensor:
        total = torch.logsumexp(logits + times(reference, w), -1, keepdim=True)
        likelihood = (weight * (times(chosen, w) - total)).sum(-1)
        return likelihood - 0.5 * (precision * w * w).sum(-1)

    return lambda n: choice_posterior(
        chosen, weight, reference, logits, precision, steps=n
    ), objective


def drawn(draw: Callable[[torch.Generator], list[Tensor]]) -> list[Tensor]:
    """Return what is drawn for each task, stacked."""
    each = [draw(torch.Generator().manual_seed(seed)) for seed in range(TASKS)]
    return [torch.stack(parts) for parts in zip(*each, strict=True)]


def times(rows: Tensor, w: Tensor) -> Tensor:
    return (rows @ w.unsqueeze(-1)).squeeze(-1)


def feature_rows(n: int, norm: float, drawn: torch.Generator) -> Tensor:
    rows = torch.randn(n, 3, dtype=torch.float64, generator=drawn)
    return norm * rows / rows.norm(dim=1, keepdim=True)


def uniform(drawn: torch.Generator, *sizes: int) -> list[Tensor]:
    return [torch.rand(n, dtype=torch.float64, generator=drawn) + 0.2 for n in sizes]


@pytest.mark.parametrize("norm", [0.1, 1, 3, 6, 30, 300])
@pytest.mark.parametrize("kind", [clicks, choices])
def test_no_step_lowers_the_posterior(kind: Callable[[float], Made], norm: float) -> None:
    posterior, objective = kind(norm)
    values = [objective(posterior(steps)) for steps in (0, 1, 2, 3, 5)]
    assert all((after >= before - 1e-9).all() for before, after in pairwise(values)), values


@pytest.mark.parametrize("norm", [0.1, 1, 3, 6, 30])
@pytest.mark.parametrize("kind", [clicks, choices])
def test_enough_steps_reach_the_mode(kind: Callable[[float], Made], norm: float) -> None:
    posterior, objective = kind(norm)
    mode = posterior(60)
    for way in torch.cat([torch.eye(3), -torch.eye(3)]).double() * 1e-3 / norm:
        assert (objective(mode) >= objective(mode + way) - 1e-9).all()


def test_two_steps_know_the_sign_of_a_surprising_click() -> None:
    # Log-odds 3 before a click that did not come, a feature of norm 3: whole steps go to -3.1 and
    # then +1.06; with w = -(3 - z) / 3 the mode is where z = 3 - 9 sigmoid(z).
    found = bernoulli_posterior(numbers(3).unsqueeze(1), *map(numbers, (0, 3, 1, 1)), steps=2)
    z = 3 + 3 * float(found)
    assert z == pytest.approx(3 - 9 / (1 + math.exp(-z)), abs=0.05)
    assert z < 0


@pytest.mark.parametrize("norm", [0.5, 1, 2])
@pytest.mark.parametrize("kind", [clicks, choices])
def test_two_steps_end_no_lower_than_whole_ones(kind: Callable[[float], Made], norm: float) -> None:
    posterior, objective = kind(norm)
    whole = torch.zeros(TASKS, 3, dtype=torch.float64)
    for _ in range(2):
        # Whole Newton steps by differences, from the objective alone.
        whole = whole + newton_step(objective, whole)
    assert (objective(posterior(2)) >= objective(whole) - 1e-4).all()


def newton_step(objective: Objective, w: Tensor) -> Tensor:
    step, ways = 1e-4, torch.eye(w.shape[-1], dtype=torch.float64)

    def at(*moves: Tensor) -> Tensor:
        return objective(w + step * torch.stack(moves).sum(0))

    gradient = torch.stack([(at(a) - at(-a)) / (2 * step) for a in ways], -1)
    bends = [at(a, b) - at(a, -b) - at(-a, b) + at(-a, -b) for a in ways for b in ways]
    bend = torch.stack(bends, -1).unflatten(-1, (len(ways), len(ways)))
    return torch.linalg.solve(-bend / (4 * step**2), gradient)


def test_a_weak_prior_on_many_features_is_solved_in_single_precision() -> None:
    drawn = torch.Generator().manual_seed(0)
    for scale in (1.0, 5.0, 20.0):
        x, y = torch.randn(5, 64, generator=drawn) * scale, torch.randn(5, generator=drawn)
        weight, precision = torch.full((5,), 100.0), torch.full((64,), 1e-4)
        w = gaussian_posterior(x, y, weight, precision)
        exact = gaussian_posterior(*(part.double() for part in (x, y, weight, precision)))
        assert torch.allclose(x @ w, (x.double() @ exact).float(), atol=0.02)


def test_features_far_from_zero_keep_the_digits_of_their_spread() -> None:
    # The same choice among items that lie close to each other and far from zero.
    near, precision = torch.tensor([[0.5], [-0.5], [0.25]]), torch.tensor([0.01])
    weight, even = torch.tensor([1.0]), torch.zeros(3)
    w = choice_posterior(near[:1], weight, near, even, precision, steps=5)
    far = choice_posterior(near[:1] + 4096, weight, near + 4096, even, precision, steps=5)
    assert float(far) == pytest.approx(float(w), rel=1e-3)


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
