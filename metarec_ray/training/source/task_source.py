"""Where the tasks of a run come from: its histories, and what is counted over them.

Knows how an experiment cuts tasks; does not know parameters, steps or what is learned.
"""

from collections.abc import Callable

from torch import Tensor

from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.cuts import Cut
from metarec_ray.data.tasks.domains import asked_items
from metarec_ray.data.tasks.lanes import LaneSampler
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.source.known_values import known_values
from metarec_ray.training.source.prior import ItemStatistics, item_buffers

EventFilter = Callable[[Histories], Histories]
"""Keeps some of the events of histories."""


def every_event(histories: Histories) -> Histories:
    """Return the histories as they are."""
    return histories


class TaskSource:
    """The histories of a run as tasks.

    Attributes:
        histories: that item statistics are counted over, labels standardised.
        trained: bool [I], items of the catalogue that are in them.
        known_values: which values of features count.
        buffers: what was counted over them, as `item_buffers` returns it.

    """

    def __init__(self, experiment: Experiment, store: TaskStore, histories: Histories):
        """Count over `histories`, which are those of `store` or a part of them."""
        train, manifest = experiment.train, store.manifest
        self.histories, self.trained = histories, histories.met_items()
        self.known_values = known_values(histories, self.trained)
        self._cut, self._augmented, self._domains = train.tasks, train.augmentation, None
        if train.domains:
            self._domains = train.domains, asked_items(store, train.domains)
        self._statistics = ItemStatistics(
            histories,
            self.trained,
            experiment.model,
            manifest.feedback,
            cutoff=manifest.cutoff,
        )
        self.buffers: Params = item_buffers(
            self._statistics,
            self.trained,
            reference=train.reference_items,
            seed=experiment.run.seed,
            sampling=train.tasks.negative_sampling,
        )

    def sampler(self, tasks_from: EventFilter = every_event) -> LaneSampler:
        """Return a sampler of tasks that are cut from the events which `tasks_from` keeps.

        What such a task is told of items is counted without its own entity, and no item that the
        entity met is a negative. The only tasks that are augmented.
        """
        return LaneSampler(
            tasks_from(self.histories),
            self.trained,
            self._cut,
            reference=self.buffers["reference.items"],
            domains=self._domains,
            met=self.histories,
            without_own=self._statistics.without_own,
            known_values=self.known_values,
            augmented=self._augmented,
        )

    def sampler_of(self, histories: Histories, catalogue: Tensor, cut: Cut) -> LaneSampler:
        """Return a sampler of tasks of entities that nothing was counted over.

        Args:
            histories: of these entities, labels standardised.
            catalogue: bool [I], items that compete.
            cut: how a history is cut into tasks.

        """
        return LaneSampler(
            histories,
            catalogue,
            cut,
            reference=self.buffers["reference.items"],
            domains=self._domains,
            known_values=self.known_values,
        )
