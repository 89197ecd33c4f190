"""Training tasks: windows cut from histories, as a pure function of (seed, epoch, task id).

Knows the split policy and the lanes of a meta-batch; does not know learners, workers or the clock.
A window is `window` events that a support set is taken from, then `query_size` query events: what a
cold user of the `strict` protocol looks like, at any place of a history.
"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from metarec_ray.core.batch import Events, Lane, Task
from metarec_ray.core.histories import Histories
from metarec_ray.data.draws import uniform
from metarec_ray.data.settings import Settings
from metarec_ray.data.tasks.domains import Domains, DomainWindows
from metarec_ray.data.tasks.negatives import Negatives, Sampling
from metarec_ray.errors import DataError

Span = tuple[np.ndarray, np.ndarray]
"""Event numbers [T, width] and which of them are real."""


class Cut(Settings):
    """The `train.tasks` section: how a history becomes a task.

    Attributes:
        ks: support sizes, drawn evenly.
        window: events before the query; a support set is the first k of them.
        query_size: events to be judged on, at most; a short history has fewer.
        start_share: share of windows that begin with the history's first event.
        negatives: sampled items an entity never met; 0 compares with the whole catalogue.
        negative_sampling: evenly from the catalogue, as often as items are met, or from what the
            tasks of the lane met.

    """

    ks: tuple[NonNegativeInt, ...] = (0, 1, 3, 5, 10)
    window: PositiveInt = 10
    query_size: PositiveInt = 10
    start_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    negatives: NonNegativeInt = 0
    negative_sampling: Sampling = "uniform"

    @model_validator(mode="after")
    def _window_holds_every_k(self) -> "Cut":
        if not self.ks or max(self.ks) > self.window:
            raise ValueError(
                f"every k of ks must be <= window, got ks {list(self.ks)} and window {self.window}"
            )
        return self


class LaneSampler:
    """Lanes of tasks over the training histories of one store.

    `lane(seed, step, index)` depends on nothing else, so that any worker may compute any lane and a
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
    ):
        """Take histories that are already cut in time.

        `catalogue` bool [I] are the items that may be learned; every lane holds the `reference`.
        No negative is of what an entity `met`: other histories where tasks are cut from a part.
        With `domains`, and the items bool [I] of each one asked about, a task is asked in one.
        """
        self.reference = reference.numpy()
        self.cut = cut
        self.histories = histories
        self.catalogue = torch.nonzero(catalogue).flatten()
        self._eligible = torch.nonzero(histories.lengths() > cut.window).flatten().numpy()
        rankable = [self.catalogue.numpy()]
        self._domains: DomainWindows | None = None
        if domains is not None:
            sizes = {"window": cut.window, "query_size": cut.query_size}
            self._domains = DomainWindows(histories, domains[1], domains[0], **sizes)
            self._eligible = self._domains.eligible()
            rankable = [
                (items & catalogue).nonzero()[:, 0].numpy() for items in domains[1].values()
            ]
        known = histories if met is None else met
        sampling = cut.negative_sampling
        self._negatives = Negatives(known, rankable, sampling) if cut.negatives else None
        # Without negatives every lane holds the whole catalogue: `_place` is where.
        some = self.catalogue[:0] if cut.negatives else self.catalogue
        self._all_features = histories.items.features.at(some)
        self._place = np.zeros(len(catalogue), np.int64)
        self._place[self.catalogue.numpy()] = np.arange(len(self.catalogue))
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self._lengths = histories.lengths().numpy()
        self._starts = histories.offsets.numpy()
        self._items = histories.item.numpy()
        if len(self._eligible) == 0:
            raise DataError(
                f"a training history must have more than {cut.window} events (train.tasks.window), "
                f"the longest of {len(self._lengths)} has {int(self._lengths.max(initial=0))}"
            )

    def __len__(self) -> int:
        """Return the number of entities that can give a task."""
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
        """Yield the lanes that hold a task of every entity once; the last may have fewer tasks."""
        for index, first in enumerate(range(0, len(self), lane_tasks)):
            place = np.arange(first, min(first + lane_tasks, len(self)))
            yield self._at(place, seed, [seed, 2, 0, index])

    def _at(self, place: np.ndarray, seed: int, drawn: list[int]) -> Lane:
        """Return the tasks at `place` of the endless order of entities; `drawn` seeds negatives."""
        epochs, within = np.divmod(place, len(self._eligible))
        entities = np.empty(len(place), np.int64)
        for epoch in np.unique(epochs):
            asked = epochs == epoch
            entities[asked] = self._order(seed, int(epoch))[within[asked]]
        draws = uniform(seed, epochs, self.histories.task_id.numpy()[entities], draws=4)
        return self._lane(entities, *self._windows(entities, draws), seed=drawn)

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the order of entities in an epoch; that of the last two is at hand."""
        known = self._orders.get((seed, epoch))
        if known is None:
            known = np.random.default_rng([seed, 1, epoch]).permutation(self._eligible)
            kept = list(self._orders.items())[-1:]
            self._orders = dict([*kept, ((seed, epoch), known)])
        return known

    def _windows(
        self, entities: np.ndarray, draws: np.ndarray
    ) -> tuple[Span, Span, np.ndarray, np.ndarray]:
        """Return support, query and catalogue of each task, and whether it begins a history."""
        ks, cut = np.array(self.cut.ks), self.cut
        if self._domains is not None:
            support, query, domain, begins = self._domains.cut(
                entities, draws, start_share=cut.start_share, ks=ks
            )
            return _padded(support, 1), _padded(query, cut.query_size), domain, begins
        whole = cut.window + cut.query_size
        room = np.maximum(self._lengths[entities] - whole, 0)
        anywhere = (draws[:, 1] * (room + 1)).astype(np.int64)
        first = self._starts[entities] + np.where(draws[:, 0] < cut.start_share, 0, anywhere)
        support = _spans(first, ks[(draws[:, 2] * len(ks)).astype(np.int64)], cut.window)
        left = self._starts[entities + 1] - first - cut.window
        query = _spans(first + cut.window, np.minimum(cut.query_size, left), cut.query_size)
        begins = first == self._starts[entities]
        return support, query, np.zeros(len(entities), np.int64), begins

    def _lane(
        self,
        entities: np.ndarray,
        support: Span,
        query: Span,
        ranked: np.ndarray,
        begins: np.ndarray,
        *,
        seed: list[int],
    ) -> Lane:
        at = [np.where(mask, numbers, 0) for numbers, mask in (support, query)]
        met = [self._items[numbers] for numbers in at]
        if self._negatives is None:
            negatives = np.empty((len(entities), 0), np.int64)
            items, features, place = self.catalogue, self._all_features, self._place
        else:
            negatives = self._negatives.draw(
                entities, ranked, self.cut.negatives, np.random.default_rng(seed)
            )
            seen = np.zeros(len(self._place), bool)
            for some in (*(m[s[1]] for m, s in zip(met, (support, query), strict=True)), negatives):
                seen[some] = True
            seen[self.reference] = True
            items = torch.from_numpy(np.flatnonzero(seen))
            features = self.histories.items.features.at(items)
            place = np.zeros_like(self._place)
            place[items.numpy()] = np.arange(len(items))
        sets = [
            self._events(numbers, mask, place[item])
            for numbers, (_, mask), item in zip(at, (support, query), met, strict=True)
        ]
        return Lane(
            entity=self.histories.task_id[entities],
            user=self.histories.users.features.at(torch.from_numpy(entities)),
            items=items,
            item_features=features,
            reference=torch.from_numpy(place[self.reference]),
            tasks=Task(
                support=sets[0],
                query=sets[1],
                negatives=torch.from_numpy(place[negatives]),
                begins=torch.from_numpy(begins),
            ),
        )

    def _events(self, at: np.ndarray, mask: np.ndarray, position: np.ndarray) -> Events:
        index, real = torch.from_numpy(at), torch.from_numpy(mask)
        return Events(
            item=torch.from_numpy(np.where(mask, position, 0)),
            label=torch.where(real, self.histories.label[index], 0.0),
            mask=real,
            time=torch.where(real, self.histories.time[index], 0),
            context=self.histories.context.at(index),
        )


def _spans(first: np.ndarray, count: np.ndarray, width: int) -> Span:
    """Return `count` events from `first` on, as a span."""
    at = first[:, None] + np.arange(width)[None, :]
    return at, np.arange(width)[None, :] < count[:, None]


def _padded(events: list[np.ndarray], width: int) -> Span:
    """Return sets of events as a span, at least `width` wide."""
    sizes = np.array([len(numbers) for numbers in events])
    width = max(width, int(sizes.max(initial=0)))
    mask = np.arange(width)[None, :] < sizes[:, None]
    at = np.zeros(mask.shape, np.int64)
    at[mask] = np.concatenate(events)
    return at, mask
