"""MAML and its relatives: what adapts, at what rate, to what order.

=========  ==================  ==============  ======
maml       the head            one fixed rate  second
fomaml     the head            one fixed rate  first
anil       its last layer      one fixed rate  second
meta_sgd   the head            learned rates   second
reptile    the head            one fixed rate  none
=========  ==================  ==============  ======

Encoders are shared and never adapted: they are learned by the outer loop alone, and a served model
needs to encode its catalogue only once.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner, Params, Problem, QueryLoss
from metarec_ray.core.batch import Encoded
from metarec_ray.core.inner_loop import constant_rates, descend

RATES = "rates."
Steps = Annotated[int, Field(ge=1, le=100)]


class GradientLearner(MetaLearner):
    """Fast weights = meta-parameters after a few steps of SGD on the support set."""

    adapts: ClassVar[str] = "head."
    first_order: ClassVar[bool] = False
    inner_lr: PositiveFloat = 0.1
    inner_steps: Steps = 3

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        fast = {name: weight for name, weight in meta.items() if name.startswith(self.adapts)}
        return meta | descend(
            lambda weights: problem.support_loss(meta | weights, support),
            fast,
            self.rates(meta, fast),
            steps=self.inner_steps,
            first_order=self.first_order,
        )

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return problem.predict(fast, candidates)

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        fast = self.adapt(problem, meta, support)
        value = loss(lambda candidates: self.score(problem, meta, fast, candidates))
        return value, value.detach()

    def rates(self, meta: Params, fast: Params) -> Params:
        """Return the inner learning rate of each fast weight."""
        return constant_rates(fast, self.inner_lr)


class Maml(GradientLearner):
    """Model-agnostic meta-learning, second order [Finn et al., 2017, arXiv:1703.03400]."""

    name: Literal["maml"] = "maml"


class Fomaml(GradientLearner):
    """First-order MAML: the inner gradient is a constant [Finn et al., 2017, arXiv:1703.03400]."""

    first_order: ClassVar[bool] = True
    name: Literal["fomaml"] = "fomaml"


class Anil(GradientLearner):
    """Almost no inner loop: only the last layer adapts [Raghu et al., 2020, arXiv:1909.09157]."""

    adapts: ClassVar[str] = "head.out."
    name: Literal["anil"] = "anil"


class MetaSgd(GradientLearner):
    """MAML with a learned rate for every weight [Li et al., 2017, arXiv:1707.09835]."""

    name: Literal["meta_sgd"] = "meta_sgd"

    def init(self, params: Params) -> Params:
        return {
            RATES + n: torch.full_like(p, self.inner_lr)
            for n, p in params.items()
            if n.startswith(self.adapts)
        }

    def rates(self, meta: Params, fast: Params) -> Params:
        return {name: meta[RATES + name] for name in fast}


class Reptile(GradientLearner):
    """Move towards the weights that plain training on the task reaches.

    [Nichol et al., 2018, arXiv:1803.02999]. Trains on support and query together, as the paper
    does. The encoders, which the paper's inner loop would move as well, follow the query loss at
    the adapted weights.
    """

    first_order: ClassVar[bool] = True
    name: Literal["reptile"] = "reptile"

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        adapted = self.adapt(problem, meta, _together(support, query))
        fast = {name: adapted[name].detach() for name in adapted if name.startswith(self.adapts)}
        # The gradient of half this square is Reptile's meta-gradient, theta - phi.
        distance = torch.stack([((meta[name] - fast[name]) ** 2).sum() for name in fast]).sum()
        value = loss(lambda candidates: self.score(problem, meta, meta | fast, candidates))
        judged = self.adapt(problem, meta, support)
        query_loss = loss(lambda candidates: self.score(problem, meta, judged, candidates))
        return 0.5 * distance + value, query_loss.detach()


def _together(support: Encoded, query: Encoded) -> Encoded:
    """Return the events of both sets of one task; a context that all events share stays one row."""
    joined = [torch.cat(pair) for pair in zip(support, query, strict=True)]
    both = Encoded(*joined)._replace(user=support.user)
    shared = len(both.context) != len(both.item)
    return both._replace(context=support.context) if shared else both
