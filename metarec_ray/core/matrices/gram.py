"""Weighted Gram matrices plus a diagonal: the systems of regularised linear models.

Knows rows, weights and a diagonal, of which a primal or a dual system is made; no prior, no
likelihood. Axes: M rows of P numbers, leading axes `*T` of tasks, which may share their rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from metarec_ray.core.matrices.spd import factorise, lead, solve_factor


class Pairs(NamedTuple):
    """Products of all pairs of columns, of rows that many tasks share; each pair once."""

    product: Tensor  # [M, P (P + 1) / 2]
    place: Tensor  # int64 [P, P]: the column of `product` for two columns


def solve_gram(
    rows: Tensor,
    weight: Tensor,
    precision: Tensor,
    vector: Tensor,
    mixture: Tensor,
    *,
    centred: bool = False,
    pairs: Pairs | None = None,
) -> tuple[Tensor, Tensor]:
    """Return w and rows w: (diag(precision) + rows' diag(weight) rows) w = vector + rows' mixture.

    Factorises the smaller of the primal system, P x P, and the dual, M x M (Woodbury's identity).
    The gradient takes no square root of a weight, so it is exact at weight 0 too. Rounding errors
    grow with weight x rows^2 / precision: pass float64.

    Args:
        rows: [M, P], shared by all tasks, or [*T, M, P].
        weight: [*T, M], >= 0; 0 on padding.
        precision: [P] or [*T, P], > 0.
        vector: [P] or [*T, P].
        mixture: [*T, M].
        centred: whether the matrix is made of a task's rows less their weighted mean.
        pairs: of shared rows, from `pair_columns`, for callers that solve with them repeatedly.

    Returns:
        [*T, P] and [*T, M].

    """
    tasks = weight.shape[:-1]
    rows = rows if rows.dim() == 2 else rows.expand(*tasks, -1, -1)
    precision, vector = precision.expand(*tasks, -1), vector.expand(*tasks, -1)
    known = (rows.detach(), weight.detach(), precision.detach())
    system = _dual(*known, centred) if _is_dual(rows) else _primal(*known, centred, pairs)
    factor = factorise(system, torch.finfo(system.dtype).eps)
    parts = (rows, weight, precision, vector, mixture, factor, centred)
    # Requests need no gradient; calling a Function takes as long as solving theirs.
    return _Solution.apply(*parts) if torch.is_grad_enabled() else _Solution.forward(*parts)


def pair_columns(rows: Tensor, tasks: int) -> Pairs | None:
    """Return the pairs of `rows`, or None where `tasks` Gram matrices are cheaper without them."""
    width = rows.shape[-1]
    if rows.dim() > 2 or _is_dual(rows) or width + 1 >= 2 * tasks:
        return None
    i, j = torch.tril_indices(width, width, device=rows.device)
    place = torch.empty(width, width, dtype=torch.int64, device=rows.device)
    place[i, j] = place[j, i] = torch.arange(len(i), device=rows.device)
    columns = rows.detach().T.contiguous()
    return Pairs((columns[i] * columns[j]).T, place)


def times(rows: Tensor, vector: Tensor) -> Tensor:
    """Return `rows vector` [*T, M] of rows [M, P] or [*T, M, P] and vectors [*T, P]."""
    if rows.dim() == vector.dim() > 1:
        return vector @ rows.mT
    # A row times a transposed matrix: on a CPU several times as fast as a matrix times a column.
    return (vector.unsqueeze(-2) @ rows.mT).squeeze(-2)


def combine(weight: Tensor, rows: Tensor) -> Tensor:
    """Return `rows' weight` [*T, P], sums of rows [M, P] or [*T, M, P] by weights [*T, M]."""
    if rows.dim() == weight.dim() > 1:
        return weight @ rows
    return (weight.unsqueeze(-2) @ rows).squeeze(-2)


class _Solution(Function):
    """`solve_gram`, given the factor of either system.

    As a map of (vector, mixture) it is linear and its own adjoint: the VJP is one more solve.
    """

    @staticmethod
    def forward(rows, weight, precision, vector, mixture, factor, centred) -> tuple[Tensor, Tensor]:
        if not _is_dual(rows):
            solution = solve_factor(factor, vector + combine(mixture, rows))
            return solution, times(rows, solution)
        share = _shares(weight) if centred else None
        if share is not None:
            vector = vector + mixture.sum(-1, keepdim=True) * combine(share, rows)
        root, scaled = _roots(weight), vector / precision
        # The mixture enters the dual system directly: in a close fit, its part of the solution and
        # the vector's nearly cancel, and their difference would have few digits.
        inner = mixture / root - root * _deviations(times(rows, scaled), share)
        inner = root * solve_factor(factor, inner)
        if share is not None:
            inner = inner - share * inner.sum(-1, keepdim=True)
        solution = scaled + combine(inner, rows) / precision
        return solution, times(rows, solution)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        rows, weight, precision, _, mixture, factor, ctx.centred = inputs
        ctx.save_for_backward(rows, weight, precision, mixture, factor, *output)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, precision, mixture, factor, solution, fitted = ctx.saved_tensors
        solved = _Solution.apply(rows, weight, precision, *grads, factor, ctx.centred)
        grad_vector, grad_mixture = solved
        share = _shares(weight) if ctx.centred else None
        a, b = _deviations(grad_mixture, share), _deviations(fitted, share)
        # The gradient of the matrix is -grad_vector solution', and rows stand on both sides of it.
        left = torch.stack([weight * b - mixture, weight * a - grads[1]], -2)
        right = torch.stack([grad_vector, solution], -2)
        if rows.dim() == 2:
            left, right = left.flatten(0, -2), right.flatten(0, -2)
        elif rows.dim() == weight.dim():
            left, right = left.flatten(-3, -2), right.flatten(-3, -2)
        of_rows, of_precision = -left.mT @ right, -grad_vector * solution
        return of_rows, -a * b, of_precision, grad_vector, grad_mixture, None, None

    @staticmethod
    def vmap(info, in_dims, *parts) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        rows, *others, centred = parts
        each = zip(others, in_dims[1:-1], strict=True)
        given = [lead(part, dim, info.batch_size) for part, dim in each]
        mapped, weight = in_dims[0] is not None, given[0]
        if mapped and rows.dim() == weight.dim() > 2:  # all tasks of a model share its rows
            rows = rows.movedim(in_dims[0], 0)
        elif mapped or rows.dim() > 2:
            rows = lead(rows, in_dims[0], info.batch_size)
            between = (1,) * (weight.dim() + 1 - rows.dim())
            rows = rows.reshape(info.batch_size, *between, *rows.shape[1:])
            rows = rows.expand(*weight.shape, -1)
        return _Solution.apply(rows, *given, centred), (0, 0)


def _is_dual(rows: Tensor) -> bool:
    return rows.shape[-2] < rows.shape[-1]


def _shares(weight: Tensor) -> Tensor:
    return weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def _roots(weight: Tensor) -> Tensor:
    # Never 0: the mixture is divided by it.
    return weight.clamp(min=torch.finfo(weight.dtype).tiny ** 0.5).sqrt()


def _deviations(values: Tensor, share: Tensor | None) -> Tensor:
    return values if share is None else values - (share * values).sum(-1, keepdim=True)


def _primal(
    rows: Tensor, weight: Tensor, precision: Tensor, centred: bool, pairs: Pairs | None
) -> Tensor:
    if pairs is None:
        gram = rows.mT @ (rows * weight.unsqueeze(-1))
    else:
        gram = combine(weight, pairs.product)[..., pairs.place]
    if centred:
        mean = combine(_shares(weight), rows)
        total = weight.sum(-1, keepdim=True)
        gram = gram - (total * mean).unsqueeze(-1) * mean.unsqueeze(-2)
    return gram + torch.diag_embed(precision)


def _dual(rows: Tensor, weight: Tensor, precision: Tensor, centred: bool) -> Tensor:
    """Return 1 + root(weight) rows diag(precision)^-1 rows' root(weight)."""
    kernel = rows @ (rows / precision.unsqueeze(-2)).mT
    if centred:
        share = _shares(weight).unsqueeze(-2)
        kernel = _deviations(_deviations(kernel, share).mT, share)
    root = _roots(weight)
    one = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
    return torch.addcmul(one, root.unsqueeze(-1) * kernel, root.unsqueeze(-2))
