"""Fit a ranking network on shortlists whose relevant items are known.

Knows the loss and its minimisation; does not know where shortlists come from.

Axes as in `ranking_net`.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from metarec_ray.algorithms.second_stage.ranking_net import (
    Inputs,
    fresh,
    net_scores,
    standardised,
)
from metarec_ray.core.batch import Params

BATCH = 64  # shortlists of a step


class Graded(NamedTuple):
    """Shortlists to learn from."""

    inputs: Inputs
    relevant: Tensor  # bool [G, C]
    wanted: Tensor  # float [G]: relevant items of the task, whether its list has them or not
    weight: Tensor  # float [G]: of the task

    def at(self, lists: Tensor) -> "Graded":
        """Return the shortlists `lists`, int64 [n]."""
        rest = (column[lists] for column in self[1:])
        return Graded(self.inputs.at(lists), *rest)


class Schedule(NamedTuple):
    """How long and how fast networks learn."""

    epochs: int = 6
    learning_rate: float = 0.003
    weight_decay: float = 0.5
    dropout: float = 0.4


def joined(parts: list[Graded]) -> Graded:
    """Return all shortlists of several sets."""
    inputs = Inputs(*(torch.cat(column) for column in zip(*(p.inputs for p in parts), strict=True)))
    rest = (torch.cat(column) for column in zip(*(part[1:] for part in parts), strict=True))
    return Graded(inputs, *rest)


def listwise_loss(scores: Tensor, graded: Graded) -> Tensor:
    """Return the loss [*, G]: mean of -log P(item) over the relevant items of each task.

    P is the softmax of scores [*, G, C] over the real items of a list. A relevant item that is not
    in the list costs the same whatever the scores: it stays missed.
    """
    inside = scores.masked_fill(~graded.inputs.real, -torch.inf)
    log_p = torch.log_softmax(inside, -1).masked_fill(~graded.relevant, 0.0)
    return -log_p.sum(-1) / graded.wanted


def fit_network(
    graded: Graded, scale: Params, *, sizes: int, schedule: Schedule, seed: int
) -> Params:
    """Return a network, R = 1, that orders the shortlists; the same for the same seed.

    Lists without a relevant item teach nothing and are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    net = fresh(graded.inputs.features.shape[-1], sizes, generator)
    taught = graded.relevant.any(1).nonzero().flatten()
    steps = schedule.epochs * -(-len(taught) // BATCH)
    if not steps:
        return net
    for parameter in net.values():
        parameter.requires_grad_()
    # Trust in the first stage does not decay: zero is no neutral value of it.
    decaying = [value for name, value in net.items() if name != "trust"]
    groups = [
        {"params": decaying, "weight_decay": schedule.weight_decay},
        {"params": [net["trust"]], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=schedule.learning_rate)
    cycle = OneCycleLR(optimizer, schedule.learning_rate, total_steps=steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for _ in range(schedule.epochs):
            order = taught[torch.randperm(len(taught), generator=generator)]
            for lists in order.split(BATCH):
                some = graded.at(lists)
                standard = standardised(scale, some.inputs)
                scores = net_scores(net, standard, some.inputs, dropped=schedule.dropout)[0]
                optimizer.zero_grad()
                (listwise_loss(scores, some) * some.weight).mean().backward()
                optimizer.step()
                cycle.step()
    return {name: value.detach() for name, value in net.items()}


def quality_of_lists(scores: Tensor, graded: Graded, *, depth: int) -> Tensor:
    """Return the NDCG [G] of the first `depth` items of each list by scores [G, C].

    Relevant items that a list has not count as missed.
    """
    depth = min(depth, scores.shape[1])
    inside = scores.masked_fill(~graded.inputs.real, -torch.inf)
    found = graded.relevant.gather(1, inside.topk(depth, 1).indices).double()
    discount = 1 / torch.log2(torch.arange(depth, dtype=torch.float64) + 2)
    ideal = discount.cumsum(0)[graded.wanted.long().clamp(1, depth) - 1]
    return (found @ discount) / ideal
