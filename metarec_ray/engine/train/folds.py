"""Fits that each leave a fold of the entities out, beside each other: a Ray task of one CPU each.

Knows that a fit is a run of its own, which the same command resumes; does not know what the fits
are for.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.checkpoint import CHECKPOINTS, Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster.parallel import as_they_end
from metarec_ray.engine.cluster.session import interruptible
from metarec_ray.training.artifact import require_same_run
from metarec_ray.training.fit import fit
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import (
    checkpoint_steps,
    resume,
    save,
    segments_of,
    train_segments,
)
from metarec_ray.training.trainer import Trainer


def train_folds(
    experiments: dict[str, Experiment], progress: Callable[[str], None]
) -> dict[str, Checkpoint]:
    """Return the checkpoint of each experiment, whose `run.dir` and `run.store` are its own.

    What a run's folder holds already is not computed again.

    Raises:
        CheckpointError: a run was begun with another configuration or other data.

    """
    asked = list(experiments.items())
    with interruptible():
        for number, name in enumerate(
            as_they_end(_train_alone, asked, folder=asked[0][1].directory), 1
        ):
            progress(f"train: fold {name} is fitted ({number} of {len(asked)})")
    return {name: checkpoints.find(experiment.directory)[1] for name, experiment in asked}


def _train_alone(asked: tuple[str, Experiment]) -> str:
    """Train one experiment in this process, from its last checkpoint on; return its name."""
    name, experiment = asked
    store = TaskStore.open(experiment.store)
    train, folder = experiment.train, experiment.directory / CHECKPOINTS
    by_steps = train.average is None and train.periods == 1
    if isinstance(experiment.algorithm, FittedLearner) or not by_steps:
        found = checkpoints.latest_described(folder)
        if found is None:
            checkpoints.save_step(fit(experiment, store), folder)
        else:
            require_same_run(found[1], experiment, store, found[0])
        return name
    _train_by_steps(experiment, store, folder)
    return name


def _train_by_steps(experiment: Experiment, store: TaskStore, folder: Path) -> None:
    trainer, log = Trainer(experiment, store), experiment.directory / metrics_log.NAME
    log.parent.mkdir(parents=True, exist_ok=True)
    metrics_log.forget_after(log, resume(trainer, folder))

    def report(line: Progress) -> None:
        metrics_log.append(log, line)

    steps = checkpoint_steps(experiment.train.steps, experiment.train.checkpoint_every)
    train_segments(segments_of(trainer, steps, at_end=partial(save, folder)), report=report)
