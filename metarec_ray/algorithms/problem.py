"""From a model to what a learner may ask of it: encoded events and a `Problem`.

Knows the towers and the losses; training, evaluation and serving all come through here, so that a
support set means the same to each of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Params, Problem
from metarec_ray.core import losses
from metarec_ray.core.batch import Encoded
from metarec_ray.data.settings import Feedback
from metarec_ray.models.towers import head_features, head_score


class EncodedItems(NamedTuple):
    """Items after the shared encoder: rows of the catalogue, vectors, offsets.

    T tasks that share items may know different offsets of them, [T, U].
    """

    index: Tensor  # int64 [*T, U]  # pyright: ignore[reportIncompatibleMethodOverride]
    vector: Tensor  # float [*T, U, D]
    offset: Tensor  # float [*T, U]

    def at(self, position: Tensor) -> "EncodedItems":
        """Return the items at `position` [*T, N] of this table."""
        if self.offset.dim() == 1:
            offset = self.offset[position]
        else:
            offset = self.offset.gather(-1, position.expand(*self.offset.shape[:-1], -1))
        # Its derivative costs a third of that of `vector[position]`.
        vector = self.vector.index_select(0, position.flatten())
        return EncodedItems(
            self.index[position], vector.view(*position.shape, vector.shape[-1]), offset
        )


class Support(NamedTuple):
    """A padded support or query set of one task, or of T, real events first."""

    items: EncodedItems  # [*T, N]
    context: Tensor  # float [*T, N, D] or [*T, 1, D]
    label: Tensor
    mask: Tensor
    time: Tensor  # int64


def encode_support(support: Support, user: Tensor) -> Encoded:
    """Return the events of one task, or of T, the newest with age 0."""
    later = support.mask.sum(-1, keepdim=True) - 1 - torch.arange(support.mask.shape[-1])
    return Encoded(
        index=support.items.index,
        item=support.items.vector,
        offset=support.items.offset,
        user=user,
        context=support.context,
        label=support.label,
        age=later.clamp(min=0).to(user.dtype),
        mask=support.mask,
        time=support.time,
    )


def encode_candidates(items: EncodedItems, user: Tensor, context: Tensor) -> Encoded:
    """Return items to be scored for each user, all in the same context [*T, 1, D]."""
    n = items.index.shape[-1]
    zeros = torch.zeros(n, dtype=user.dtype)
    return Encoded(
        items.index,
        items.vector,
        items.offset,
        user,
        context,
        zeros,
        zeros,
        torch.ones(n, dtype=torch.bool),
        torch.zeros(n, dtype=torch.int64),
    )


def unencoded(n_items: int) -> EncodedItems:
    """Return the catalogue for learners that are not fitted through a model: rows only."""
    return EncodedItems(torch.arange(n_items), torch.zeros(n_items, 0), torch.zeros(n_items))


def no_problem(feedback: Feedback) -> Problem:
    """Return the problem of learners that are not fitted through a model."""
    return Problem(feedback, _not_asked, _not_asked, _not_asked, None, torch.zeros(0))


def make_problem(
    feedback: Feedback,
    reference: EncodedItems | None,
    log_q: Tensor,
    user: Tensor,
    context: Tensor,
    *,
    progress: float | None = None,
    begins: Tensor | None = None,
) -> Problem:
    """Return what a learner may ask while it adapts to the task of `user`.

    Args:
        feedback: what labels mean, and so the loss.
        reference: the fixed sample of the catalogue that positives compete with; None for labels.
        log_q: log-probability of each reference item to have been sampled.
        user: vector [*T, D] of the task's user.
        context: [*T, 1, D] in which reference items are scored.
        progress: share of meta-training that is done, None outside it.
        begins: whether the support begins a history; None for a new user's.

    """
    begins = torch.tensor(True, device=user.device) if begins is None else begins
    if feedback != "implicit":
        loss = losses.squared_error if feedback == "explicit" else losses.cross_entropy

        def support_loss(params: Params, support: Encoded) -> Tensor:
            return loss(head_score(params, support), support.label, support.mask)

        return Problem(
            feedback, head_score, head_features, support_loss, None, log_q, progress, begins
        )
    assert reference is not None
    others = encode_candidates(reference, user, context)

    def choice_loss(params: Params, support: Encoded) -> Tensor:
        # A positive competes with every item of the sample but itself.
        competes = support.index.unsqueeze(-1) != reference.index
        rivals = head_score(params, others) - log_q
        scores = head_score(params, support)
        return losses.softmax(scores, rivals, support.mask, competes=competes)

    return Problem(
        feedback, head_score, head_features, choice_loss, others, log_q, progress, begins
    )


def _not_asked(params: Params, events: Encoded) -> Tensor:
    raise AssertionError("a learner that is fitted without a model asked for one")
