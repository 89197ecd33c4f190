"""One trial of a sweep: trained on the part `train`, judged on validation entities.

Knows rungs and what is reported there; does not know the search. What a trial is judged by is what
every choice is made by (`evaluation.validation`), not the query loss that it is trained by.
"""

import math
import os
import tempfile
from pathlib import Path
from typing import Any

from ray import tune

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.errors import RunFailed
from metarec_ray.evaluation.validation import Validation, validation
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import Metrics, segments_of, train_segments
from metarec_ray.training.trainer import Trainer

WHY = "why"
"""Key of a report: why a trial has no value."""


def run_trial(tree: dict[str, Any], store: str, values: dict[str, Any], *, ranks: bool) -> None:
    """Train the experiment with `values` for its keys; report at every rung.

    With `ranks` it is judged by rankings, whatever it learns. A trial without a finite value ends.
    """
    base = parse(tree, "the sweep's experiment")
    settings = base.sweep
    experiment = override(base, {**values, "train.steps": settings.steps, "train.parts": "train"})
    opened = TaskStore.open(Path(store), cache=access.cache(os.environ, Path(store)))
    judge = validation(experiment, opened, ranks=ranks)
    if isinstance(experiment.algorithm, FittedLearner):  # without an outer loop: a single rung
        tune.report(reported(judge, fit(experiment, opened)))
        return
    trainer = Trainer(experiment, opened)
    begun = tune.get_checkpoint()
    if begun is not None:
        with begun.as_directory() as folder:
            trainer.restore(checkpoints.load(Path(folder) / "trial"), Path(folder))
    rungs = [settings.steps * rung // settings.rungs for rung in range(1, settings.rungs + 1)]

    def at_rung(trainer: Trainer, metrics: Metrics) -> None:
        del metrics
        reached = trainer.checkpoint({})
        report = reported(judge, reached)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.save(reached, Path(folder) / "trial")
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))
        if WHY in report:
            raise _NoValue

    try:
        train_segments(segments_of(trainer, rungs, at_end=at_rung), report=_ignore)
    except _NoValue:
        return
    except RunFailed as error:  # it diverged between two rungs
        tune.report({"step": trainer.step} | no_value(judge, error))


def reported(judge: Validation, reached: Checkpoint) -> dict[str, Any]:
    """Return what a trial reports of a checkpoint: the value it is compared by, and its step.

    The value is NaN, and `WHY` says why, where the scores of validation entities have none.
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


class _NoValue(Exception):
    """A trial cannot be compared with others, so it need not go on."""


def _ignore(line: Progress) -> None:
    """Ignore a line of progress: Tune shows rungs only."""
