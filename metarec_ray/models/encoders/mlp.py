"""An encoder with a hidden layer, in which features of an entity act together."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Generator, Tensor

from metarec_ray.core.batch import Features, Params
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.encoders.base import Encoder, Side
from metarec_ray.models.encoders.token_sum import fresh_rows, token_sum


class Mlp(Encoder):
    """vector = s + relu(s @ hidden) @ out, where s is what `token_sum` returns.

    `out` begins at zero, so that training starts from `token_sum`. With `adapts`, the two layers
    adapt and the embeddings do not, as in MeLU [Lee et al., 2019, arXiv:1908.00413].

    Attributes:
        width: units of the hidden layer.

    """

    name: Literal["mlp"] = "mlp"
    width: PositiveInt = 64

    def init(
        self, side: str, sizes: Side, dim: int, *, scale: float, generator: Generator
    ) -> Declared:
        rows = fresh_rows(side, sizes, dim, scale=scale, generator=generator, adapts=False)
        hidden = torch.randn((dim, self.width), generator=generator) * dim**-0.5
        out = torch.zeros(self.width, dim)
        return rows | {
            f"{side}.hidden": Parameter(hidden, decays=True, adapts=True),
            f"{side}.out": Parameter(out, decays=True, adapts=True),
        }

    def encode(self, params: Params, side: str, features: Features) -> Tensor:
        summed = token_sum(params, side, features, mapped=self.adapts)
        return summed + torch.relu(summed @ params[f"{side}.hidden"]) @ params[f"{side}.out"]
