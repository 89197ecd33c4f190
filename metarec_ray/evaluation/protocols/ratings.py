"""Rating tasks: after some ratings of an entity, predict its other ratings.

Knows a task store: its test entities and cold items make the scenarios of any explicit log. The
ratings of an entity in a scenario are shuffled with a seed; the last are the query, the rest the
support. Does not know what predicts, or files of partitions.

Axes: T tasks, N ratings of a padded support, Q of a padded query.
"""

import logging
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from metarec_ray.core.batch import Features, labels_at
from metarec_ray.core.histories import Histories
from metarec_ray.data.protocol_settings import RatingCut
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.events import (
    first_meetings,
    padded,
    shuffled_ties,
)
from metarec_ray.evaluation.protocols.strict import MIN_ENTITIES, TRAINING
from metarec_ray.inference.supports import Supports

SCENARIOS = ("user_cold", "item_cold", "both_cold")
HISTORY = "_history"  # item_cold with the entity's training history before the support

log = logging.getLogger(__name__)


class RatingTasks(NamedTuple):
    """The tasks of one scenario; items are rows of the store's catalogue."""

    scenario: str
    entity: list[str]  # raw ids [T]
    support: Supports  # all ratings before the query [T, N]
    query: Tensor  # int64 [T, Q]
    label: Tensor  # float [T, Q]
    mask: Tensor  # bool [T, Q]

    def supports(self, k: int | None = None) -> Supports:
        """Return the first k ratings of each support, None for all; the query stays the same."""
        if k is None:
            return self.support
        whole, width = self.support, max(k, 1)
        return Supports(
            item=whole.item[:, :width],
            label=whole.label[:, :width],
            mask=whole.mask[:, :width] & (k > 0),
            time=whole.time[:, :width],
            context=Features(*(column[:, :width] for column in whole.context)),
            user=whole.user,
            now=whole.now,
            labels=whole.labels[:, :width],
        )


def rule_tasks(
    store: TaskStore, settings: RatingCut, *, seed: int, force: bool = False
) -> list[RatingTasks]:
    """Return the tasks of the scenarios of a store's test entities and cold items.

    A scenario with fewer than 100 tasks is left out with a warning, unless forced. Warm items are
    those with a training event.

    Raises:
        ConfigError: the entities of the store are not users.
        DataError: no scenario is left.

    """
    require_entity(store, "user")
    trained, cold = store.trained_items(), store.items.cold
    test, warm = store.histories(("test",), cut=False), store.histories(TRAINING, cut=False)
    found: list[RatingTasks] = []
    for place, (scenario, histories, items) in enumerate(
        zip(SCENARIOS, (test, warm, test), (trained, cold, cold), strict=True)
    ):
        # Its own random stream: a scenario does not change when another one does.
        generator = torch.Generator().manual_seed(len(SCENARIOS) * seed + place)
        chosen = _eligible(histories, items, settings, generator)
        n = chosen.n_entities
        if n == 0 or (n < MIN_ENTITIES and not force):
            log.warning("%s is left out: it needs %d tasks, got %d", scenario, MIN_ENTITIES, n)
            continue
        found.append(_last_as_query(scenario, chosen, store, settings))
        if scenario == "item_cold":
            found.append(with_history(found[-1], store))
    if not found:
        raise DataError(
            f"rating tasks need {MIN_ENTITIES} entities in some scenario with "
            f"{settings.min_ratings} to {settings.max_ratings} ratings there (evaluate.ratings; "
            "evaluate.force takes fewer)"
        )
    return found


def _last_as_query(
    scenario: str, histories: Histories, store: TaskStore, settings: RatingCut
) -> RatingTasks:
    """Return tasks whose queries are the last events of shuffled histories."""
    ids, now = store.entity_ids(), store.context_space.missing()
    names = [ids[task] for task in histories.task_id.tolist()]
    query = torch.full((len(names),), settings.query_size)
    support = histories.lengths() - query
    return cut(scenario, names, histories, support=support, query=query, now=now)


def require_entity(store: TaskStore, entity: Literal["user", "item"]) -> None:
    """Raise a ConfigError unless the entities of a store are `entity`."""
    found = store.manifest.settings.get("entity", "user")
    if found != entity:
        raise ConfigError(f"data.entity must be {entity} here, got {found} ({store.path})")


def cut(
    scenario: str,
    ids: list[str],
    histories: Histories,
    *,
    support: Tensor,
    query: Tensor,
    now: Features,
    gap: Tensor | int = 0,
) -> RatingTasks:
    """Return the tasks whose supports are the first events of each shuffled history.

    Args:
        scenario: name of it.
        ids: raw ids of the entities.
        histories: in the order of the shuffle.
        support: int64 [T], sizes.
        query: int64 [T], sizes.
        now: context [1] of the query.
        gap: events between support and query.

    """
    rows, mask = padded(histories.offsets[:-1], support)
    asked, wanted = padded(histories.offsets[:-1] + support + gap, query)
    return RatingTasks(
        scenario=scenario,
        entity=ids,
        support=Supports(
            item=histories.item[rows] * mask,
            label=histories.label[rows] * mask,
            mask=mask,
            time=histories.time[rows] * mask,
            context=histories.context.at(rows),
            user=histories.users.features,
            now=Features(*(column.expand(len(ids), 1, -1) for column in now)),
            labels=labels_at(histories.labels, rows),
        ),
        query=histories.item[asked] * wanted,
        label=histories.label[asked] * wanted,
        mask=wanted,
    )


def with_history(tasks: RatingTasks, store: TaskStore) -> RatingTasks:
    """Return the tasks with the training history of each entity before its support."""
    place = {name: task for task, name in enumerate(store.entity_ids())}
    history = store.histories()
    task = torch.tensor([place.get(name, -1) for name in tasks.entity])
    where = torch.searchsorted(history.task_id, task.clamp(min=0))
    sizes = torch.where(task >= 0, history.lengths()[where], 0)
    rows, mask = padded(history.offsets[where], sizes)
    support = tasks.support
    # Padding goes to the end: history first, then support.
    order = (~torch.cat([mask, support.mask], 1)).to(torch.int8).argsort(dim=1, stable=True)
    order = order[:, : int((sizes + support.mask.sum(1)).max())]

    def joined(before: Tensor, after: Tensor) -> Tensor:
        whole = torch.cat([before, after], 1)
        index = order if whole.dim() == 2 else order.unsqueeze(-1).expand(-1, -1, whole.shape[-1])
        return whole.gather(1, index)

    before = history.context.at(rows)
    return tasks._replace(
        scenario=tasks.scenario + HISTORY,
        support=Supports(
            item=joined(history.item[rows] * mask, support.item),
            label=joined(history.label[rows] * mask, support.label),
            mask=joined(mask, support.mask),
            time=joined(history.time[rows] * mask, support.time),
            context=Features(*map(joined, before, support.context)),
            user=support.user,
            now=support.now,
            labels=joined(labels_at(history.labels, rows), support.labels),
        ),
    )


def shuffled(histories: Histories, generator: Generator) -> Histories:
    """Return the histories with the events of each entity in a random order."""
    return shuffled_ties(histories, torch.zeros_like(histories.time), generator)


def _eligible(
    histories: Histories, items: Tensor, settings: RatingCut, generator: Generator
) -> Histories:
    """Return the entities with enough and not too many ratings of `items` (bool [I]), shuffled."""
    rated = histories.keep(first_meetings(histories, items[histories.item]))
    sizes = rated.lengths()
    chosen = (sizes >= settings.min_ratings) & (sizes <= settings.max_ratings)
    return shuffled(rated.take(chosen.nonzero().squeeze(1)), generator)
