"""The order of a shortlist: a small network over features of its items, several of them averaged.

Knows numbers; does not know what they stand for.

Axes: R networks, G shortlists, C items of each, X features, Z = 2 X inputs, H hidden units, K sizes
of support.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import dropout, relu

from metarec_ray.core.batch import Params

HIDDEN = (64, 32)
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
    """Return the inputs of a network [G, C, Z]: each feature among all lists, and in its own list.

    The second says who stands out among those who can be chosen. Both are cut at `CLIP`.
    """
    real = inputs.real.unsqueeze(-1)
    count = real.sum(1, keepdim=True).clamp(min=1)
    among_all = torch.where(real, (inputs.features - scale["mean"]) / scale["std"], 0.0)
    centred = (among_all - among_all.sum(1, keepdim=True) / count) * real
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt()
    within = centred * torch.where(spread > _LEAST, 1 / spread, 0.0)
    return torch.cat([among_all, within], -1).clamp_(-CLIP, CLIP)


def initial_network(features: int, sizes: int, generator: torch.Generator) -> Params:
    """Return a network, R = 1, that gives the scores of the first stage."""
    width, (first, second) = 2 * features, HIDDEN

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * shape[-2] ** -0.5

    return {
        "first_stage_weight": torch.ones(1, sizes),
        "linear": torch.zeros(1, width),
        "linear.size": torch.zeros(1, sizes, width),
        "hidden": drawn(1, width, first),
        "hidden.size": drawn(1, sizes, first),
        "second": drawn(1, first, second),
        "second.bias": torch.zeros(1, second),
        "out": torch.zeros(1, second),
    }


def net_scores(nets: Params, standard: Tensor, inputs: Inputs, *, dropped: float = 0.0) -> Tensor:
    """Return the scores [R, G, C] of each network.

    a_k x score + w z + w_k z + the output of two hidden layers, for supports of size k.

    Args:
        nets: R networks side by side.
        standard: the inputs `standardised` [G, C, Z].
        inputs: where they come from.
        dropped: share of hidden units left out, in training.

    """
    linear = nets["linear"].unsqueeze(1) + nets["linear.size"][:, inputs.size]  # [R, G, Z]
    told = (standard @ linear.unsqueeze(-1)).squeeze(-1)
    hidden = standard @ nets["hidden"].unsqueeze(1)
    hidden = relu(hidden + nets["hidden.size"][:, inputs.size].unsqueeze(2))
    hidden = dropout(hidden, dropped, training=dropped > 0)
    hidden = hidden @ nets["second"].unsqueeze(1) + nets["second.bias"][:, None, None]
    hidden = dropout(relu(hidden), dropped, training=dropped > 0)
    told = told + (hidden @ nets["out"][:, None, :, None]).squeeze(-1)
    return nets["first_stage_weight"][:, inputs.size].unsqueeze(-1) * inputs.score + told
