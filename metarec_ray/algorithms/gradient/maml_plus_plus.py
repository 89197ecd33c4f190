"""MAML++: what makes MAML train more steadily [Antoniou et al., 2019, arXiv:1810.09502].

Of its six parts, four are here. The cosine outer rate is `train.schedule`. The two on batch
normalisation, statistics and biases of every step, do not apply: the head has none.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from metarec_ray.algorithms.base import Problem, QueryLoss
from metarec_ray.algorithms.gradient.maml import RATES, GradientLearner
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.inner_loop import constant_rates
from metarec_ray.core.parameters import Declared, Parameter

Share = Annotated[float, Field(ge=0, le=1)]


class MamlPlusPlus(GradientLearner):
    """MAML with a loss after every step, rates of every layer and step, and first order at first.

    Attributes:
        multi_step_share: share of training in which the query loss of all inner steps counts,
            evenly at first, the last step's alone at its end and ever after.
        first_order_share: share of training, from its start, with first-order meta-gradients.

    """

    batched: ClassVar[bool] = False
    mapped: ClassVar[bool] = False
    name: Literal["maml_plus_plus"] = "maml_plus_plus"
    multi_step_share: Share = 0.2
    first_order_share: Share = 0.4

    def init(self, params: Params, generator: torch.Generator) -> Declared:
        return {
            RATES + n: Parameter(
                torch.full((self.inner_steps,), self.inner_lr, dtype=params[n].dtype)
            )
            for n in self.adapted(params)
        }

    def rates(self, meta: Params, fast: Params) -> list[Params]:
        fixed, head = constant_rates(fast, self.inner_lr), self.adapted(meta)
        return [
            fixed | {name: meta[RATES + name][step] for name in head}
            for step in range(self.inner_steps)
        ]

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        first_order = problem.progress is not None and problem.progress < self.first_order_share
        path = self.path(problem, meta, support, first_order=first_order)
        shares = self.loss_shares(problem.progress)

        def query_loss(fast: Params) -> Tensor:
            return loss(lambda candidates: self.score(problem, meta, fast, candidates))

        early = [
            share * query_loss(fast)
            for share, fast in zip(shares[:-1], path[:-1], strict=True)
            if share > 0
        ]
        last = query_loss(path[-1])
        value = torch.stack([*early, shares[-1] * last]).sum()
        return value, last.detach()

    def loss_shares(self, progress: float | None) -> list[float]:
        """Return how much the query loss after each inner step counts; they sum to 1.

        `progress` None, outside meta-training, asks for the last step's alone.
        """
        early = 0.0
        if progress is not None and progress < self.multi_step_share:
            early = (1 - progress / self.multi_step_share) / self.inner_steps
        return [early] * (self.inner_steps - 1) + [1 - early * (self.inner_steps - 1)]
