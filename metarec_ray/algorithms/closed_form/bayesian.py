"""The posterior of the head's last layer under a learned prior."""

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import softplus

from metarec_ray.algorithms.base import MetaLearner, Problem
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.linear_head import bernoulli_posterior, choice_posterior, gaussian_posterior
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import score_of


class BayesianHead(MetaLearner):
    """Bayesian linear head whose prior, noise and features are meta-learned.

    The last layer's weights have a Gaussian prior around the zero-shot model, with a learned
    diagonal precision; a support set gives their posterior mean in closed form (ratings) or in a
    few Newton steps (clicks, choices). The query loss learns the prior (empirical Bayes), as in
    [Bertinetto et al., 2019, arXiv:1805.08136], but with a prior mean and each feedback's own
    likelihood; that of choices is the conditional logit [McFadden, 1974]. Older events weigh less,
    by a learned decay. Of labels the head's constant adapts too, as one more weight with a learned
    precision: whether somebody rates high says nothing of choices.

    Attributes:
        prior_precision: initial precision of every weight.
        constant_precision: initial precision of the head's constant.
        noise_precision: initial precision of one observation; of a rating in units of 1 / variance
            of all ratings.
        newton_steps: for clicks and choices; ratings need none.

    """

    batched: ClassVar[bool] = True
    mapped: ClassVar[bool] = True
    name: Literal["bayesian_head"] = "bayesian_head"
    prior_precision: PositiveFloat = 1.0
    constant_precision: PositiveFloat = 3.0
    noise_precision: PositiveFloat = 1.0
    newton_steps: Annotated[int, Field(ge=1, le=20)] = 2

    def init(self, params: Params, generator: torch.Generator) -> Declared:
        width = params["head.out.weight"].shape[0]
        return {
            "bayes.precision": Parameter(
                torch.full((width,), _inverse_softplus(self.prior_precision))
            ),
            "bayes.constant": Parameter(torch.tensor(_inverse_softplus(self.constant_precision))),
            "bayes.noise": Parameter(torch.tensor(_inverse_softplus(self.noise_precision))),
            "bayes.decay": Parameter(torch.tensor(_inverse_softplus(0.02))),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        weight, shift = meta["head.out.weight"], self._posterior(problem, meta, support)
        fast = meta | {"head.out.weight": weight + shift[..., : len(weight)]}
        if problem.reference is None:
            fast["head.out.bias"] = meta["head.out.bias"] + shift[..., -1]
        return fast

    def _posterior(self, problem: Problem, meta: Params, support: Encoded) -> Tensor:
        """Return how the last layer's weights change [*T, P], of labels the constant after them."""
        features = problem.features(meta, support)
        precision = softplus(meta["bayes.precision"]) + 1e-4
        age_weight = torch.exp(-softplus(meta["bayes.decay"]) * support.age)
        weight = softplus(meta["bayes.noise"]) * age_weight * support.mask
        if problem.reference is not None:
            reference = problem.features(meta, problem.reference)
            logits = score_of(meta, reference, problem.reference) - problem.reference_log_q
            return choice_posterior(
                features, weight, reference, logits, precision, steps=self.newton_steps
            )
        prior = score_of(meta, features, support)
        features = torch.nn.functional.pad(features, (0, 1), value=1.0)
        constant = softplus(meta["bayes.constant"]) + 1e-4
        precision = torch.cat([precision, constant.view(1)])
        if problem.feedback == "binary":
            return bernoulli_posterior(
                features, support.label, prior, weight, precision, steps=self.newton_steps
            )
        return gaussian_posterior(features, support.label - prior, weight, precision)


def _inverse_softplus(value: float) -> float:
    # log(exp(x) - 1), without the overflow of exp.
    return value + math.log(-math.expm1(-value))
