"""Models of disjoint users, averaged: federated averaging of the outer loop.

[McMahan et al., 2017, arXiv:1602.05629]. In a round every shard of entities starts from the same
parameters and optimizer moments and takes its share of the steps alone; then both are averaged,
weighted by the number of entities of each shard. A row of a table is averaged over the shards whose
lanes read it, as in federated submodels [Niu et al., 2019, arXiv:1911.02254]: one that a single
shard knows keeps its whole change. Item statistics and the reference sample are of all entities.
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
from metarec_ray.config.running import Train
from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.step import LaneResult, ParameterState
from metarec_ray.training.run_folder.metrics_log import Progress
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
    read: dict[str, Tensor]  # bool [n] of each table: the rows that its lanes read
    entities: int  # that give tasks
    last: Progress


def round_segments(trainer: Trainer, fitting: Fitting, *, at_end: AtEnd = nothing) -> list[Segment]:
    """Return a segment for each round of `train.average`; its line is the mean of its shards.

    Steps of the trainer count the meta-batches of all shards: of `train.steps` each shard takes its
    share, by the schedule of a run of so many steps.
    """
    train = trainer.experiment.train
    assert train.average is not None
    length = train.steps // train.average.rounds
    ends = range(length, train.steps + 1, length)
    return segments_of(trainer, ends, advance=partial(_round, fitting), at_end=at_end)


def budget(train: Train) -> str:
    """Return how the steps of a run are shared out among its shards, as people read it."""
    assert train.average is not None
    shards, rounds = train.average.shards, train.average.rounds
    own = train.steps // (shards * rounds)
    return f"{train.steps} meta-batches in all: {shards} shards, {own} each in {rounds} rounds"


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
    started, shards = time.perf_counter(), train.average.shards
    # Shards are given their parameters, so they need not read the source of a warm start.
    own = {"init_from": None, "steps": train.steps // shards}
    alone = experiment.model_copy(update={"train": train.model_copy(update=own)})
    first, last = trainer.step // shards, until // shards
    start = _RoundStart(alone, trainer.store.path, trainer.state, first, last)
    results = fitting.each(partial(_train_shard, start), range(shards))
    entities = torch.tensor([result.entities for result in results], dtype=torch.float64)
    _average_states(trainer.state, results, entities)
    trainer.step = until
    trainer.seconds += time.perf_counter() - started
    yield _mean_line([result.last for result in results], entities / entities.sum(), trainer)


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
    read = {n: torch.zeros(len(t), dtype=torch.bool) for n, t in trainer.state.tables.items()}

    def remember(results: list[LaneResult], outer_lr: float) -> None:
        del outer_lr
        for name in results[0].rows:
            read[name][tables.changed([result.rows[name] for result in results])] = True

    trainer.after_step = remember
    lines: list[Progress] = []
    train_segments(segments_of(trainer, [start.until]), report=lines.append)
    return _ShardResult(trainer.state, read, len(trainer.sampler), lines[-1])


def _average_states(mean: ParameterState, results: list[_ShardResult], entities: Tensor) -> None:
    """Change `mean` in place to the mean of the shards, weighted by their `entities` [shards].

    Rows of a table, and their moments, are the mean of the shards that read them.
    """
    states = [result.state for result in results]
    weights = entities / entities.sum()
    for name in mean.dense:
        _average(name, mean, states, weights)
    for name in mean.tables:
        known = torch.stack([result.read[name] for result in results]) * entities[:, None]
        weights = (known / known.sum(0).clamp(min=1)).unsqueeze(-1)  # [shards, n, 1]
        _average(name, mean, states, weights)


def _average(
    name: str, mean: ParameterState, states: list[ParameterState], weights: Tensor
) -> None:
    """Change a parameter and its moments; values that no shard changed keep their bits."""
    theirs = zip(*(_with_moments(state, name) for state in states), strict=True)
    for value, of_shards in zip(_with_moments(mean, name), theirs, strict=True):
        change = torch.zeros_like(value)
        for own, weight in zip(of_shards, weights, strict=True):
            change += weight.to(value.dtype) * (own - value)
        value += change


def _with_moments(state: ParameterState, name: str) -> tuple[Tensor, Tensor, Tensor]:
    value = state.tables[name] if name in state.tables else state.dense[name]
    return value, state.moments[f"m.{name}"], state.moments[f"v.{name}"]


def _mean_line(lines: list[Progress], weights: Tensor, trainer: Trainer) -> Progress:
    """Return the mean of the shards' lines, as one of the run; they train beside each other."""
    values = torch.tensor([[line.loss, line.metric] for line in lines], dtype=torch.float64)
    loss, metric = (weights @ values).tolist()
    return lines[0]._replace(
        step=trainer.step,
        steps=trainer.experiment.train.steps,
        loss=loss,
        metric=metric,
        tasks_per_s=sum(line.tasks_per_s for line in lines),
    )
