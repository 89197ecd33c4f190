"""Metric learners: compare candidates with the support set in the space of encoded items.

Knows one task, or T at once, without an inner loop. What the support says is added to the zero-shot
score, so that an empty support leaves the prior: the residual of a rating or click, 1 for a
positive. Older events weigh less, by a learned decay.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Generator, Tensor

from metarec_ray.algorithms.base import MetaLearner, Problem
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import dimensions, shift_user

DECAY = 0.02  # of an event's weight with each later event, before training


class PrototypeNetwork(MetaLearner):
    """A user is the mean of the items of the support [Snell et al., 2017, arXiv:1703.05175].

    The mean, weighted by residuals r, is shrunk by the number of events and added to the user's own
    vector, which is the learned prior: prototype = user + sum(w r x) M / (sum(w) + n0). A
    candidate's score is its inner product with the prototype. The paper's squared distance has the
    length of the candidate's vector too, which offsets and the head's last layer can express. The
    learned matrix M maps support items to candidates and starts at the identity.

    Attributes:
        prior_events: n0 before training: number of events that weigh as much as the prior.

    """

    batched: ClassVar[bool] = True
    name: Literal["prototype"] = "prototype"
    prior_events: PositiveFloat = 5.0

    def init(self, params: Params, generator: Generator) -> Declared:
        return {
            "prototype.map": Parameter(torch.eye(dimensions(params))),
            "prototype.log_prior_events": Parameter(torch.tensor(math.log(self.prior_events))),
            "prototype.log_decay": Parameter(torch.tensor(math.log(DECAY))),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        weight = support.mask * torch.exp(-torch.exp(meta["prototype.log_decay"]) * support.age)
        prior = torch.exp(meta["prototype.log_prior_events"])
        share = weight / (weight.sum(-1, keepdim=True) + prior)
        evidence = share * residual(problem, meta, support)
        mean = (evidence.unsqueeze(-2) @ support.item).squeeze(-2)
        fast = shift_user(meta, mean @ meta["prototype.map"])
        return fast | {"head.out.bias": fast["head.out.bias"] + evidence.sum(-1)}


class MatchingNetwork(MetaLearner):
    """A score is the attention-weighted residual of the support [Vinyals et al., 2016].

    arXiv:1606.04080. The attention is a softmax over the cosines of a candidate to the items of the
    support, with a learned temperature. An empty slot, with a learned logit and residual 0, takes
    weight where no item is close. The paper's context embeddings, which read the support as a
    sequence, are left out.

    Attributes:
        temperature: of the softmax, before training.

    """

    batched: ClassVar[bool] = True
    name: Literal["matching"] = "matching"
    temperature: PositiveFloat = 0.5

    def init(self, params: Params, generator: Generator) -> Declared:
        return {
            "matching.map": Parameter(torch.eye(dimensions(params))),
            "matching.log_temperature": Parameter(torch.tensor(math.log(self.temperature))),
            "matching.log_decay": Parameter(torch.tensor(math.log(DECAY))),
            "matching.nothing": Parameter(torch.zeros(())),
            "matching.scale": Parameter(torch.ones(())),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        forgotten = -torch.exp(meta["matching.log_decay"]) * support.age
        evidence = residual(problem, meta, support) * support.mask
        return {
            "key": _direction(support.item @ meta["matching.map"]),
            "logit": forgotten.masked_fill(~support.mask, -torch.inf),
            "value": meta["matching.scale"] * evidence,
        }

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        near = _direction(candidates.item @ meta["matching.map"]) @ fast["key"].mT
        logits = near / torch.exp(meta["matching.log_temperature"]) + fast["logit"].unsqueeze(-2)
        nothing = meta["matching.nothing"].expand(*logits.shape[:-1], 1)
        attention = torch.softmax(torch.cat([nothing, logits], -1), -1)[..., 1:]
        evidence = (attention @ fast["value"].unsqueeze(-1)).squeeze(-1)
        return problem.predict(meta, candidates) + evidence


def residual(problem: Problem, meta: Params, support: Encoded) -> Tensor:
    """Return the residual of each event under the prior [*T, N]; arbitrary on padding.

    The label minus its expectation, on the scale of labels; 1 for a positive.
    """
    if problem.feedback == "implicit":
        return torch.ones_like(support.label)
    prior = problem.predict(meta, support)
    return support.label - (torch.sigmoid(prior) if problem.feedback == "binary" else prior)


def _direction(vectors: Tensor) -> Tensor:
    # The zero vector of an item without features has no direction: it stays zero.
    return vectors * torch.rsqrt((vectors**2).sum(-1, keepdim=True) + 1e-8)
