"""Training tasks: windows cut from histories, as a pure function of (seed, epoch, task id).

Knows the split policy and the lanes of a meta-batch; does not know learners, workers or the clock.
A window is `window` events that a support set is taken from, then `query_size` query events: what a
cold user of the `strict` protocol looks like, at any place of a history.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from metarec_ray.core.batch import Events, Features, Lane, Task
from metarec_ray.data.settings import Settings
from metarec_ray.data.task_store import HistoryTable
from metarec_ray.errors import DataError


class Cut(Settings):
    """The `train.tasks` section: how a history becomes a task.

    Attributes:
        ks: support sizes, drawn evenly.
        window: events before the query; a support set is the first k of them.
        query_size: events to be judged on, at most; a short history has fewer.
        start_share: share of windows that begin with the history's first event.
        negatives: sampled items an entity never met; 0 compares with the whole catalogue.

    """

    ks: tuple[NonNegativeInt, ...] = (0, 1, 3, 5, 10)
    window: PositiveInt = 10
    query_size: PositiveInt = 10
    start_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    negatives: NonNegativeInt = 0

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
        histories: HistoryTable,
        catalogue: Tensor,
        item_features: Features,
        cut: Cut,
        *,
        reference: Tensor,
    ):
        """Take histories that are already cut in time.

        `catalogue` bool [I] are the items that may be learned; every lane holds the `reference`.
        """
        self.reference = reference.numpy()
        self.cut = cut
        self.histories = histories
        self.item_features = item_features
        self.catalogue = torch.nonzero(catalogue).flatten()
        self._eligible = torch.nonzero(histories.lengths() > cut.window).flatten().numpy()
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
        epochs, within = np.divmod(place, len(self._eligible))
        entities = np.empty(lane_tasks, np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([seed, 1, epoch]).permutation(self._eligible)
            entities[epochs == epoch] = order[within[epochs == epoch]]
        draws = uniform(seed, epochs, self.histories.task_id.numpy()[entities], draws=3)
        return self._lane(entities, *self._windows(entities, draws), seed=[seed, 2, step, index])

    def _windows(self, entities: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first event and the support size of each task's window."""
        whole = self.cut.window + self.cut.query_size
        room = np.maximum(self._lengths[entities] - whole, 0)
        anywhere = (draws[:, 1] * (room + 1)).astype(np.int64)
        offset = np.where(draws[:, 0] < self.cut.start_share, 0, anywhere)
        ks = np.array(self.cut.ks)
        return self._starts[entities] + offset, ks[(draws[:, 2] * len(ks)).astype(np.int64)]

    def _lane(
        self, entities: np.ndarray, first: np.ndarray, k: np.ndarray, *, seed: list[int]
    ) -> Lane:
        end = self._starts[entities + 1]
        support = _spans(first, k, self.cut.window)
        query_first = first + self.cut.window
        query = _spans(
            query_first, np.minimum(self.cut.query_size, end - query_first), self.cut.query_size
        )
        negatives = self._negatives(entities, np.random.default_rng(seed))
        if self.cut.negatives:
            met = [self._items[s[m]] for s, m in (support, query)]
            unique = np.unique(np.concatenate([*met, negatives.ravel(), self.reference]))
        else:
            unique = self.catalogue.numpy()
        items = torch.from_numpy(unique)
        return Lane(
            entity=self.histories.task_id[entities],
            user=_rows(self.histories.user, torch.from_numpy(entities)),
            items=items,
            item_features=_rows(self.item_features, items),
            reference=torch.from_numpy(np.searchsorted(unique, self.reference)),
            tasks=Task(
                support=self._events(*support, unique),
                query=self._events(*query, unique),
                negatives=torch.from_numpy(np.searchsorted(unique, negatives)),
            ),
        )

    def _events(self, at: np.ndarray, mask: np.ndarray, unique: np.ndarray) -> Events:
        index = torch.from_numpy(np.where(mask, at, 0))
        real = torch.from_numpy(mask)
        position = torch.from_numpy(np.searchsorted(unique, self._items[index.numpy()]))
        return Events(
            item=torch.where(real, position, 0),
            label=torch.where(real, self.histories.label[index], 0.0),
            mask=real,
            time=torch.where(real, self.histories.time[index], 0),
            context=_rows(self.histories.context, index),
        )

    def _negatives(self, entities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return items [T, S] drawn evenly from the catalogue, none of the entity's own history."""
        catalogue = self.catalogue.numpy()
        drawn = catalogue[rng.integers(len(catalogue), size=(len(entities), self.cut.negatives))]
        for row, entity in enumerate(entities if self.cut.negatives else []):
            own = self._items[self._starts[entity] : self._starts[entity + 1]]
            if np.isin(catalogue, own).all():
                task = int(self.histories.task_id[entity])
                raise DataError(
                    "an entity must leave some item of the catalogue unmet to have negatives "
                    f"(train.tasks.negatives), task {task} met all {len(catalogue)}"
                )
            while (bad := np.isin(drawn[row], own)).any():
                drawn[row, bad] = catalogue[rng.integers(len(catalogue), size=int(bad.sum()))]
        return drawn


def uniform(seed: int, epoch: np.ndarray, task_id: np.ndarray, *, draws: int) -> np.ndarray:
    """Return `draws` numbers in [0, 1) a task, a pure function of (seed, epoch, task id).

    A counter-based generator (the finaliser of splitmix64), so that no task's draw depends on which
    other tasks a worker holds.
    """
    with np.errstate(over="ignore"):
        key = _mix(
            np.uint64(seed)
            + np.uint64(0x9E3779B97F4A7C15) * (epoch.astype(np.uint64) + np.uint64(1))
        )
        key = _mix(key ^ _mix(task_id.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)))
        counter = np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mix(key[:, None] + counter[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _spans(first: np.ndarray, count: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return event numbers [T, width] and which of them are real."""
    at = first[:, None] + np.arange(width)[None, :]
    return at, np.arange(width)[None, :] < count[:, None]


def _rows(features: Features, index: Tensor) -> Features:
    return Features(*(column[index] for column in features))
