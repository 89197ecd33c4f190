"""Metric learners: compare candidates with the support set in the space of encoded items.

Knows one task, or T at once, without an inner loop. What the support says is added to the zero-shot
score, so that an empty support leaves the prior: the residual of a rating or click, 1 for a
positive. Older events weigh less, by a learned decay.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
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
        decay, prior = meta["prototype.log_decay"], meta["prototype.log_prior_events"]
        share = _shares(support, log_decay=decay, log_prior_events=prior)
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


class RelationNetwork(MetaLearner):
    """A score is a learned comparison with each event of the support [Sung et al., 2018].

    arXiv:1711.06025. A hidden layer over the candidate's vector, the event's, their elementwise
    product and the event's residual gives one number; an event counts as in `prototype`: e^(-decay
    age) / (sum of weights + n0). The last layer starts at zero, so training begins at the prior.
    The paper compares with sums over a class, by a network whose output is a similarity in (0, 1).

    Attributes:
        width: units of the hidden layer.
        max_events: number of newest events that candidates are compared with.
        prior_events: n0 before training: number of events that weigh as much as the prior.

    """

    batched: ClassVar[bool] = True
    name: Literal["relation"] = "relation"
    width: PositiveInt = 32
    max_events: PositiveInt = 20
    prior_events: PositiveFloat = 5.0

    def init(self, params: Params, generator: Generator) -> Declared:
        dim = dimensions(params)

        def drawn(*shape: int) -> Parameter:
            return Parameter(torch.randn(shape, generator=generator) * dim**-0.5, decays=True)

        return {
            "relation.candidate.weight": drawn(dim, self.width),
            "relation.event.weight": drawn(dim, self.width),
            "relation.product.weight": drawn(dim, self.width),
            "relation.residual.weight": drawn(self.width),
            "relation.bias": Parameter(torch.zeros(self.width)),
            "relation.out.weight": Parameter(torch.zeros(self.width), decays=True),
            "relation.out.bias": Parameter(torch.zeros(())),
            "relation.log_prior_events": Parameter(torch.tensor(math.log(self.prior_events))),
            "relation.log_decay": Parameter(torch.tensor(math.log(DECAY))),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        support = support.newest(self.max_events)
        decay, prior = meta["relation.log_decay"], meta["relation.log_prior_events"]
        told = residual(problem, meta, support).unsqueeze(-1) * meta["relation.residual.weight"]
        product = support.item.unsqueeze(-1) * meta["relation.product.weight"]
        # A candidate times `map` is what its vector and the product add to the hidden layer.
        return {
            "map": meta["relation.candidate.weight"] + product,
            "bias": support.item @ meta["relation.event.weight"] + told + meta["relation.bias"],
            "share": _shares(support, log_decay=decay, log_prior_events=prior),
        }

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        scores = problem.predict(meta, candidates)
        # Event by event: all units of a large catalogue at once would not fit memory.
        for event in range(fast["share"].shape[-1]):
            image = candidates.item @ fast["map"][..., event, :, :]
            units = torch.relu(image + fast["bias"][..., event, None, :])
            answer = units @ meta["relation.out.weight"] + meta["relation.out.bias"]
            scores = scores + fast["share"][..., event, None] * answer
        return scores


def residual(problem: Problem, meta: Params, support: Encoded) -> Tensor:
    """Return the residual of each event under the prior [*T, N]; arbitrary on padding.

    The label minus its expectation, on the scale of labels; 1 for a positive.
    """
    if problem.feedback == "implicit":
        return torch.ones_like(support.label)
    prior = problem.predict(meta, support)
    return support.label - (torch.sigmoid(prior) if problem.feedback == "binary" else prior)


def _shares(support: Encoded, *, log_decay: Tensor, log_prior_events: Tensor) -> Tensor:
    """Return what each event counts [*T, N], shrunk by n0: in all less than 1, 0 on padding."""
    weight = support.mask * torch.exp(-torch.exp(log_decay) * support.age)
    return weight / (weight.sum(-1, keepdim=True) + torch.exp(log_prior_events))


def _direction(vectors: Tensor) -> Tensor:
    # The zero vector of an item without features has no direction: it stays zero.
    return vectors * torch.rsqrt((vectors**2).sum(-1, keepdim=True) + 1e-8)
