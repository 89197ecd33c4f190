"""Support sets of several tasks as padded tensors: the input of every predictor.

Knows columns; does not know ids, learners or where events come from.
"""

from typing import NamedTuple

from torch import Tensor

from metarec_ray.core.batch import NO_LABELS, Features, labels_at, own_labels


class Supports(NamedTuple):
    """Padded support sets of T tasks, real events first, oldest first."""

    item: Tensor  # int64 [T, N]: catalogue rows
    label: Tensor  # float [T, N]
    mask: Tensor  # bool [T, N]
    time: Tensor  # int64 [T, N]: microseconds, 0 without a clock
    context: Features  # [T, N]
    user: Features  # [T]
    now: Features  # [T, 1]: context in which candidates are scored
    labels: Tensor = NO_LABELS  # float [T, N, L]: further labels of events, NaN where not known

    def at(self, tasks: Tensor) -> "Supports":
        """Return the support sets of `tasks`, int64 [n]."""
        return Supports(
            item=self.item[tasks],
            label=self.label[tasks],
            mask=self.mask[tasks],
            time=self.time[tasks],
            context=self.context.at(tasks),
            user=self.user.at(tasks),
            now=self.now.at(tasks),
            labels=labels_at(self.labels, tasks),
        )

    def encoded(
        self, context: Tensor, user: Tensor, now: Tensor, *, raw: bool = False
    ) -> "EncodedSupports":
        """Return the support sets with these vectors; with `raw`, user features as well."""
        features = tuple(self.user) if raw else ()
        labels = own_labels(self.labels, self.mask)
        return EncodedSupports(
            self.item, self.label, self.mask, self.time, context, user, now, labels, features
        )


class EncodedSupports(NamedTuple):
    """Support sets after the encoders; of one task without the leading T."""

    item: Tensor  # int64 [T, N]: catalogue rows
    label: Tensor
    mask: Tensor
    time: Tensor
    context: Tensor  # float [T, N, D], or [T, 1, D] where all events share one
    user: Tensor  # float [T, D]
    now: Tensor  # float [T, 1, D]
    labels: Tensor  # float [T, N, L]
    raw: tuple[Tensor, ...] = ()  # features of users, where an encoder that adapts needs them

    def of(self, tasks: Tensor, longest: int) -> "EncodedSupports":
        """Return the support sets of some tasks, which have no more than `longest` events."""
        return EncodedSupports(
            item=self.item[tasks, :longest],
            label=self.label[tasks, :longest],
            mask=self.mask[tasks, :longest],
            time=self.time[tasks, :longest],
            context=self.context[tasks, :longest],
            user=self.user[tasks],
            now=self.now[tasks],
            labels=self.labels[tasks, :longest],
            raw=tuple(column[tasks] for column in self.raw),
        )

    def first(self) -> "EncodedSupports":
        """Return the support set of the first task, without the axis of tasks."""
        return EncodedSupports(
            *(column[0] for column in self[:-1]), raw=tuple(column[0] for column in self.raw)
        )
