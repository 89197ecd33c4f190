"""What a ranker reads of shortlists: features of items as numbers of one scale.

Knows numbers; does not know what they stand for, nor who reads them.

Axes: G shortlists, C items of each, X features, Z = 2 X inputs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params

CLIP = 5.0  # standard deviations
_LEAST = 1e-3  # standard deviations within a list: below, the feature is the same for all items


class Inputs(NamedTuple):
    """Shortlists as numbers."""

    features: Tensor  # float [G, C, X]
    score: Tensor  # float [G, C], of the first stage: 0 for the best item of a list
    real: Tensor  # bool [G, C]
    size: Tensor  # int64 [G], the row of the support's size

    def at(self, lists: Tensor) -> "Inputs":
        """Return the shortlists `lists`, int64 [n]."""
        return Inputs(*(column[lists] for column in self))


def scale_of(features: Tensor, real: Tensor) -> Params:
    """Return `mean` [X] and `std` [X] of features [G, C, X] over real items.

    A feature that never differs has an infinite deviation: nothing was learned of it.
    """
    count = real.sum().clamp(min=1)
    inside = real.unsqueeze(-1)
    mean = torch.where(inside, features, 0.0).sum((0, 1), dtype=torch.float64) / count
    squares = torch.where(inside, features - mean.float(), 0.0).square()
    std = (squares.sum((0, 1), dtype=torch.float64) / count).sqrt()
    return {"mean": mean.float(), "std": torch.where(std > 1e-6, std, torch.inf).float()}


def standardised(scale: Params, inputs: Inputs) -> Tensor:
    """Return the inputs of a ranker [G, C, Z]: each feature among all lists, and in its own list.

    The second says who stands out among those who can be chosen. Both are cut at `CLIP`.
    """
    real = inputs.real.unsqueeze(-1)
    count = real.sum(1, keepdim=True).clamp(min=1)
    among_all = torch.where(real, (inputs.features - scale["mean"]) / scale["std"], 0.0)
    centred = (among_all - among_all.sum(1, keepdim=True) / count) * real
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt()
    within = centred * torch.where(spread > _LEAST, 1 / spread, 0.0)
    return torch.cat([among_all, within], -1).clamp_(-CLIP, CLIP)
