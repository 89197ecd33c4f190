"""Training tasks: windows cut from histories, a pure function of (seed, epoch, task id).

A window is `window` events that the support is taken from, then `query_size` query events: what a
new user of the `strict` protocol looks like, at any place of a history. Knows how tasks are cut and
put into the lanes of a meta-batch; does not know learners, workers or the clock.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarec_ray.core.batch import (
    NO_CHANGES,
    Events,
    Features,
    Lane,
    OffsetChanges,
    Task,
    labels_at,
)
from metarec_ray.core.histories import Histories
from metarec_ray.data.draws import uniform
from metarec_ray.data.tasks import augmentation
from metarec_ray.data.tasks.augmentation import Augmentation
from metarec_ray.data.tasks.cuts import Cut, fitting
from metarec_ray.data.tasks.domains import Domains, DomainWindows
from metarec_ray.data.tasks.negatives import Negatives
from metarec_ray.data.tasks.spans import Span, padded, spans
from metarec_ray.errors import DataError

WithoutOwn = Callable[[Tensor, Tensor, Tensor], OffsetChanges]
"""How offsets change without the events of a task's own entity: `ItemStatistics.without_own`."""
KnownValues = Mapping[str, Tensor]
"""Of each side, which of its tokens count, bool [tokens]; all of a side that is not in it."""
_EVERY_VALUE: KnownValues = {}


class LaneSampler:
    """Lanes of tasks over the training histories of one store.

    `lane(seed, step, index)` depends on its arguments only: any worker may compute any lane, and a
    resumed run sees the same tasks.
    """

    def __init__(
        self,
        histories: Histories,
        catalogue: Tensor,
        cut: Cut,
        *,
        reference: Tensor,
        domains: tuple[Domains, dict[str, Tensor]] | None = None,
        met: Histories | None = None,
        without_own: WithoutOwn | None = None,
        known_values: KnownValues = _EVERY_VALUE,
        augmented: Augmentation | None = None,
    ):
        """Take the histories to cut tasks from; they end before the cutoff.

        Args:
            histories: of any entities.
            catalogue: bool [I], items that may be learned.
            cut: how tasks are cut.
            reference: int64 [R], items that every lane has.
            domains: with the items bool [I] of each: a task has its query in one of them.
            met: the whole histories, if `histories` are a part of them: no negative is from these.
            without_own: how offsets change without an entity's own events; None if they were not
                counted from these entities.
            known_values: which values of features count.
            augmented: how tasks are changed at random; None for tasks as they are cut.

        Raises:
            DataError: no history is long enough.

        """
        self._lengths = histories.lengths().numpy()
        if domains is None:
            cut = fitting(cut, int(self._lengths.max(initial=0)))
        self.histories, self.cut, self.reference = histories, cut, reference.numpy()
        self._starts, self._items = histories.offsets.numpy(), histories.item.numpy()
        self._without_own, self._known_values = without_own, known_values
        self._augmented = augmented
        self._domains = domains and DomainWindows(
            histories, domains[1], domains[0], window=cut.window, query_size=cut.query_size
        )
        self._eligible = self._long_enough()
        self._negatives: Negatives | None = None
        if cut.negatives:
            asked = [catalogue] if domains is None else [catalogue & i for i in domains[1].values()]
            rankable = [items.nonzero()[:, 0].numpy() for items in asked]
            self._negatives = Negatives(met or histories, rankable, cut.negative_sampling)
        # Without negatives every lane has the whole catalogue.
        shared = catalogue.nonzero()[:, 0]
        self._shared = self._lane_items(shared[:0] if cut.negatives else shared)
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Return the number of entities with a history long enough for a task."""
        return len(self._eligible)

    def lane(self, seed: int, step: int, index: int, *, lanes: int, lane_tasks: int) -> Lane:
        """Return lane `index` of meta-batch `step`."""
        place = (step * lanes + index) * lane_tasks + np.arange(lane_tasks)
        return self._at(place, seed, [seed, 2, step, index])

    def share(
        self, seed: int, step: int, rank: int, world: int, *, lanes: int, lane_tasks: int
    ) -> dict[int, Lane]:
        """Return the lanes of a meta-batch, by number, that worker `rank` of `world` computes."""
        own = range(rank, lanes, world)
        return {i: self.lane(seed, step, i, lanes=lanes, lane_tasks=lane_tasks) for i in own}

    def epoch(self, seed: int, *, lane_tasks: int) -> Iterator[Lane]:
        """Yield lanes with one task of every entity; the last may have fewer tasks."""
        for index, first in enumerate(range(0, len(self), lane_tasks)):
            place = np.arange(first, min(first + lane_tasks, len(self)))
            yield self._at(place, seed, [seed, 2, 0, index])

    def _long_enough(self) -> np.ndarray:
        """Return the positions of entities that can give a task."""
        if self._domains is not None:
            found = self._domains.eligible()
        else:
            found = np.flatnonzero(self._lengths > self.cut.window)
        if len(found) == 0:
            raise DataError(
                f"a training history must have more than {self.cut.window} events "
                f"(train.tasks.window), the longest of {len(self._lengths)} has "
                f"{int(self._lengths.max(initial=0))}"
            )
        return found

    def _at(self, place: np.ndarray, seed: int, negatives_seed: list[int]) -> Lane:
        """Return the tasks at `place` of the endless sequence of shuffled entities."""
        epochs, within = np.divmod(place, len(self._eligible))
        entities = np.empty(len(place), np.int64)
        for epoch in np.unique(epochs):
            asked = epochs == epoch
            entities[asked] = self._order(seed, int(epoch))[within[asked]]
        own = (seed, epochs, self.histories.task_id.numpy()[entities])
        windows = self._windows(entities, uniform(*own, draws=4))
        lane = self._lane(entities, windows, seed=negatives_seed)
        if self._augmented is None:
            return lane
        shift = augmentation.label_shifts(self._augmented, *own)
        return lane._replace(tasks=augmentation.shifted(lane.tasks, shift))

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the order of entities in an epoch; the last two orders are cached."""
        known = self._orders.get((seed, epoch))
        if known is None:
            known = np.random.default_rng([seed, 1, epoch]).permutation(self._eligible)
            kept = list(self._orders.items())[-1:]
            self._orders = dict([*kept, ((seed, epoch), known)])
        return known

    def _windows(self, entities: np.ndarray, draws: np.ndarray) -> "_Windows":
        ks, cut = np.array(self.cut.ks), self.cut
        if self._domains is not None:
            support, query, domain, begins = self._domains.cut(
                entities, draws, start_share=cut.start_share, ks=ks
            )
            return _Windows(padded(support, 1), padded(query, cut.query_size), domain, begins)
        room = np.maximum(self._lengths[entities] - cut.window - cut.query_size, 0)
        anywhere = (draws[:, 1] * (room + 1)).astype(np.int64)
        first = self._starts[entities] + np.where(draws[:, 0] < cut.start_share, 0, anywhere)
        support = spans(first, ks[(draws[:, 2] * len(ks)).astype(np.int64)], cut.window)
        left = self._starts[entities + 1] - first - cut.window
        query = spans(first + cut.window, np.minimum(cut.query_size, left), cut.query_size)
        begins = first == self._starts[entities]
        return _Windows(support, query, np.zeros(len(entities), np.int64), begins)

    def _lane(self, entities: np.ndarray, windows: "_Windows", *, seed: list[int]) -> Lane:
        spans = (windows.support, windows.query)
        negatives, of_lane = np.empty((len(entities), 0), np.int64), self._shared
        if self._negatives is not None:
            rng = np.random.default_rng(seed)
            negatives = self._negatives.draw(entities, windows.ranked, self.cut.negatives, rng)
            seen = np.zeros(self.histories.n_items, bool)
            for some in (*(self._items[at[mask]] for at, mask in spans), negatives, self.reference):
                seen[some] = True
            of_lane = self._lane_items(torch.from_numpy(np.flatnonzero(seen)))
        support, query = (self._events(*span, of_lane.place) for span in spans)
        asked = torch.from_numpy(entities), torch.from_numpy(windows.begins)
        return Lane(
            entity=self.histories.task_id[entities],
            user=self._known("user", self.histories.users.features.at(asked[0])),
            items=of_lane.items,
            item_features=of_lane.features,
            reference=torch.from_numpy(of_lane.place[self.reference]),
            tasks=Task(
                support=support,
                query=query,
                negatives=torch.from_numpy(of_lane.place[negatives]),
                begins=asked[1],
                answers=torch.zeros(len(entities), 0),
            ),
            own=self._without_own(*asked, of_lane.items) if self._without_own else NO_CHANGES,
        )

    def _lane_items(self, items: Tensor) -> "_LaneItems":
        place = np.zeros(self.histories.n_items, np.int64)
        place[items.numpy()] = np.arange(len(items))
        features = self._known("item", self.histories.items.features.at(items))
        return _LaneItems(items, features, place)

    def _known(self, side: str, features: Features) -> Features:
        """Return features without the values that do not count."""
        known = self._known_values.get(side)
        if known is None:
            return features
        return features._replace(weights=features.weights * known[features.tokens])

    def _events(self, at: np.ndarray, mask: np.ndarray, place: np.ndarray) -> Events:
        at = np.where(mask, at, 0)
        rows, real = torch.from_numpy(at), torch.from_numpy(mask)
        return Events(
            item=torch.from_numpy(np.where(mask, place[self._items[at]], 0)),
            label=torch.where(real, self.histories.label[rows], 0.0),
            mask=real,
            time=torch.where(real, self.histories.time[rows], 0),
            context=self.histories.context.at(rows),
            labels=labels_at(self.histories.labels, rows).masked_fill(
                ~real.unsqueeze(-1), torch.nan
            ),
        )


class _Windows(NamedTuple):
    """Where T tasks lie in the histories."""

    support: Span
    query: Span
    ranked: np.ndarray  # int64 [T]: domain of the query, 0 without domains
    begins: np.ndarray  # bool [T]: whether the window begins the history


class _LaneItems(NamedTuple):
    """The unique items of a lane."""

    items: Tensor  # int64 [U]: rows of the catalogue, ascending
    features: Features  # [U]
    place: np.ndarray  # int64 [I]: position of each item in the lane, 0 for others
