"""MAML and its relatives: what adapts, at what rate, to what order.

========  ==============  ==============  ======
maml      the head        one fixed rate  second
fomaml    the head        one fixed rate  first
anil      its last layer  one fixed rate  second
meta_sgd  the head        learned rates   second
reptile   the head        one fixed rate  none
========  ==============  ==============  ======

Encoders are learned by the outer loop alone, so that a served model encodes its catalogue only
once; `model.encoder.adapts` has the inner loop adapt them too, at `inner_lr`. Batch normalisation
has no place in the head.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner, Problem, QueryLoss
from metarec_ray.algorithms.gradient.descent import FastHead, beside, descend
from metarec_ray.algorithms.gradient.event_inputs import Rates
from metarec_ray.algorithms.gradient.last_layer import BIAS, WEIGHT, descend_last_layer
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.inner_loop import constant_rates, trajectory
from metarec_ray.core.parameters import Declared, Parameter
from metarec_ray.models.head import hidden_layers, layer_names

RATES = "rates."
Steps = Annotated[int, Field(ge=1, le=100)]


class GradientLearner(MetaLearner):
    """Fast weights = meta-parameters after a few steps of SGD on the support set.

    MeLU [Lee et al., 2019, arXiv:1908.00413] is `maml` on ratings, with hidden layers in the head
    and without ids of items: the layers that decide adapt, the encoders do not.

    Attributes:
        layers: how many of the head's last layers adapt; None for all of them.
        inner_lr: rate of the inner steps.
        inner_steps: steps of descent on the support.
        half_life: age in events at which an event counts half; None for never.
        prior_events: events after which a step goes half of its whole way: k / (k + prior_events);
            0 for whole steps.

    """

    batched: ClassVar[bool] = True
    ragged: ClassVar[bool] = True
    needs_derivatives: ClassVar[bool] = True
    adapts_encoder: ClassVar[bool] = True
    mapped: ClassVar[bool] = True
    first_order: ClassVar[bool] = False
    layers: PositiveInt | None = None
    inner_lr: PositiveFloat = 0.2
    inner_steps: Steps = 3
    half_life: PositiveFloat | None = None
    prior_events: NonNegativeFloat = 4.0

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return self.path(problem, meta, support, first_order=self.first_order)[-1]

    def path(
        self, problem: Problem, meta: Params, support: Encoded, *, first_order: bool
    ) -> list[Params]:
        """Return the weights after each inner step."""
        fast = {name: meta[name] for name in self.adapting(problem, meta)}
        share, mask = self._counted(support)
        # The loss is a mean over the mask, which weights turn into a weighted one.
        support = support._replace(mask=mask)
        steps = trajectory(
            lambda weights: share.squeeze(-1) * problem.support_loss(meta | weights, support),
            fast,
            self.rates(meta, fast),
            first_order=first_order,
        )
        return [meta | weights for weights in steps]

    def rates(self, meta: Params, fast: Params) -> list[Params]:
        """Return, of each inner step, the learning rate of each fast weight."""
        return [constant_rates(fast, self.inner_lr)] * self.inner_steps

    def adapted(self, params: Params) -> list[str]:
        """Return the names of the head's parameters that adapt."""
        return layer_names(params, self._first(params))

    def adapting(self, problem: Problem, meta: Params) -> list[str]:
        """Return the names of all that adapts: the head's, and an encoder's that adapts."""
        return [*self.adapted(meta), *problem.adapting]

    def adapt_batch(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return meta | self.descended(problem, meta, support, second_order=False).weights(meta)

    def objective_batch(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        fast = self.descended(problem, meta, support, second_order=not self.first_order)
        value = loss(lambda candidates: fast.score(meta, candidates))
        return value, value.detach()

    def objective_mapped(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> Tensor:
        share, mask = self._counted(support)
        with torch.set_grad_enabled(not self.first_order):
            found = descend_last_layer(
                problem,
                meta,
                support,
                rates=self.last_rates(meta),
                steps=self.inner_steps,
                weight=share * mask / mask.sum(-1, keepdim=True).clamp(min=1),
            )
        if self.first_order:  # what was learned is a constant
            found = {name: meta[name] + (found[name] - meta[name]).detach() for name in found}
        return loss(lambda candidates: self.score(problem, meta, meta | found, candidates))

    def descended(
        self, problem: Problem, meta: Params, support: Encoded, *, second_order: bool
    ) -> FastHead:
        """Return the heads of T tasks; what is learned is a constant, unless `second_order`."""
        share, mask = self._counted(support)
        return descend(
            problem,
            meta,
            support,
            first=self._first(meta),
            rates=self.fixed_rates(meta),
            steps=self.inner_steps,
            weight=share * mask / mask.sum(-1, keepdim=True).clamp(min=1),
            second_order=second_order,
        )

    def fixed_rates(self, meta: Params) -> Rates:
        """Return the rates of every inner step, by names in the model."""
        return self.inner_lr

    def last_rates(self, meta: Params) -> tuple[float | Tensor, float | Tensor]:
        """Return the rates of the last layer's weights and bias; tensors where runs differ."""
        return self.inner_lr, self.inner_lr

    def _first(self, params: Params) -> int:
        """Return the lowest layer that adapts."""
        hidden = hidden_layers(params)
        return 0 if self.layers is None else max(0, hidden + 1 - self.layers)

    def _counted(self, support: Encoded) -> tuple[Tensor, Tensor]:
        """Return how far a whole step goes [*T, 1], and what each event counts [*T, N]."""
        mask = support.mask.to(support.label.dtype)
        count = mask.sum(-1, keepdim=True)
        share = count / (count + self.prior_events).clamp(min=1)
        if self.half_life is not None:
            mask = mask * 0.5 ** (support.age / self.half_life)
        return share, mask


class Maml(GradientLearner):
    """Model-agnostic meta-learning, second order [Finn et al., 2017, arXiv:1703.03400]."""

    name: Literal["maml"] = "maml"


class Fomaml(GradientLearner):
    """First-order MAML: the inner gradient is a constant [Finn et al., 2017, arXiv:1703.03400]."""

    first_order: ClassVar[bool] = True
    name: Literal["fomaml"] = "fomaml"


class Anil(GradientLearner):
    """Almost no inner loop: only the last layer adapts [Raghu et al., 2020, arXiv:1909.09157].

    Of a head without hidden layers that is all there is: `maml` is another learner where the head
    has hidden layers or the encoder adapts.
    """

    adapts_encoder: ClassVar[bool] = False
    name: Literal["anil"] = "anil"
    layers: PositiveInt | None = 1


class MetaSgd(GradientLearner):
    """MAML with a learned rate for every weight [Li et al., 2017, arXiv:1707.09835]."""

    name: Literal["meta_sgd"] = "meta_sgd"

    def init(self, params: Params, generator: torch.Generator) -> Declared:
        return {
            RATES + name: Parameter(torch.full_like(params[name], self.inner_lr))
            for name in self.adapted(params)
        }

    def rates(self, meta: Params, fast: Params) -> list[Params]:
        learned = {name: meta[RATES + name] for name in self.adapted(meta)}
        return [constant_rates(fast, self.inner_lr) | learned] * self.inner_steps

    def fixed_rates(self, meta: Params) -> Rates:
        return {name: meta[RATES + name] for name in self.adapted(meta)}

    def last_rates(self, meta: Params) -> tuple[float | Tensor, float | Tensor]:
        return meta[RATES + WEIGHT], meta[RATES + BIAS]


class Reptile(GradientLearner):
    """Move towards the weights that plain training on the task reaches.

    [Nichol et al., 2018, arXiv:1803.02999]. Trains on support and query together, as the paper
    does. The encoders, which the paper's inner loop would move as well, follow the query loss at
    the adapted weights.
    """

    mapped: ClassVar[bool] = False
    first_order: ClassVar[bool] = True
    name: Literal["reptile"] = "reptile"

    def objective(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        adapted = self.adapt(problem, meta, _together(support, query))
        fast = {name: adapted[name].detach() for name in self.adapting(problem, meta)}
        # The gradient of half this square is Reptile's meta-gradient, theta - phi.
        distance = torch.stack([((meta[name] - fast[name]) ** 2).sum() for name in fast]).sum()
        value = loss(lambda candidates: self.score(problem, meta, meta | fast, candidates))
        judged = self.adapt(problem, meta, support)
        query_loss = loss(lambda candidates: self.score(problem, meta, judged, candidates))
        return 0.5 * distance + value, query_loss.detach()

    def objective_batch(
        self, problem: Problem, meta: Params, support: Encoded, query: Encoded, loss: QueryLoss
    ) -> tuple[Tensor, Tensor]:
        reached = self.descended(problem, meta, _together(support, query), second_order=False)
        still = meta | {name: meta[name].detach() for name in self.adapted(meta)}
        value = loss(lambda candidates: reached.score(still, candidates))
        judged = self.descended(problem, meta, support, second_order=False)
        with torch.no_grad():
            query_loss = loss(lambda candidates: judged.score(meta, candidates))
        return reached.distance(meta) + value, query_loss


def _together(support: Encoded, query: Encoded) -> Encoded:
    """Return the events of both sets of a task."""
    # Every event of the query comes after the support's newest.
    support = support._replace(age=support.age + query.mask.sum(-1, keepdim=True))
    return beside(support, query)
