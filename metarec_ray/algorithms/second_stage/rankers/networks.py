"""A small network over what is known of each item, beside the score of the first stage.

Knows its formula and how its loss is minimised; does not know what the features stand for.

Axes: R networks, G shortlists, C items of each, X features, Z = 2 X inputs, H hidden units, K sizes
of support.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import dropout, relu
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from metarec_ray.algorithms.second_stage.rankers.base import Ranker
from metarec_ray.algorithms.second_stage.rankers.inputs import Inputs, standardised
from metarec_ray.algorithms.second_stage.rankers.listwise import LabelledShortlists, listwise_loss
from metarec_ray.core.batch import Params

HIDDEN = (64, 32)
BATCH = 64  # shortlists of a step


class Networks(Ranker):
    """Two hidden layers beside a linear one.

    Attributes:
        epochs: passes over the shortlists.
        learning_rate: peak of one cycle.
        weight_decay: of the networks.
        dropout: share of hidden units left out in training.

    """

    fits: ClassVar = "networks"
    name: Literal["networks"] = "networks"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 6
    learning_rate: PositiveFloat = 0.003
    weight_decay: Annotated[float, Field(ge=0)] = 0.5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4

    def fit(
        self, shortlists: LabelledShortlists, scale: Params, *, sizes: int, seed: int
    ) -> Params:
        generator = torch.Generator().manual_seed(seed)
        net = initial_network(shortlists.inputs.features.shape[-1], sizes, generator)
        taught = shortlists.relevant.any(1).nonzero().flatten()
        steps = self.epochs * -(-len(taught) // BATCH)
        if not steps:
            return net
        for parameter in net.values():
            parameter.requires_grad_()
        # The weight of the first stage does not decay: zero is no neutral value of it.
        decaying = [value for name, value in net.items() if name != "first_stage_weight"]
        groups = [
            {"params": decaying, "weight_decay": self.weight_decay},
            {"params": [net["first_stage_weight"]], "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.learning_rate)
        cycle = OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of dropout
            for _ in range(self.epochs):
                order = taught[torch.randperm(len(taught), generator=generator)]
                for lists in order.split(BATCH):
                    some = shortlists.at(lists)
                    standard = standardised(scale, some.inputs)
                    scores = net_scores(net, standard, some.inputs, dropped=self.dropout)[0]
                    optimizer.zero_grad()
                    (listwise_loss(scores, some) * some.weight).mean().backward()
                    optimizer.step()
                    cycle.step()
        return {name: value.detach() for name, value in net.items()}

    def scores(self, fitted: Params, standard: Tensor, inputs: Inputs) -> Tensor:
        return net_scores(fitted, standard, inputs)


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
