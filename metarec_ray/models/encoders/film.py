"""An encoder whose few scales adapt to a task."""

from typing import Literal

import torch
from torch import Generator, Tensor

from metarec_ray.core.batch import Features, Params
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.encoders.base import Encoder, Side
from metarec_ray.models.encoders.token_sum import fresh_rows, token_sum


class Film(Encoder):
    """vector = (1 + scale) * s, where s is what `token_sum` returns: which dimensions count.

    Feature-wise modulation [Perez et al., 2018, arXiv:1709.07871] by gradient steps, as contexts
    are adapted in CAVIA [Zintgraf et al., 2019, arXiv:1810.03642]: D numbers a side, whatever the
    features. Without their shift, which is there already: to shift a user's vector is to change the
    weights of the head's last layer.
    """

    name: Literal["film"] = "film"
    adapts: bool = True

    def init(
        self, side: str, sizes: Side, dim: int, *, scale: float, generator: Generator
    ) -> Declared:
        rows = fresh_rows(side, sizes, dim, scale=scale, generator=generator, adapts=False)
        return rows | {f"{side}.scale": Parameter(torch.zeros(dim), decays=True, adapts=True)}

    def encode(self, params: Params, side: str, features: Features) -> Tensor:
        summed = token_sum(params, side, features, mapped=self.adapts)
        return summed * (1 + params[f"{side}.scale"])
