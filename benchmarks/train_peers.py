"""The training benchmark's peers: the same meta-gradient as others write it, a task at a time.

Knows a module of two hidden layers and ways to adapt it; does not know the product's learners.
Nothing is made costlier than it must be: indices instead of one-hot vectors, every item of a batch
encoded once, one look-up for all events, no padding, one backward, one fused Adam.
"""

import copy
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.functional import embedding_bag, linear, mse_loss

from benchmarks.train_work import Batch
from metarec_ray.core.batch import Features, Params


class Rows(NamedTuple):
    """One encoded set of n events."""

    x: Tensor  # [n, 2 D]: item, then user
    item: Tensor  # [n, D]
    base: Tensor  # [n]: the part of the score that is not the head's
    label: Tensor  # [n]

    def detach(self) -> "Rows":
        """Return the same without a graph: what a first-order inner loop needs."""
        return Rows(*(part.detach() for part in self))


class Inner(NamedTuple):
    """What the inner loop is told."""

    lr: float
    steps: int
    first_order: bool = False


class Head(nn.Module):
    """What adapts: two hidden layers, and a last one that reads them and the item."""

    def __init__(self, dim: int, first: int, second: int):
        super().__init__()
        self.first = nn.Linear(2 * dim, first)
        self.second = nn.Linear(first, second)
        self.last = nn.Linear(second + dim, 1)

    def features(self, rows: Rows) -> Tensor:
        """Return the inputs [n, H + D] of the last layer."""
        hidden = torch.relu(self.second(torch.relu(self.first(rows.x))))
        return torch.cat([hidden, rows.item], 1)

    def forward(self, rows: Rows) -> Tensor:
        """Return the scores [n]."""
        return self.last(self.features(rows)).squeeze(1) + rows.base


class Recommender(nn.Module):
    """Encoders of items and users, which the outer loop alone learns, and the head."""

    def __init__(self, dense: Params, tables: Params):
        """Copy parameters of the product's model: two hidden layers, ids of items alone."""
        super().__init__()
        self.item_ids = nn.Parameter(tables["item.ids"].clone())
        self.item_tokens = nn.Parameter(dense["item.tokens"].clone())
        self.user_tokens = nn.Parameter(dense["user.tokens"].clone())
        self.scale = nn.Parameter(dense["offset.scale"].clone())
        self.dim = self.item_ids.shape[1]
        first, second = dense["head.1.item"].shape
        self.head = Head(self.dim, first, second).to(self.item_ids.dtype)
        values = {
            "first.weight": torch.cat([dense["head.0.item"], dense["head.0.user"]]).T,
            "first.bias": dense["head.0.bias"],
            "second.weight": dense["head.1.item"].T,
            "second.bias": dense["head.1.bias"],
            "last.weight": dense["head.out.weight"][None],
            "last.bias": dense["head.out.bias"][None],
        }
        self.head.load_state_dict(values)

    def encode(self, batch: Batch) -> list[Rows]:
        """Return support, query, support, query, ... of the tasks."""
        item = self.item_ids.index_select(0, batch.items)
        item = (item + _bags(self.item_tokens, batch.item_features)).index_select(0, batch.position)
        user = _bags(self.user_tokens, batch.user).index_select(0, batch.owner)
        base = (item * user).sum(1) + self.scale * batch.offset
        parts = (part.split(batch.sizes) for part in (torch.cat([item, user], 1), item, base))
        return [Rows(*one) for one in zip(*parts, batch.labels, strict=True)]

    def gradient(self) -> Params:
        """Return the gradients under the names of the product's model."""
        head, first = self.head, _gradient(self.head.first.weight).T
        return {
            "item.ids": _gradient(self.item_ids),
            "item.tokens": _gradient(self.item_tokens),
            "user.tokens": _gradient(self.user_tokens),
            "offset.scale": _gradient(self.scale),
            "head.0.item": first[: self.dim],
            "head.0.user": first[self.dim :],
            "head.0.bias": _gradient(head.first.bias),
            "head.1.item": _gradient(head.second.weight).T,
            "head.1.bias": _gradient(head.second.bias),
            "head.out.weight": _gradient(head.last.weight)[0],
            "head.out.bias": _gradient(head.last.bias)[0],
        }


def _bags(table: Tensor, features: Features) -> Tensor:
    return embedding_bag(features.tokens, table, per_sample_weights=features.weights, mode="sum")


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def loop(model: Recommender, batch: Batch, inner: Inner) -> Tensor:
    """Return the mean query loss after adapting functional fast weights of the head."""
    start = tuple(model.head.parameters())

    def score(weights: Sequence[Tensor], rows: Rows) -> Tensor:
        w0, b0, w1, b1, w2, b2 = weights
        hidden = torch.relu(linear(torch.relu(linear(rows.x, w0, b0)), w1, b1))
        return linear(torch.cat([hidden, rows.item], 1), w2, b2).squeeze(1) + rows.base

    def query_loss(support: Rows, query: Rows) -> Tensor:
        fast = _descend(lambda weights: score(weights, support), start, support.label, inner)
        return mse_loss(score(fast, query), query.label)

    return _mean(query_loss, model, batch, inner)


def loop_last(model: Recommender, batch: Batch, inner: Inner) -> Tensor:
    """Return the mean query loss after adapting the last layer, whose inputs are computed once."""
    head = model.head
    start = tuple(head.last.parameters())

    def query_loss(support: Rows, query: Rows) -> Tensor:
        features = head.features(support)

        def score(weights: Sequence[Tensor]) -> Tensor:
            return linear(features, *weights).squeeze(1) + support.base

        fast = _descend(score, start, support.label, inner)
        return mse_loss(linear(head.features(query), *fast).squeeze(1) + query.base, query.label)

    return _mean(query_loss, model, batch, inner)


def _descend(
    score: Callable[[Sequence[Tensor]], Tensor],
    fast: Sequence[Tensor],
    label: Tensor,
    inner: Inner,
) -> Sequence[Tensor]:
    for _ in range(inner.steps):
        gradients = grad(mse_loss(score(fast), label), fast, create_graph=not inner.first_order)
        pairs = zip(fast, gradients, strict=True)
        fast = [torch.add(weight, gradient, alpha=-inner.lr) for weight, gradient in pairs]
    return fast


def learn2learn(model: Recommender, batch: Batch, inner: Inner) -> Tensor:
    """Return the mean query loss after adapting a clone of the head, as learn2learn publishes it.

    Clone with the graph, update the clone's parameters out of place, judge, accumulate; stated from
    the algorithm [Arnold et al., 2020, arXiv:2008.12284].
    """

    def query_loss(support: Rows, query: Rows) -> Tensor:
        learner = _clone(model.head)
        for _ in range(inner.steps):
            _adapt(learner, mse_loss(learner(support), support.label), inner)
        return mse_loss(learner(query), query.label)

    return _mean(query_loss, model, batch, inner)


def _clone(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    # A module refuses to be assigned tensors with a history; its dictionary does not.
    twin.__dict__["_parameters"] = {n: p.clone() for n, p in module.named_parameters(recurse=False)}
    twin.__dict__["_modules"] = {n: _clone(part) for n, part in module.named_children()}
    return twin


def _adapt(learner: nn.Module, loss: Tensor, inner: Inner) -> None:
    gradients = iter(grad(loss, list(learner.parameters()), create_graph=not inner.first_order))
    for part in learner.modules():
        own = part.__dict__["_parameters"]
        for name, weight in own.items():
            own[name] = weight - inner.lr * next(gradients)


def torchopt(model: Recommender, batch: Batch, inner: Inner) -> Tensor:
    """Return the mean query loss after TorchOpt's differentiable SGD [Ren et al., 2023]."""
    library = import_module("torchopt")  # by name: a type checker runs without it as well
    optimizer = library.MetaSGD(model.head, lr=inner.lr)
    begun = [library.extract_state_dict(one, by="reference") for one in (model.head, optimizer)]

    def query_loss(support: Rows, query: Rows) -> Tensor:
        for _ in range(inner.steps):
            optimizer.step(mse_loss(model.head(support), support.label))
        loss = mse_loss(model.head(query), query.label)
        for one, state in zip((model.head, optimizer), begun, strict=True):
            library.recover_state_dict(one, state)
        return loss

    return _mean(query_loss, model, batch, inner)


def _mean(
    query_loss: Callable[[Rows, Rows], Tensor], model: Recommender, batch: Batch, inner: Inner
) -> Tensor:
    sets = iter(model.encode(batch))
    losses = [
        query_loss(support.detach() if inner.first_order else support, query)
        for support, query in zip(sets, sets, strict=True)
    ]
    return torch.stack(losses).mean()
