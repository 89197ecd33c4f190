"""The protocol `leave_last_out`: the last event of known entities, as sequential recommenders do.

Knows a store that holds out the last events of every history (`data.split: last`); does not know
what scores. The support are the newest events before the last one, which is the query; candidates
are the whole catalogue without the newest items of the support. To choose by, the event before the
last one is the query.

It leaks time: entities are those of training, and what others did later is learned from. It is here
to read published numbers by; `strict` does not leak.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Features, labels_at
from metarec_ray.core.histories import Histories
from metarec_ray.data.protocol_settings import LeaveLastOut
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.events import item_share, padded
from metarec_ray.evaluation.protocols.strict import MIN_ENTITIES, TRAINING, Part
from metarec_ray.evaluation.table.ranking_measures import Measured
from metarec_ray.inference.supports import Supports

NAME = "leave_last_out"


class LastEventTasks(NamedTuple):
    """The E judged entities of a store, ascending by task id; I items in the catalogue."""

    entity: Tensor  # int64 [E]: task ids
    events: Histories  # of these entities: everything before the query
    query: Tensor  # int64 [E, 1]: rows of the catalogue
    query_label: Tensor  # float [E, 1]
    now: Features  # [E, 1]: context of the query
    trained: Tensor  # bool [I]: items with a training event
    share: Tensor  # float [I]: share of training entities with an event on the item, > 0
    masked: int

    def at(self, rows: Tensor) -> "LastEventTasks":
        """Return the tasks at `rows`, int64 [n]."""
        return self._replace(
            entity=self.entity[rows],
            events=self.events.take(rows),
            query=self.query[rows],
            query_label=self.query_label[rows],
            now=self.now.at(rows),
        )

    def candidates(self, k: int) -> Tensor:
        """Return bool [E, I]: the catalogue without the newest items, the same at every k."""
        del k
        rows, mask = self._newest(self.masked)
        known = torch.where(mask, self.events.item[rows], self.query)
        allowed = torch.ones(len(self.entity), len(self.trained), dtype=torch.bool)
        return allowed.scatter_(1, known, False).scatter_(1, self.query, True)

    def gains(self) -> Tensor:
        """Return float [E, I]: 1 on the query item of each entity."""
        return torch.zeros(len(self.entity), len(self.trained)).scatter_(1, self.query, 1.0)

    def supports(self, k: int) -> Supports:
        """Return the newest k events before the query, or fewer, oldest first."""
        rows, mask = self._newest(k)
        return Supports(
            item=self.events.item[rows] * mask,
            label=self.events.label[rows] * mask,
            mask=mask,
            time=self.events.time[rows] * mask,
            context=self.events.context.at(rows),
            user=self.events.users.features,
            now=self.now,
            labels=labels_at(self.events.labels, rows),
        )

    def _newest(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the rows of the newest k events [E, N], and their mask."""
        sizes = self.events.lengths().clamp(max=k)
        return padded(self.events.offsets[1:] - sizes, sizes)


def last_event_tasks(
    store: TaskStore, settings: LeaveLastOut, *, part: Part = "test", force: bool = False
) -> LastEventTasks:
    """Return the tasks of the entities with two events before the query, and a query that is new.

    Args:
        store: holds out the last events of every history.
        settings: of the protocol.
        part: which event is the query: the last one, or for `valid`, to choose by, the one before.
        force: also take fewer than 100 entities.

    Raises:
        ConfigError: the store holds out entities, or labels are not positives.
        DataError: too few entities.

    """
    _require(store)
    training = store.histories(TRAINING if part == "test" else ("train",))
    whole = store.histories(("test",), cut=False) if part == "test" else _before_last(store)
    tasks = cut_tasks(training, whole, settings)
    found = len(tasks.entity)
    if found == 0 or (found < MIN_ENTITIES and not force):
        least, events = (1 if force else MIN_ENTITIES), 3 if part == "test" else 4
        more = "" if force else " (evaluate.force takes fewer)"
        raise DataError(
            f"the {NAME} protocol needs {least} entities with {events} events or more whose query "
            f"is a new item, got {found} of {whole.n_entities}{more}"
        )
    return tasks


def cut_tasks(training: Histories, whole: Histories, settings: LeaveLastOut) -> LastEventTasks:
    """Return the tasks of the entities of `whole`, whose last events are the query.

    A query that the entity met among its newest `masked` events is no candidate: it is not judged.
    """
    last = (whole.offsets[1:] - 1).clamp(min=0)
    long_enough = (whole.lengths() > 2).nonzero().squeeze(1)
    later = whole.offsets[1:].repeat_interleave(whole.lengths()) - torch.arange(len(whole.item)) - 1
    entity = whole.entity()
    repeats = (whole.item == whole.item[last][entity]) & (later > 0) & (later <= settings.masked)
    repeated = torch.zeros(whole.n_entities, dtype=torch.bool).index_fill_(0, entity[repeats], True)
    rows = long_enough[~repeated[long_enough]]
    if len(rows) > settings.entities:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randperm(len(rows), generator=generator)[: settings.entities]
        rows = rows[drawn.sort().values]
    query = last[rows].unsqueeze(1)
    return LastEventTasks(
        entity=whole.task_id[rows],
        events=whole.keep(later > 0).take(rows),
        query=whole.item[query],
        query_label=whole.label[query],
        now=whole.context.at(query),
        trained=training.met_items(),
        share=item_share(training),
        masked=settings.masked,
    )


def with_whole_ranks(measured: Measured, tasks: LastEventTasks) -> Measured:
    """Return the values with `mrr`: one over the rank among all candidates, of ties the mean one.

    A query is one item, so the AUC says what share of the others is below it.
    """
    assert measured.condition.k is not None
    others = tasks.candidates(measured.condition.k).sum(1) - 1
    rank = 1 + ((1 - measured.values["auc"].double()) * others).clamp(min=0)
    return measured._replace(values=measured.values | {"mrr": (1 / rank).float()})


def _before_last(store: TaskStore) -> Histories:
    """Return whole histories without their last events."""
    whole = store.histories(("valid",), cut=False)
    later = whole.offsets[1:].repeat_interleave(whole.lengths()) - torch.arange(len(whole.item)) - 1
    return whole.keep(later > 0)


def _require(store: TaskStore) -> None:
    if not store.held_last:
        raise ConfigError(
            f"--protocol {NAME} needs a store that holds out the last events of each history "
            f"(data.split: last), got data.split={store.manifest.settings.get('split')}"
        )
    if store.manifest.feedback != "implicit":
        raise ConfigError(
            f"--protocol {NAME} takes every event for a positive and needs implicit feedback, got "
            f"{store.manifest.feedback} (data.feedback)"
        )
