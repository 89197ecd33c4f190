"""Fit a ranking network on shortlists whose relevant items are known.

Knows the loss and its minimisation; does not know where shortlists come from.

Axes as in `ranking_net`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from metarec_ray.algorithms.second_stage.ranking_net import (
    Inputs,
    initial_network,
    net_scores,
    standardised,
)
from metarec_ray.core.batch import Params

BATCH = 64  # shortlists of a step


class LabelledShortlists(NamedTuple):
    """Shortlists to learn from."""

    inputs: Inputs
    relevant: Tensor  # bool [G, C]
    n_relevant: Tensor  # float [G]: relevant items of the task, whether its list has them or not
    weight: Tensor  # float [G]: of the task

    def at(self, tasks: Tensor) -> "LabelledShortlists":
        """Return the shortlists of `tasks`, int64 [n]."""
        return LabelledShortlists(
            self.inputs.at(tasks),
            self.relevant[tasks],
            self.n_relevant[tasks],
            self.weight[tasks],
        )


class Hyperparameters(NamedTuple):
    """How long and how fast a network learns, as the section `second_stage` says it."""

    epochs: int
    learning_rate: float
    weight_decay: float
    dropout: float


def concatenated(sets: Sequence[LabelledShortlists]) -> LabelledShortlists:
    """Return the shortlists of several sets as one."""
    columns = zip(*(one.inputs for one in sets), strict=True)
    return LabelledShortlists(
        Inputs(*(torch.cat(column) for column in columns)),
        torch.cat([one.relevant for one in sets]),
        torch.cat([one.n_relevant for one in sets]),
        torch.cat([one.weight for one in sets]),
    )


def listwise_loss(scores: Tensor, shortlists: LabelledShortlists) -> Tensor:
    """Return the loss [*, G]: mean of -log P(item) over the relevant items of each task.

    [Cao et al., 2007, ListNet; Ai et al., 2018, arXiv:1811.04415]. P is the softmax of scores
    [*, G, C] over the real items of a list. A relevant item that is not in the list costs the same
    whatever the scores: it stays missed.
    """
    inside = scores.masked_fill(~shortlists.inputs.real, -torch.inf)
    log_p = torch.log_softmax(inside, -1).masked_fill(~shortlists.relevant, 0.0)
    return -log_p.sum(-1) / shortlists.n_relevant


def fit_network(
    shortlists: LabelledShortlists,
    scale: Params,
    *,
    sizes: int,
    hyperparameters: Hyperparameters,
    seed: int,
) -> Params:
    """Return a network, R = 1, that orders the shortlists; the same for the same seed.

    Lists without a relevant item teach nothing and are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    net = initial_network(shortlists.inputs.features.shape[-1], sizes, generator)
    taught = shortlists.relevant.any(1).nonzero().flatten()
    steps = hyperparameters.epochs * -(-len(taught) // BATCH)
    if not steps:
        return net
    for parameter in net.values():
        parameter.requires_grad_()
    # The weight of the first stage does not decay: zero is no neutral value of it.
    decaying = [value for name, value in net.items() if name != "first_stage_weight"]
    groups = [
        {"params": decaying, "weight_decay": hyperparameters.weight_decay},
        {"params": [net["first_stage_weight"]], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=hyperparameters.learning_rate)
    cycle = OneCycleLR(optimizer, hyperparameters.learning_rate, total_steps=steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for _ in range(hyperparameters.epochs):
            order = taught[torch.randperm(len(taught), generator=generator)]
            for lists in order.split(BATCH):
                some = shortlists.at(lists)
                standard = standardised(scale, some.inputs)
                scores = net_scores(net, standard, some.inputs, dropped=hyperparameters.dropout)[0]
                optimizer.zero_grad()
                (listwise_loss(scores, some) * some.weight).mean().backward()
                optimizer.step()
                cycle.step()
    return {name: value.detach() for name, value in net.items()}


def ndcg_of(scores: Tensor, shortlists: LabelledShortlists, *, depth: int) -> Tensor:
    """Return the NDCG [G] of the first `depth` items of each list by scores [G, C].

    Relevant items that a list has not count as missed.
    """
    listed = min(depth, scores.shape[1])
    inside = scores.masked_fill(~shortlists.inputs.real, -torch.inf)
    found = shortlists.relevant.gather(1, inside.topk(listed, 1).indices).double()
    discount = 1 / torch.log2(torch.arange(depth, dtype=torch.float64) + 2)
    ideal = discount.cumsum(0)[shortlists.n_relevant.long().clamp(1, depth) - 1]
    return (found @ discount[:listed]) / ideal
