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
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.engine.cluster import access
from metarec_ray.evaluation.validation import validate
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.fit import fit
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.trainer import Trainer


def run_trial(tree: dict[str, Any], store: str, values: dict[str, Any]) -> None:
    """Train with `values` in place of the experiment's own, and report at every rung."""
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
    for rung in range(1, settings.rungs + 1):
        until = settings.steps * rung // settings.rungs
        if trainer.step >= until:
            continue
        for _ in trainer.run(Alone(), until):
            pass
        loss, metric = trainer.validate()
        with tempfile.TemporaryDirectory() as folder:
            checkpoints.save(trainer.checkpoint({}), Path(folder) / "trial")
            report = {"valid_loss": loss, "valid_metric": metric, "step": trainer.step}
            tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def _fitted_trial(experiment: Experiment, store: TaskStore) -> None:
    """Report a learner that no outer loop trains: there is one rung to judge it by."""
    fitted = Recommender(fit(experiment, store))
    quality = validate(fitted.predictor, experiment, store)
    mean = sum(quality.values()) / len(quality)
    tune.report({"valid_loss": -mean, "valid_metric": mean, "step": 0})
