"""Primal and dual systems against dense ones, built and differentiated term by term."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap

from metarec_ray.core.matrices.gram import combine, pair_columns, solve_gram, times

Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
SIZES = [(0, 3), (1, 1), (4, 4), (1, 6), (6, 1), (9, 20), (20, 9)]


def given(m: int, p: int, *tasks: int, shared: bool = False, zeros: float = 0.3) -> Given:
    """Return rows, weights of which a share is 0, precision, vector and mixture."""
    drawn = torch.Generator().manual_seed(100 * m + p)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=drawn)

    weight = normal(*tasks, m).abs() * (torch.rand((*tasks, m), generator=drawn) >= zeros)
    rows = normal(m, p) if shared else normal(*tasks, m, p)
    return rows, weight, normal(p).abs() + 0.2, normal(*tasks, p), normal(*tasks, m)


def dense(
    rows: Tensor,
    weight: Tensor,
    precision: Tensor,
    vector: Tensor,
    mixture: Tensor,
    *,
    centred: bool,
) -> tuple[Tensor, Tensor]:
    share = weight / weight.sum(-1, keepdim=True).clamp(min=1e-300)
    mean = (share.unsqueeze(-1) * rows).sum(-2, keepdim=True)
    apart = rows - mean if centred else rows
    gram = (weight[..., None, None] * apart.unsqueeze(-1) * apart.unsqueeze(-2)).sum(-3)
    right = vector + (mixture.unsqueeze(-1) * rows).sum(-2)
    solution = torch.linalg.solve(gram + torch.diag_embed(precision), right.unsqueeze(-1))
    return solution.squeeze(-1), (rows * solution.mT).sum(-1)


def gradients(solve: Callable[..., tuple[Tensor, Tensor]], parts: Given) -> tuple[Tensor, ...]:
    """Return the gradients of a sum in which every number of both results has its own weight."""
    inputs = [part.clone().requires_grad_() for part in parts]
    sums = [(out * torch.linspace(1, 2, out.shape[-1])).sum() for out in solve(*inputs)]
    return torch.autograd.grad(sums, inputs)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("m", "p"), SIZES)
def test_both_systems_are_the_dense_one(m: int, p: int, shared: bool, centred: bool) -> None:
    parts = given(m, p, 3, shared=shared)
    torch.testing.assert_close(solve_gram(*parts, centred=centred), dense(*parts, centred=centred))
    found = gradients(partial(solve_gram, centred=centred), parts)
    # A gradient by weights is finite, and no other, where these are 0.
    torch.testing.assert_close(found, gradients(partial(dense, centred=centred), parts))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("m", "p"), [(2, 3), (3, 2)])
def test_slopes_of_slopes_are_right(m: int, p: int, shared: bool, centred: bool) -> None:
    parts = [part.requires_grad_() for part in given(m, p, 2, shared=shared, zeros=0)]
    assert gradcheck(lambda *a: solve_gram(*a, centred=centred), parts)
    assert gradgradcheck(lambda *a: solve_gram(*a, centred=centred), parts)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("m", "p"), [(2, 5), (5, 2)])
def test_a_batch_by_vmap_is_a_batch_by_leading_axes_is_a_loop(m: int, p: int, shared: bool) -> None:
    rows, weight, precision, vector, mixture = given(m, p, 4, shared=shared)
    parts, every = (rows, weight, vector, mixture), (0, 1, 2, 3)

    def loss(rows: Tensor, weight: Tensor, vector: Tensor, mixture: Tensor) -> Tensor:
        solution, fitted = solve_gram(rows, weight, precision, vector, mixture, centred=True)
        return solution.square().sum() + fitted.sin().sum()

    def task(i: int) -> list[Tensor]:
        return [part if part is rows and shared else part[i] for part in parts]

    alone = [grad(loss, argnums=every)(*task(i)) for i in range(4)]
    looped = tuple(torch.stack(each) for each in zip(*alone, strict=True))
    dims = (None if shared else 0, 0, 0, 0)
    torch.testing.assert_close(vmap(grad(loss, argnums=every), in_dims=dims)(*parts), looped)
    if shared:
        looped = (looped[0].sum(0), *looped[1:])
    mapped = vmap(loss, in_dims=dims)
    over = grad(lambda a, b, c, d: mapped(a, b, c, d).sum(), argnums=every)(*parts)
    torch.testing.assert_close(over, looped)
    torch.testing.assert_close(grad(loss, argnums=every)(*parts), looped)
    with torch.no_grad():
        torch.testing.assert_close(mapped(*parts).sum(), loss(*parts))


@pytest.mark.parametrize("rows_mapped", [False, True])
def test_maps_nest_over_leading_axes(rows_mapped: bool) -> None:
    rows, weight, precision, vector, mixture = given(5, 2, 3, 4, shared=not rows_mapped)
    expected = dense(rows, weight, precision, vector, mixture, centred=False)
    outer = 0 if rows_mapped else None
    found = vmap(solve_gram, in_dims=(outer, 0, None, 0, 0))(
        rows, weight, precision, vector, mixture
    )
    torch.testing.assert_close(found, expected)
    # One axis of rows for two of weights.
    many = torch.stack([rows.flatten(0, -3)[0] if rows_mapped else rows] * 3)
    found = vmap(solve_gram, in_dims=(0, 0, None, 0, 0))(many, weight, precision, vector, mixture)
    expected = dense(many.unsqueeze(1), weight, precision, vector, mixture, centred=False)
    torch.testing.assert_close(found, expected)


def test_pairs_change_nothing() -> None:
    parts = given(9, 4, 6, shared=True)
    pairs = pair_columns(parts[0], 6)
    assert pairs is not None
    found = solve_gram(*parts, centred=True, pairs=pairs)
    torch.testing.assert_close(found, dense(*parts, centred=True))


@pytest.mark.parametrize(("m", "p", "tasks"), [(9, 4, 1), (3, 4, 99), (9, 4, 2)])
def test_pairs_are_taken_where_they_are_the_cheaper(m: int, p: int, tasks: int) -> None:
    # Half of P x P products a row, once, against P a row and task; a dual system has none.
    assert pair_columns(given(m, p, shared=True)[0], tasks) is None


def test_a_close_fit_keeps_its_digits() -> None:
    # A million million times more evidence than prior, on fewer rows than columns: the solution
    # is that of least norm, and its error not a million million units of rounding.
    rows, _, precision, vector, mixture = given(4, 9)
    weight, one = torch.full((4,), 1e12, dtype=torch.float64), torch.ones_like(precision)
    solution, _ = solve_gram(rows, weight, one, 0 * vector, weight * mixture)
    least = torch.linalg.pinv(rows) @ mixture
    torch.testing.assert_close(solution, least, rtol=1e-11, atol=0)


def test_products_with_rows_are_those_of_matrices() -> None:
    rows, weight, _, vector, _ = given(5, 3, 2)
    torch.testing.assert_close(times(rows, vector), torch.einsum("tmp,tp->tm", rows, vector))
    torch.testing.assert_close(combine(weight, rows), torch.einsum("tm,tmp->tp", weight, rows))
