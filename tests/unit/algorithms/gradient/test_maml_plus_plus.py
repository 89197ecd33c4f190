"""MAML++ on a model of one number.

The support loss is 1/2 (w - c)^2 and the query loss 1/2 (w' - y)^2: a step of rate r maps w - c to
(1 - r)(w - c).
"""

import pytest
import torch
from torch import Tensor
from torch.func import grad

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.gradient.maml import Fomaml, Maml
from metarec_ray.algorithms.gradient.maml_plus_plus import MamlPlusPlus
from metarec_ray.algorithms.losses.labels import SquaredError
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import values

START, C, Y = 2.0, 5.0, 4.0
RATES = (0.1, 0.4, 0.2)
WEIGHT = "head.out.bias"
NOTHING = Encoded(*[torch.ones(1)] * 10)  # one event, of which nothing is asked
LEARNER = MamlPlusPlus(prior_events=0.0, inner_steps=3, multi_step_share=0.2, first_order_share=0.4)


def predict(params: Params, asked: Encoded) -> Tensor:
    return params[WEIGHT]


def support_loss(params: Params, support: Encoded) -> Tensor:
    return 0.5 * (params[WEIGHT] - C) ** 2


def query_loss(score) -> Tensor:
    return 0.5 * (score(NOTHING) - Y) ** 2


def problem(progress: float | None) -> Problem:
    return Problem(
        "explicit",
        SquaredError(),
        predict,
        predict,
        support_loss,
        None,
        torch.zeros(0),
        progress,
    )


def parameters(learner, rates: tuple[float, ...] | None = None) -> Params:
    start = {WEIGHT: torch.tensor(START, dtype=torch.float64)}
    meta = start | values(learner.init(start, torch.Generator()))
    if rates is not None:
        meta["rates." + WEIGHT] = torch.tensor(rates, dtype=torch.float64)
    return meta


def objective(learner, meta: Params, progress: float | None) -> tuple[Tensor, Tensor]:
    return learner.objective(problem(progress), meta, NOTHING, NOTHING, query_loss)


def visited() -> list[float]:
    """Return w after each step."""
    found, w = [], START
    for rate in RATES:
        w = C + (1 - rate) * (w - C)
        found.append(w)
    return found


def test_every_step_has_its_own_rate() -> None:
    fast = LEARNER.adapt(problem(None), parameters(LEARNER, RATES), NOTHING)
    assert float(fast[WEIGHT]) == pytest.approx(visited()[-1], rel=1e-12)


def test_there_is_one_learned_rate_a_step_and_a_weight_tensor() -> None:
    params = {
        "head.0.item": torch.zeros(2, 3),
        WEIGHT: torch.zeros(()),
        "item.tokens": torch.ones(4),
    }
    learner = MamlPlusPlus(prior_events=0.0, inner_lr=0.3, inner_steps=2)
    rates = values(learner.init(params, torch.Generator()))
    assert {name: rate.tolist() for name, rate in rates.items()} == {
        "rates.head.0.item": [pytest.approx(0.3)] * 2,
        "rates." + WEIGHT: [pytest.approx(0.3)] * 2,
    }


@pytest.mark.parametrize(
    ("progress", "shares"),
    [
        (0.0, [1 / 3, 1 / 3, 1 / 3]),
        (0.1, [1 / 6, 1 / 6, 1 - 2 / 6]),
        (0.2, [0, 0, 1]),
        (0.9, [0, 0, 1]),
        (None, [0, 0, 1]),
    ],
)
def test_the_losses_of_early_steps_fade_as_training_goes_on(
    progress: float | None, shares: list[float]
) -> None:
    assert LEARNER.loss_shares(progress) == pytest.approx(shares, rel=1e-12)
    value, last = objective(LEARNER, parameters(LEARNER, RATES), progress)
    losses = [0.5 * (w - Y) ** 2 for w in visited()]
    expected = sum(share * loss for share, loss in zip(shares, losses, strict=True))
    assert float(value) == pytest.approx(expected, rel=1e-12)
    # What is reported is the loss after the last step, at any time.
    assert float(last) == pytest.approx(losses[-1], rel=1e-12)


def test_training_begins_with_first_order_gradients_and_ends_with_second_order_ones() -> None:
    same = {"inner_lr": 0.1, "inner_steps": 3}
    learner = MamlPlusPlus(prior_events=0.0, **same, multi_step_share=0.0, first_order_share=0.4)
    slope = {
        progress: float(
            grad(lambda m, p=progress: objective(learner, m, p)[0])(parameters(learner))[WEIGHT]
        )
        for progress in (0.0, 0.39, 0.4, None)
    }
    first, second = (
        float(grad(lambda m, o=other: objective(o, m, 0.0)[0])(parameters(other))[WEIGHT])
        for other in (Fomaml(prior_events=0.0, **same), Maml(prior_events=0.0, **same))
    )
    assert slope == {
        0.0: pytest.approx(first, rel=1e-6),
        0.39: pytest.approx(first, rel=1e-6),
        0.4: pytest.approx(second, rel=1e-6),
        None: pytest.approx(second, rel=1e-6),
    }
    assert second == pytest.approx(first * 0.9**3, rel=1e-6)


@pytest.mark.parametrize("progress", [0.05, 0.3, 0.6])
def test_the_meta_gradient_is_the_finite_difference_of_its_definition(progress: float) -> None:
    meta = parameters(LEARNER, RATES)
    gradient = grad(lambda m: objective(LEARNER, m, progress)[0])(meta)
    base_path = [START, *visited()]
    slopes = [w - C for w in base_path[:-1]]  # gradients of the inner steps, where they stand still

    def definition(params: Params) -> float:
        w, rates = params[WEIGHT], params["rates." + WEIGHT]
        total = 0.0
        for step, share in enumerate(LEARNER.loss_shares(progress)):
            slope = slopes[step] if progress < LEARNER.first_order_share else w - C
            w = w - rates[step] * slope
            total += share * float(0.5 * (w - Y) ** 2)
        return total

    for name, value in meta.items():
        for at in range(value.numel()):
            step = torch.zeros_like(value).flatten()
            step[at] = 1e-6
            step = step.view_as(value)
            up, down = (
                definition(meta | {name: value + step}),
                definition(meta | {name: value - step}),
            )
            found = float(gradient[name].flatten()[at])
            assert found == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-9), (name, at)


@pytest.mark.parametrize("wrong", [{"multi_step_share": -0.1}, {"first_order_share": 1.5}])
def test_shares_of_training_outside_0_to_1_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MamlPlusPlus.model_validate(wrong)
