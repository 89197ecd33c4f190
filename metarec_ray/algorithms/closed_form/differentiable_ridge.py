"""Differentiable ridge regression: a closed-form inner loop with a learned penalty."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Generator

from metarec_ray.algorithms.base import MetaLearner, Problem
from metarec_ray.algorithms.metric import residual
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.linear_head import ridge
from metarec_ray.core.parameters import Declared, Parameter


class DifferentiableRidge(MetaLearner):
    """R2-D2: ridge regression on encoded features [Bertinetto et al., 2019, arXiv:1805.08136].

    Regresses the residuals of the zero-shot model on the features of the last layer and a constant,
    and adds the solution, times a learned scale, to the last layer. The smaller of the primal and
    the dual system is solved. The paper's offset is the layer's own bias. Ratings and clicks have
    their residuals as targets. Positives have target 1, and reference items target -1; these are
    weighted by their probability of being chosen under the prior, and together weigh as much as
    the support, which balances the two classes.

    Attributes:
        penalty: of the regression, before training.

    """

    batched: ClassVar[bool] = True
    name: Literal["differentiable_ridge"] = "differentiable_ridge"
    penalty: PositiveFloat = 1.0

    def init(self, params: Params, generator: Generator) -> Declared:
        return {
            "ridge.log_penalty": Parameter(torch.tensor(math.log(self.penalty))),
            "ridge.scale": Parameter(torch.ones(())),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        features, target = problem.features(meta, support), residual(problem, meta, support)
        weight = support.mask.to(target.dtype)
        if problem.reference is not None:
            logits = problem.predict(meta, problem.reference) - problem.reference_log_q
            others = problem.features(meta, problem.reference)
            others = others.expand(*features.shape[:-2], *others.shape[-2:])
            features = torch.cat([features, others], -2)
            target = torch.cat([target, -torch.ones_like(logits)], -1)
            total = weight.sum(-1, keepdim=True)
            weight = torch.cat([weight, total * torch.softmax(logits, -1)], -1)
        features = torch.cat([features, torch.ones_like(features[..., :1])], -1)
        penalty = torch.exp(meta["ridge.log_penalty"])
        solution = meta["ridge.scale"] * ridge(features, target, weight, penalty)
        return meta | {
            "head.out.weight": meta["head.out.weight"] + solution[..., :-1],
            "head.out.bias": meta["head.out.bias"] + solution[..., -1],
        }
