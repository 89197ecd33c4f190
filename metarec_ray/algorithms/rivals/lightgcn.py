"""LightGCN: vectors of users and items, averaged over the graph of who met what.

Knows positives; no content, no order. Axes: E users, I items, n edges, B pairs of a batch, P
factors.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import embedding_bag

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.sums import log_shares, positive_pairs, positives
from metarec_ray.core.batch import Encoded, Params, at_rows
from metarec_ray.core.histories import Histories

_START_SCALE = 0.1
_REPORTS = 10  # lines of progress of a fit
_PASSES = 1_000  # over the positives, at most: those of the paper


class LightGcn(FittedLearner):
    """Matrix factorization whose vectors are means over the layers of a graph convolution.

    [He et al., 2020, arXiv:2002.02126]. Layer l + 1 of a node is the sum over its neighbours of
    their layer l / sqrt(degree of both); the vector that scores is the mean of the layers
    0 .. `layers`. Layer 0 is learned by Adam on -log sigmoid(score of a positive - score of another
    item). A new user is a node without a layer 0: the same sums over the items of the support,
    whose own layers stay as they are. An empty support, or one of items that nobody met, ranks by
    popularity.

    The paper passes up to 1,000 times over the positives in batches of 1,024, at a rate of 0.001
    and a penalty of 1e-4. Here steps are fewer and longer, each of a larger batch: about a minute
    for 400,000 positives. A log so small that `steps` would pass over it more often than the paper
    ends after 1,000 passes (with the defaults, one of fewer than 12,280 positives).

    Attributes:
        factors: dimensions of a vector.
        layers: of the convolution.
        steps: of Adam, at most; each convolves the whole graph once and its gradient once.
        batch: positives of a step.
        learning_rate: of the first step; it falls linearly to 0.
        penalty: of squared layers 0, half the sum over the three nodes of a pair.

    """

    name: Literal["lightgcn"] = "lightgcn"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    factors: PositiveInt = 64
    layers: PositiveInt = 3
    steps: PositiveInt = 1_500
    batch: PositiveInt = 8_192
    learning_rate: PositiveFloat = 0.1
    penalty: NonNegativeFloat = 1e-3
    positive_min: float | None = None

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        user, item = positive_pairs(histories, self.positive_min)
        graph = graph_of(user, item, histories.n_entities, histories.n_items)
        generator = torch.Generator().manual_seed(fitting.seed)
        start = Nodes(
            torch.randn(histories.n_entities, self.factors, generator=generator) * _START_SCALE,
            torch.randn(histories.n_items, self.factors, generator=generator) * _START_SCALE,
        )
        steps = self.steps_of(len(user))
        optimizer = torch.optim.Adam(list(start), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, max(steps, 1))
        met = user * histories.n_items + item  # ascending
        for step in range(steps):
            batch = torch.randint(len(met), (self.batch,), generator=generator)
            other = torch.randint(histories.n_items, (self.batch,), generator=generator)
            found = self.gradient(start, graph, Pairs(user[batch], item[batch], other), met)
            start.user.grad, start.item.grad = found
            optimizer.step()
            schedule.step()
            if (step + 1) % max(steps // _REPORTS, 1) == 0:
                fitting.progress(f"{self.name} step {step + 1}/{steps}")
        layers = convolved(start, graph, self.layers)
        count = graph.degree.item
        root = count.clamp(min=1).rsqrt() * (count > 0)
        vectors = torch.stack([layer.item for layer in layers])
        return {
            "item": vectors.mean(0),
            "given": vectors[:-1].sum(0) / len(layers) * root.unsqueeze(1),
            "prior": log_shares(count),
            "met": count > 0,
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        kept = positives(support, self.positive_min) & meta["met"][support.index]
        weight = kept.to(meta["item"].dtype)
        total = weight @ meta["given"][support.index]
        return {"user": total / weight.sum().clamp(min=1).sqrt(), "known": kept.any()}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        def scores(item: Tensor, prior: Tensor) -> Tensor:
            return torch.where(fast["known"], item @ fast["user"], prior)

        return at_rows(scores, candidates.index, meta["item"], meta["prior"])

    def steps_of(self, positives: int) -> int:
        """Return how many steps a log of so many positives takes: 0 without any."""
        return min(self.steps, -(-positives * _PASSES // self.batch))

    def gradient(self, start: "Nodes", graph: "Graph", pairs: "Pairs", met: Tensor) -> "Nodes":
        """Return the gradient of the mean loss of some pairs by the layers 0."""
        final = mean_layer(start, graph, self.layers)
        keys = pairs.user * len(start.item) + pairs.other
        at = torch.searchsorted(met, keys).clamp(max=len(met) - 1)
        valid = (met[at] != keys).to(final.user.dtype) / len(keys)
        w, apart = final.user[pairs.user], final.item[pairs.item] - final.item[pairs.other]
        wrong = (torch.sigmoid(-(w * apart).sum(1)) * valid).unsqueeze(1)
        by_user = torch.zeros_like(start.user).index_add_(0, pairs.user, -wrong * apart)
        by_item = torch.zeros_like(start.item).index_add_(0, pairs.item, -wrong * w)
        by_item.index_add_(0, pairs.other, wrong * w)
        # The convolution is symmetric: a gradient goes back as a vector goes forth.
        back = mean_layer(Nodes(by_user, by_item), graph, self.layers)
        users = torch.bincount(pairs.user, valid, len(start.user)).unsqueeze(1)
        items = torch.bincount(pairs.item, valid, len(start.item))
        items = (items + torch.bincount(pairs.other, valid, len(start.item))).unsqueeze(1)
        return Nodes(
            back.user + self.penalty * users * start.user,
            back.item + self.penalty * items * start.item,
        )


class Nodes(NamedTuple):
    """Something of every node."""

    user: Tensor  # [E, ...]
    item: Tensor  # [I, ...]


class Pairs(NamedTuple):
    """Positives, each beside another item, int64 [B]."""

    user: Tensor
    item: Tensor
    other: Tensor


class Graph(NamedTuple):
    """Who met what, from both sides: the neighbours of one node stand side by side."""

    neighbour: Nodes  # int64 [n]: items, user after user; users, item after item
    begin: Nodes  # int64 [E], [I]: where the neighbours of a node begin
    weight: Nodes  # float [n]: 1 / sqrt(degree of both ends)
    degree: Nodes  # float [E], [I]


def graph_of(user: Tensor, item: Tensor, n_users: int, n_items: int) -> Graph:
    """Return the graph of distinct edges [n], which ascend by user."""
    by_item = item.argsort(stable=True)
    users = torch.bincount(user, minlength=n_users)
    items = torch.bincount(item, minlength=n_items)
    weight = (users[user] * items[item]).float().rsqrt()
    return Graph(
        neighbour=Nodes(item, user[by_item]),
        begin=Nodes(users.cumsum(0) - users, items.cumsum(0) - items),
        weight=Nodes(weight, weight[by_item]),
        degree=Nodes(users.float(), items.float()),
    )


def convolved(start: Nodes, graph: Graph, layers: int) -> list[Nodes]:
    """Return the layers 0 .. `layers` of all nodes, given layer 0."""
    found = [Nodes(start.user.detach(), start.item.detach())]
    for _ in range(layers):
        user, item = found[-1]
        found.append(
            Nodes(
                _summed(item, graph.neighbour.user, graph.begin.user, graph.weight.user),
                _summed(user, graph.neighbour.item, graph.begin.item, graph.weight.item),
            )
        )
    return found


def mean_layer(start: Nodes, graph: Graph, layers: int) -> Nodes:
    """Return the mean of the layers 0 .. `layers` of all nodes, given layer 0."""
    found = convolved(start, graph, layers)
    user, item = (torch.stack(side).mean(0) for side in zip(*found, strict=True))
    return Nodes(user, item)


def _summed(table: Tensor, neighbour: Tensor, begin: Tensor, weight: Tensor) -> Tensor:
    # Ten times faster than torch.sparse.mm.
    return embedding_bag(neighbour, table, begin, mode="sum", per_sample_weights=weight)
