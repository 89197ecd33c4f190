import math

import pytest
import torch
from torch import Tensor

from metarec_ray.training.meta_step.optimizer import clip, moments, rate, step_dense

RATE, DECAY = 0.03, 0.1


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7])
def test_a_dense_step_is_torchs_adamw(scale: float) -> None:
    params = {"head.out.weight": random(4), "head.out.bias": random(3, seed=1)}
    theirs = {name: value.clone().requires_grad_() for name, value in params.items()}
    reference = torch.optim.AdamW(
        [
            {"params": [theirs["head.out.weight"]], "weight_decay": DECAY},
            {"params": [theirs["head.out.bias"]], "weight_decay": 0.0},
        ],
        lr=RATE,
    )
    state, decay = moments(params), {"head.out.weight": DECAY, "head.out.bias": 0.0}
    for step in range(25):
        gradient = {n: random(*p.shape, seed=step, scale=scale) for n, p in params.items()}
        step_dense(params, gradient, state, step=step, lr=RATE, decay=decay)
        for name, value in theirs.items():
            value.grad = gradient[name].clone()
        reference.step()
    for name, value in params.items():
        torch.testing.assert_close(value, theirs[name].detach(), rtol=0, atol=1e-6)


def test_the_first_step_moves_every_weight_by_the_rate_against_its_gradient() -> None:
    params = {"head.out.bias": torch.tensor([1.0, 1.0])}
    gradient = {"head.out.bias": torch.tensor([5.0, -0.2])}
    step_dense(params, gradient, moments(params), step=0, lr=RATE, decay={"head.out.bias": 0.0})
    torch.testing.assert_close(params["head.out.bias"], torch.tensor([1 - RATE, 1 + RATE]))


def test_clipping_scales_to_the_joint_norm() -> None:
    gradients = [torch.tensor([3.0]), torch.tensor([0.0, 4.0])]
    assert clip(gradients, 1.0) == 5.0
    torch.testing.assert_close(torch.cat(gradients), torch.tensor([3 / 5, 0, 4 / 5]))


def test_a_small_gradient_is_not_scaled() -> None:
    gradients = [torch.tensor([0.3, 0.4])]
    assert clip(gradients, 1.0) == pytest.approx(0.5)
    assert torch.equal(gradients[0], torch.tensor([0.3, 0.4]))


def test_the_cosine_warms_up_over_a_tenth_and_decays_towards_zero() -> None:
    rates = [rate(step, steps=100, peak=2.0, schedule="cosine") for step in range(100)]
    assert rates[0] == 2.0 * 1 / 10
    assert rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[99] < 0.01


def test_a_schedule_of_one_step_has_a_rate() -> None:
    assert rate(0, steps=1, peak=2.0, schedule="cosine") == 2.0
    assert rate(0, steps=1, peak=2.0, schedule="constant") == 2.0
