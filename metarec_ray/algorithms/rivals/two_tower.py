"""Two towers with ordinary training, fine-tuned on the support: what meta-learning has to beat.

Knows the model through `Problem` and `shift_user`. It is trained by the outer loop, but nothing is
differentiated through adaptation.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Generator, Tensor

from metarec_ray.algorithms.base import MetaLearner, Problem, QueryLoss
from metarec_ray.algorithms.metric import residual
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.inner_loop import constant_rates, descend
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import dimensions, shift_user

HISTORY = "tower.history"


class TwoTower(MetaLearner):
    """User tower = user features + a matrix times the shrunk mean of the history's items.

    [Covington et al., 2016; Yi et al., 2019]. Training predicts the events after a history, with
    the softmax loss (ratings: squared error), without fine-tuning. Adaptation then takes a few
    steps of SGD on the user's vector alone. Ratings and clicks weight an item of the history by
    the label minus its prediction from the features alone. An empty support leaves the features.

    Attributes:
        shrink: number of zero vectors in the mean: a short history says less.
        inner_lr: rate of the fine-tuning.
        inner_steps: of the fine-tuning; 0 for none.

    """

    name: Literal["two_tower"] = "two_tower"
    kind: ClassVar = "rival"
    shrink: NonNegativeFloat = 2.0
    inner_lr: PositiveFloat = 0.1
    inner_steps: Annotated[int, Field(ge=0, le=100)] = 3

    def init(self, params: Params, generator: Generator) -> Declared:
        return {HISTORY: Parameter(torch.eye(dimensions(params)))}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        towers = self._with_history(problem, meta, support)
        shift = {"user": torch.zeros_like(support.user)}
        found = descend(
            lambda fast: problem.support_loss(shift_user(towers, fast["user"]), support),
            shift,
            constant_rates(shift, self.inner_lr),
            steps=self.inner_steps,
            first_order=True,
        )
        return shift_user(towers, found["user"])

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        towers = self._with_history(problem, meta, support)
        value = loss(lambda candidates: problem.predict(towers, candidates))
        tuned = self.adapt(problem, meta, support)
        return value, loss(lambda candidates: problem.predict(tuned, candidates)).detach()

    def _with_history(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        """Return parameters with the mean of the support added to the user's vector."""
        weight = support.mask * residual(problem, meta, support)
        events = (support.mask.sum() + self.shrink).clamp(min=1)
        mean = weight @ support.item / events
        return shift_user(meta, mean @ meta[HISTORY])
