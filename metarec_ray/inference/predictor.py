"""From support sets to scores, batched over tasks: one learner, or a blend of several.

Knows the parameters of a checkpoint; does not know ids, requests or files.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.algorithms.blending import weights_row
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Features, Params
from metarec_ray.core.parameters import under
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.single import Fitted, Trained
from metarec_ray.inference.supports import Supports

MEMBER = "member."  # first part of the names of members' parameters, in a blend
WEIGHTS, SIZES = "blend.weights", "blend.ks"


class Predictor(Protocol):
    """A model that turns support sets into scores."""

    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        """Return scores after adapting on each support set: of the whole catalogue, [T, I].

        With `items`, catalogue rows int64 [T, Q]: of those, each task its own.
        """
        ...

    def stds(self, supports: Supports, items: Tensor) -> Tensor | None:
        """Return the standard deviation [1, Q] of the label that each score predicts.

        Of one support set and the catalogue rows int64 [1, Q]. None of a learner without a
        posterior. Adapts only if that support set was not the last to be scored.
        """
        ...

    @property
    def shares_are_scores(self) -> bool:
        """Whether `log_share` changes nothing: an item's share is then known from its own score."""
        ...

    def log_share(self, scores: Tensor) -> Tensor:
        """Return scores [T, I] as log-probabilities, up to a constant a task."""
        ...

    def adapted(self, supports: Supports) -> int:
        """Return how many numbers adapting to the first support set computes."""
        ...


class Blend:
    """A weighted sum of predictors, with weights for each size of the support.

    For implicit feedback it adds log-shares of the whole catalogue, for other feedback scores.
    """

    shares_are_scores = True

    def __init__(
        self, members: Sequence[Predictor], weights: Tensor, ks: Tensor, feedback: Feedback
    ):
        """Take the weights [K, M] of members for supports of at least ks [K] events; ks[0] is 0.

        Weights are >= 0.
        """
        assert bool((weights >= 0).all())
        self.members, self.weights, self.ks = members, weights, ks
        self.feedback: Feedback = feedback

    def log_share(self, scores: Tensor) -> Tensor:
        return scores

    def counting(self, supports: Supports) -> tuple[list[int], Tensor]:
        """Return the members that count for these supports, and their weights [T, members].

        Members without weight are left out; if none has any, the first stands for all.
        """
        weights = self.weights[weights_row(supports.mask.sum(1), self.ks)]
        numbers = weights.any(0).nonzero().flatten().tolist() or [0]
        return numbers, weights[:, numbers]

    @torch.no_grad()
    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        numbers, weights = self.counting(supports)
        members = [self.members[number] for number in numbers]
        parts = [member_scores(m, supports, self.feedback, items) for m in members]
        return _weighted_sum(weights, torch.stack(parts))

    @torch.no_grad()
    def parts(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        """Return the scores of every member, whether it counts or not, [M, T, I] or [M, T, Q]."""
        every = [member_scores(m, supports, self.feedback, items) for m in self.members]
        return torch.stack(every)

    def total(self, parts: Tensor, supports: Supports) -> Tensor:
        """Return the `scores` that `parts` [M, T, *] add up to."""
        numbers, weights = self.counting(supports)
        return _weighted_sum(weights, parts[numbers])

    def stds(self, supports: Supports, items: Tensor) -> None:
        """Return None: how members' errors go together is not known."""

    def adapted(self, supports: Supports) -> int:
        return sum(member.adapted(supports) for member in self.members)


def _weighted_sum(weights: Tensor, parts: Tensor) -> Tensor:
    """Return the sums [T, I] of parts [M, T, I] by the weights [T, M] of each task."""
    # A member that does not count for a task says nothing there, not even NaN.
    counted = torch.where(weights.T.unsqueeze(-1) > 0, parts, 0.0)
    return torch.einsum("tm,mti->ti", weights, counted)


def as_blend(predictor: Predictor, feedback: Feedback) -> Blend:
    """Return a blend as it is, and any other predictor as a blend of one."""
    if isinstance(predictor, Blend):
        return predictor
    return Blend([predictor], torch.ones(1, 1), torch.zeros(1, dtype=torch.int64), feedback)


def member_scores(
    member: Predictor, supports: Supports, feedback: Feedback, items: Tensor | None = None
) -> Tensor:
    """Return the scores of a member on the scale of the blend's sum."""
    if feedback != "implicit" or member.shares_are_scores:
        return member.scores(supports, items=items)
    shares = member.log_share(member.scores(supports))
    return shares if items is None else shares.gather(1, items)


def predictor_of(
    experiment: Experiment, model: Params, feedback: Feedback, items: Features, *, user_tokens: int
) -> Predictor:
    """Return the predictor of a checkpoint.

    Args:
        experiment: as it was run.
        model: parameters and buffers by their names in a checkpoint.
        feedback: what labels mean.
        items: features of the catalogue.
        user_tokens: rows of the token table of users.

    """
    if not experiment.blend.members:
        return _single(experiment, model, feedback, items, user_tokens)
    members = []
    for name, member in experiment.members().items():
        own = under(f"{MEMBER}{name}.", model)
        members.append(_single(member, own, feedback, items, user_tokens))
    return Blend(members, model[WEIGHTS], model[SIZES], feedback)


def _single(
    experiment: Experiment, model: Params, feedback: Feedback, items: Features, user_tokens: int
) -> Fitted | Trained:
    learner = experiment.algorithm
    if isinstance(learner, FittedLearner):
        return Fitted(learner, model, feedback, n_items=len(items.tokens), user_tokens=user_tokens)
    recipe = Recipe.of(learner, experiment.model, feedback, experiment.train.loss)
    return Trained(recipe, model, items=items, labels=len(experiment.data.labels))
