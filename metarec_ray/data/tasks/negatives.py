"""Negative sampling: items that an entity has never met.

Knows histories and which items may be ranked; does not know losses.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError

Sampling = Literal["uniform", "popularity", "in_batch"]


class Negatives:
    """Draws items for the tasks of a lane, independently, none from a task's own history.

    A task draws from its catalogue: `uniform`, by `popularity` (events of all histories), or
    `in_batch` (events of the lane's entities).
    """

    def __init__(
        self,
        histories: Histories,
        rankable: Sequence[np.ndarray],
        sampling: Sampling,
    ):
        """Take histories, and as `rankable` the items, ascending, of every catalogue."""
        self.sampling = sampling
        self.items, self.starts = histories.item.numpy(), histories.offsets.numpy()
        self.task_id = histories.task_id
        self.rankable = list(rankable)
        self.sizes = np.array([len(items) for items in rankable])
        self.begins = np.concatenate([[0], self.sizes.cumsum()])
        self.flat = np.concatenate(rankable)
        self.n_items = 1 + max(int(self.items.max(initial=0)), int(self.flat.max(initial=0)))
        counts = np.bincount(self.items, minlength=self.n_items)
        self.weights = [counts[items].cumsum() for items in rankable]
        met = sampling == "popularity"
        self.choices = [items[counts[items] > 0] if met else items for items in rankable]

    def draw(
        self, entities: np.ndarray, ranked: np.ndarray, count: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return items [T, count]; `ranked` [T] is the number of each task's catalogue.

        Raises:
            DataError: an entity has met everything that could be drawn.

        """
        met = self._met(entities)
        pools = self._pools(entities)
        self._refuse_full(entities, ranked, met, pools)
        drawn = np.empty((len(entities), count), np.int64)
        row, column = np.divmod(np.arange(drawn.size), count) if count else (np.empty(0, int),) * 2
        while len(row):
            found = self._draw_once(ranked[row], pools, rng)
            drawn[row, column] = found
            own = _is_in(row * self.n_items + found, met)
            row, column = row[own], column[own]
        return drawn

    def _draw_once(
        self, ranked: np.ndarray, pools: list[np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """Return an item from each catalogue in `ranked`."""
        if self.sampling == "uniform":
            return self.flat[self.begins[ranked] + rng.integers(self.sizes[ranked])]
        found = np.empty(len(ranked), np.int64)
        for which in np.unique(ranked):
            asked = ranked == which
            if self.sampling == "in_batch":
                found[asked] = pools[which][rng.integers(len(pools[which]), size=asked.sum())]
                continue
            weights = self.weights[which]
            at = np.searchsorted(weights, rng.integers(weights[-1], size=asked.sum()), "right")
            found[asked] = self.rankable[which][at]
        return found

    def _met(self, entities: np.ndarray) -> np.ndarray:
        """Return task * n_items + item of all events of the tasks, ascending."""
        sizes = self.starts[entities + 1] - self.starts[entities]
        task = np.repeat(np.arange(len(entities)), sizes)
        within = np.arange(len(task)) - np.repeat(sizes.cumsum() - sizes, sizes)
        keys = task * self.n_items + self.items[self.starts[entities][task] + within]
        keys.sort()
        return keys

    def _pools(self, entities: np.ndarray) -> list[np.ndarray]:
        """Return the items of the lane's events in each catalogue, with repeats."""
        if self.sampling != "in_batch":
            return []
        parts = [self.items[self.starts[e] : self.starts[e + 1]] for e in np.unique(entities)]
        whole = np.concatenate(parts)
        return [whole[_is_in(whole, items)] for items in self.rankable]

    def _refuse_full(
        self, entities: np.ndarray, ranked: np.ndarray, met: np.ndarray, pools: list[np.ndarray]
    ) -> None:
        """Raise a DataError if a task has nothing left to draw."""
        choices = [np.unique(pool) for pool in pools] or self.choices
        sizes = self.starts[entities + 1] - self.starts[entities]
        full = sizes >= np.array([len(choice) for choice in choices])[ranked]
        for row in np.flatnonzero(full):
            choice, entity = choices[ranked[row]], entities[row]
            if _is_in(row * self.n_items + choice, met).all():
                raise DataError(
                    "an entity must leave some item unmet to have negatives "
                    f"(train.tasks.negatives), task {int(self.task_id[entity])} met all "
                    f"{len(choice)}"
                )


def _is_in(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which values are in `known`, which is ascending."""
    at = np.searchsorted(known, values)
    found = at < len(known)
    found[found] = known[at[found]] == values[found]
    return found
