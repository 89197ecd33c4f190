"""Checks for leaks: splits with test data in training are refused before anything is fitted.

Knows entities, rows and times of training and of tasks; does not know how they were cut.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.protocols.cross_domain import CrossDomainTasks
from metarec_ray.evaluation.protocols.leave_last_out import LastEventTasks
from metarec_ray.evaluation.protocols.ratings import RatingTasks
from metarec_ray.evaluation.protocols.strict import TRAINING, StrictTasks


def refuse_leaks_of_rankings(store: TaskStore, tasks: StrictTasks | CrossDomainTasks) -> None:
    """Raise a DataError if training holds an entity or an event of the tasks."""
    ids = store.entity_ids()
    training = store.histories(TRAINING)
    refuse_shared_entities(
        {
            "training": [ids[task] for task in training.task_id.tolist()],
            "test": [ids[task] for task in tasks.entity.tolist()],
        }
    )
    if store.manifest.cutoff is not None:
        refuse_late_training(training.time, store.manifest.cutoff)
    if isinstance(tasks, StrictTasks) and tasks.time.shape[1]:
        asked = store.histories(("test",), cut=False).time[tasks.query_event]
        refuse_early_queries(
            [ids[task] for task in tasks.entity.tolist()], tasks.time.amax(1, keepdim=True), asked
        )


def refuse_held_events(store: TaskStore, tasks: LastEventTasks) -> None:
    """Raise a DataError if training holds the query of a task, the last event of its entity."""
    training = store.histories(TRAINING)
    known = training.lengths()[torch.searchsorted(training.task_id, tasks.entity)]
    late = (known > tasks.events.lengths()).nonzero().flatten().tolist()
    if late:
        name = store.entity_ids()[int(tasks.entity[late[0]])]
        raise DataError(
            f"the last event of an entity must not be in training, got that of {name!r} there "
            f"({len(late)} of {len(known)} entities)"
        )


def refuse_leaks_of_ratings(store: TaskStore, tasks: RatingTasks) -> None:
    """Raise a DataError if training, or the support of its own task, holds a query row."""
    place = {name: task for task, name in enumerate(store.entity_ids())}
    training, n_items = store.histories(TRAINING), len(store.items.ids)
    entity = training.task_id[training.entity()]
    task = torch.tensor([place.get(name, -1) for name in tasks.entity]).unsqueeze(1)
    asked = torch.where(tasks.mask & (task >= 0), task * n_items + tasks.query, -1)
    refuse_rows(tasks, torch.isin(asked, entity * n_items + training.item), store, "training")
    support = torch.where(tasks.support.mask, tasks.support.item, -1)
    inside = (tasks.query.unsqueeze(2) == support.unsqueeze(1)).any(2) & tasks.mask
    refuse_rows(tasks, inside, store, "its support")


def refuse_shared_entities(parts: Mapping[str, Sequence[str]]) -> None:
    """Raise a DataError if an entity is in two parts of a split."""
    found: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in found:
                raise DataError(
                    f"an entity must be in one part of a split, got {name!r} in {found[name]} "
                    f"and in {part}"
                )
            found[name] = part


def refuse_late_training(time: Tensor, cutoff: int) -> None:
    """Raise a DataError if a training event is at or after the cutoff."""
    late = int((time >= cutoff).sum())
    if late:
        raise DataError(
            f"training events must be before the cutoff {cutoff}, got {late} at or after it"
        )


def refuse_early_queries(names: Sequence[str], support: Tensor, query: Tensor) -> None:
    """Raise a DataError if a query, times [E] or [E, Q], begins before its support [E, N] ends."""
    first = query if query.dim() == 1 else query.amin(1)
    early = (support.amax(1) > first).nonzero().flatten().tolist()
    if early:
        raise DataError(
            f"a query must not begin before its support ends, got one of {names[early[0]]!r} that "
            f"does ({len(early)} of {len(names)} tasks)"
        )


def refuse_rows(tasks: RatingTasks, leaking: Tensor, store: TaskStore, where: str) -> None:
    """Raise a DataError that names the first query row of `leaking` [T, Q]."""
    found = leaking.nonzero().tolist()
    if found:
        task, row = found[0]
        item = store.items.ids[int(tasks.query[task, row])]
        raise DataError(
            f"a query row must not be in {where}, got item {item!r} of {tasks.entity[task]!r} "
            f"({tasks.scenario}; {len(found)} rows)"
        )
