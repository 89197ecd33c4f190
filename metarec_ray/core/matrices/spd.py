"""Symmetric positive definite systems: Cholesky factors and differentiable solutions.

Knows matrices in batches, by leading axes `*T` or by vmap; no prior, no likelihood. A gradient is
one more solve with the same factor (the implicit function theorem), not backpropagation through the
factorisation, and can itself be differentiated. If rounding made a matrix indefinite, its diagonal
is raised, by the smallest of a few amounts that helps, and an `IllConditioned` warning says so.
"""

import inspect
import warnings

import torch
from torch import Tensor
from torch.autograd import Function

_RAISES = (16, 256, 4096)  # of a diagonal, tried in turn: relative to itself, in rounding errors
_LOST = 4  # rounding errors of its diagonal entry: a smaller pivot has no correct digit


class IllConditioned(RuntimeWarning):
    """Rounding made some systems indefinite; they were solved with a raised diagonal."""


def solve_spd(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return `matrix^-1 vector` [*T, P] for symmetric positive definite matrices [*T, P, P].

    Solves in float64 whatever the input; rounding errors are those of the matrix's own type. NaN
    where no raise made a matrix positive definite.
    """
    strict = matrix.double()
    factor = factorise(strict, torch.finfo(matrix.dtype).eps)
    return _Solution.apply(strict, vector.double(), factor).to(vector.dtype)


def factorise(matrix: Tensor, unit: float) -> Tensor:
    """Return the lower Cholesky factors of matrices [*T, M, M], which have no gradient.

    `unit` is the relative rounding error of the entries. On a GPU, this waits for the device.
    """
    return _Factor.apply(matrix.detach(), unit)


def solve_factor(factor: Tensor, vector: Tensor) -> Tensor:
    """Return the solution [*T, M] of systems with the Cholesky factors [*T, M, M]."""
    return torch.cholesky_solve(vector.unsqueeze(-1), factor).squeeze(-1)


def lead(part: Tensor, dim: int | None, size: int) -> Tensor:
    """Return an argument of a `vmap` rule with its mapped axis, of `size`, in front."""
    return part.expand(size, *part.shape) if dim is None else part.movedim(dim, 0)


class _Factor(Function):
    """A `Function`, so that under vmap it still sees which matrices failed."""

    @staticmethod
    def forward(*parts) -> Tensor:
        matrix, unit = parts
        factor, failed = _cholesky(matrix, unit)
        if failed.any():
            factor[failed] = _raised(matrix[failed], unit, failed.numel())
        return factor

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, *parts) -> tuple[Tensor, int]:
        matrix, unit = parts
        return _Factor.apply(lead(matrix, in_dims[0], info.batch_size), unit), 0


class _Solution(Function):
    """The solution for a matrix and a vector; the matrix's factor is given to save work."""

    @staticmethod
    def forward(matrix: Tensor, vector: Tensor, factor: Tensor) -> Tensor:
        return solve_factor(factor, vector)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        matrix, _, factor = inputs
        ctx.save_for_backward(matrix, factor, output)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        matrix, factor, solution = ctx.saved_tensors
        grad_vector = _Solution.apply(matrix, *grads, factor)
        return -grad_vector.unsqueeze(-1) * solution.unsqueeze(-2), grad_vector, None

    @staticmethod
    def vmap(info, in_dims, *parts: Tensor) -> tuple[Tensor, int]:
        each = zip(parts, in_dims, strict=True)
        return _Solution.apply(*(lead(part, dim, info.batch_size) for part, dim in each)), 0


def _cholesky(matrix: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    """Return the factors, and which of them failed: bool [*T]."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    pivot = factor.diagonal(dim1=-2, dim2=-1).square()
    lost = pivot <= _LOST * unit * matrix.diagonal(dim1=-2, dim2=-1)
    return factor, lost.any(-1) | (info != 0)


def _raised(matrix: Tensor, unit: float, total: int) -> Tensor:
    """Return the factors of matrices [F, M, M] with raised diagonals, NaN where no raise helped."""
    diagonal = torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
    factor = torch.full_like(matrix, torch.nan)
    failed = torch.ones(len(matrix), dtype=torch.bool, device=matrix.device)
    most = 0.0
    for units in _RAISES:
        again, still = _cholesky(matrix[failed] + units * unit * diagonal[failed], unit)
        factor[failed] = torch.where(still[:, None, None], torch.nan, again)
        most = most if still.all() else units * unit
        failed[failed.clone()] = still
        if not still.any():
            break
    if most:
        _report(len(matrix) - int(failed.sum()), total, matrix.shape[-1], most)
    return factor


def _report(raised: int, total: int, size: int, most: float) -> None:
    # The calling line outside torch and this package: Python shows a warning once for each line.
    frame, level = inspect.currentframe(), 1
    while frame and str(frame.f_globals.get("__name__")).startswith(("torch.", f"{__package__}.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{raised} of {total} systems of {size} equations were indefinite in rounding: their "
        f"diagonals were raised by up to {most:.1e} of themselves",
        IllConditioned,
        stacklevel=level,
    )
