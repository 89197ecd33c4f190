from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarec_ray.models import approximate_layers
from metarec_ray.models.approximate_layers import Layer, outputs, units

ITEMS, WIDTH = 700, 12


def layers(*sizes: int) -> list[Layer]:
    generator = torch.Generator().manual_seed(3)
    return [
        Layer(
            torch.randn(before, after, generator=generator) * before**-0.5,
            torch.randn(after, generator=generator) * 0.3,
        )
        for before, after in pairwise(sizes)
    ]


def plainly(products: Tensor, stack: list[Layer], bias: Tensor | None) -> Tensor:
    value = products if bias is None else torch.relu(products + bias)
    for weight, own in stack[:-1]:
        value = torch.relu(value @ weight + own)
    return (value @ stack[-1].weight + stack[-1].bias).squeeze(1)


def off(found: Tensor, expected: Tensor) -> float:
    """The largest difference from what is expected less a constant, in standard deviations."""
    error = found - expected
    return float((error - error.mean()).abs().max() / expected.std())


@pytest.fixture
def products() -> Tensor:
    return torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.mark.parametrize("sizes", [(12, 1), (12, 8, 1), (12, 8, 16, 1)])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("chunk", [2**20, 2 * WIDTH * 64])
def test_outputs_are_those_of_the_layers(
    products: Tensor,
    sizes: tuple[int, ...],
    biased: bool,
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(approximate_layers, "CHUNK_BYTES", chunk)
    stack = layers(*sizes)
    bias = torch.linspace(-2, 2, WIDTH) if biased else None
    expected = plainly(products, stack, bias)
    assert off(outputs(units(products, low=False), stack, bias=bias), expected) < 1e-5
    assert off(outputs(units(products, low=True), stack, bias=bias), expected) < 0.1


@pytest.mark.parametrize("low", [True, False])
def test_units_that_never_or_always_pass_a_relu_are_as_they_are(
    products: Tensor, low: bool
) -> None:
    stack = layers(12, 8, 1)
    bias = torch.cat([torch.full((6,), -1e3), torch.full((6,), 1e3)])
    expected = plainly(products, stack, bias)
    found = outputs(units(products, low=low), stack, bias=bias)
    assert off(found, expected) < 0.1


def test_what_all_items_share_costs_no_precision() -> None:
    products = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(1))
    stack, bias = layers(12, 1), torch.zeros(12)
    shift = 1e3 * torch.ones(WIDTH)
    expected = plainly(products, stack, bias)
    found = outputs(units(products + shift, low=True), stack, bias=bias - shift)
    assert off(found, expected) < 0.1
