"""The plain encoder: a sum of token rows and a linear map of dense features."""

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import embedding_bag

from metarec_ray.core.batch import Features, Params
from metarec_ray.core.parameters import Declared, Parameter, Rows
from metarec_ray.models.encoders.base import Encoder, Side


class TokenSum(Encoder):
    """vector = sum of weight x row over an entity's tokens + dense @ map."""

    name: Literal["token_sum"] = "token_sum"

    def init(
        self, side: str, sizes: Side, dim: int, *, scale: float, generator: Generator
    ) -> Declared:
        return fresh_rows(side, sizes, dim, scale=scale, generator=generator)

    def encode(self, params: Params, side: str, features: Features) -> Tensor:
        return token_sum(params, side, features, mapped=self.adapts)


def fresh_rows(
    side: str,
    sizes: Side,
    dim: int,
    *,
    scale: float,
    generator: Generator,
    adapts: bool = True,
) -> Declared:
    """Return a row [dim] a token, and a row a column of dense features.

    `adapts` says whether an encoder that adapts moves them for each task.
    """

    def drawn(size: int, of: Literal["tokens", "dense"]) -> Parameter:
        value = torch.randn((size, dim), generator=generator) * scale
        return Parameter(value, decays=True, rows=Rows(side, of), adapts=adapts)

    return {
        f"{side}.tokens": drawn(sizes.tokens, "tokens"),
        f"{side}.dense": drawn(sizes.dense, "dense"),
    }


def token_sum(params: Params, side: str, features: Features, *, mapped: bool) -> Tensor:
    """Return the weighted sums [*E, D] of the rows of what an entity has.

    `mapped` by vmap, every padding costs a row; else what is padding is not read.
    """
    table = params[f"{side}.tokens"]
    if mapped:
        vector = (table[features.tokens] * features.weights.unsqueeze(-1)).sum(-2)
    else:
        vector = _bags(table, features)
    if features.dense.shape[-1]:
        vector = vector + features.dense @ params[f"{side}.dense"]
    return vector


def _bags(table: Tensor, features: Features) -> Tensor:
    entities, tokens = features.tokens.shape[:-1], features.tokens.flatten(0, -2)
    weights = features.weights.flatten(0, -2)
    # Values and offsets: what is padding is not read.
    real = weights != 0
    sizes = real.sum(1)
    vectors = embedding_bag(
        tokens[real], table, sizes.cumsum(0) - sizes, per_sample_weights=weights[real], mode="sum"
    )
    return vectors.view(*entities, table.shape[1])
