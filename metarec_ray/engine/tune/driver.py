"""Ray Tune: a sweep over dotted keys, judged on validation entities or folds.

Knows searchers, schedulers and trials. A trial trains in one process, because two workers would
take longer to start than the trial runs. Test entities are never read.
"""

import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ray import tune

from metarec_ray.atomic import replace_text
from metarec_ray.config.experiment import Experiment, absolute, dump, override, relative
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster.session import interruptible
from metarec_ray.engine.nodes import require_cpus, require_shared
from metarec_ray.engine.prepare.ensure import ensure_store
from metarec_ray.engine.tracking.mlflow_client import require_installed
from metarec_ray.engine.tracking.tracking import Asked, tracked
from metarec_ray.engine.tune import begun, groups, search, space
from metarec_ray.engine.tune.judged import Judged, judged
from metarec_ray.engine.tune.telling import listen
from metarec_ray.engine.tune.tracked import SweepRuns
from metarec_ray.engine.tune.trainable import fits, rows, trainable, tried
from metarec_ray.errors import CheckpointError, ConfigError, RunFailed
from metarec_ray.evaluation.validation import Objective
from metarec_ray.storage.places import located
from metarec_ray.training.fit import require_suitable

AGAIN = "the same command with --resume tells it the rest"
SWEEP, BEST, TRIALS = "sweep", "best.yaml", "sweep.json"
FAILURES = 1  # of a trial's process, after which it goes on from its last rung
# They call every signal Ctrl-C and say how Ray's own API would go on.
CHATTY = ("ray.tune.tune", "ray.tune.analysis.experiment_analysis")


class SweepResult(NamedTuple):
    """Where the best configuration lies, its values, and every trial's."""

    best: Path
    values: dict[str, Any]
    trials: list[dict[str, Any]]


def sweep(
    experiment: Experiment,
    *,
    resume: bool,
    data_dir: Path | None,
    progress: Callable[[str], None],
) -> SweepResult:
    """Search `sweep.space`; write `best.yaml` into `run.dir`. Needs a Ray session.

    Raises:
        ConfigError: there is a sweep and `resume` is False, it was begun with another
            configuration, or a value of the space breaks a rule.
        DataError: no validation entity, or none of a fold, has enough events to judge by.
        MachineError: the cluster has no CPUs for a trial, a node does not see the run, or the
            search needs a package that is not installed.
        RunFailed: no trial finished with a number to be compared by.
        KeyboardInterrupt: Ctrl-C; the sweep is saved, and `resume` continues it.

    """
    search.require_installed(experiment.sweep)  # before the log is prepared, not after
    require_installed(experiment.sweep.mlflow, "sweep.mlflow")
    store = ensure_store(experiment, data_dir=data_dir, progress=progress)
    experiment = absolute(experiment, Path.cwd())  # trials run in another folder
    directory = experiment.directory
    require_suitable(experiment, store)
    space.require_searchable(experiment)
    if experiment.sweep.vectorised:
        groups.require_vectorisable(experiment)
    parts = judged(experiment, store, ranks=space.any_ranks_only(experiment) or None)
    metric, mode = parts[0].judge.objective
    each = experiment.sweep.cpus_per_trial
    require_cpus(each, 1, key=f"sweep.cpus_per_trial {each:g}")
    require_shared(directory, experiment.store)
    tuner = _resumed(experiment, store, directory, parts, progress) if resume else None
    tuner = tuner or _new(experiment, store, directory, parts, progress)
    runs = SweepRuns(experiment, store.manifest, directory / SWEEP, metric)
    with tracked(runs, Asked("sweep", directory, experiment.sweep.mlflow, again=AGAIN), progress):
        grid = _fit(tuner, fits(experiment), progress)
        trials = rows(experiment, grid, metric)
        best = _best(trials, parts[0].judge.objective, grid)
        table = {"metric": metric, "mode": mode, "trials": trials}
        path = directory / BEST
        replace_text(path, dump(relative(_run_of(experiment, best["values"]), directory)))
        replace_text(directory / TRIALS, json.dumps(table, indent=1) + "\n")  # last: it ends all
        runs.finish(best, path)
    return SweepResult(path, best["values"], trials)


def _best(
    trials: list[dict[str, Any]], objective: Objective, grid: tune.ResultGrid
) -> dict[str, Any]:
    """Return the row of the best trial; RunFailed if none has a finite value."""
    metric, mode = objective
    finished = [trial for trial in trials if trial[metric] is not None]
    if not finished:
        raise RunFailed(
            f"a sweep needs one finished trial with a finite {metric}, all of {len(trials)} failed "
            f"or diverged: {grid.errors[:1]}"
        )
    return (max if mode == "max" else min)(finished, key=lambda trial: trial[metric])


def is_resumable(directory: Path) -> bool:
    """Return whether a run's folder holds a sweep that can be resumed: its trials are written."""
    return any((directory / SWEEP).glob("experiment_state-*.json"))


def _run_of(experiment: Experiment, values: dict[str, Any]) -> Experiment:
    """Return the experiment with chosen values, as a run of its own on the same store."""
    places = {
        "run.dir": experiment.of_run("best"),
        "run.store": experiment.store_place,
    }
    return override(experiment, {**values, **places})


def _fit(tuner: tune.Tuner, trials: int, progress: Callable[[str], None]) -> tune.ResultGrid:
    before = signal.getsignal(signal.SIGINT)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    with interruptible():
        grid = tuner.fit()
        # Tune takes Ctrl-C, saves its state and returns as if it had finished; without Ctrl-C its
        # own handler stays.
        interrupted = signal.getsignal(signal.SIGINT) is before
    # First: Tune calls trials that it stopped for Ctrl-C terminated, too.
    if interrupted:
        progress("tune: interrupted; the same command with --resume continues")
        raise KeyboardInterrupt
    ended = grid.num_terminated + grid.num_errors
    if ended >= trials:
        return grid
    told = f"a sweep must end {trials} trials, this one stopped after {ended}"
    raise RunFailed(f"{told}: the same command with --resume continues")


def _new(
    experiment: Experiment,
    store: TaskStore,
    directory: Path,
    parts: list[Judged],
    progress: Callable[[str], None],
) -> tune.Tuner:
    if is_resumable(directory):
        raise ConfigError(
            f"a sweep must have a folder of its own, {directory / SWEEP} has one already; "
            "continue it with --resume or choose another run.dir"
        )
    # What a sweep that was killed at once has left; nobody else writes here (`one_writer`).
    shutil.rmtree(directory / SWEEP, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    judge = parts[0].judge
    begun.write(experiment, store.manifest, judge.objective, directory)
    settings, (metric, mode) = experiment.sweep, judge.objective
    progress(
        f"tune: {settings.planned} trials of up to {settings.steps} steps over "
        f"{', '.join(settings.space)}, judged by {metric} of {_whom(parts)}"
    )
    values, told = tried(experiment, metric, progress)
    return tune.Tuner(
        trainable(experiment, ranks=judge.ranks),
        param_space=values,
        tune_config=tune.TuneConfig(
            metric=metric,
            mode=mode,
            num_samples=1 if settings.vectorised else search.samples(settings),
            scheduler=search.scheduler(settings),
            search_alg=search.searcher(settings, experiment.run.seed, judge.objective),
            reuse_actors=True,  # the next trial needs no process of its own, which costs seconds
        ),
        run_config=tune.RunConfig(
            name=SWEEP,
            **_storage(directory),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=FAILURES),
            callbacks=[told],
        ),
    )


def _resumed(
    experiment: Experiment,
    store: TaskStore,
    directory: Path,
    parts: list[Judged],
    progress: Callable[[str], None],
) -> tune.Tuner | None:
    """Return the unfinished sweep of this run; None if it has not begun."""
    if not is_resumable(directory):
        return None
    begun.require_same(experiment, store.manifest, parts[0].judge.objective, directory)
    listen(progress)
    kept = _storage(directory)
    try:
        return tune.Tuner.restore(
            f"{kept['storage_path']}/{SWEEP}",
            storage_filesystem=kept.get("storage_filesystem"),
            trainable=trainable(experiment, ranks=parts[0].judge.ranks),
            restart_errored=True,
        )
    except (AttributeError, ImportError) as error:  # Ray pickles what a sweep was begun with
        raise CheckpointError(
            f"a sweep resumes with the version of metarec_ray it began with, got another one "
            f"({directory / SWEEP}: {error}); choose another run.dir to begin anew"
        ) from None


def _storage(directory: Path) -> dict[str, Any]:
    """Return where Tune keeps a sweep: where every node of its trials sees it."""
    copy = located(directory).copy()
    if copy is None:
        return {"storage_path": str(directory)}
    inside = directory.resolve().relative_to(copy.folder).as_posix()
    base = "/".join(filter(None, (copy.objects.base, inside.strip("."))))
    return {"storage_path": base, "storage_filesystem": copy.objects.system}


def _whom(parts: list[Judged]) -> str:
    count = sum(len(part.judge.tasks.entity) for part in parts)
    if len(parts) == 1:
        return f"{count:,} validation entities"
    return f"{count:,} entities, in {len(parts)} folds that each trial is trained without"
