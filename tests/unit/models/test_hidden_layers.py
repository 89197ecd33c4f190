from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarec_ray.models import hidden_layers
from metarec_ray.models.head import Layer
from metarec_ray.models.hidden_layers import error_of, outputs

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


def plainly(value: Tensor, stack: list[Layer], last: Tensor) -> Tensor:
    value = value.double()
    for weight, bias in stack:
        value = torch.relu(value @ weight.double() + bias.double())
    return value @ last.double()


@pytest.mark.parametrize("sizes", [(12, 8), (12, 8, 16)])
@pytest.mark.parametrize("piece", [2**20, 4 * WIDTH * 64])
def test_outputs_are_those_of_the_layers_within_the_error(
    sizes: tuple[int, ...], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_layers, "PIECE_BYTES", piece)
    items = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(1)) * 30
    stack, last = layers(*sizes), torch.linspace(-2, 2, sizes[-1])
    expected = plainly(items, stack, last)
    error = error_of(stack, last, 0.0)
    most = error.slope * items.double().norm(dim=1) + error.constant
    (weight, bias), *above = stack
    for found in (outputs(items, stack, last), outputs(items @ weight, above, last, bias=bias)):
        assert bool(((found - expected).abs() <= most).all())
    assert float(most.max() / expected.std()) < 1e-3


def test_errors_grow_as_layers_lengthen_vectors() -> None:
    # One unit of weight 2 that reads 1 entry, times 3: terms of 2 |x| + 5 + 7, then of 3 times it.
    stack, last = [Layer(torch.tensor([[2.0]]), torch.tensor([5.0]))], torch.tensor([3.0])
    found = error_of(stack, last, 7.0)
    one = hidden_layers.rounding(1)
    assert found.slope == pytest.approx(3 * (2 * one + 2 * one), rel=1e-4)
    assert found.constant == pytest.approx(3 * (12 * one + 12 * one), rel=1e-4)
