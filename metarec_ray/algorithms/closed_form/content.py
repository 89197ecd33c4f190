"""Ridge regression of latents on content: which features are regressors, and its solution.

Knows `SideInformation`; does not know what the latents are for. Axes: R rows (entities or items), X
width of a plain feature vector, M regressors (the first is 1), P dimensions of a latent.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import SideInformation
from metarec_ray.errors import ConfigError, DataError

_POWERS = 3  # of a numeric field: degree of its polynomial
_LARGEST = 20_000  # rows of the matrix that is inverted
_BLOCK = 4096  # rows that are dense at a time
_LEVERAGE = 0.9  # largest leverage that residuals are corrected for


class Regressors(NamedTuple):
    """Regressors of a plain feature vector: 1, then scale * plain[column] ** power.

    A single number counts for no less than `low` and no more than `high`, what its field held where
    the regression learned it: a polynomial says nothing beyond that.
    """

    column: Tensor  # int64 [M - 1]
    power: Tensor  # float [M - 1]
    scale: Tensor  # float [M - 1]
    low: Tensor = torch.tensor(-torch.inf)  # float [M - 1]
    high: Tensor = torch.tensor(torch.inf)  # float [M - 1]

    def of(self, plain: Tensor) -> Tensor:
        """Return the regressors [*, M] of plain vectors [*, X]."""
        held = plain[..., self.column].maximum(self.low).minimum(self.high)
        values = self.scale * held**self.power
        return torch.cat([values.new_ones(*values.shape[:-1], 1), values], -1)

    def table(self, side: SideInformation) -> Tensor:
        """Return the regressors of all rows of a side, sparse [R, M]."""
        rows = len(side.features.tokens)
        ones = torch.arange(rows)
        row, column, value = [ones], [torch.zeros_like(ones)], [torch.ones(rows)]
        if len(self.column):
            place = torch.zeros(side.tokens, dtype=torch.int64)
            is_token = self.column < side.tokens
            place[self.column[is_token]] = is_token.nonzero().flatten() + 1
            tokens, weights, dense = side.features
            at = place[tokens]
            used = (at > 0) & (tokens > 0) & (weights != 0)
            row.append(ones.unsqueeze(1).expand_as(at)[used])
            column.append(at[used])
            value.append(weights[used] * self.scale[at[used] - 1])
            numeric = (~is_token).nonzero().flatten()
            held = dense[:, self.column[numeric] - side.tokens]
            held = held.maximum(self.low[numeric]).minimum(self.high[numeric])
            values = self.scale[numeric] * held ** self.power[numeric]
            row.append(ones.repeat_interleave(len(numeric)))
            column.append((numeric + 1).repeat(rows))
            value.append(values.flatten())
        where = torch.stack([torch.cat(row), torch.cat(column)])
        shape = (rows, len(self.column) + 1)
        return torch.sparse_coo_tensor(
            where, torch.cat(value), shape, check_invariants=True
        ).coalesce()


def choose(
    side: SideInformation, scales: Mapping[str, float] | None, place: str, learned: Tensor
) -> Regressors:
    """Return the regressors of the fields in `scales` (None: every field at scale 1).

    A token gives one regressor, a single number three (a polynomial), a vector one each dimension.
    `learned` bool [R] are the rows that the regression learns from.

    Raises:
        ConfigError: a name that is no field of the side; `place` is its place in the config.

    """
    fields = {field.name: field for field in side.fields}
    wanted = dict.fromkeys(fields, 1.0) if scales is None else scales
    unknown = [name for name in wanted if name not in fields]
    if unknown:
        raise ConfigError(
            f"a content field must be among {', '.join(fields) or 'none'}, got {unknown[0]!r} "
            f"({place})"
        )
    column, power, scale, low, high = [], [], [], [], []
    for name, weight in wanted.items():
        field = fields[name]
        shift = 0 if field.categorical else side.tokens
        limits = (-torch.inf, torch.inf)
        if field.is_number:
            limits = side.range_of(field, learned)
        for exponent in range(1, _POWERS + 1 if field.is_number else 2):
            column += range(shift + field.first, shift + field.end)
            power += [float(exponent)] * (field.end - field.first)
            scale += [weight] * (field.end - field.first)
            low += [limits[0]] * (field.end - field.first)
            high += [limits[1]] * (field.end - field.first)
    floats = (torch.tensor(values) for values in (power, scale, low, high))
    return Regressors(torch.tensor(column, dtype=torch.int64), *floats)


class Regression(NamedTuple):
    """Weighted ridge regression on fixed regressors T, prepared for any targets.

    Coefficients are `columns K' rows (target - mean)`, of the L rows with a weight, K of T, in
    float64: rows that are only predicted cost nothing but their prediction.
    """

    table: Tensor  # T, sparse [R, M]
    weight: Tensor  # float [R]; 0 for rows that are only predicted
    kept: Tensor  # K, sparse float64 [L, M]
    rows: Tensor  # float64 [L, L], dense or sparse
    columns: Tensor  # float64 [M, M], dense or sparse
    leverage: Tensor  # float [R]: weight of a row's target in its own prediction

    def solve(self, target: Tensor) -> Tensor:
        """Return coefficients [M, P] for targets [R, P]; the mean of the targets is not shrunk."""
        mean = (self.weight @ target) / self.weight.sum().clamp(min=1e-12)
        residual = (target - mean)[self.weight > 0].double()
        found = self.columns @ torch.sparse.mm(self.kept.t(), self.rows @ residual)
        found[0] += mean
        return found.to(target.dtype)

    def predict(self, coefficients: Tensor) -> Tensor:
        """Return the predictions of all rows [R, P]."""
        return torch.sparse.mm(self.table, coefficients)

    def covariance(self, target: Tensor, expected: Tensor, spread: Tensor, scale: float) -> Tensor:
        """Return the covariance [P, P] of targets around `expected`, float64.

        Residuals are divided by sqrt(1 - leverage), as in HC2 [MacKinnon & White, 1985]. `spread`
        is the sum of the targets' own covariances; the prior adds `scale` times the identity.
        """
        kept = self.weight > 0
        residual = (target - expected)[kept].double()
        residual /= (1 - self.leverage[kept].double().unsqueeze(1)).sqrt()
        scatter = residual.T @ residual + spread.double()
        eye = torch.eye(target.shape[1], dtype=torch.float64)
        return (scatter + scale * eye) / (int(kept.sum()) + 1)


def regression(table: Tensor, weight: Tensor, penalty: float) -> Regression:
    """Return the regression of rows weighted by `weight` [R] under a ridge `penalty`.

    Inverts a matrix of as many rows as there are regressors or weighted rows, whichever are fewer.
    """
    columns = table.shape[1]
    kept = (weight > 0).nonzero().flatten()
    small = min(columns, len(kept))
    if small > _LARGEST:
        raise DataError(
            f"content must have at most {_LARGEST} regressors or rows, got {columns} of "
            f"{len(kept)} rows (choose fewer fields)"
        )
    some = table.index_select(0, kept).double()
    solved = _by_columns if columns <= len(kept) else _by_rows
    rows, inverse, own = solved(some, weight[kept].double(), penalty)
    leverage = torch.zeros_like(weight)
    leverage[kept] = own.clamp(max=_LEVERAGE).to(weight.dtype)
    return Regression(table, weight, some, rows, inverse, leverage)


def _by_columns(table: Tensor, weight: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows [L, L], columns [M, M] and leverage [L] of rows that all have a weight."""
    gram = penalty * torch.eye(table.shape[1], dtype=table.dtype)
    for at, dense in _blocks(table):
        gram += dense.T @ (weight[at].unsqueeze(1) * dense)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    leverage = [((dense @ inverse) * dense).sum(1) for _, dense in _blocks(table)]
    return _diagonal(weight), inverse, weight * torch.cat(leverage)


def _by_rows(table: Tensor, weight: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    # The same coefficients by Woodbury's identity: (T'WT + aI)^-1 T'W = T'(TT' + a/W)^-1.
    gram = torch.cat([torch.sparse.mm(table, dense.T) for _, dense in _blocks(table)], 1)
    gram += torch.diag(penalty / weight)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    leverage = 1 - penalty / weight * inverse.diagonal()
    return inverse, _diagonal(torch.ones(table.shape[1], dtype=table.dtype)), leverage


def _blocks(table: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows of a sparse table [L, M], some at a time: which these are, and dense."""
    for at in torch.arange(len(table)).split(_BLOCK):
        yield at, table.index_select(0, at).to_dense()


def _diagonal(values: Tensor) -> Tensor:
    at = torch.arange(len(values))
    shape = (len(values), len(values))
    return torch.sparse_coo_tensor(torch.stack([at, at]), values, shape, check_invariants=True)
