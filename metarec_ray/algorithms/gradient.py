"""MAML and its relatives: what adapts, at what rate, to what order.

==============  ===================  ==============  ======
maml            the head             one fixed rate  second
fomaml          the head             one fixed rate  first
anil            its last layer       one fixed rate  second
meta_sgd        the head             learned rates   second
reptile         the head             one fixed rate  none
meta_embedding  the entity's vector  one fixed rate  second
==============  ===================  ==============  ======

Encoders are shared and never adapted: they are learned by the outer loop alone, and a served model
needs to encode its catalogue only once. Batch normalisation has no place in the head.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner, Params, Problem, QueryLoss
from metarec_ray.core.batch import Encoded
from metarec_ray.core.inner_loop import constant_rates, descend, trajectory
from metarec_ray.models.towers import shift_user

RATES = "rates."
Steps = Annotated[int, Field(ge=1, le=100)]


class GradientLearner(MetaLearner):
    """Fast weights = meta-parameters after a few steps of SGD on the support set.

    MeLU [Lee et al., 2019, arXiv:1908.00413] is `maml` on ratings, with hidden layers in the head
    and without ids of items: the layers that decide adapt, the encoders do not.
    """

    adapts: ClassVar[str] = "head."
    first_order: ClassVar[bool] = False
    inner_lr: PositiveFloat = 0.1
    inner_steps: Steps = 3
    half_life: PositiveFloat | None = None
    prior_events: NonNegativeFloat = 0.0

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return self.path(problem, meta, support, first_order=self.first_order)[-1]

    def path(
        self, problem: Problem, meta: Params, support: Encoded, *, first_order: bool
    ) -> list[Params]:
        """Return the weights after each inner step."""
        fast = {name: weight for name, weight in meta.items() if name.startswith(self.adapts)}
        count = support.mask.sum()
        share = count / (count + self.prior_events).clamp(min=1)
        if self.half_life is not None:
            # The loss is a mean over the mask, which weights turn into a weighted one.
            support = support._replace(mask=support.mask * 0.5 ** (support.age / self.half_life))
        steps = trajectory(
            lambda weights: share * problem.support_loss(meta | weights, support),
            fast,
            self.rates(meta, fast),
            first_order=first_order,
        )
        return [meta | weights for weights in steps]

    def rates(self, meta: Params, fast: Params) -> list[Params]:
        """Return, of each inner step, the learning rate of each fast weight."""
        return [constant_rates(fast, self.inner_lr)] * self.inner_steps


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

    def init(self, params: Params, generator: torch.Generator) -> Params:
        return {
            RATES + n: torch.full_like(p, self.inner_lr)
            for n, p in params.items()
            if n.startswith(self.adapts)
        }

    def rates(self, meta: Params, fast: Params) -> list[Params]:
        return [{name: meta[RATES + name] for name in fast}] * self.inner_steps


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

    def init(self, params: Params, generator: torch.Generator) -> Params:
        dim = params["user.tokens"].shape[1]
        hidden = torch.randn((dim, dim), generator=generator) * dim**-0.5
        return {"generator.0.weight": hidden, "generator.out.weight": torch.zeros(dim, dim)}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        start = {"embedding": _generated(meta, support.user)}
        warm = descend(
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


def _together(support: Encoded, query: Encoded) -> Encoded:
    """Return the events of both sets of one task; a context that all events share stays one row."""
    # Every event of the query comes after the support's newest.
    support = support._replace(age=support.age + query.mask.sum())
    joined = [torch.cat(pair) for pair in zip(support, query, strict=True)]
    both = Encoded(*joined)._replace(user=support.user)
    shared = len(both.context) != len(both.item)
    return both._replace(context=support.context) if shared else both
