"""The protocol `strict`: new entities by time, the whole catalogue as candidates.

Knows a task store and the first positives of its test entities; does not know what scores them.

Training is everything before the cutoff; a test entity begins at or after it. Its positives on
training items are taken in order. The first k are the support; the `query_size` after the `window`
(the largest k) are the query, the same at every k. Items of the window are no candidates at any k.
With `mask: support` only those of the support are not, as at a live endpoint, which knows no more.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from metarec_ray.config.experiment import Evaluate
from metarec_ray.core.batch import NO_LABELS, Features, labels_at
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.events import first_meetings, item_share
from metarec_ray.inference.supports import Supports

TRAINING = ("train", "valid")
MIN_ENTITIES = 100  # with fewer, the table is mostly noise
Part = Literal["test", "valid", "train", "fold"]
"""Whose tasks: of test entities, of those that choices are made on (validation entities, a fold of
the training entities), or of training entities."""
_CHOSEN_ON = {
    "valid": ("a validation entity", "data.valid_share"),
    "fold": ("an entity in each fold", "sweep.folds"),
}


class StrictTasks(NamedTuple):
    """The E eligible test entities of a store, ascending by task id; I items in the catalogue."""

    entity: Tensor  # int64 [E]: task ids
    user: Features  # [E]
    support: Tensor  # int64 [E, window]: catalogue rows of the first positives, oldest first
    label: Tensor  # float [E, window]
    time: Tensor  # int64 [E, window]: microseconds, 0 without a clock
    event: Tensor  # int64 [E, window]: rows of `context`
    query: Tensor  # int64 [E, query_size]
    query_label: Tensor  # float [E, query_size]
    query_event: Tensor  # int64 [E]: row of `context` at the start of the query
    context: Features  # of all events of the test histories
    trained: Tensor  # bool [I]: items with a training event
    share: Tensor  # float [I]: share of training entities with an event on the item, > 0
    mask: Literal["window", "support"]
    labels: Tensor = NO_LABELS  # float [N, L]: further labels of the events of `context`

    def at(self, rows: Tensor) -> "StrictTasks":
        """Return the tasks at `rows`, int64 [n]."""
        return self._replace(
            entity=self.entity[rows],
            user=self.user.at(rows),
            support=self.support[rows],
            label=self.label[rows],
            time=self.time[rows],
            event=self.event[rows],
            query=self.query[rows],
            query_label=self.query_label[rows],
            query_event=self.query_event[rows],
        )

    def candidates(self, k: int) -> Tensor:
        """Return bool [E, I]: what may be recommended to each entity after k events."""
        allowed = self.trained.expand(len(self.entity), -1).clone()
        known = self.support if self.mask == "window" else self.support[:, :k]
        return allowed.scatter_(1, known, False)

    def supports(self, k: int) -> Supports:
        """Return the first k events of each entity; an empty support has one masked slot."""
        item, label, time, event = (
            # A window of no events has no slot, so one is added.
            column[:, : max(k, 1)] if column.shape[1] else pad(column, (0, 1))
            for column in (self.support, self.label, self.time, self.event)
        )
        return Supports(
            item=item,
            label=label,
            mask=(event >= 0) & (k > 0),
            time=time,
            context=self.context.at(event),
            user=self.user,
            now=self.context.at(self.query_event[:, None]),
            labels=labels_at(self.labels, event),
        )

    def gains(self) -> Tensor:
        """Return float [E, I]: 1 on the query items of each entity."""
        return torch.zeros(len(self.entity), len(self.trained)).scatter_(1, self.query, 1.0)


def strict_tasks(store: TaskStore, settings: Evaluate) -> StrictTasks:
    """Return the tasks of a store's test entities.

    Raises:
        ConfigError: the store holds out no entities.
        DataError: too few are eligible.

    """
    require_held_entities(store, "strict")
    return cut_tasks(
        store.histories(TRAINING),
        store.histories(("test",), cut=False),
        settings,
        positive_min=positive_threshold(settings, store.manifest.feedback),
    )


def require_held_entities(store: TaskStore, protocol: str) -> None:
    """Raise a ConfigError if a store holds out the last events of histories, and no entity."""
    if store.held_last:
        raise ConfigError(
            f"--protocol {protocol} judges entities that training never saw, got data.split=last, "
            "which holds out none (--protocol leave_last_out)"
        )


def positive_threshold(settings: Evaluate, feedback: Feedback) -> float | None:
    """Return the smallest label of a positive; None if every event is one."""
    return {"implicit": None, "binary": 0.5, "explicit": settings.positive_min}[feedback]


def cut_tasks(
    training: Histories,
    test: Histories,
    settings: Evaluate,
    *,
    positive_min: float | None,
    part: Part = "test",
) -> StrictTasks:
    """Return the tasks of the eligible among the `test` entities.

    Args:
        training: histories of training and validation entities, cut at the cutoff.
        test: whole histories.
        settings: of the protocol.
        positive_min: smallest label of a positive; None for every event.
        part: name of the `test` entities in an error.

    Raises:
        ConfigError: no room for window and query, or a clean boundary without a clock.
        DataError: too few entities are eligible.

    """
    window = max(settings.ks)
    _check_settings(window, test, settings)
    trained = training.met_items()
    rows, events = _eligible(test, trained, positive_min, window, settings)
    _check_size(len(rows), test.n_entities, settings, part)
    return _tasks(test, rows, events, trained, item_share(training), settings)


def _eligible(
    test: Histories,
    trained: Tensor,
    positive_min: float | None,
    window: int,
    settings: Evaluate,
) -> tuple[Tensor, Tensor]:
    """Return the rows [n] of eligible entities and of their first positives [n, window + query]."""
    entity = test.entity()
    keep = trained[test.item]
    if positive_min is not None:
        keep &= test.label >= positive_min
    keep &= first_meetings(test, keep)
    event = keep.nonzero().squeeze(1)
    counts = torch.bincount(entity[event], minlength=test.n_entities)
    starts = counts.cumsum(0) - counts
    eligible = (counts >= settings.min_positives).nonzero().squeeze(1)
    steps = torch.arange(window + settings.query_size)
    events = event[starts[eligible].unsqueeze(1) + steps]
    if settings.boundary == "clean" and window:
        clean = test.time[events[:, window]] > test.time[events[:, window - 1]]
        eligible, events = eligible[clean], events[clean]
    return eligible, events


def _tasks(
    test: Histories,
    rows: Tensor,
    events: Tensor,
    trained: Tensor,
    share: Tensor,
    settings: Evaluate,
) -> StrictTasks:
    """Return the tasks of the entities at `rows`, of their `events` [n, window + query]."""
    window = max(settings.ks)
    support, query = events[:, :window], events[:, window:]
    return StrictTasks(
        entity=test.task_id[rows],
        user=test.users.features.at(rows),
        support=test.item[support],
        label=test.label[support],
        time=test.time[support],
        event=support,
        query=test.item[query],
        query_label=test.label[query],
        query_event=query[:, 0],
        context=test.context,
        labels=test.labels,
        trained=trained,
        share=share,
        mask=settings.mask,
    )


def _check_settings(window: int, test: Histories, settings: Evaluate) -> None:
    needed = window + settings.query_size
    if settings.min_positives < needed:
        raise ConfigError(
            f"evaluate.min_positives must be >= max(ks) + query_size = {needed}, "
            f"got {settings.min_positives}"
        )
    if settings.boundary == "clean" and len(test.time) and not test.time.any():
        raise ConfigError(
            "evaluate.boundary=clean needs a clock, the log has no time role (data.columns.time)"
        )


def _check_size(eligible: int, entities: int, settings: Evaluate, part: Part) -> None:
    if eligible == 0 and part == "train":
        raise DataError(
            f"to learn from there must be an entity with >= {settings.min_positives} different "
            f"items that others met (evaluate.min_positives), got none among {entities}"
        )
    if eligible == 0 and part in _CHOSEN_ON:
        who, key = _CHOSEN_ON[part]
        raise DataError(
            f"choices need {who} with >= {settings.min_positives} events to judge by "
            f"(evaluate.min_positives), got none among {entities} ({key})"
        )
    if eligible == 0 or (eligible < MIN_ENTITIES and not settings.force):
        raise DataError(
            f"the strict protocol needs {MIN_ENTITIES} {part} entities with "
            f">= {settings.min_positives} positives on training items, got {eligible} "
            f"of {entities} {part} entities (evaluate.force takes fewer)"
        )
