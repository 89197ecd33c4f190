"""Tasks together against one at a time and against a textbook, in either precision.

Axes: T tasks of N padded observations, P features, R reference items.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.core.linear_head import (
    bernoulli_posterior,
    choice_posterior,
    gaussian_posterior,
    ridge,
)

TASKS = 3
STEPS = 2
# N and P: nothing observed, one feature, equal systems, the dual, the primal.
SIZES = [(0, 4), (7, 1), (6, 6), (21, 192), (90, 33)]
KINDS = ("gaussian", "ridge", "bernoulli", "choice", "choice among own references")
Posterior = Callable[..., Tensor]


class Drawn:
    """Tasks of ragged lengths with features of about `scale` and a prior of about `prior`."""

    def __init__(self, n: int, p: int, r: int, *, scale: float = 1.0, prior: float = 1.0) -> None:
        drawn = torch.Generator().manual_seed(1000 * n + p)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float32, generator=drawn)

        length = torch.randint(n + 1, (TASKS, 1), generator=drawn)
        self.features = scale * normal(TASKS, n, p)
        self.weight = (torch.rand(TASKS, n, generator=drawn) + 0.1) * (torch.arange(n) < length)
        self.residual, self.label = normal(TASKS, n), (normal(TASKS, n) > 0).float()
        self.precision = prior * (torch.rand(p, generator=drawn) + 0.5)
        self.penalty = torch.tensor(prior)
        self.reference, self.own = scale * normal(r, p), scale * normal(TASKS, r, p)
        self.logits = normal(TASKS, r)

    def call(
        self, kind: str, dtype: torch.dtype
    ) -> tuple[Posterior, list[Tensor], list[int | None]]:
        """Return a posterior, its arguments and which axis of each counts tasks."""
        events = [self.features, self.residual, self.weight]
        if kind == "gaussian":
            made = gaussian_posterior, [*events, self.precision], [0, 0, 0, None]
        elif kind == "ridge":
            made = ridge, [*events, self.penalty], [0, 0, 0, None]
        elif kind == "bernoulli":
            parts = [self.features, self.label, self.residual, self.weight, self.precision]
            made = partial(bernoulli_posterior, steps=STEPS), parts, [0, 0, 0, 0, None]
        else:
            own = kind != "choice"
            others = self.own if own else self.reference
            parts = [self.features, self.weight, others, self.logits, self.precision]
            axes = [0, 0, 0 if own else None, 0, None]
            made = partial(choice_posterior, steps=STEPS), parts, axes
        return made[0], [part.to(dtype) for part in made[1]], made[2]


def slopes(posterior: Posterior, parts: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the result and the gradients of a sum in which each number has its own weight."""
    inputs = [part.clone().requires_grad_() for part in parts]
    found = posterior(*inputs)
    total = (found * torch.linspace(1, 2, found.shape[-1])).sum() + found.square().sum()
    return found.detach(), *torch.autograd.grad(total, inputs)


def loop(posterior: Posterior, axes: list[int | None]) -> Posterior:
    def task(parts: tuple[Tensor, ...], t: int) -> Tensor:
        one = (part if axis is None else part[t] for part, axis in zip(parts, axes, strict=True))
        return posterior(*one)

    return lambda *parts: torch.stack([task(parts, t) for t in range(TASKS)])


@pytest.mark.parametrize(("n", "p"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_tasks_together_are_a_loop_over_them_and_a_map(kind: str, n: int, p: int) -> None:
    posterior, parts, axes = Drawn(n, p, 12).call(kind, torch.float64)
    looped = slopes(loop(posterior, axes), parts)
    torch.testing.assert_close(slopes(posterior, parts), looped)
    torch.testing.assert_close(slopes(vmap(posterior, in_dims=tuple(axes)), parts), looped)


def textbook(kind: str, *parts: Tensor) -> Tensor:
    """Return one task's posterior by dense systems, and all but the dense systems as derived."""
    if kind in ("gaussian", "ridge"):
        x, y, weight, prior = parts
        matrix = x.T @ torch.diag(weight) @ x + torch.diag(prior.expand(x.shape[1]))
        return torch.linalg.solve(matrix, x.T @ (weight * y))
    if kind == "bernoulli":
        rows, label, logits, weight, precision = parts
        rows = rows[weight > 0]
        label, logits, weight = (part[weight > 0] for part in (label, logits, weight))
        seen = rows.T @ (weight * label)
    else:
        x, weight, rows, logits, precision = parts
        seen, label = x.T @ weight, None
    return newton(rows, logits, weight, label, seen, precision)


def newton(rows, logits, weight, label, seen, precision) -> Tensor:
    def expect(logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expected counts of rows [M] and their covariance [M, M]."""
        if label is not None:
            p = torch.sigmoid(logits)
            return weight * p, torch.diag(weight * p * (1 - p))
        p = torch.softmax(logits, 0)
        return weight.sum() * p, weight.sum() * (torch.diag(p) - torch.outer(p, p))

    def safe(reach: Tensor) -> Tensor:
        reach = reach.clamp(min=torch.finfo(torch.float64).eps)
        return torch.log1p(reach) / reach

    w = torch.zeros_like(precision)
    for _ in range(STEPS):
        count, covariance = expect(logits)
        slope = seen - precision * w - rows.T @ count
        step = torch.linalg.solve(rows.T @ covariance @ rows + torch.diag(precision), slope)
        move = rows @ step
        ends = move if label is None else torch.cat([move, torch.zeros(1)])
        reach = ends.max() - ends.min()
        length = safe(reach)
        for _ in range(3):
            count, covariance = expect(logits + length * move)
            slope = seen - precision * (w + length * step) - rows.T @ count
            bend = precision @ step**2 + move @ covariance @ move
            more = (slope @ step) / bend.clamp(min=1e-300)
            length = length + more * safe(reach * more.abs())
        w, logits = w + length * step, logits + length * move
    return w


@pytest.mark.parametrize(("n", "p"), [(1, 1), (6, 6), (10, 32), (32, 10)])
@pytest.mark.parametrize("kind", KINDS)
def test_posteriors_and_slopes_are_the_textbooks(kind: str, n: int, p: int) -> None:
    posterior, parts, axes = Drawn(n, p, 12).call(kind, torch.float64)
    exact = slopes(loop(partial(textbook, kind), axes), parts)
    torch.testing.assert_close(slopes(posterior, parts), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n", "p"), [(1, 192), (10, 32), (33, 32), (90, 65)])
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_gives_what_double_precision_does(kind: str, n: int, p: int) -> None:
    for scale, prior in pairwise((0.3, 1.0, 3.0, 0.01, 0.3)):
        drawn = Drawn(n, p, 40, scale=scale, prior=prior)
        posterior, parts, axes = drawn.call(kind, torch.float32)
        found = slopes(posterior, parts)
        assert {part.dtype for part in found} == {torch.float32}
        parts = [part.double() for part in parts]
        exact = slopes(loop(partial(textbook, kind), axes), parts)
        for one, other in zip(found, exact, strict=True):
            assert float((one - other).norm()) <= 1e-5 * float(other.norm()), (scale, prior)


def test_a_weak_prior_on_more_features_than_references_is_exact_in_single_precision() -> None:
    drawn = Drawn(3, 32, 4, scale=5.0, prior=1e-4)
    posterior, parts, axes = drawn.call("choice", torch.float32)
    # The chosen items are references: nothing but differences of references is known.
    parts[0] = parts[2][[0, 2, 1]].expand(TASKS, 3, 32)
    exact = loop(partial(textbook, "choice"), axes)(*(part.double() for part in parts))
    found = posterior(*parts)
    assert float((found - exact).norm() / exact.norm()) < 1e-5


@pytest.mark.parametrize("p", [2, 9])
def test_a_softmax_weight_that_underflows_has_a_slope_of_zero(p: int) -> None:
    features, target, _, penalty = Drawn(4, p, 1).call("ridge", torch.float32)[1]
    logits = torch.tensor([0.0, 1.0, -200.0, -1e4]).requires_grad_()
    weight = torch.softmax(logits, 0)
    assert weight.tolist()[2:] == [0.0, 0.0]
    found = ridge(features, target, weight.expand(TASKS, 4), penalty)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert slope.isfinite().all()
    assert slope.tolist()[2:] == [0.0, 0.0]
    torch.testing.assert_close(
        found, ridge(features[:, :2], target[:, :2], weight[:2].expand(TASKS, 2), penalty)
    )
