"""What may be chosen in a query: one rule for the whole catalogue and for sampled negatives."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.losses.choices import Softmax
from metarec_ray.algorithms.problem import encoded_table
from metarec_ray.core.batch import Events, Features, Task
from metarec_ray.data.tasks.negatives import Negatives
from metarec_ray.training.meta_step.distillation import Teaching
from metarec_ray.training.meta_step.query_loss import choice_judge
from tests.unit.small_histories import histories_of

ITEMS, USER, NOW = 9, torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, 1, 1)
# Of the first task, 2 repeats the support and 5 comes twice; padding is item 0, which is no event.
SUPPORT, SUPPORT_MASK = torch.tensor([[1, 2, 1], [4, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
QUERY, QUERY_MASK = (
    torch.tensor([[2, 5, 3, 5], [6, 7, 8, 0]]),
    torch.tensor([[1] * 4, [1, 1, 1, 0]]),
)
SCORES = torch.randn(2, ITEMS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def events(item: Tensor, mask: Tensor) -> Events:
    nothing = torch.zeros(*item.shape, 0)
    context = Features(nothing.long(), nothing, nothing)
    return Events(item, torch.ones(item.shape).double(), mask.bool(), item, context)


def judged(
    negatives: Tensor, query: Tensor = QUERY, teaching: Teaching | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss [2], the metric [2], and the gradient of both losses by all scores."""
    scores = SCORES.clone().requires_grad_()
    asked = torch.cat([query, negatives], 1)
    answers = SCORES.flip(1) if not negatives.shape[1] else SCORES.flip(1).gather(1, asked)
    task = Task(
        support=events(SUPPORT, SUPPORT_MASK),
        query=events(query, QUERY_MASK),
        negatives=negatives,
        begins=torch.ones(2).bool(),
        answers=answers,
    )
    items = encoded_table(torch.arange(ITEMS), torch.zeros(ITEMS, 1), torch.zeros(ITEMS))
    log_q = -torch.log(torch.tensor(float(ITEMS), dtype=torch.float64)).expand(ITEMS)
    judge = choice_judge(Softmax(), items, task, USER, now=NOW, log_q=log_q, teaching=teaching)
    loss, measure = judge(lambda e: scores.gather(1, e.index.expand(2, -1)))
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    return loss.detach(), measure(), gradient


def everything() -> Tensor:
    return torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1)).expand(2, -1)


def unmet() -> Tensor:
    """Return each item that a user did not meet once, as the sampler draws them."""
    histories = histories_of([[1, 2, 1, 2, 5, 3, 5], [4, 6, 7, 8]], n_items=ITEMS)
    sampler = Negatives(histories, [np.arange(ITEMS)], "uniform")
    drawn = sampler.draw(np.arange(2), np.zeros(2, int), 200, np.random.default_rng(0))
    once = np.stack([np.unique(own) for own in drawn])
    assert once.tolist() == [[0, 4, 6, 7, 8], [0, 1, 2, 3, 5]]
    return torch.from_numpy(once)


def test_the_whole_catalogue_is_the_softmax_of_what_the_support_lacks() -> None:
    loss, _, gradient = judged(torch.zeros(2, 0).long())
    left = SCORES[0, [0, 3, 4, 5, 6, 7, 8]].logsumexp(0)
    positives = SCORES[0, [5, 3, 5]]  # not 2, which the support has
    torch.testing.assert_close(loss[0], (left - positives).mean())
    assert not gradient[0, [1, 2]].any()


@pytest.mark.parametrize("teaching", [None, Teaching(2.0, 3.0)])
@pytest.mark.parametrize("sampled", [everything, unmet])
def test_with_every_item_sampled_once_the_sampled_loss_is_the_full_one(
    sampled: Callable[[], Tensor], teaching: Teaching | None
) -> None:
    whole = judged(torch.zeros(2, 0).long(), teaching=teaching)
    for found, expected in zip(judged(sampled(), teaching=teaching), whole, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_teacher_speaks_of_what_may_be_chosen() -> None:
    catalogue = torch.zeros(2, 0).long()
    without, taught = judged(catalogue), judged(catalogue, teaching=Teaching(1.0))
    left = [0, 3, 4, 5, 6, 7, 8]
    said, own = SCORES.flip(1)[0, left].softmax(0), SCORES[0, left].log_softmax(0)
    torch.testing.assert_close(taught[0][0] - without[0][0], -(said * own).sum())
    torch.testing.assert_close(taught[1], without[1])
    assert not taught[2][0, [1, 2]].any()


def test_a_query_of_repeats_alone_teaches_nothing() -> None:
    query = torch.tensor([[1, 2, 2, 1], [4, 4, 4, 0]])
    for negatives in (unmet(), torch.tensor([[1, 2], [4, 4]]), torch.zeros(2, 0).long()):
        loss, metric, gradient = judged(negatives, query)
        assert (loss.tolist(), metric.tolist()) == ([0.0, 0.0], [0.0, 0.0])
        assert not gradient.any()
