"""Training of any experiment; the same command again resumes.

A meta-learner trains on Ray Train workers, or round by round or period by period in this process;
other learners are fitted at once, a blend member by member. Knows which of these an experiment
asks for, and what lies in `run.dir`.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner, Fitting
from metarec_ray.checkpoint import Checkpoint, StoredParameters
from metarec_ray.config.experiment import Experiment, absolute, override
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster.parallel import each
from metarec_ray.engine.cluster.session import interruptible
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.engine.tracking.mlflow_client import require_installed
from metarec_ray.engine.tracking.tracking import Asked, tracked
from metarec_ray.engine.train.folds import train_folds
from metarec_ray.engine.train.tracked import TrainingRuns
from metarec_ray.engine.train.workers import train_on_workers
from metarec_ray.errors import RunFailed
from metarec_ray.evaluation.blend import blend, member_experiments
from metarec_ray.evaluation.second_stage.experiments import stage_experiments
from metarec_ray.evaluation.second_stage.fit import fit_second_stage
from metarec_ray.training.artifact import require_same_run
from metarec_ray.training.averaged import budget, round_segments
from metarec_ray.training.fit import fit, require_suitable
from metarec_ray.training.incremental import PeriodRun
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.run_folder.movement import MEMBERS
from metarec_ray.training.segments import resume, save, train_segments
from metarec_ray.training.trainer import Trainer


class TrainResult(NamedTuple):
    """The path of the last checkpoint, its metrics, and the hash of its parameters."""

    checkpoint: Path
    metrics: dict[str, Any]
    parameters_sha256: str


def train(
    experiment: Experiment, *, data_dir: Path | None, progress: Callable[[str], None]
) -> TrainResult:
    """Train until `train.steps`, resuming from `run.dir`; needs a Ray session.

    The run's task store is prepared first, if its log or its settings have changed.

    Raises:
        CheckpointError: the run was begun with another configuration or other data.
        MachineError: `train.device` asks for GPUs the cluster has not, or tracking for a package.
        RunFailed: the workers failed more often than `train.max_failures`.

    """
    require_installed(experiment.train.mlflow, "train.mlflow")  # before the log is prepared
    store = ensure_store(experiment, data_dir=data_dir, progress=progress)
    require_suitable(experiment, store)
    experiment = absolute(experiment, Path.cwd())  # workers run in another folder
    directory, asked = experiment.directory, experiment.train
    runs = TrainingRuns(experiment, store.manifest)
    with tracked(runs, Asked("train", directory, asked.mlflow, asked.tensorboard), progress):
        path, metrics = _trained(experiment, store, data_dir, progress)
        sha256 = checkpoints.parameters_sha256(StoredParameters(path))
        runs.finish(path, metrics, sha256)
    return TrainResult(path, metrics, sha256)


def _trained(
    experiment: Experiment,
    store: TaskStore,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> tuple[Path, dict[str, Any]]:
    """Train or fit; return the last checkpoint and its metrics."""
    directory = experiment.directory
    joins = experiment.blend.members or experiment.second_stage is not None
    if joins or isinstance(experiment.algorithm, FittedLearner):
        return _fit(experiment, store, directory, data_dir, progress)
    return _meta_train(experiment, store, directory, progress)


def _fit(
    experiment: Experiment,
    store: TaskStore,
    directory: Path,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> tuple[Path, dict[str, Any]]:
    """Fit a learner without an outer loop, a blend or two stages: one checkpoint, of step 0."""
    folder = directory / checkpoints.CHECKPOINTS
    name = "a blend" if experiment.blend.members else experiment.algorithm.name
    if experiment.second_stage is not None:
        name += " with a second stage"
    found = checkpoints.latest_described(folder)
    if found is not None:
        require_same_run(found[1], experiment, store, found[0])
        progress(f"train: {name} is fitted already")
        return found[0], found[1].metrics
    progress(f"train: fitting {name}")
    fitting = Fitting(
        each=partial(each, folder=directory), progress=lambda line: progress(f"train: {line}")
    )
    started = time.perf_counter()
    if experiment.second_stage is not None:
        asked = stage_experiments(experiment, store)
        stages = _train_members(asked, store, directory, data_dir, progress)
        with interruptible():
            fitted = fit_second_stage(experiment, store, stages, fitting=fitting, started=started)
    elif experiment.blend.members:
        asked = member_experiments(experiment, store)
        members = _train_members(asked, store, directory, data_dir, progress)
        fitted = blend(experiment, store, members, fitting=fitting, started=started)
    else:
        with interruptible():
            fitted = fit(experiment, store, fitting=fitting)
    return checkpoints.save_step(fitted, folder), fitted.metrics


def _train_members(
    asked: dict[str, Experiment],
    store: TaskStore,
    directory: Path,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> dict[str, Checkpoint]:
    """Train members one by one, then the fits without a fold beside each other.

    Each is a run of its own, which the same command resumes.
    """
    found, folds = {}, {}
    wholes = sum(member.train.without is None for member in asked.values())
    for name, member in asked.items():
        own = {"run.dir": str(directory / MEMBERS / name), "run.store": str(store.path.resolve())}
        own |= {"train.mlflow": None, "train.tensorboard": False}  # the whole is tracked
        placed = override(member, own)
        if member.train.without is not None:
            folds[name] = placed
            continue
        progress(f"train: member {name} ({len(found) + 1} of {wholes})")
        result = train(placed, data_dir=data_dir, progress=progress)
        found[name] = checkpoints.load(result.checkpoint)
    return found | (train_folds(folds, progress) if folds else {})


def _meta_train(
    experiment: Experiment, store: TaskStore, directory: Path, progress: Callable[[str], None]
) -> tuple[Path, dict[str, Any]]:
    """Train by the outer loop from the last good checkpoint on; return the final one's metrics.

    The driver of workers holds no parameters while they train.
    """
    folder, steps = directory / checkpoints.CHECKPOINTS, experiment.train.steps
    if _steps_done(experiment, store, folder, progress) < steps:
        if experiment.train.average is not None or experiment.train.periods > 1:
            _train_here(experiment, store, directory, progress)
        else:
            train_on_workers(experiment, directory, progress)
    found = checkpoints.latest_described(folder)
    if found is None or found[1].state["step"] < steps:
        raise RunFailed(
            f"the run must reach step {steps}, its last good checkpoint is {found and found[0]}"
        )
    return found[0], found[1].metrics


def _steps_done(
    experiment: Experiment, store: TaskStore, folder: Path, progress: Callable[[str], None]
) -> int:
    """Return the step that a run resumes at; refuse what its workers would refuse."""
    trainer, steps = Trainer(experiment, store), experiment.train.steps
    found = checkpoints.latest_described(folder)
    if found is None:
        for given in (trainer.copied, trainer.teacher):
            if given is not None:
                progress(f"train: {given.sentence()}")
        return 0
    path, checkpoint = found
    trainer.require_own(checkpoint, StoredParameters(path), path)
    done = int(checkpoint.state["step"])
    how = "already" if done >= steps else "resuming"
    progress(f"train: {how} at step {done} of {steps}")
    return done


def _train_here(
    experiment: Experiment, store: TaskStore, directory: Path, progress: Callable[[str], None]
) -> None:
    """Train round by round, with shards as Ray tasks, or period by period, in this process."""
    folder, log = directory / checkpoints.CHECKPOINTS, directory / metrics_log.NAME
    trainer = Trainer(experiment, store)
    directory.mkdir(parents=True, exist_ok=True)
    metrics_log.forget_after(log, resume(trainer, folder))

    def report(line: Progress) -> None:
        metrics_log.append(log, line)
        progress(f"train: {metrics_log.render(metrics_log.as_line(line))}")

    def learned(run: PeriodRun) -> None:
        run.write_summary(directory)
        progress(f"train: {run.sentence()}")

    with interruptible():
        if experiment.train.average is not None:
            progress(f"train: {budget(experiment.train)}")
            segments = round_segments(
                trainer, Fitting(each=partial(each, folder=directory)), at_end=partial(save, folder)
            )
        else:
            run = PeriodRun(experiment, store, learned=learned)
            run.resume(folder)
            segments = run.segments(lambda checkpoint: checkpoints.save_step(checkpoint, folder))
        train_segments(segments, report=report)
