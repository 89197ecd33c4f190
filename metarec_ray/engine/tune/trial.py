"""One trial of a sweep: trained, once or once without each fold, and judged on held-out entities.

Knows rungs and what is reported there; does not know the search. What a trial is judged by is what
every choice is made by (`evaluation.validation`), not the query loss that it is trained by.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.engine.tune.judged import WHY, Judged, joined, judged
from metarec_ray.errors import RunFailed
from metarec_ray.evaluation.validation import Validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import segments_of, train_segments
from metarec_ray.training.trainer import Trainer


def run_trial(tree: dict[str, Any], store: Path, values: dict[str, Any], *, ranks: bool) -> None:
    """Train the experiment with `values` for its keys; report at every rung.

    With `ranks` it is judged by rankings, whatever it learns. A trial without a finite value ends.
    With folds a rung is reached when every fold has reached it; their fits take turns in this
    process and are all held in memory.
    """
    base = parse(tree, "the sweep's experiment")
    settings = base.sweep
    experiment = override(base, {**values, "train.steps": settings.steps})
    opened = TaskStore.open(store, cache=access.cache(os.environ, store))
    parts = judged(experiment, opened, ranks=ranks)
    metric = parts[0].judge.objective.metric
    if isinstance(experiment.algorithm, FittedLearner):  # without an outer loop: a single rung
        reports = [reported(part.judge, fit(part.experiment, opened)) for part in parts]
        tune.report(joined(reports, metric, fits=len(parts)))
        return
    trainers = [Trainer(part.experiment, opened) for part in parts]
    _restore(trainers)
    for rung in range(1, settings.rungs + 1):
        until = settings.steps * rung // settings.rungs
        if trainers[0].step < until and not _reach(until, parts, trainers, metric):
            return


def reported(judge: Validation, reached: Checkpoint) -> dict[str, Any]:
    """Return what is reported of a checkpoint: the value it is compared by, and its step.

    The value is NaN, and `WHY` says why, where the scores of the judged entities have none.
    """
    found: dict[str, Any] = {"step": reached.state["step"]}
    try:
        value = judge.value(Recommender(reached).predictor)
    except RunFailed as error:
        return found | no_value(judge, error)
    return found | {judge.objective.metric: judge.objective.of(value)}


def no_value(judge: Validation, error: RunFailed) -> dict[str, Any]:
    """Return what a trial reports that cannot be compared with others, because of an error."""
    return {judge.objective.metric: math.nan, WHY: str(error)}


def _restore(trainers: Sequence[Trainer]) -> None:
    """Continue from the last rung of the trial, if it reached one."""
    begun = tune.get_checkpoint()
    if begun is None:
        return
    with begun.as_directory() as folder:
        for number, trainer in enumerate(trainers):
            path = Path(folder) / _of(number)
            trainer.restore(checkpoints.load(path), path)


def _reach(until: int, parts: list[Judged], trainers: list[Trainer], metric: str) -> bool:
    """Train every fit up to a rung and report it; return whether the trial may go on."""
    reports, reached = [], []
    for part, trainer in zip(parts, trainers, strict=True):
        try:
            train_segments(segments_of(trainer, [until]), report=_ignore)
        except RunFailed as error:  # it diverged between two rungs
            reports.append({"step": trainer.step} | no_value(part.judge, error))
            break
        reached.append(trainer.checkpoint({}))
        reports.append(reported(part.judge, reached[-1]))
        if WHY in reports[-1]:
            break
    report = joined(reports, metric, fits=len(parts))
    if WHY in report:
        tune.report(report)
        return False
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(reached):
            checkpoints.save(one, Path(folder) / _of(number))
        tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))
    return True


def _of(number: int) -> str:
    return f"fit-{number}"


def _ignore(line: Progress) -> None:
    """Ignore a line of progress: Tune shows rungs only."""
