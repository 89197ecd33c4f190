"""Models of disjoint users, averaged: federated averaging of the outer loop.

[McMahan et al., 2017, arXiv:1602.05629]. Every shard of entities begins a round from the same
parameters and optimizer moments and takes its steps alone; both are averaged, weighted by entities.
What is known of items before any user, offsets and the reference sample, is that of all shards.
Knows shards and rounds; does not know ray: shards run through `Fitting.each`.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import Fitting
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.histories import Histories
from metarec_ray.core.outer_loop import Params
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.loop import resume
from metarec_ray.training.meta_step.step import Alone, ParameterState
from metarec_ray.training.trainer import Progress, Trainer


class _Round(NamedTuple):
    """What a shard begins with."""

    experiment: Experiment
    store: Path
    state: ParameterState
    first: int
    until: int


class _Local(NamedTuple):
    """What a shard ends with, and how many entities it learned from."""

    state: ParameterState
    entities: int
    last: Progress


def average_loop(
    trainer: Trainer, fitting: Fitting, folder: Path, *, report: Callable[[Progress], None]
) -> Path:
    """Train to the end, a checkpoint a round; resume in `folder`; return the last one's path."""
    resume(trainer, folder)
    for progress in rounds(trainer, fitting):
        metrics = {"query_loss": progress.loss, progress.metric_name: progress.metric}
        metrics["seconds"] = round(trainer.seconds, 1)
        checkpoints.save(trainer.checkpoint(metrics), checkpoints.step_path(folder, trainer.step))
        report(progress)
    return checkpoints.step_path(folder, trainer.step)


def rounds(trainer: Trainer, fitting: Fitting) -> Iterator[Progress]:
    """Take the rounds of `train.average` that are left; yield a line after each.

    A line's loss and metric are the shards' last ones, averaged like the parameters.
    """
    train = trainer.experiment.train
    assert train.average is not None
    each_round = train.steps // train.average.rounds
    alone = trainer.experiment.model_copy(
        update={"train": train.model_copy(update={"init_from": None})}
    )
    while trainer.step < train.steps:
        started = time.perf_counter()
        until = (trainer.step // each_round + 1) * each_round
        begun = _Round(alone, trainer.store.path, trainer.state, trainer.step, until)
        found = fitting.each(partial(_train_shard, begun), range(train.average.shards))
        weights = torch.tensor([local.entities for local in found], dtype=torch.float64)
        weights /= weights.sum()
        for name, part in zip(ParameterState._fields, trainer.state, strict=True):
            _average(part, [getattr(local.state, name) for local in found], weights)
        trainer.step = until
        trainer.seconds += time.perf_counter() - started
        yield _line([local.last for local in found], weights)


def shard(histories: Histories, *, index: int, shards: int, seed: int) -> Histories:
    """Return only the events of the entities that are dealt to shard `index`.

    The deal is a permutation of the task ids: every shard has as many, give or take one.
    """
    order = np.random.default_rng([seed, 4]).permutation(len(histories.task_id))
    dealt = torch.from_numpy(order % shards == index)
    return histories.keep(dealt.repeat_interleave(histories.lengths()))


def _train_shard(begun: _Round, index: int) -> _Local:
    experiment = begun.experiment
    assert experiment.train.average is not None
    taught = partial(
        shard, index=index, shards=experiment.train.average.shards, seed=experiment.run.seed
    )
    trainer = Trainer(experiment, TaskStore.open(begun.store), taught=taught)
    for own, given in zip(trainer.state, begun.state, strict=True):
        for name, value in own.items():
            value.copy_(given[name])
    trainer.step = begun.first
    *_, last = trainer.run(Alone(), begun.until)
    return _Local(trainer.state, len(trainer.sampler), last)


def _average(mean: Params, locals_: list[Params], weights: Tensor) -> None:
    """Move `mean` in place to the weighted mean; what no shard moved keeps its bits."""
    for name, value in mean.items():
        moved = torch.zeros_like(value)
        for local, weight in zip(locals_, weights.tolist(), strict=True):
            moved += weight * (local[name] - value)
        value += moved


def _line(lines: list[Progress], weights: Tensor) -> Progress:
    values = torch.tensor([[line.loss, line.metric] for line in lines], dtype=torch.float64)
    loss, metric = (weights @ values).tolist()
    tasks = sum(line.tasks_per_s for line in lines)
    return lines[0]._replace(loss=loss, metric=metric, tasks_per_s=tasks)
