"""Regularised least squares for one row of a matrix, and for all rows at once.

Knows one side of a factorization while the other is fixed; does not know what values mean. A new
row is solved by the same function as a training row: folding in is one more row.

Axes: R rows, C columns, L entries of a padded row, P dimensions.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from metarec_ray.algorithms.base import Fitting
from metarec_ray.core.matrices.spd import solve_spd

# Limits of a block, which is solved at once and sent to a worker.
_ENTRIES = 131_072
_ROWS = 512


class Block(NamedTuple):
    """Some rows of a sparse matrix, padded to one length."""

    row: Tensor  # int64 [B]
    column: Tensor  # int64 [B, L]
    value: Tensor  # float [B, L]
    mask: Tensor  # bool [B, L]


class System(NamedTuple):
    """What all rows of one side share. The model is value ~ design[column] . w + offset[column].

    To the squared errors of a row with n entries are added w' base w, for the columns it does not
    have, and `penalty * (n + extra) ** exponent` times each squared weight.
    """

    design: Tensor  # float [C, P]
    offset: Tensor  # float [C]
    base: Tensor  # float [P, P]
    penalty: Tensor  # float [P]
    extra: float
    exponent: float


def solve_row(system: System, column: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return the weights [P] of one row with entries [L]; 0 for a row without any."""
    kept = mask.to(system.design.dtype)
    design = system.design[column] * kept.unsqueeze(-1)
    target = (value - system.offset[column]) * kept
    scale = (kept.sum() + system.extra) ** system.exponent
    normal = design.T @ design + system.base + torch.diag(system.penalty * scale)
    return solve_spd(normal, design.T @ target)


def solve_rows(system: System, rows: list[Block], n_rows: int, fitting: Fitting) -> Tensor:
    """Return the weights [n_rows, P] of every row; rows in no block get 0."""
    weights = system.design.new_zeros(n_rows, system.design.shape[1])
    for block, found in zip(rows, fitting.each(partial(_solve_block, system), rows), strict=True):
        weights[block.row] = found
    return weights


def blocks(row: Tensor, column: Tensor, value: Tensor) -> list[Block]:
    """Return the rows that have entries, those of similar length together."""
    if not len(row):
        return []
    order = torch.argsort(row, stable=True)
    rows, lengths = torch.unique_consecutive(row[order], return_counts=True)
    starts = lengths.cumsum(0) - lengths
    by_length = torch.argsort(lengths, stable=True)
    cuts = _cuts(lengths[by_length].tolist())
    found: list[Block] = []
    for chosen in by_length.tensor_split(cuts):
        steps = torch.arange(int(lengths[chosen].max()))
        mask = steps < lengths[chosen].unsqueeze(1)
        entry = order[torch.where(mask, starts[chosen].unsqueeze(1) + steps, 0)]
        found.append(Block(rows[chosen], column[entry], value[entry], mask))
    return found


def _solve_block(system: System, block: Block) -> Tensor:
    return vmap(partial(solve_row, system))(block.column, block.value, block.mask)


def _cuts(lengths: list[int]) -> list[int]:
    """Return where to cut ascending lengths so that every block, padded, is small."""
    cuts, first = [], 0
    for end, length in enumerate(lengths):
        rows = end + 1 - first
        if rows > 1 and (rows * length > _ENTRIES or rows > _ROWS):
            cuts.append(end)
            first = end
    return cuts
