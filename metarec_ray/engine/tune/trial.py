"""One trial of a sweep: trained on the part `train`, judged on validation entities.

Knows rungs and what is reported there; does not know the search.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from ray import tune

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import FittedLearner
from metarec_ray.algorithms.label_scale import AS_THEY_ARE, LabelScale
from metarec_ray.checkpoint import BUFFER
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.evaluation.validation import validate
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit
from metarec_ray.training.metrics_log import Progress
from metarec_ray.training.segments import Metrics, segments_of, train_segments
from metarec_ray.training.trainer import Trainer
from metarec_ray.training.validation import validate as validate_trainer


def run_trial(tree: dict[str, Any], store: str, values: dict[str, Any]) -> None:
    """Train the experiment with `values` for its keys; report at every rung."""
    base = parse(tree, "the sweep's experiment")
    settings = base.sweep
    experiment = override(base, {**values, "train.steps": settings.steps, "train.parts": "train"})
    opened = TaskStore.open(Path(store), cache=access.cache(os.environ, Path(store)))
    if isinstance(experiment.algorithm, FittedLearner):
        _fitted_trial(experiment, opened)
        return
    trainer = Trainer(experiment, opened)
    begun = tune.get_checkpoint()
    if begun is not None:
        with begun.as_directory() as folder:
            trainer.restore(checkpoints.load(Path(folder) / "trial"), Path(folder))
    rungs = [settings.steps * rung // settings.rungs for rung in range(1, settings.rungs + 1)]
    train_segments(segments_of(trainer, rungs, at_end=_report_rung), report=_ignore)


def _report_rung(trainer: Trainer, metrics: Metrics) -> None:
    """Report the validation quality, and the checkpoint from which the trial resumes."""
    del metrics
    loss, metric = validate_trainer(trainer)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(trainer.checkpoint({}), Path(folder) / "trial")
        report = {"valid_loss": loss, "valid_metric": metric, "step": trainer.step}
        tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def _ignore(line: Progress) -> None:
    """Ignore a line of progress: Tune shows rungs only."""


def _fitted_trial(experiment: Experiment, store: TaskStore) -> None:
    """Report a learner without an outer loop, which has a single rung."""
    fitted = fit(experiment, store)
    quality = validate(Recommender(fitted).predictor, experiment, store)
    mean = sum(quality.values()) / len(quality)
    # The squared error of ratings, without a unit as the loss of an outer loop is.
    unit = LabelScale.of_buffers(fitted.model, BUFFER) or AS_THEY_ARE
    tune.report({"valid_loss": -mean / unit.std**2, "valid_metric": mean, "step": 0})
