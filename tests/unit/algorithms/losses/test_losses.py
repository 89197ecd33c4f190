"""What every member of the union of losses keeps to, and what single ones compute."""

from typing import get_args

import pytest
import torch
from torch.func import grad

from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss, Loss
from metarec_ray.algorithms.losses.choices import Softmax
from metarec_ray.algorithms.losses.labels import Huber
from metarec_ray.algorithms.losses.union import DEFAULTS, AnyLoss, loss_for
from metarec_ray.errors import ConfigError

LOSSES: list[Loss] = [kind() for kind in get_args(get_args(AnyLoss)[0])]
of_labels = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if isinstance(loss, LabelLoss)], ids=lambda loss: loss.name
)
of_choices = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if isinstance(loss, ChoiceLoss)], ids=lambda loss: loss.name
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@of_labels
def test_a_loss_of_labels_is_a_mean_over_the_mask(loss: LabelLoss) -> None:
    scores, label, mask = random(2, 4), torch.ones(2, 4).double(), torch.tensor([[1, 1, 0, 0]] * 2)
    both = loss.of_labels(scores, label, mask > 0)
    each = [loss.of_labels(scores[0, n : n + 1], label[0, :1], mask[0, :1] > 0) for n in (0, 1)]
    torch.testing.assert_close(both[0], torch.stack(each).mean())
    assert loss.of_labels(scores, label, torch.zeros(2, 4).bool()).tolist() == [0.0, 0.0]


@of_choices
def test_a_loss_of_choices_is_a_mean_over_the_mask(loss: ChoiceLoss) -> None:
    positives, others, log_weight = random(1, 3), random(1, 5, seed=1), random(1, 5, seed=2)
    mask = torch.tensor([[True, True, False]])
    both = loss.of_choices(positives, others, log_weight, mask)
    each = [
        loss.of_choices(positives[:, n : n + 1], others, log_weight, mask[:, :1]) for n in (0, 1)
    ]
    torch.testing.assert_close(both, torch.stack(each).mean(0))
    assert loss.of_choices(positives, others, log_weight, mask & False).tolist() == [0.0]


@of_choices
def test_among_a_whole_catalogue_every_other_item_that_can_be_chosen_competes(
    loss: ChoiceLoss,
) -> None:
    scores, item, mask = random(1, 6), torch.tensor([[4, 1]]), torch.ones(1, 2).bool()
    barred = torch.tensor([[0.0, 0, -torch.inf, 0, 0, 0]]).double()
    found = loss.of_catalogue(scores, item, barred, mask)
    torch.testing.assert_close(found, ChoiceLoss.of_catalogue(loss, scores, item, barred, mask))
    open_items = [[0, 1, 3, 5], [0, 3, 4, 5]]
    each = [
        loss.of_choices(scores[:, [i]], scores[:, rest], torch.zeros(1, 4), mask[:, :1])
        for i, rest in zip(item[0].tolist(), open_items, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(each).mean(0))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_derivatives_by_hand_are_those_of_autograd(loss: Loss) -> None:
    if not loss.has_derivatives:
        return
    n, others = 3, 4
    scores, change, weight = random(1, 1, n), random(1, 1, n, seed=1), random(1, n, seed=2).exp()
    if isinstance(loss, LabelLoss):
        label = torch.tensor([[1.0, 0.0, 1.0]]).double()
        by_hand = loss.derivatives(label, weight)

        def total(scores: torch.Tensor) -> torch.Tensor:
            each = loss.of_labels(scores.mT, label.unsqueeze(-1), torch.ones(1, n, 1).bool())
            return (each * weight).sum()
    else:
        assert isinstance(loss, ChoiceLoss)
        competes = torch.tensor([[[True, False, True, True]] * n])
        log_q = random(others, seed=3)
        by_hand = loss.derivatives(weight, competes, log_q)
        scores, change = random(1, 1, n + others), random(1, 1, n + others, seed=1)

        def total(scores: torch.Tensor) -> torch.Tensor:
            positives, rivals = scores[0, 0, :n], scores[0, 0, n:]
            mask = torch.ones(n, 1).bool()
            each = loss.of_choices(
                positives.unsqueeze(1), rivals, -log_q, mask, competes=competes[0].unsqueeze(1)
            )
            return (each * weight[0]).sum()

    torch.testing.assert_close(by_hand.grad(scores.clone()), grad(total)(scores))
    expected = grad(lambda at: (grad(total)(at) * change).sum())(scores)
    torch.testing.assert_close(by_hand.hvp(scores, change), expected)


def test_huber_is_quadratic_up_to_delta_and_linear_beyond() -> None:
    scores = torch.tensor([[1.0, 5.0]])
    label, mask = torch.tensor([[0.5, 1.0]]), torch.ones(1, 2).bool()
    found = Huber(delta=2.0).of_labels(scores, label, mask)
    assert found.tolist() == [pytest.approx((0.5 * 0.5**2 + 2 * (4 - 0.5 * 2)) / 2)]


def test_each_kind_of_feedback_has_a_loss_and_a_wrong_one_is_refused() -> None:
    assert all(feedback in loss.suits for feedback, loss in DEFAULTS.items())
    assert loss_for("explicit", Huber(delta=3.0)) == Huber(delta=3.0)
    with pytest.raises(
        ConfigError, match=r"train\.loss softmax learns from implicit feedback, got"
    ):
        loss_for("explicit", Softmax())
