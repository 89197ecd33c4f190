"""Models of disjoint users, averaged: federated averaging of the outer loop.

[McMahan et al., 2017, arXiv:1602.05629]. In a round every shard of entities starts from the same
parameters and optimizer moments and takes its steps alone; then both are averaged, weighted by the
number of entities of each shard. Item statistics and the reference sample are of all entities.
Knows shards and rounds; does not know ray: shards run through `Fitting.each`.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarec_ray.algorithms.base import Fitting
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.meta_step.step import ParameterState
from metarec_ray.training.metrics_log import Progress
from metarec_ray.training.segments import AtEnd, Segment, nothing, segments_of, train_segments
from metarec_ray.training.trainer import Trainer


class _RoundStart(NamedTuple):
    """What every shard begins a round with."""

    experiment: Experiment
    store: Path
    state: ParameterState
    step: int
    until: int


class _ShardResult(NamedTuple):
    """What a shard ends a round with."""

    state: ParameterState
    entities: int  # that give tasks
    last: Progress


def round_segments(trainer: Trainer, fitting: Fitting, *, at_end: AtEnd = nothing) -> list[Segment]:
    """Return a segment for each round of `train.average`; its line is the mean of its shards."""
    train = trainer.experiment.train
    assert train.average is not None
    length = train.steps // train.average.rounds
    ends = range(length, train.steps + 1, length)
    return segments_of(trainer, ends, advance=partial(_round, fitting), at_end=at_end)


def shard(histories: Histories, *, index: int, shards: int, seed: int) -> Histories:
    """Return only the events of the entities that are dealt to shard `index`.

    Entities are permuted and dealt out in turn: the sizes of shards differ by at most one.
    """
    order = np.random.default_rng([seed, 4]).permutation(len(histories.task_id))
    dealt = torch.from_numpy(order % shards == index)
    return histories.keep(dealt.repeat_interleave(histories.lengths()))


def _round(fitting: Fitting, trainer: Trainer, until: int) -> Iterator[Progress]:
    """Train all shards up to `until` and average them into `trainer`; yield one line."""
    experiment = trainer.experiment
    train = experiment.train
    assert train.average is not None
    started = time.perf_counter()
    # Shards are given their parameters, so they need not read the source of a warm start.
    cold = experiment.model_copy(update={"train": train.model_copy(update={"init_from": None})})
    start = _RoundStart(cold, trainer.store.path, trainer.state, trainer.step, until)
    results = fitting.each(partial(_train_shard, start), range(train.average.shards))
    weights = torch.tensor([result.entities for result in results], dtype=torch.float64)
    weights /= weights.sum()
    for name, part in zip(ParameterState._fields, trainer.state, strict=True):
        _average(part, [getattr(result.state, name) for result in results], weights)
    trainer.step = until
    trainer.seconds += time.perf_counter() - started
    yield _mean_line([result.last for result in results], weights)


def _train_shard(start: _RoundStart, index: int) -> _ShardResult:
    experiment = start.experiment
    assert experiment.train.average is not None
    own = partial(
        shard, index=index, shards=experiment.train.average.shards, seed=experiment.run.seed
    )
    trainer = Trainer(experiment, TaskStore.open(start.store), tasks_from=own)
    for parameters, given in zip(trainer.state, start.state, strict=True):
        for name, value in parameters.items():
            value.copy_(given[name])
    trainer.step = start.step
    lines: list[Progress] = []
    train_segments(segments_of(trainer, [start.until]), report=lines.append)
    return _ShardResult(trainer.state, len(trainer.sampler), lines[-1])


def _average(mean: Params, shards: list[Params], weights: Tensor) -> None:
    """Change `mean` in place to the weighted mean; values that no shard changed keep their bits."""
    for name, value in mean.items():
        change = torch.zeros_like(value)
        for own, weight in zip(shards, weights.tolist(), strict=True):
            change += weight * (own[name] - value)
        value += change


def _mean_line(lines: list[Progress], weights: Tensor) -> Progress:
    values = torch.tensor([[line.loss, line.metric] for line in lines], dtype=torch.float64)
    loss, metric = (weights @ values).tolist()
    tasks = sum(line.tasks_per_s for line in lines)
    return lines[0]._replace(loss=loss, metric=metric, tasks_per_s=tasks)
