"""Training tasks across domains: known in one, asked in another, as in the protocol `cross_domain`.

Knows the domains of items and how a history is cut by them; does not know lanes, learners or test
entities.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor

from metarec_ray.core.batch import DAY
from metarec_ray.core.histories import Histories
from metarec_ray.data.setting_types import Settings
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError


class Domains(Settings):
    """The `train.domains` section: a weighted joint loss over domains.

    Window, query and negatives of a task are in one domain, drawn by weight: the mean loss of a
    meta-batch is then the weighted sum of the domains' losses. Sampled negatives stand for the
    whole catalogue in every domain, not for the domain's share of it.

    Attributes:
        feature: categorical feature of the items that names their domain.
        weights: domain -> its share of the tasks, up to a common factor; other domains have no
            query.
        source: a support also has the entity's events in other domains, on days before the query.
            False learns from the weighted domains only.

    """

    feature: str = "domain"
    weights: Annotated[dict[str, NonNegativeFloat], Field(min_length=1)]
    source: bool = True

    @model_validator(mode="after")
    def _something_is_asked(self) -> "Domains":
        if not sum(self.weights.values()) > 0:
            raise ValueError(f"a weight of domains must be > 0, got {self.weights}")
        return self

    def asked(self) -> list[str]:
        """Return the domains of queries: those with a weight > 0."""
        return [name for name, weight in self.weights.items() if weight > 0]


def items_by_value(store: TaskStore, feature: str, *, key: str) -> dict[str, Tensor]:
    """Return the items bool [I] that have each value of a categorical feature.

    Raises:
        ConfigError: the items have no such categorical feature; `key` is the setting that names it.

    """
    kinds = {field.name: field.kind for field in store.item_space.fields}
    if kinds.get(feature) != "categorical":
        raise ConfigError(
            f"{key} must be a categorical feature of the items, got {feature!r} of "
            f"{', '.join(kinds) or 'none'} ({store.path})"
        )
    first, tokens = store.item_space.first_row[feature], store.items.features.tokens
    return {
        value: (tokens == first + 1 + index).any(1)
        for index, value in enumerate(store.vocabularies["item"][feature])
    }


def asked_items(store: TaskStore, domains: Domains) -> dict[str, Tensor]:
    """Return the items bool [I] of each domain that has queries.

    Raises:
        ConfigError: the items have no such feature, or the feature has no such value.

    """
    known = items_by_value(store, domains.feature, key="train.domains.feature")
    if unknown := sorted(set(domains.weights) - set(known)):
        raise ConfigError(
            f"train.domains.weights must name values of {domains.feature}, got {unknown[0]!r} of "
            f"{', '.join(map(str, known))} ({store.path})"
        )
    return {name: known[name] for name in domains.asked()}


def learned_from(store: TaskStore, domains: Domains | None) -> TaskStore:
    """Return the store; restricted to the weighted domains if supports have no other events."""
    if domains is None or domains.source:
        return store
    return store.restricted(torch.stack(list(asked_items(store, domains).values())).any(0))


class DomainWindows:
    """Cuts windows from the events of one domain; supports may have events of other domains too."""

    def __init__(
        self,
        histories: Histories,
        inside: dict[str, Tensor],
        domains: Domains,
        *,
        window: int,
        query_size: int,
    ):
        """Take histories, and as `inside` the items bool [I] of every domain that has queries."""
        self.window, self.query_size, self.source = window, query_size, domains.source
        self.weights = np.array([domains.weights[name] for name in inside])
        self.starts = histories.offsets.numpy()
        self.day = (histories.time // DAY).numpy()
        if domains.source and not self.day.any():
            raise DataError(
                "supports with events of other domains need a clock, the log has no time role "
                "(train.domains.source)"
            )
        self.inside = np.stack([items[histories.item].numpy() for items in inside.values()])
        before = np.zeros((len(inside), self.inside.shape[1] + 1), np.int64)
        before[:, 1:] = self.inside.cumsum(1)
        counts = before[:, self.starts[1:]] - before[:, self.starts[:-1]]
        self.open = (counts > window) & (self.weights > 0)[:, None]  # [domains, E]

    def eligible(self) -> np.ndarray:
        """Return the positions of entities with enough events in some domain."""
        return np.flatnonzero(self.open.any(0))

    def cut(
        self, entities: np.ndarray, draws: np.ndarray, *, start_share: float, ks: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
        """Return the events of each support and query, the domains [T], and `begins` [T].

        Args:
            entities: int64 [T].
            draws: [T, 4] in [0, 1): start or anywhere, where, which k, which domain.
            start_share: share of the windows that begin the history.
            ks: support sizes.

        Events are positions in the histories. `begins` says whether a window begins with the
        entity's first event in its domain.
        """
        supports, queries = [], []
        begins = np.zeros(len(entities), bool)
        domain = self._domains(entities, draws[:, 3])
        sizes = ks[(draws[:, 2] * len(ks)).astype(np.int64)]
        for task, (entity, which, draw, k) in enumerate(
            zip(entities.tolist(), domain, draws, sizes, strict=True)
        ):
            events = np.arange(int(self.starts[entity]), int(self.starts[entity + 1]))
            held = self.inside[which, events]
            own = events[held]
            room = max(len(own) - self.window - self.query_size, 0)
            first = 0 if draw[0] < start_share else int(draw[1] * (room + 1))
            begins[task] = first == 0
            query = own[first + self.window :][: self.query_size]
            support = own[first : first + k]
            if self.source:
                other = events[~held]
                other = other[self.day[other] < self.day[query[0]]]
                support = np.sort(np.concatenate([other, support]))
            supports.append(support)
            queries.append(query)
        return supports, queries, domain, begins

    def _domains(self, entities: np.ndarray, draw: np.ndarray) -> np.ndarray:
        """Return a domain [T] drawn by weight, of those in which an entity has enough events."""
        share = (self.weights[:, None] * self.open[:, entities]).cumsum(0)
        return (share <= draw * share[-1]).sum(0)
