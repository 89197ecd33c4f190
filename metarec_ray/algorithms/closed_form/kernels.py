"""Kernels between items that any log allows: many measures of how similar two items are.

Knows a variational backbone, the histories it was fitted on and the items' side information; does
not know the ratings of a task. Axes: I items, N and C items of a set, G kernels, M tokens of an
item. Tables hold the items' features; the kind in a table's name says which kernels they have:

    linear.*            inner products
    sphere.*            unit vectors; exp(c (cosine - 1)) for two sharpnesses c
    number.*            a number as its rank; exp(-distance^2 / 2 w^2) for two widths w
    vector.*            unit vectors; squared cosine, 0 for a negative cosine
    token.*             bags of weighted tokens; cosine
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import FieldSpan, Params, SideInformation
from metarec_ray.core.histories import Histories

_SHARPNESS = (4.0, 12.0)
_WIDTHS = (0.2, 1.0)  # standard deviations
_CO_RATED_SHRINK = 10.0  # ratings
_CO_RATED_SIZE = 64  # dimensions of the vectors of the co-rating kernel
_POWER_STEPS = 4
_DENSE = ("linear", "sphere", "number", "vector")


def item_tables(backbone: Params, histories: Histories, seed: int) -> Params:
    """Return the tables of a variational backbone and the histories it was fitted on."""
    item = backbone["item"]
    count = torch.bincount(histories.item, minlength=histories.n_items).float()
    met = count > 0
    bias, popularity = item[:, 0], torch.log1p(count)
    spread = popularity[met].std(correction=0).clamp(min=1e-6)
    popularity = (popularity - popularity[met].mean()) / spread
    # Item factors, scaled by how much users' factors vary.
    tastes = torch.linalg.cholesky(torch.linalg.inv(backbone["user_precision"])[1:, 1:])
    tables = {
        "linear.bias": (bias - bias[met].mean()).unsqueeze(1),
        "linear.cold": (~met).float().unsqueeze(1),
        "linear.co_rated": _co_rated(histories, count, seed),
        "linear.popularity": (popularity * met).unsqueeze(1),
        "sphere.taste": _unit(item[:, 1:] @ tastes),
    }
    for field in histories.items.fields:
        tables |= _field_tables(histories.items, field)
    return tables


def kernels(tables: Params, a: Tensor, b: Tensor) -> Tensor:
    """Return all kernels between the items a [N] and b [C], float [G, N, C]."""
    bags = [(_bags(tables, field, a), _bags(tables, field, b)) for field in token_fields(tables)]
    return torch.stack([*dense_kernels(tables, a, b), *(x @ y.T for x, y in bags)])


def dense_kernels(tables: Params, a: Tensor, b: Tensor) -> list[Tensor]:
    """Return the first kernels of `kernels`: all but those of tokens."""
    found: list[Tensor] = []
    for kind in _DENSE:
        for name in _named(tables, kind):
            found += _kernel(kind, tables[f"{kind}.{name}"][a], tables[f"{kind}.{name}"][b])
    return found


def token_fields(tables: Params) -> list[str]:
    """Return the fields of the last kernels of `kernels`: those of tokens."""
    return _named(tables, "token")


def token_scores(tables: Params, given: Tensor, weight: Tensor, asked: Tensor) -> Tensor:
    """Return the sum over fields g and items n of weight[g, n] kernel_g(given[n], asked[c]) [C].

    The weighted bags are added first: the cost is that of their tokens, not of N x C kernels.
    """
    total = torch.zeros(asked.shape)
    for field, row in zip(token_fields(tables), weight, strict=True):
        bag = row @ _bags(tables, field, given)
        held = tables[f"share.{field}"][asked] * bag[tables[f"token.{field}"][asked]]
        total = total + held.sum(1)
    return total


def _named(tables: Params, kind: str) -> list[str]:
    prefix = kind + "."
    return sorted(name.removeprefix(prefix) for name in tables if name.startswith(prefix))


def _kernel(kind: str, x: Tensor, y: Tensor) -> list[Tensor]:
    if kind == "number":
        squares = (x - y.T).square()
        return [torch.exp(-squares / (2 * width**2)) for width in _WIDTHS]
    product = x @ y.T
    if kind == "sphere":
        return [torch.exp(sharpness * (product - 1)) for sharpness in _SHARPNESS]
    return [product.clamp(min=0).square() if kind == "vector" else product]


def _bags(tables: Params, field: str, index: Tensor) -> Tensor:
    """Return the bags of the items `index` [N], with a column for each token of the field."""
    tokens, shares = tables[f"token.{field}"][index], tables[f"share.{field}"][index]
    empty = tables[f"empty.{field}"].expand(len(index), -1)
    return empty.scatter_add(1, tokens, shares)


def _field_tables(side: SideInformation, field: FieldSpan) -> Params:
    tokens, weights, dense = side.features
    if not field.categorical:
        values = dense[:, field.first : field.end]
        if values.shape[1] == 1:
            return {f"number.{field.name}": values}
        return {f"vector.{field.name}": _unit(values)}
    # The field's first token is the unknown value, which is similar to nothing.
    held = (tokens > field.first) & (tokens < field.end) & (weights != 0)
    width = max(int(held.sum(1).max()), 1)
    at = held.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    held = held.gather(1, at)
    return {
        f"token.{field.name}": torch.where(held, tokens.gather(1, at) - field.first, 0),
        f"share.{field.name}": _unit(weights.gather(1, at) * held),
        f"empty.{field.name}": torch.zeros(field.end - field.first),
    }


def _co_rated(histories: Histories, count: Tensor, seed: int) -> Tensor:
    """Return vectors [I, d] whose inner products are about both / sqrt((n_i + 10) (n_j + 10)).

    `both` is the number of entities that met both items. A low-rank approximation by subspace
    iteration [Halko et al., 2011].
    """
    where = torch.stack([histories.entity(), histories.item])
    values = (count + _CO_RATED_SHRINK).rsqrt()[histories.item]
    shape = (histories.n_entities, histories.n_items)
    met = torch.sparse_coo_tensor(where, values, shape, check_invariants=True).coalesce()
    size = min(_CO_RATED_SIZE, *shape)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(histories.n_items, size, generator=generator)
    for _ in range(_POWER_STEPS):
        basis = torch.linalg.qr(torch.sparse.mm(met.t(), torch.sparse.mm(met, basis))).Q
    projected = torch.sparse.mm(met, basis)
    root = torch.linalg.svd(projected, full_matrices=False)
    return basis @ (root.Vh.T * root.S)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
