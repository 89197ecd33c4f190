"""Meta-training of one experiment on one store: the meta-parameters and the steps they take.

Knows experiments, stores and checkpoints; does not know ray: workers come in as an `Exchange`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.checkpoint import BUFFER, Checkpoint, require_parameters
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Lane, Params
from metarec_ray.core.parameters import table_rows
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.domains import learned_from
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.training.artifact import assemble, require_same_run, require_same_scale
from metarec_ray.training.meta_step.distillation import Teaching
from metarec_ray.training.meta_step.optimizer import rate
from metarec_ray.training.meta_step.query_loss import METRIC
from metarec_ray.training.meta_step.step import (
    Alone,
    Exchange,
    LaneResult,
    apply,
    divide,
    fresh_state,
    lane_result,
    lane_seed,
    to_device,
)
from metarec_ray.training.prefetcher import Prefetcher
from metarec_ray.training.process import set_up
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.source.known_values import without_unknown
from metarec_ray.training.source.task_source import EventFilter, TaskSource, every_event
from metarec_ray.training.teacher import teacher_of
from metarec_ray.training.warm_start import begin

AfterStep = Callable[[list[LaneResult], float], None]
"""Is given the results of a step's lanes and its outer rate."""
_ALONE = Alone()


class Trainer:
    """The meta-parameters of an experiment and how they change.

    Attributes:
        step: meta-steps taken.
        seconds: spent on them, over all runs that were resumed.
        trained: bool [I], items of the catalogue that training meets.
        source: of its tasks.
        teacher: who answers them beside the labels, `train.teacher`; None without one.
        label_scale: of all events of `train.parts`: one for all periods and shards of a run.
        recipe: who learns, on which model, by which loss.
        declared: the parameters as their owners declare them.
        table_rows: of each table, whose ids its rows are.
        state: parameters and moments of the outer optimizer; a step changes them in place.
        copied: what was copied from `train.init_from`; None without it.
        after_step: called after each step, when the parameters have changed.

    """

    def __init__(
        self,
        experiment: Experiment,
        store: TaskStore,
        *,
        device: str = "cpu",
        statistics_from: EventFilter = every_event,
        tasks_from: EventFilter = every_event,
    ):
        """Initialise from the seed.

        Of the events of `train.parts`, `statistics_from` keeps those that item statistics are
        computed from, and of these `tasks_from` keeps those that tasks are cut from.
        """
        store = learned_from(store, experiment.train.domains).without(experiment.train.without)
        self.experiment, self.store, self.device = experiment, store, torch.device(device)
        self.on_device = set_up(self.device)
        self.feedback: Feedback = store.manifest.feedback
        train, learner = experiment.train, meta_learner(experiment)
        self.recipe = Recipe.of(learner, experiment.model, self.feedback, train.loss)
        everything = store.histories(tuple(train.parts.split("+")))
        self.label_scale = learner.label_scale(everything.label, self.feedback)
        histories = statistics_from(self.label_scale.standardise_histories(everything))
        self.source = TaskSource(experiment, store, histories)
        self.trained = self.source.trained
        of_items = {name: value.to(self.device) for name, value in self.source.buffers.items()}
        self.buffers = of_items | self.label_scale.buffers()
        self.sampler = self.source.sampler(tasks_from)
        self.teacher = teacher_of(experiment, store, self.label_scale)
        self.teaching: Teaching | None = None
        if self.teacher is not None:
            self.teaching = Teaching(train.teacher_weight, train.teacher_temperature)
        self.draw_from(self.sampler.share)
        self.after_step: AfterStep | None = None
        self._begin()

    def _begin(self) -> None:
        """Draw the parameters of step 0."""
        train, learner = self.experiment.train, self.recipe.learner
        self.step, self.seconds = 0, 0.0
        self.declared, self.copied = begin(self.experiment, self.store, learner, self.trained)
        self.state = fresh_state(self.declared, self.device)
        self.table_rows = table_rows(self.declared)
        self.decay = {n: train.weight_decay * p.decays for n, p in self.declared.items()}
        self.trainable, self.frozen = divide(self.state, self.declared, train.freeze)

    def beside(self, experiment: Experiment) -> "Trainer":
        """Return a run at its step 0 on the same tasks, which its other settings do not change."""
        own = copy(self)
        own.experiment = experiment
        own.recipe = self.recipe._replace(learner=meta_learner(experiment), model=experiment.model)
        own._begin()
        return own

    def run(self, until: int, exchange: Exchange = _ALONE) -> Iterator[Progress]:
        """Train up to step `until`; yield a line every `log_every` steps and at the end."""
        train = self.experiment.train
        started, first, sums = time.perf_counter(), self.step, torch.zeros(2)
        while self.step < until:
            lr = self.outer_lr()
            sums += self.train_step(exchange).cpu()
            if self.step % train.log_every == 0 or self.step == until:
                count = self.step - first
                seconds = time.perf_counter() - started
                self.seconds += seconds
                tasks_per_s = count * train.lanes * train.lane_tasks / seconds
                yield self._progress(sums / count, tasks_per_s, lr)
                started, first, sums = time.perf_counter(), self.step, torch.zeros(2)

    def draw_from(self, share: Callable[..., dict[int, Lane]]) -> None:
        """Take the lanes of each step from `share`, which is called as `LaneSampler.share` is.

        The teacher, if there is one, answers each.
        """
        train, share = self.experiment.train, self.teacher.taught(share) if self.teacher else share
        sizes = {"lanes": train.lanes, "lane_tasks": train.lane_tasks}
        self._lanes = Prefetcher(partial(share, self.experiment.run.seed, **sizes))

    def train_step(self, exchange: Exchange) -> Tensor:
        """Take one meta-step; return the mean [query loss, query metric] of its tasks."""
        return self.step_on(self.lanes_of(self.step, exchange), exchange)

    def step_on(self, lanes: dict[int, Lane], exchange: Exchange) -> Tensor:
        """Take one meta-step on this worker's lanes, by number; return what `train_step` does."""
        with self.on_device:
            own = {index: self._lane_result(index, lane) for index, lane in lanes.items()}
            return self.update(exchange.gather(own, self.experiment.train.lanes))

    def update(self, results: list[LaneResult]) -> Tensor:
        """Take a step by the gradients of its lanes; return the mean of their metrics."""
        lr = self.outer_lr()
        metrics = apply(
            self.trainable,
            results,
            step=self.step,
            lr=lr,
            decay=self.decay,
            max_norm=self.experiment.train.max_gradient_norm,
        )
        if self.after_step is not None:
            self.after_step(results, lr)
        self.step += 1
        return metrics

    def lanes_of(self, step: int, exchange: Exchange) -> dict[int, Lane]:
        """Return this worker's lanes of a step; start to prefetch those of the one after."""
        worker, after = (exchange.rank, exchange.world), step + 1
        following = (after, *worker) if after < self.experiment.train.steps else None
        return self._lanes.get(step, *worker, following=following)

    def outer_lr(self) -> float:
        """Return the outer learning rate of the next step."""
        train = self.experiment.train
        return rate(self.step, steps=train.steps, peak=train.outer_lr, schedule=train.schedule)

    def reported(self, metric: float) -> float:
        """Return a mean query metric as it is reported: an RMSE in the unit of the labels."""
        return self.label_scale.std * metric**0.5 if self.feedback == "explicit" else metric

    def parameters(self) -> Params:
        """Return all parameters and buffers by their names in a checkpoint."""
        dense = without_unknown(self.declared, self.state.dense, self.source.known_values)
        buffers = {BUFFER + name: value for name, value in self.buffers.items()}
        return dense | self.state.tables | buffers

    def checkpoint(self, metrics: dict[str, float]) -> Checkpoint:
        """Return everything a resumed run or a server needs."""
        return assemble(
            self.experiment,
            self.store,
            self.parameters(),
            trained=self.trained,
            step=self.step,
            optimizer=self.state.moments,
            metrics=metrics,
            given=self._given(),
        )

    def require_own(self, checkpoint: Checkpoint, model: Mapping[str, Tensor], path: Path) -> None:
        """Raise a CheckpointError unless this run can continue from the checkpoint of `path`.

        `model` are its parameters, in memory or not.
        """
        require_same_run(checkpoint, self.experiment, self.store, path, given=self._given())
        require_same_scale(model, self.label_scale, path)
        require_parameters(model, self.declared, path)

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Continue from `checkpoint`; CheckpointError if it is of other data or settings."""
        require_same_run(checkpoint, self.experiment, self.store, path, given=self._given())
        self.load(checkpoint.model, path)
        for name, value in self.state.moments.items():
            value.copy_(checkpoint.optimizer[name])
        self.step = int(checkpoint.state["step"])
        self.seconds = float(checkpoint.metrics.get("seconds", 0.0))

    def load(self, model: Params, path: Path | None = None) -> None:
        """Take all parameters from `model`, by their names in a checkpoint, that of `path`.

        CheckpointError if one is missing, or they were learned from labels on another scale.
        """
        require_same_scale(model, self.label_scale, path)
        require_parameters(model, self.declared, path)
        for parameters in (self.state.dense, self.state.tables):
            for name, value in parameters.items():
                value.copy_(model[name])

    def _given(self) -> dict[str, str]:
        """Return the hashes of the parameters that other checkpoints gave, by key of `train`."""
        found = {"init_from": self.copied, "teacher": self.teacher}
        return {key: one.sha256 for key, one in found.items() if one is not None}

    def _lane_result(self, index: int, lane: Lane) -> LaneResult:
        return lane_result(
            self.recipe,
            self.buffers,
            self.trainable,
            to_device(lane, self.device),
            table_rows=self.table_rows,
            frozen=self.frozen,
            teaching=self.teaching,
            progress=self.step / self.experiment.train.steps,
            seed=lane_seed(self.experiment.run.seed, self.step, index),
        )

    def _progress(self, means: Tensor, tasks_per_s: float, lr: float) -> Progress:
        loss, metric = means.tolist()
        return Progress(
            step=self.step,
            steps=self.experiment.train.steps,
            loss=loss,
            metric_name=METRIC[self.feedback],
            metric=self.reported(metric),
            tasks_per_s=tasks_per_s,
            outer_lr=lr,
        )


def meta_learner(experiment: Experiment) -> MetaLearner:
    """Return the experiment's learner; ConfigError unless the outer loop fits it."""
    learner = experiment.algorithm
    if not isinstance(learner, MetaLearner):
        raise ConfigError(
            f"an outer loop trains a meta-learner, got {learner.name} (algorithm.name)"
        )
    return learner
