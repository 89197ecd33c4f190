"""Histories as values + offsets: what learners are fitted on and tasks are cut from.

Knows tensors; does not know files, how a history becomes a task, or what learns from it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import (
    NO_LABELS,
    Features,
    SideInformation,
    labels_at,
    nothing_known,
)


class Histories(NamedTuple):
    """Histories of E entities: N events in all, those of one entity side by side, oldest first.

    Attributes:
        task_id: int64 [E], the number of each entity in its store.
        offsets: int64 [E + 1]; entity e owns the events offsets[e]:offsets[e + 1], maybe none.
        item: int64 [N], rows of the catalogue.
        label: float32 [N].
        time: int64 [N], microseconds; 0 without a clock.
        context: [N], what is known of each event.
        users: what is known of the entities [E].
        items: what is known of the catalogue [I].
        cutoff: microseconds; training ends before it. None where nothing is cut in time.
        labels: float [N, L], further labels of each event; NaN where not known.

    """

    task_id: Tensor
    offsets: Tensor
    item: Tensor
    label: Tensor
    time: Tensor
    context: Features
    users: SideInformation
    items: SideInformation
    cutoff: int | None = None
    labels: Tensor = NO_LABELS

    @property
    def n_entities(self) -> int:
        """Return the number of entities, with or without events."""
        return self.offsets.numel() - 1

    @property
    def n_items(self) -> int:
        """Return the size of the catalogue."""
        return len(self.items.features.tokens)

    def lengths(self) -> Tensor:
        """Return the number of events of each entity, int64 [E]."""
        return self.offsets.diff()

    def entity(self) -> Tensor:
        """Return which entity each event is of, int64 [N] in 0 .. E - 1."""
        return torch.arange(self.n_entities).repeat_interleave(self.lengths())

    def position(self) -> Tensor:
        """Return how many earlier events its entity has, of each event, int64 [N]."""
        starts = self.offsets[:-1].repeat_interleave(self.lengths())
        return torch.arange(self.item.numel()) - starts

    def starts(self) -> Tensor:
        """Return the time of the first event of each entity, int64 [E]; 0 for one without."""
        met = self.lengths() > 0
        found = torch.zeros(self.n_entities, dtype=torch.int64)
        found[met] = self.time[self.offsets[:-1][met]]
        return found

    def met_items(self) -> Tensor:
        """Return which items have an event, bool [I]."""
        return torch.zeros(self.n_items, dtype=torch.bool).index_fill_(0, self.item, True)

    def take(self, entities: Tensor) -> "Histories":
        """Return the histories of the entities at the positions `entities`, int64 [n]."""
        ends = self.lengths()[entities].cumsum(0)
        return self._events(self.events_of(entities))._replace(
            task_id=self.task_id[entities],
            offsets=torch.cat([ends.new_zeros(1), ends]),
            users=self.users._replace(features=self.users.features.at(entities)),
        )

    def events_of(self, entities: Tensor) -> Tensor:
        """Return the positions of the events of the entities `entities`, one after another."""
        sizes = self.lengths()[entities]
        shift = self.offsets[entities] - (sizes.cumsum(0) - sizes)
        return torch.arange(int(sizes.sum())) + shift.repeat_interleave(sizes)

    def keep(self, mask: Tensor) -> "Histories":
        """Return the same entities with the events in `mask`, bool [N], only."""
        before = torch.cat([self.offsets.new_zeros(1), mask.cumsum(0)])
        return self._events(mask)._replace(offsets=before[self.offsets])

    def reorder(self, order: Tensor) -> "Histories":
        """Return the events in `order`, a permutation [N] that mixes no two entities."""
        return self._events(order)

    def without_features(self) -> "Histories":
        """Return the same events and nothing that is known of them, the entities or the items."""
        return self._replace(
            context=nothing_known(self.item.numel()).features,
            users=nothing_known(self.n_entities),
            items=nothing_known(self.n_items),
        )

    def _events(self, rows: Tensor) -> "Histories":
        return self._replace(
            item=self.item[rows],
            label=self.label[rows],
            time=self.time[rows],
            context=self.context.at(rows),
            labels=labels_at(self.labels, rows),
        )
