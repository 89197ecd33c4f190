"""Attention of each candidate over the support, with learned kernels between two events.

Knows one task. A candidate's score without the support is the model's prediction.

Axes: N events of the support, C candidates, H heads, E inputs of a head, D dimensions of an encoded
vector.
"""

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor
from torch.nn.functional import dropout, softplus

from metarec_ray.algorithms.base import MetaLearner, Problem
from metarec_ray.algorithms.in_context.shared import Share, keep, surprise, weights, zeros
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import dimensions


class PairAttention(MetaLearner):
    """An attentive neural process over events [Kim et al., 2019, arXiv:1901.05761].

    For each candidate, every head weights the events of the support by a learned kernel: of the two
    item vectors (the event's context is added to its own; a candidate's context is not used), of
    the event's age and of its label's surprise. The total weight says how close the support comes
    to the candidate, and the weighted mean of the surprises, shrunk, how similar items were liked.
    Order enters through ages only.

    Attributes:
        heads: kernels.
        width: inputs of a kernel.
        embedding_dropout, item_dropout: in training, shares of kernel inputs and of whole events
            that are dropped.
        init_decay: initial decay rate of an event's weight, for each step of age.

    """

    name: Literal["pair_attention"] = "pair_attention"
    heads: PositiveInt = 4
    width: PositiveInt = 16
    embedding_dropout: Share = 0.1
    item_dropout: Share = 0.1
    init_decay: PositiveFloat = 0.1

    def init(self, params: Params, generator: Generator) -> Declared:
        dim, inner = dimensions(params), self.heads * self.width
        decay = torch.full((self.heads,), self.init_decay).expm1().log()
        return {
            "context.query.weight": weights((dim, inner), dim**-0.5, generator),
            "context.key.weight": weights((dim, inner), dim**-0.5, generator),
            "context.kernel.bias": zeros(self.heads),
            "context.kernel.label": zeros(self.heads),
            "context.kernel.decay": Parameter(decay),
            "context.kernel.shrink": zeros(self.heads),
            "context.near": zeros(self.heads),
            "context.liked": zeros(self.heads),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        item, weight = support.item + support.context, support.mask[:, None].to(support.item.dtype)
        if problem.progress is not None:
            item = dropout(item, self.embedding_dropout)
            weight = weight * keep(self.item_dropout, item)
        signal = surprise(problem, support)[:, None]
        fade = torch.exp(-softplus(meta["context.kernel.decay"]) * support.age[:, None])
        return {
            "key": item @ meta["context.key.weight"],
            "bias": meta["context.kernel.bias"] + meta["context.kernel.label"] * signal,
            "weight": weight * fade,
            "value": signal,
        }

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        # Query weights times keys first: candidates are then multiplied once.
        key = fast["key"].unflatten(1, (self.heads, self.width))
        query = meta["context.query.weight"].view(-1, self.heads, self.width)
        image = torch.einsum("dhe,nhe->dhn", query, key) / self.width**0.5
        near = candidates.item @ image.flatten(1)
        near = near.unflatten(1, (self.heads, key.shape[0])) + fast["bias"].T
        weight = softplus(near) * fast["weight"].T
        shrink = softplus(meta["context.kernel.shrink"])
        mass = weight.sum(-1)
        liked = (weight @ fast["value"]).squeeze(-1) / (mass + shrink)
        shift = torch.log1p(mass / shrink) @ meta["context.near"] + liked @ meta["context.liked"]
        return problem.predict(meta, candidates) + shift
