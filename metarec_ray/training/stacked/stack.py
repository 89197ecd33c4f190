"""A stack: runs that differ in rates alone, trained together on the same tasks.

Knows trainers; does not know sweeps or rungs. A run that diverges leaves the stack with its reason,
and the others go on. The gradients of all runs are computed at once (`step`); each run clips and
applies its own, as it does alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import RunFailed
from metarec_ray.training.meta_step.step import Alone, LaneResult, lane_seed
from metarec_ray.training.stacked.alike import learner_rates, require_alike
from metarec_ray.training.stacked.encodings import StepTasks, step_tasks
from metarec_ray.training.stacked.step import Run, Shared, stacked_results
from metarec_ray.training.trainer import Trainer

_ALONE = Alone()


class Failed(NamedTuple):
    """Why a run left the stack, and the steps it had taken."""

    step: int
    why: str


class Stack:
    """The trainers of runs, by the positions in which their experiments were given.

    Attributes:
        trainers: of the runs that are still trained.
        failed: why the others are not.

    """

    def __init__(self, experiments: Sequence[Experiment], store: TaskStore):
        """Initialise every run from its seed.

        ConfigError unless the experiments differ in rates alone, of a learner that can be stacked.
        """
        require_alike(experiments)
        first = Trainer(experiments[0], store)
        others = [first.beside(experiment) for experiment in experiments[1:]]
        self.trainers: dict[int, Trainer] = dict(enumerate([first, *others]))
        self.failed: dict[int, Failed] = {}
        self._first = first  # draws the lanes of all, whether it is trained or not

    @property
    def step(self) -> int:
        """Meta-steps that all runs of the stack have taken."""
        return min((one.step for one in self.trainers.values()), default=0)

    def drop(self, position: int) -> None:
        """Train a run no further, if it still is."""
        self.trainers.pop(position, None)

    def run(self, until: int) -> None:
        """Train all runs up to step `until`; one that diverges leaves the stack."""
        while self.trainers and self.step < until:
            self._take_step()

    def _take_step(self) -> None:
        step, train = self.step, self._first.experiment.train
        lanes = self._first.lanes_of(step, _ALONE)
        seed = self._first.experiment.run.seed
        seeds = [lane_seed(seed, step, number) for number in lanes]
        dropout = self._first.experiment.model.user_dropout
        tasks = step_tasks(list(lanes.values()), user_dropout=dropout, seeds=seeds)
        results = self._results(tasks, step / train.steps)
        for (position, trainer), result in zip(list(self.trainers.items()), results, strict=True):
            try:
                trainer.update([result])
            except RunFailed:
                self._take_alone(position, trainer, lanes)

    def _results(self, tasks: StepTasks, progress: float) -> list[LaneResult]:
        first, trainers = self._first, list(self.trainers.values())
        parts = {name: parameter.part for name, parameter in first.declared.items()}
        shared = Shared(
            recipe=first.recipe,
            buffers=first.buffers,
            adapting=tuple(
                name for name in first.state.dense if parts[name] in ("head", "learner")
            ),
            table_rows=first.table_rows,
            teaching=first.teaching,
        )
        runs = [Run(one.trainable, one.frozen) for one in trainers]
        rates = learner_rates([one.experiment.algorithm for one in trainers])
        return stacked_results(
            shared,
            runs,
            {name: torch.tensor(values) for name, values in rates.items()},
            tasks,
            progress=progress,
        )

    def _take_alone(self, position: int, trainer: Trainer, lanes: dict) -> None:
        """Take a step whose gradient is not finite as a run alone does, which says why."""
        try:
            trainer.step_on(lanes, _ALONE)
        except RunFailed as error:
            self.failed[position] = Failed(trainer.step, str(error))
            self.drop(position)
