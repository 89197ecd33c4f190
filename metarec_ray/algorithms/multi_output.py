"""The posterior of the head's last layer after several labels an event.

Knows the rating that is predicted and further labels of the same events (dwell, a click); does not
know what they are called, or their unit.
"""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import pad, softplus

from metarec_ray.algorithms.base import MetaLearner, Problem, QueryLoss
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.linear_head import gaussian_posterior
from metarec_ray.core.parameters import Declared, Parameter, Rows
from metarec_ray.data.settings import Feedback
from metarec_ray.models.head import score_of

_LEAST = 1e-4  # of a precision, and of a share and its rest


class MultiOutputHead(MetaLearner):
    """Bayesian linear heads of several labels of an event, whose priors are learned together.

    Label l of an event, 0 being the rating, is m_l + (a_l c + v_l) . phi + noise of its own: c,
    what a user's heads have in common, and v_l, what is left of each, are Gaussian with learned
    diagonal precisions, a_0 = 1, and the loadings a_l are learned. That is the linear model of
    coregionalisation [Alvarez et al., 2012, arXiv:1106.6251; Bonilla et al., 2008] over the
    towers' features phi and a constant. One solve gives the posterior of all heads by every label
    that is known; that of the rating is what ranks. Without further labels it is `bayesian_head`.

    Clicks and positives are left to `bayesian_head`: the posterior is Gaussian, and a click that is
    predicted has another likelihood. Clicks as further labels are regressed like any number.

    Attributes:
        prior_precision: initial precision of every weight.
        constant_precision: initial precision of each head's constant.
        noise_precision: initial precision of one label, in units of 1 / variance of all of its.
        loading: initial a_l of further labels, in standard deviations of these.
        auxiliary_weight: of the squared error of further labels of the query, beside the rating's.

    """

    batched: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    suits: ClassVar[tuple[Feedback, ...]] = ("explicit",)
    name: Literal["multi_output_head"] = "multi_output_head"
    prior_precision: PositiveFloat = 1.0
    constant_precision: PositiveFloat = 3.0
    noise_precision: PositiveFloat = 1.0
    loading: float = Field(default=0.0, ge=-10, le=10)
    auxiliary_weight: NonNegativeFloat = 0.1

    def init(self, params: Params, generator: torch.Generator) -> Declared:
        precision = self._precision(params)
        return {
            "outputs.precision": Parameter(precision),
            "outputs.noise": Parameter(torch.tensor(_inverse_softplus(self.noise_precision))),
            "outputs.decay": Parameter(torch.tensor(_inverse_softplus(0.02))),
        }

    def init_labels(self, params: Params, labels: int) -> Declared:
        if not labels:
            return {}
        precision = self._precision(params)
        width = len(precision)
        noise = torch.full((labels,), _inverse_softplus(self.noise_precision))
        each = Rows("label", "dense")  # a warm start copies those of the same label
        return {
            "labels.share": Parameter(torch.zeros(width)),
            "labels.loading": Parameter(torch.full((labels, width), self.loading), rows=each),
            "labels.precision": Parameter(precision.repeat(labels, 1), rows=each),
            "labels.noise": Parameter(noise, rows=each),
            "labels.mean": Parameter(torch.zeros(labels, width), decays=True, rows=each),
            "labels.of_rating": Parameter(torch.zeros(labels), rows=each),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return _adapted(meta, self._heads(problem, meta, support))

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        heads = self._heads(problem, meta, support)
        fast = _adapted(meta, heads)
        value = loss(lambda candidates: self.score(problem, meta, fast, candidates))
        if heads.shape[-2] == 1 or not self.auxiliary_weight:
            return value, value.detach()
        error = _squared_error(_rows(problem, meta, query), heads)
        return value + self.auxiliary_weight * error, value.detach()

    def _precision(self, params: Params) -> Tensor:
        """Return the initial precisions [P + 1] before softplus, the constant's last."""
        width = params["head.out.weight"].shape[0]
        weights = torch.full((width,), _inverse_softplus(self.prior_precision))
        return torch.cat([weights, torch.tensor([_inverse_softplus(self.constant_precision)])])

    def _heads(self, problem: Problem, meta: Params, support: Encoded) -> Tensor:
        """Return how the heads of all labels change [*T, 1 + L, P + 1], the constants last."""
        rows = _rows(problem, meta, support)
        noise = meta["outputs.noise"].view(1)
        if "labels.noise" in meta:
            noise = torch.cat([noise, meta["labels.noise"]])
        age_weight = torch.exp(-softplus(meta["outputs.decay"]) * support.age)
        weight = softplus(noise) * age_weight.unsqueeze(-1) * rows.known
        mixing, precision = _coregionalisation(meta)
        # One regression of all labels on all parts: row (n, l) has a_lc phi(n) in the place of c.
        features = torch.einsum("...np,lcp->...nlcp", rows.features, mixing)
        parts = gaussian_posterior(
            features.flatten(-2).flatten(-3, -2),
            rows.residual.flatten(-2),
            weight.flatten(-2),
            precision.flatten(),
        )
        return torch.einsum("...cp,lcp->...lp", parts.unflatten(-1, precision.shape), mixing)


class _Rows(NamedTuple):
    """What is known of N events: what heads are linear in, and what the prior leaves unexplained.

    The first of the 1 + L labels is the rating.
    """

    features: Tensor  # [*T, N, P + 1], the constant last
    residual: Tensor  # [*T, N, 1 + L], 0 where not known
    known: Tensor  # bool [*T, N, 1 + L]


def _rows(problem: Problem, meta: Params, events: Encoded) -> _Rows:
    features = problem.features(meta, events)
    prior = score_of(meta, features, events).unsqueeze(-1)
    features = pad(features, (0, 1), value=1.0)
    label, real = events.label.unsqueeze(-1), events.mask.unsqueeze(-1)
    if "labels.mean" in meta:
        further = meta["labels.of_rating"] * prior + features @ meta["labels.mean"].mT
        prior = torch.cat([prior, further], -1)
        label = torch.cat([label, _further(events, further)], -1)
    known = real & ~label.isnan()
    return _Rows(features, torch.where(known, label - prior, 0.0), known)


def _further(events: Encoded, like: Tensor) -> Tensor:
    """Return the further labels of events in the shape of `like`, not known of events without."""
    return events.labels if events.labels.shape[-1] else torch.full_like(like, torch.nan)


def _coregionalisation(meta: Params) -> tuple[Tensor, Tensor]:
    """Return how much of each part is in each label's head, and the precisions of the parts.

    Parts are c, v_0, v_1 .. v_L: [1 + L, 2 + L, P + 1] and [2 + L, P + 1]. Without further labels
    the rating's head is the only part.
    """
    total = (softplus(meta["outputs.precision"]) + _LEAST).unsqueeze(0)
    if "labels.loading" not in meta:
        return torch.ones_like(total).unsqueeze(0), total
    loading = meta["labels.loading"]
    # What c and v_0 add up to has the precision of the rating's head, whatever c's share.
    share = torch.sigmoid(meta["labels.share"]).clamp(_LEAST, 1 - _LEAST)
    own = softplus(meta["labels.precision"]) + _LEAST
    precision = torch.cat([total / share, total / (1 - share), own])
    shared = torch.cat([torch.ones_like(total), loading]).unsqueeze(1)
    apart = torch.eye(1 + len(loading), dtype=loading.dtype, device=loading.device)
    return torch.cat([shared, apart.unsqueeze(-1).expand(-1, -1, loading.shape[-1])], 1), precision


def _adapted(meta: Params, heads: Tensor) -> Params:
    """Return the parameters whose head predicts the rating, after the changes of all heads."""
    shift = heads[..., 0, :]
    return meta | {
        "head.out.weight": meta["head.out.weight"] + shift[..., :-1],
        "head.out.bias": meta["head.out.bias"] + shift[..., -1],
    }


def _squared_error(rows: _Rows, heads: Tensor) -> Tensor:
    """Return the mean squared error [*T] of the further labels that are known, 0 if none is."""
    known = rows.known[..., 1:]
    error = (rows.residual - rows.features @ heads.mT)[..., 1:].square() * known
    return error.sum((-2, -1)) / known.sum((-2, -1)).clamp(min=1)


def _inverse_softplus(value: float) -> float:
    # log(exp(x) - 1), without the overflow of exp.
    return value + math.log(-math.expm1(-value))
