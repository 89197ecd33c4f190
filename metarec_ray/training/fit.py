"""Fit the learner of any experiment on a store, in this process.

Knows the two ways to fit: by the outer loop, or on whole histories. Does not know ray: a cluster
comes in as `Fitting.each`.
"""

import time

import torch

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting
from metarec_ray.algorithms.losses.union import loss_for
from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.config.running import Train
from metarec_ray.core.batch import NO_LABELS, nothing_known
from metarec_ray.data.tasks.domains import learned_from
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.training.artifact import assemble
from metarec_ray.training.averaged import budget, round_segments
from metarec_ray.training.incremental import PeriodRun
from metarec_ray.training.process import set_up
from metarec_ray.training.run_folder import metrics_log
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import segments_of, train_segments
from metarec_ray.training.trainer import Trainer


def fit(experiment: Experiment, store: TaskStore, *, fitting: Fitting = ALONE) -> Checkpoint:
    """Return the checkpoint of the experiment's learner, fitted with the experiment's seed."""
    require_suitable(experiment, store)
    if isinstance(experiment.algorithm, FittedLearner):
        return fit_histories(experiment, store, fitting=fitting)

    def report(line: Progress) -> None:
        fitting.progress(metrics_log.render(metrics_log.as_line(line)))

    if experiment.train.periods > 1:
        run = PeriodRun(experiment, store, learned=lambda run: fitting.progress(run.sentence()))
        train_segments(run.segments(), report=report)
        return run.models[-1].checkpoint
    trainer = Trainer(experiment, store)
    if trainer.copied is not None:
        fitting.progress(trainer.copied.sentence())
    if trainer.teacher is not None:
        fitting.progress(trainer.teacher.sentence())
    if experiment.train.average is not None:
        fitting.progress(budget(experiment.train))
        segments = round_segments(trainer, fitting)
    else:
        segments = segments_of(trainer, [experiment.train.steps])
    return trainer.checkpoint(train_segments(segments, report=report))


def fit_histories(
    experiment: Experiment, store: TaskStore, *, fitting: Fitting = ALONE
) -> Checkpoint:
    """Return the checkpoint of a learner fitted on the histories of `train.parts`."""
    learner = experiment.algorithm
    assert isinstance(learner, FittedLearner)
    store = learned_from(store, experiment.train.domains).without(experiment.train.without)
    set_up(torch.device("cpu"))
    histories = store.histories(tuple(experiment.train.parts.split("+")))
    # No fitted learner reads context or further labels: workers need not be sent them.
    histories = histories._replace(
        context=nothing_known(len(histories.item)).features, labels=NO_LABELS
    )
    trained = histories.met_items()
    started = time.perf_counter()
    scale = learner.label_scale(histories.label, store.manifest.feedback)
    model = learner.fit(
        scale.standardise_histories(histories), fitting._replace(seed=experiment.run.seed)
    )
    seconds = round(time.perf_counter() - started, 1)
    return assemble(
        experiment,
        store,
        model | scale.buffers(BUFFER),
        trained=trained,
        step=0,
        optimizer={},
        metrics={"seconds": seconds},
    )


def require_suitable(experiment: Experiment, store: TaskStore) -> None:
    """Raise a ConfigError if the algorithm cannot learn from these labels, or as `train` says."""
    learner, feedback = experiment.algorithm, store.manifest.feedback
    if feedback not in learner.suits:
        raise ConfigError(
            f"algorithm.name {learner.name} learns from {' or '.join(learner.suits)} feedback, "
            f"got {feedback} (data.feedback)"
        )
    if isinstance(learner, FittedLearner):
        _require_no_outer_loop(experiment.train, learner.name)
    loss_for(feedback, experiment.train.loss)
    asked = experiment.train.augmentation
    if asked and asked.label_shift and feedback != "explicit":
        raise ConfigError(
            f"train.augmentation.label_shift moves ratings, which {feedback} feedback has none of, "
            f"got {asked.label_shift} (data.feedback)"
        )
    if experiment.model.encoder.adapts and not learner.adapts_encoder:
        raise ConfigError(
            "model.encoder.adapts needs a learner that descends on its support with more than the "
            f"last layer (maml and its relatives), got {learner.name} (algorithm.name)"
        )


def _require_no_outer_loop(train: Train, name: str) -> None:
    for key, value in train.outer_loop().items():
        raise ConfigError(
            f"train.{key} steers an outer loop, {name} is fitted without one, got {value} "
            f"(train.{key})"
        )
