"""From a model to what a learner may ask of it: encoded events and a `Problem`.

Knows the model and the losses; training, evaluation and serving all come through here, so that a
support set means the same to each of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner, Problem
from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss, Loss
from metarec_ray.algorithms.losses.union import AnyLoss, loss_for
from metarec_ray.core.batch import NO_LABELS, Encoded, Features, Params
from metarec_ray.data.settings import Feedback
from metarec_ray.models.head import head_features, head_score
from metarec_ray.models.towers import Towers


class Recipe(NamedTuple):
    """What is trained and served: who learns, on which model, by which loss.

    `adapting` names the encoder's parameters that adapt to a task, where it adapts.
    """

    learner: MetaLearner
    model: Towers
    loss: Loss
    feedback: Feedback
    adapting: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, learner: MetaLearner, model: Towers, feedback: Feedback, loss: AnyLoss | None = None
    ) -> "Recipe":
        """Return the recipe with this loss, or with that of the kind of feedback."""
        return cls(learner, model, loss_for(feedback, loss), feedback, model.adapted())

    @property
    def batched(self) -> bool:
        """Whether the learner takes T tasks at once; else vmap makes T of one."""
        by_hand = self.loss.has_derivatives or not self.learner.needs_derivatives
        return self.learner.batched and by_hand and not self.model.encoder.adapts


class EncodedItems(NamedTuple):
    """Items after the shared encoder: rows of the catalogue, vectors, offsets.

    T tasks that share items may know different offsets of them, [T, U].
    """

    index: Tensor  # int64 [*T, U]  # pyright: ignore[reportIncompatibleMethodOverride]
    vector: Tensor  # float [*T, U, D]
    offset: Tensor  # float [*T, U]
    place: Tensor  # int64 [*T, U]: rows of the table that was encoded

    def at(self, position: Tensor) -> "EncodedItems":
        """Return the items at `position` [*T, N] of this table."""
        if self.offset.dim() == 1:
            offset = self.offset[position]
        else:
            offset = self.offset.gather(-1, position.expand(*self.offset.shape[:-1], -1))
        # Its derivative costs a third of that of `vector[position]`.
        vector = self.vector.index_select(0, position.flatten())
        vector = vector.view(*position.shape, vector.shape[-1])
        return EncodedItems(self.index[position], vector, offset, self.place[position])


def encoded_table(index: Tensor, vector: Tensor, offset: Tensor) -> EncodedItems:
    """Return a whole table of encoded items, given their rows of the catalogue."""
    return EncodedItems(index, vector, offset, torch.arange(len(index), device=index.device))


class Support(NamedTuple):
    """A padded support or query set of one task, or of T, real events first."""

    items: EncodedItems  # [*T, N]
    context: Tensor  # float [*T, N, D] or [*T, 1, D]
    label: Tensor
    mask: Tensor
    time: Tensor  # int64
    labels: Tensor = NO_LABELS  # float [*T, N, L]


class Reencoder(NamedTuple):
    """Encodes the user and the items of one task anew, as an encoder that adapts has to.

    Attributes:
        model: whose encoder adapts.
        items: features of the table of items [U].
        item_ids: their id rows [U, D], None without ids.
        user: features of the task's user.
        user_id: its id row [D], 0 without one.
        adapting: names of the encoder's parameters that adapt.

    """

    model: Towers
    items: Features
    item_ids: Tensor | None
    user: Features
    user_id: Tensor
    adapting: tuple[str, ...]

    def encode(self, params: Params, events: Encoded) -> Encoded:
        """Return the events as the encoder with these parameters sees them."""
        rows = self.items.at(events.place)
        ids = None if self.item_ids is None else self.item_ids[events.place]
        return events._replace(
            item=self.model.encode(params, "item", rows, ids),
            user=self.model.encode(params, "user", self.user, self.user_id),
        )


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
        place=support.items.place,
        labels=support.labels,
    )


def encode_candidates(items: EncodedItems, user: Tensor, context: Tensor) -> Encoded:
    """Return items to be scored for each user, all in the same context [*T, 1, D]."""
    n = items.index.shape[-1]
    zeros = torch.zeros(1, dtype=user.dtype).expand(n)
    return Encoded(
        index=items.index,
        item=items.vector,
        offset=items.offset,
        user=user,
        context=context,
        label=zeros,
        age=zeros,
        mask=torch.ones(1, dtype=torch.bool).expand(n),
        time=torch.zeros(1, dtype=torch.int64).expand(n),
        place=items.place,
    )


def unencoded(n_items: int) -> EncodedItems:
    """Return the catalogue for learners that are not fitted through a model: rows only."""
    return encoded_table(torch.arange(n_items), torch.zeros(n_items, 0), torch.zeros(n_items))


def no_problem(feedback: Feedback) -> Problem:
    """Return the problem of learners that are not fitted through a model."""
    loss = loss_for(feedback)
    return Problem(feedback, loss, _not_asked, _not_asked, _not_asked, None, torch.zeros(0))


def make_problem(
    feedback: Feedback,
    reference: EncodedItems | None,
    log_q: Tensor,
    user: Tensor,
    context: Tensor,
    *,
    loss: Loss | None = None,
    progress: float | None = None,
    begins: Tensor | None = None,
    reencoder: Reencoder | None = None,
) -> Problem:
    """Return what a learner may ask while it adapts to the task of `user`.

    Args:
        feedback: what labels mean.
        reference: the fixed sample of the catalogue that positives compete with; not read by losses
            of labels.
        log_q: log-probability of each reference item to have been sampled.
        user: vector [*T, D] of the task's user.
        context: [*T, 1, D] in which reference items are scored.
        loss: what a support set is learned by; None for that of the kind of feedback.
        progress: share of meta-training that is done, None outside it.
        begins: whether the support begins a history; None for a new user's.
        reencoder: where the encoder adapts, of one task; else None.

    """
    loss = loss_for(feedback) if loss is None else loss
    others = None
    if isinstance(loss, ChoiceLoss):
        assert reference is not None
        others = encode_candidates(reference, user, context)
    view = _View(loss, others, log_q, reencoder)
    return Problem(
        feedback=feedback,
        loss=loss,
        predict=view.predict,
        features=view.features,
        support_loss=view.support_loss,
        reference=others,
        reference_log_q=log_q,
        progress=progress,
        begins=torch.tensor(True, device=user.device) if begins is None else begins,
        adapting=() if reencoder is None else reencoder.adapting,
    )


class _View(NamedTuple):
    """What the model says of a task's events; through `reencoder`, where the encoder adapts."""

    loss: Loss
    others: Encoded | None  # the reference sample, which positives compete with
    log_q: Tensor
    reencoder: Reencoder | None

    def predict(self, params: Params, events: Encoded) -> Tensor:
        return head_score(params, self._encoded(params, events))

    def features(self, params: Params, events: Encoded) -> Tensor:
        return head_features(params, self._encoded(params, events))

    def support_loss(
        self, params: Params, support: Encoded, choosable: Tensor | None = None
    ) -> Tensor:
        loss = self.loss
        if isinstance(loss, LabelLoss):
            return loss.of_labels(self.predict(params, support), support.label, support.mask)
        assert isinstance(loss, ChoiceLoss)
        assert self.others is not None
        # A positive competes with every item of the sample but itself.
        competes = support.index.unsqueeze(-1) != self.others.index
        competes = competes if choosable is None else competes & choosable
        rivals = self.predict(params, self.others)
        scores = self.predict(params, support)
        return loss.of_choices(scores, rivals, -self.log_q, support.mask, competes=competes)

    def _encoded(self, params: Params, events: Encoded) -> Encoded:
        return events if self.reencoder is None else self.reencoder.encode(params, events)


def _not_asked(params: Params, events: Encoded) -> Tensor:
    raise AssertionError("a learner that is fitted without a model asked for one")
