"""What every member of the union of losses keeps to, and what single ones compute."""

from typing import get_args

import pytest
import torch
from torch.func import grad

from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss, Loss
from metarec_ray.algorithms.losses.choices import GeneralisedSoftmax, Softmax
from metarec_ray.algorithms.losses.labels import CrossEntropy, GeneralisedCrossEntropy, Huber
from metarec_ray.algorithms.losses.union import DEFAULTS, AnyLoss, loss_for
from metarec_ray.errors import ConfigError

LOSSES: list[Loss] = [
    *(kind() for kind in get_args(get_args(AnyLoss)[0])),
    CrossEntropy(smoothing=0.2),
    Softmax(smoothing=0.2),
    GeneralisedSoftmax(power=0.8),
]
of_labels = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if isinstance(loss, LabelLoss)], ids=repr
)
of_choices = pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if isinstance(loss, ChoiceLoss)], ids=repr
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


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
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


def test_smoothing_spreads_a_share_of_a_click_over_click_and_skip() -> None:
    scores, label = random(1, 2), torch.tensor([[1.0, 0.0]]).double()
    click, skip = torch.sigmoid(scores), torch.sigmoid(-scores)
    expected = -(0.9 * click.log() + 0.1 * skip.log())[0, 0]
    expected = (expected - (0.1 * click.log() + 0.9 * skip.log())[0, 1]) / 2
    found = CrossEntropy(smoothing=0.2).of_labels(scores, label, torch.ones(1, 2).bool())
    torch.testing.assert_close(found[0], expected)


def test_smoothing_spreads_a_share_of_a_choice_over_the_catalogue() -> None:
    """The cross-entropy from .9 on the positive and .1 on every item that can be chosen."""
    scores, item, mask = random(1, 6), torch.tensor([[4, 1]]), torch.ones(1, 2).bool()
    barred = torch.tensor([[0.0, 0, -torch.inf, 0, 0, 0]]).double()
    share = torch.log_softmax(scores + barred, -1)[0]
    spread = share[[0, 1, 3, 4, 5]].mean()
    expected = -torch.stack([0.9 * share[i] + 0.1 * spread for i in (4, 1)]).mean()
    found = Softmax(smoothing=0.1).of_catalogue(scores, item, barred, mask)
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("power", [0.3, 1.0])
def test_generalised_losses_are_a_power_of_the_probability(power: float) -> None:
    scores, mask = random(1, 2), torch.ones(1, 2).bool()
    right = torch.sigmoid(torch.stack([scores[0, 0], -scores[0, 1]]))
    expected = ((1 - right**power) / power).mean()
    label = torch.tensor([[1.0, 0.0]]).double()
    found = GeneralisedCrossEntropy(power=power).of_labels(scores, label, mask)
    torch.testing.assert_close(found[0], expected)
    others = random(1, 3, seed=1)
    chosen = torch.softmax(torch.cat([scores[:, :1], others], 1), -1)[0, 0]
    loss = GeneralisedSoftmax(power=power)
    found = loss.of_choices(scores[:, :1], others, torch.zeros(1, 3), mask[:, :1])
    torch.testing.assert_close(found[0], (1 - chosen**power) / power)


def test_a_label_that_a_model_is_sure_is_wrong_moves_it_hardly_at_all() -> None:
    scores, label, mask = torch.tensor([[6.0]]), torch.zeros(1, 1), torch.ones(1, 1).bool()

    def pull(loss: LabelLoss) -> float:
        return grad(lambda at: loss.of_labels(at, label, mask).sum())(scores).item()

    assert pull(CrossEntropy()) == pytest.approx(1, abs=0.01)
    assert pull(GeneralisedCrossEntropy(power=0.7)) < 0.02
    far = torch.tensor([[50.0]])
    assert grad(lambda at: Huber().of_labels(at, label, mask).sum())(far).item() == 1.0
