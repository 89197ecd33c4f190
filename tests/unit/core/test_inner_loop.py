import pytest
import torch
from torch import Tensor
from torch.func import grad

from metarec_ray.core.inner_loop import constant_rates, descend, trajectory

Params = dict[str, Tensor]

# The bowl 1/2 a (w - c)^2: one step of rate r maps w - c to (1 - r a)(w - c).
CURVATURE, CENTRE, START, RATE = 2.0, 3.0, 5.0, 0.1
SHRINK = 1 - RATE * CURVATURE


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def adapted(start: Tensor, centre: Tensor, *, steps: int, first_order: bool) -> Tensor:
    fast = descend(
        lambda weights: 0.5 * CURVATURE * (weights["w"] - centre) ** 2,
        {"w": start},
        {"w": number(RATE)},
        steps=steps,
        first_order=first_order,
    )
    return fast["w"]


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("first_order", [False, True])
def test_every_step_shrinks_the_distance_to_the_centre(steps: int, first_order: bool) -> None:
    found = adapted(number(START), number(CENTRE), steps=steps, first_order=first_order)
    expected = CENTRE + SHRINK**steps * (START - CENTRE)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_the_second_order_derivative_holds_the_curvature_of_every_step() -> None:
    def at(start: Tensor, centre: Tensor) -> Tensor:
        return adapted(start, centre, steps=3, first_order=False)

    of_start, of_centre = grad(at, argnums=(0, 1))(number(START), number(CENTRE))
    assert float(of_start) == pytest.approx(SHRINK**3, rel=1e-12)
    assert float(of_centre) == pytest.approx(1 - SHRINK**3, rel=1e-12)


def test_the_first_order_derivative_is_the_identity_and_forgets_slow_weights() -> None:
    def at(start: Tensor, centre: Tensor) -> Tensor:
        return adapted(start, centre, steps=3, first_order=True)

    of_start, of_centre = grad(at, argnums=(0, 1))(number(START), number(CENTRE))
    assert float(of_start) == 1.0
    assert float(of_centre) == 0.0


def test_a_rate_may_be_of_the_shape_of_its_weight() -> None:
    def loss(weights: Params) -> Tensor:
        return (weights["w"] ** 2).sum() + 3 * weights["b"]

    start = {"w": torch.tensor([1.0, 1.0]), "b": torch.tensor(0.0)}
    rates = {"w": torch.tensor([0.1, 0.25]), "b": torch.tensor(0.5)}
    found = descend(loss, start, rates, steps=1, first_order=False)
    torch.testing.assert_close(found["w"], torch.tensor([1 - 0.1 * 2, 1 - 0.25 * 2]))
    assert float(found["b"]) == -0.5 * 3


def test_constant_rates_have_the_dtype_of_their_weights() -> None:
    weights = {"a": torch.zeros(2, dtype=torch.float64), "b": torch.zeros(())}
    rates = constant_rates(weights, 0.25)
    assert {name: (float(rate), rate.dtype) for name, rate in rates.items()} == {
        "a": (0.25, torch.float64),
        "b": (0.25, torch.float32),
    }


def test_a_trajectory_holds_the_weights_after_every_step_at_its_own_rate() -> None:
    rates = (0.1, 0.3)
    path = trajectory(
        lambda weights: 0.5 * CURVATURE * (weights["w"] - CENTRE) ** 2,
        {"w": number(START)},
        [{"w": number(rate)} for rate in rates],
        first_order=False,
    )
    first = CENTRE + (1 - 0.1 * CURVATURE) * (START - CENTRE)
    second = CENTRE + (1 - 0.3 * CURVATURE) * (first - CENTRE)
    assert [float(fast["w"]) for fast in path] == pytest.approx([first, second], rel=1e-12)


def test_the_slope_of_a_rate_is_the_gradient_of_its_step_in_either_order() -> None:
    def after(rate: Tensor, first_order: bool) -> Tensor:
        return trajectory(
            lambda weights: 0.5 * CURVATURE * (weights["w"] - CENTRE) ** 2,
            {"w": number(START)},
            [{"w": rate}],
            first_order=first_order,
        )[-1]["w"]

    for first_order in (False, True):
        slope = grad(after)(number(RATE), first_order)
        assert float(slope) == pytest.approx(-CURVATURE * (START - CENTRE), rel=1e-12)
