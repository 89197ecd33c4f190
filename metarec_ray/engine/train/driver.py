"""Training of any experiment: by an outer loop on workers, at once, in parts, or member by member.

Knows which of these an experiment asks for and what lies in `run.dir`; a repeated command resumes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner, Fitting
from metarec_ray.config.experiment import Experiment, override
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster.parallel import each
from metarec_ray.engine.cluster.session import interruptible
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.engine.train.workers import train_on_workers
from metarec_ray.errors import RunFailed
from metarec_ray.evaluation.blend import fit_blend
from metarec_ray.training import metrics_log
from metarec_ray.training.artifact import require_same_run
from metarec_ray.training.averaged import round_segments
from metarec_ray.training.fit import fit, require_suitable
from metarec_ray.training.incremental import PeriodRun
from metarec_ray.training.metrics_log import Progress
from metarec_ray.training.segments import resume, save, train_segments
from metarec_ray.training.trainer import Trainer

MEMBERS = "members"


class TrainResult(NamedTuple):
    """Where the last checkpoint lies, its metrics, and the hash of its parameters."""

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
        MachineError: `train.device` asks for GPUs the cluster has not.
        RunFailed: the workers failed more often than `train.max_failures`.

    """
    if experiment.train.init_from is not None:  # workers may stand in another folder
        source = str(Path(experiment.train.init_from).resolve())
        experiment = override(experiment, {"train.init_from": source})
    directory = experiment.directory.resolve()
    folder = directory / checkpoints.CHECKPOINTS
    # Refuses a foreign checkpoint here, in one sentence, before any worker starts.
    store = ensure_store(experiment, data_dir=data_dir, progress=progress)
    require_suitable(experiment, store)
    if experiment.blend.members or isinstance(experiment.algorithm, FittedLearner):
        return _fit_at_once(experiment, store, folder, data_dir, progress)
    trainer = Trainer(experiment, store)
    done = resume(trainer, folder)
    if not done and trainer.copied is not None:
        progress(f"train: {trainer.copied.sentence()}")
    if done >= experiment.train.steps:
        progress(f"train: already at step {done} of {experiment.train.steps}")
    else:
        if done:
            progress(f"train: resuming at step {done} of {experiment.train.steps}")
        if experiment.train.average is not None or experiment.train.periods > 1:
            _train_here(trainer, directory, progress)
        else:
            train_on_workers(experiment, directory, progress)
    found = checkpoints.latest(folder)
    if found is None or found[1].state["step"] < experiment.train.steps:
        raise RunFailed(
            f"the run must reach step {experiment.train.steps}, "
            f"its last good checkpoint is {found and found[0]}"
        )
    path, last = found
    return TrainResult(path, last.metrics, checkpoints.parameters_sha256(last.model))


def _fit_at_once(
    experiment: Experiment,
    store: TaskStore,
    folder: Path,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> TrainResult:
    """Fit a learner that no outer loop trains, or a blend; its one checkpoint is of step 0."""
    name = "a blend" if experiment.blend.members else experiment.algorithm.name
    found = checkpoints.latest(folder)
    if found is not None:
        require_same_run(found[1], experiment, store, found[0])
        progress(f"train: {name} is fitted already")
        path, fitted = found
    else:
        progress(f"train: fitting {name}")
        fitting = Fitting(each=each, progress=lambda line: progress(f"train: {line}"))
        if experiment.blend.members:
            members = partial(_train_members, store, folder.parent / MEMBERS, data_dir, progress)
            fitted = fit_blend(experiment, store, fitting=fitting, fit_members=members)
        else:
            with interruptible():
                fitted = fit(experiment, store, fitting=fitting)
        path = checkpoints.save_step(fitted, folder)
    return TrainResult(path, fitted.metrics, checkpoints.parameters_sha256(fitted.model))


def _train_members(
    store: TaskStore,
    folder: Path,
    data_dir: Path | None,
    progress: Callable[[str], None],
    asked: Mapping[str, Experiment],
) -> dict[str, checkpoints.Checkpoint]:
    """Train members one after the other, each a run of its own that the same command resumes."""
    found = {}
    for number, (name, member) in enumerate(asked.items(), 1):
        progress(f"train: member {name} ({number} of {len(asked)})")
        places = {"run.dir": str(folder / name), "run.store": str(store.path.resolve())}
        result = train(override(member, places), data_dir=data_dir, progress=progress)
        found[name] = checkpoints.load(result.checkpoint)
    return found


def _train_here(trainer: Trainer, directory: Path, progress: Callable[[str], None]) -> None:
    """Train round by round, with shards as Ray tasks, or period by period, in this process."""
    folder, log = directory / checkpoints.CHECKPOINTS, directory / metrics_log.NAME
    directory.mkdir(parents=True, exist_ok=True)
    metrics_log.forget_after(log, trainer.step)

    def report(line: Progress) -> None:
        metrics_log.append(log, line)
        progress(f"train: {metrics_log.render(metrics_log.as_line(line))}")

    def learned(run: PeriodRun) -> None:
        run.write_summary(directory)
        progress(f"train: {run.sentence()}")

    with interruptible():
        if trainer.experiment.train.average is not None:
            segments = round_segments(trainer, Fitting(each=each), at_end=partial(save, folder))
        else:
            run = PeriodRun(trainer.experiment, trainer.store, learned=learned)
            run.resume(folder)
            segments = run.segments(lambda checkpoint: checkpoints.save_step(checkpoint, folder))
        train_segments(segments, report=report)
