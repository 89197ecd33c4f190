"""Meta-embeddings: a generated vector for a new entity, warmed up on its first events."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner, Problem, QueryLoss
from metarec_ray.algorithms.gradient.maml import Steps
from metarec_ray.core import inner_loop
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.inner_loop import constant_rates
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import dimensions, shift_user


class MetaEmbedding(MetaLearner):
    """Generate the vector of a new entity from its features, then warm it up on its first events.

    [Pan et al., 2019, arXiv:1904.11547]; made for new items, so for tasks whose entity is the item
    and whose events are its raters, but any new entity will do. The encoded features make an
    embedding, which is added to them; gradient steps on the support move the embedding alone. The
    objective weighs the loss before them, on the support, against the loss after them, on the
    query. Every entity is taken for a new one: leave `model.user_ids` off, as a vector of ids would
    be part of what the generator reads of an old one.

    Attributes:
        inner_lr: rate of the warm-up.
        inner_steps: steps of the warm-up.
        cold_share: weight of the loss before the warm-up.

    """

    name: Literal["meta_embedding"] = "meta_embedding"
    inner_lr: PositiveFloat = 0.1
    inner_steps: Steps = 1
    cold_share: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def init(self, params: Params, generator: torch.Generator) -> Declared:
        dim = dimensions(params)
        hidden = torch.randn((dim, dim), generator=generator) * dim**-0.5
        return {
            "generator.0.weight": Parameter(hidden, decays=True),
            "generator.out.weight": Parameter(torch.zeros(dim, dim), decays=True),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        start = {"embedding": _generated(meta, support.user)}
        warm = inner_loop.descend(
            lambda fast: problem.support_loss(shift_user(meta, fast["embedding"]), support),
            start,
            constant_rates(start, self.inner_lr),
            steps=self.inner_steps,
            first_order=False,
        )
        return shift_user(meta, warm["embedding"])

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        cold = problem.support_loss(shift_user(meta, _generated(meta, support.user)), support)
        fast = self.adapt(problem, meta, support)
        value = loss(lambda candidates: self.score(problem, meta, fast, candidates))
        return self.cold_share * cold + (1 - self.cold_share) * value, value.detach()


def _generated(meta: Params, vector: Tensor) -> Tensor:
    return torch.tanh(vector @ meta["generator.0.weight"]) @ meta["generator.out.weight"]
