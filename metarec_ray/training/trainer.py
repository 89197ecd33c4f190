"""Meta-training of one experiment on one store: the state, its steps, and what it resumes from.

Knows experiments, stores and checkpoints; does not know ray: workers come in as an `Exchange`.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import MetaLearner
from metarec_ray.algorithms.problem import Recipe
from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Lane
from metarec_ray.core.histories import Histories
from metarec_ray.core.outer_loop import Params
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.domains import asked_items, learned_from
from metarec_ray.data.tasks.lanes import Cut, LaneSampler
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.training.ahead import Ahead
from metarec_ray.training.artifact import assemble, require_same_run
from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.meta_step.optimizer import rate
from metarec_ray.training.meta_step.query_loss import METRIC
from metarec_ray.training.meta_step.step import (
    Exchange,
    LaneResult,
    apply,
    divide,
    fresh_state,
    lane_result,
    lane_seed,
    to_device,
)
from metarec_ray.training.prior import item_buffers
from metarec_ray.training.process import settle
from metarec_ray.training.warm_start import begin

Some = Callable[[Histories], Histories]
"""Some of the events of histories."""


class Progress(NamedTuple):
    """One line of progress: means since the last line."""

    step: int
    steps: int
    loss: float
    metric_name: str
    metric: float
    tasks_per_s: float
    outer_lr: float


class Trainer:
    """The meta-parameters of an experiment and how they change.

    `seconds` counts training so far; `copied` says what `train.init_from` gave.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: TaskStore,
        *,
        device: str = "cpu",
        known: Some = lambda histories: histories,
        taught: Some = lambda histories: histories,
    ):
        """Initialise from the seed.

        Of the histories of `train.parts`, item statistics are made of `known` events and tasks are
        cut from `taught` ones, a part of those.
        """
        store = learned_from(store, experiment.train.domains)
        self.experiment, self.store, self.device = experiment, store, torch.device(device)
        self._here = settle(self.device)
        self.feedback: Feedback = store.manifest.feedback
        train = experiment.train
        self.learner = meta_learner(experiment)
        self.recipe = Recipe.of(self.learner, experiment.model, self.feedback, train.loss)
        histories = known(store.histories(tuple(train.parts.split("+"))))
        self.trained = torch.zeros(len(store.items.ids), dtype=torch.bool)
        self.trained[histories.item] = True
        self.buffers = item_buffers(
            histories,
            self.trained,
            experiment.model,
            self.feedback,
            cutoff=store.manifest.cutoff,
            reference=train.reference_items,
            seed=experiment.run.seed,
            sampling=train.tasks.negative_sampling,
        )
        self.sampler = self._lanes(taught(histories), histories, self.trained, train.tasks)
        sizes = {"lanes": train.lanes, "lane_tasks": train.lane_tasks}
        self._ahead = Ahead(partial(self.sampler.share, experiment.run.seed, **sizes))
        self.step, self.seconds = 0, 0.0
        self.declared, self.copied = begin(experiment, store, self.learner, self.trained)
        self.state = fresh_state(self.declared, self.device)
        self.decay = {
            name: train.weight_decay if parameter.decays else 0.0
            for name, parameter in self.declared.items()
        }
        self.moving, self.frozen = divide(self.state, train.freeze)
        self.buffers = {name: value.to(self.device) for name, value in self.buffers.items()}

    def train_step(self, exchange: Exchange) -> Tensor:
        """Take one meta-step; return the mean [query loss, query metric] of its tasks."""
        train, later = self.experiment.train, self.step + 1
        own, mine = (exchange.rank, exchange.world), dict[int, LaneResult]()
        then = (later, *own) if later < train.steps else None
        lanes = self._ahead.take(self.step, *own, then=then)
        with self._here:
            for index, lane in lanes.items():
                mine[index] = lane_result(
                    self.recipe,
                    self.buffers,
                    self.moving,
                    to_device(lane, self.device),
                    frozen=self.frozen,
                    progress=self.step / train.steps,
                    seed=lane_seed(self.experiment.run.seed, self.step, index),
                )
            metrics = apply(
                self.moving,
                exchange.gather(mine, train.lanes),
                step=self.step,
                lr=self.outer_lr(),
                decay=self.decay,
                max_norm=train.max_gradient_norm,
            )
        self.step += 1
        return metrics

    def outer_lr(self) -> float:
        """Return the outer learning rate of the next step."""
        train = self.experiment.train
        return rate(self.step, steps=train.steps, peak=train.outer_lr, schedule=train.schedule)

    def validate(self) -> tuple[float, float]:
        """Return the mean query loss and metric of the validation entities' starts, over all ks."""
        valid = self.store.histories(("valid",))
        return self.judge(valid.keep(self.trained[valid.item]), self.trained)

    def judge(self, histories: Histories, catalogue: Tensor) -> tuple[float, float]:
        """Return the mean query loss and metric of the starts of histories, over all ks.

        Every entity that is long enough for a task counts once at each k. `catalogue` bool [I] are
        the items that compete, those of the histories among them.
        """
        lane_tasks = self.experiment.train.lane_tasks
        cut = self.experiment.train.tasks.model_copy(update={"start_share": 1.0})
        totals, count = torch.zeros(2), 0
        for one in (cut.model_copy(update={"ks": (k,)}) for k in cut.ks):
            sampler = self._lanes(histories, histories, catalogue, one)
            for lane in sampler.epoch(0, lane_tasks=lane_tasks):
                totals += len(lane.entity) * self._measure(lane)
            count += len(sampler)
        loss, metric = (totals / count).tolist()
        return loss, self._shown(metric)

    def run(self, exchange: Exchange, until: int) -> Iterator[Progress]:
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
                yield self._progress(
                    sums / count, count * train.lanes * train.lane_tasks / seconds, lr
                )
                started, first, sums = time.perf_counter(), self.step, torch.zeros(2)

    def parameters(self) -> Params:
        """Return all parameters and buffers by their names in a checkpoint."""
        buffers = {BUFFER + name: value for name, value in self.buffers.items()}
        return self.state.dense | self.state.tables | buffers

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
        )

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Continue from `checkpoint`; CheckpointError if its data or configuration are others."""
        require_same_run(checkpoint, self.experiment, self.store, path)
        self.load(checkpoint.model)
        for name, value in self.state.moments.items():
            value.copy_(checkpoint.optimizer[name])
        self.step = int(checkpoint.state["step"])
        self.seconds = float(checkpoint.metrics.get("seconds", 0.0))

    def load(self, model: Params) -> None:
        """Take the parameters of `model`, all of them, by their names in a checkpoint."""
        for own in (self.state.dense, self.state.tables):
            for name, value in own.items():
                value.copy_(model[name])

    def _lanes(self, own: Histories, met: Histories, items: Tensor, cut: Cut) -> LaneSampler:
        domains = self.experiment.train.domains
        return LaneSampler(
            own,
            items,
            cut,
            reference=self.buffers["reference.items"].cpu(),
            domains=domains and (domains, asked_items(self.store, domains)),
            met=met,
        )

    def _measure(self, lane: Lane) -> Tensor:
        with self._here, torch.no_grad():
            lane = to_device(lane, self.device)
            objective = lane_objective(self.recipe, self.buffers, lane)
            rows = {n: t[tables.entries(n, lane)] for n, t in self.state.tables.items()}
            return objective(self.state.dense, rows)[1].cpu()

    def _progress(self, means: Tensor, tasks_per_s: float, lr: float) -> Progress:
        loss, metric = means.tolist()
        name, metric = METRIC[self.feedback], self._shown(metric)
        return Progress(self.step, self.experiment.train.steps, loss, name, metric, tasks_per_s, lr)

    def _shown(self, metric: float) -> float:
        # A mean squared error as its root, other metrics as they are.
        return metric**0.5 if self.feedback == "explicit" else metric


def meta_learner(experiment: Experiment) -> MetaLearner:
    """Return the experiment's learner; ConfigError unless the outer loop fits it."""
    learner = experiment.algorithm
    if not isinstance(learner, MetaLearner):
        raise ConfigError(
            f"an outer loop trains a meta-learner, got {learner.name} (algorithm.name)"
        )
    return learner
