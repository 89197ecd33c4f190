"""The tracked prior against dense Gaussian algebra, in float64."""

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.closed_form.task_prior import Evidence, TaskPrior, Tracker, tracker

TASKS, WEIGHTS = 7, 3
SPREAD = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.8, -0.2], [0.0, -0.2, 0.5]], dtype=torch.float64)
HELD = 1e12  # tasks that the first spread and scale count for: so many that they stay


def normal(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def tasks(count: int, events: int, mean: Tensor, *, noise: float, seed: int) -> list:
    """(features [N, P], labels [N], precisions [N]) of tasks with weights around `mean` [P]."""
    root = torch.linalg.cholesky(SPREAD)
    found = []
    for task in range(count):
        x = normal(events + task % 3, WEIGHTS, seed=seed + 10 * task)
        certain = 0.5 + normal(len(x), seed=seed + 10 * task + 1).abs()
        weights = mean + root @ normal(WEIGHTS, seed=seed + 10 * task + 2)
        y = x @ weights + noise * normal(len(x), seed=seed + 10 * task + 3) / certain.sqrt()
        found.append((x, y, certain))
    return found


def evidence(given: list) -> Evidence:
    rows = [
        (x.T @ (d[:, None] * x), x.T @ (d * y), (d * y * y).sum(), torch.tensor(float(len(y))))
        for x, y, d in given
    ]
    return Evidence(*(torch.stack(column).double() for column in zip(*rows, strict=True)))


def one_by_one(state: Tracker, given: Evidence) -> Tracker:
    for task in range(len(given.events)):
        state = state.update(given.at(slice(task, task + 1)))
    return state


SOME = tasks(TASKS, 2, torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), noise=0.7, seed=0)


def joint_posterior(given: list, prior: TaskPrior, start: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (mean, w_1, .., w_T) given all labels, from one dense system."""
    size = WEIGHTS * (1 + len(given))
    precision, vector = torch.zeros(size, size).double(), torch.zeros(size).double()
    precision[:WEIGHTS, :WEIGHTS] = torch.linalg.inv(start)
    inverse = torch.linalg.inv(prior.spread)
    for task, (x, y, d) in enumerate(given, start=1):
        own = slice(WEIGHTS * task, WEIGHTS * (task + 1))
        precision[:WEIGHTS, :WEIGHTS] += inverse
        precision[own, own] += inverse + x.T @ (d[:, None] * x) / prior.scale
        precision[own, :WEIGHTS] -= inverse
        precision[:WEIGHTS, own] -= inverse
        vector[own] += x.T @ (d * y) / prior.scale
    cov = torch.linalg.inv(precision)
    return cov @ vector, cov


def test_the_mean_is_that_of_generalised_least_squares_on_all_tasks_task_by_task_or_at_once():
    """y_t ~ N(X_t m, X_t P X_t' + D_t^-1), m ~ N(0, P): the labels' own marginal, no posterior."""
    information, vector = torch.linalg.inv(SPREAD), torch.zeros(WEIGHTS).double()
    for x, y, d in SOME:
        inverse = torch.linalg.inv(x @ SPREAD @ x.T + torch.diag(1 / d))
        information = information + x.T @ inverse @ x
        vector = vector + x.T @ inverse @ y
    state = tracker(SPREAD, prior_tasks=HELD, forgetting=1.0)
    for found in (one_by_one(state, evidence(SOME)), state.update(evidence(SOME))):
        torch.testing.assert_close(found.prior.mean, torch.linalg.solve(information, vector))
        torch.testing.assert_close(found.prior.uncertainty, torch.linalg.inv(information))
        torch.testing.assert_close(found.prior.spread, SPREAD)


def test_one_update_by_all_tasks_is_one_step_of_em_on_the_dense_joint_posterior():
    state = tracker(SPREAD, prior_tasks=1e-9, forgetting=1.0)
    start = state.prior
    mean, cov = joint_posterior(SOME, start, SPREAD)
    spread, squares, events = torch.zeros(WEIGHTS, WEIGHTS).double(), 0.0, 0
    for task, (x, y, d) in enumerate(SOME, start=1):
        apart = torch.zeros(WEIGHTS, len(mean)).double()
        apart[:, :WEIGHTS] = -torch.eye(WEIGHTS)
        apart[:, WEIGHTS * task : WEIGHTS * (task + 1)] = torch.eye(WEIGHTS)
        spread += torch.outer(apart @ mean, apart @ mean) + apart @ cov @ apart.T
        own = slice(WEIGHTS * task, WEIGHTS * (task + 1))
        error = y - x @ mean[own]
        squares += (d * (error.square() + ((x @ cov[own, own]) * x).sum(1))).sum().item()
        events += len(y)
    found = state.update(evidence(SOME)).prior
    torch.testing.assert_close(found.mean, mean[:WEIGHTS])
    torch.testing.assert_close(found.uncertainty, cov[:WEIGHTS, :WEIGHTS])
    torch.testing.assert_close(found.spread, spread / TASKS)
    assert found.scale.item() == pytest.approx(squares / events)


def test_the_recursion_comes_to_what_repeated_em_on_all_tasks_comes_to():
    truth = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    given = evidence(tasks(800, 6, truth, noise=0.5, seed=1))
    wrong = 3.0 * torch.eye(WEIGHTS).double()
    batch = tracker(wrong, prior_tasks=1e-9, forgetting=1.0)
    for _ in range(40):
        again = tracker(wrong, prior_tasks=1e-9, forgetting=1.0)
        batch = again._replace(prior=batch.prior).update(given)
    online = one_by_one(tracker(wrong, prior_tasks=5.0, forgetting=1.0), given)
    torch.testing.assert_close(online.prior.mean, batch.prior.mean, atol=0.01, rtol=0)
    torch.testing.assert_close(online.prior.spread, batch.prior.spread, atol=0.05, rtol=0)
    assert online.prior.scale.item() == pytest.approx(batch.prior.scale.item(), rel=0.1)
    torch.testing.assert_close(batch.prior.mean, truth, atol=0.1, rtol=0)
    torch.testing.assert_close(batch.prior.spread, SPREAD, atol=0.1, rtol=0)
    assert batch.prior.scale.item() == pytest.approx(0.25, rel=0.05)


def test_forgetting_weighs_tasks_by_their_age_however_they_are_cut_into_blocks():
    state = tracker(SPREAD, prior_tasks=HELD, forgetting=0.8)
    given = evidence(SOME)
    blocks = state.update(given.at(slice(0, 3))).update(given.at(slice(3, 7)))
    single = one_by_one(state, given)
    torch.testing.assert_close(blocks.sums.information, single.sums.information)
    torch.testing.assert_close(blocks.prior.mean, single.prior.mean)
    weights = [0.8**age for age in range(6, -1, -1)]
    assert blocks.sums.tasks.item() == pytest.approx(sum(weights))
    each = [one_by_one(state, evidence([task])).sums.information for task in SOME]
    total = sum(weight * one for weight, one in zip(weights, each, strict=True))
    torch.testing.assert_close(blocks.sums.information, total)


def test_a_task_without_events_says_nothing():
    state = tracker(SPREAD, prior_tasks=2.0, forgetting=1.0)
    zero = torch.zeros(1).double()
    square, vector = torch.zeros(1, 3, 3).double(), torch.zeros(1, 3).double()
    found = state.update(Evidence(square, vector, zero, zero)).prior
    torch.testing.assert_close(found.mean, state.prior.mean)
    torch.testing.assert_close(found.spread, SPREAD)
    assert found.scale.item() == 1.0
