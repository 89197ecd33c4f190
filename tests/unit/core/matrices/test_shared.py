"""Products with shared matrices are plain products, whoever maps what."""

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.core.matrices.shared import shared_times, times_shared


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (2, None)])
def test_they_are_plain_products_under_vmap(dims: tuple[int | None, int | None]) -> None:
    left, right = rows(3, 2, 4), rows(3, 4, 5)
    if dims[0] is not None:
        left = rows(6, 3, 2, 4).movedim(0, dims[0])
    if dims[1] is not None:
        right = rows(6, 3, 4, 5).movedim(0, dims[1])
    whole = left if dims[0] is None else left.movedim(dims[0], 0)
    matrices = right if dims[1] is None else right.movedim(dims[1], 0)
    expected = whole @ matrices
    torch.testing.assert_close(vmap(times_shared, dims)(left, right), expected)
    turned = vmap(lambda x, m: shared_times(m.mT, x.mT), dims)(left, right)
    torch.testing.assert_close(turned, expected.mT)


def test_their_gradients_are_those_of_plain_products() -> None:
    own, matrices = rows(6, 3, 2, 4).requires_grad_(), rows(3, 4, 5)
    assert torch.autograd.gradcheck(lambda x: vmap(times_shared, (0, None))(x, matrices), own)
    assert torch.autograd.gradcheck(
        lambda x: vmap(lambda one: shared_times(matrices.mT, one.mT))(x), own
    )
    assert torch.autograd.gradgradcheck(lambda x: times_shared(x, matrices), own)
