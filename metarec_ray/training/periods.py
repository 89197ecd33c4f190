"""A log cut by time into periods, the entities held out of all of them, and what is replayed.

And the verdict on a period's model. Knows times and ids; does not know what is trained.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Lane
from metarec_ray.core.histories import Histories
from metarec_ray.data.draws import uniform
from metarec_ray.data.tasks.domains import learned_from
from metarec_ray.data.tasks.lanes import LaneSampler
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError

HELD_OUT = 0.1  # share of the training entities that are only evaluated on
Share = Callable[..., dict[int, Lane]]
"""Returns a worker's lanes of a meta-batch, called as `LaneSampler.share`."""


class Periods(NamedTuple):
    """A log cut by time into periods of equally many training events.

    Attributes:
        starts: microseconds, one a period; a period ends where the next one starts.
        events: training events of each period.

    """

    starts: list[int]
    events: list[int]

    def of(self, time: Tensor) -> Tensor:
        """Return the period of each moment, int64."""
        return torch.searchsorted(torch.tensor(self.starts[1:]), time, right=True)


def cut(experiment: Experiment, store: TaskStore) -> Periods:
    """Return `train.periods` periods of the training events.

    Raises:
        DataError: the log has no clock, or too few moments to tell periods apart.

    """
    count = experiment.train.periods
    parts = tuple(experiment.train.parts.split("+"))
    learned = learned_from(store, experiment.train.domains).without(experiment.train.without)
    time = learned.histories(parts).time.sort().values
    starts = time[torch.arange(count) * len(time) // count]
    if not store.manifest.has_time or bool((starts.diff() <= 0).any()):
        clock = "a" if store.manifest.has_time else "no"
        raise DataError(
            f"{count} periods need a clock with so many moments apart, the log has {clock} clock "
            f"and {time.unique().numel()} moments (train.periods)"
        )
    found = Periods(starts.tolist(), [])
    return found._replace(events=torch.bincount(found.of(time), minlength=count).tolist())


def up_to(period: int, periods: Periods, seed: int, histories: Histories) -> Histories:
    """Return the events of this period and those before, of entities that are not held out."""
    kept = (periods.of(histories.time) <= period) & ~held_out(histories, seed)
    return histories.keep(kept)


def within(period: int, periods: Periods, histories: Histories) -> Histories:
    """Return the events of this period."""
    return histories.keep(periods.of(histories.time) == period)


def held_out(histories: Histories, seed: int) -> Tensor:
    """Return bool [events]: those of held-out entities, a pure function of their ids."""
    task = histories.task_id.numpy()
    drawn = uniform(seed, np.zeros(len(task), np.int64), task, draws=5)[:, 4]
    return torch.from_numpy(drawn < HELD_OUT).repeat_interleave(histories.lengths())


def mixed(new: LaneSampler, seen: LaneSampler, replay: float) -> Share:
    """Return lanes of which a share `replay`, in [0, 1], is of `seen` and the others of `new`.

    Whole lanes, spread evenly over the lanes of all steps: which ones depends on no worker.
    """

    def share(
        seed: int, step: int, rank: int, world: int, *, lanes: int, lane_tasks: int
    ) -> dict[int, Lane]:
        found = {}
        for index in range(rank, lanes, world):
            number = step * lanes + index
            replayed = int((number + 1) * replay) > int(number * replay)
            sampler = seen if replayed else new
            found[index] = sampler.lane(seed, step, index, lanes=lanes, lane_tasks=lane_tasks)
        return found

    return share
