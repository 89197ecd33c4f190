"""Training period by period, with what is forgotten measured.

Knows how a log is cut into periods, how one period's model begins the next, and the matrix of
qualities; does not know ray or where results are shown. Forgetting of a period is the best quality
a model of an earlier period had on it, minus that of the last model [Chaudhry et al., 2018,
arXiv:1801.10112].
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.histories import Histories
from metarec_ray.data.draws import uniform
from metarec_ray.data.tasks.domains import learned_from
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, DataError
from metarec_ray.training.artifact import require_same_run
from metarec_ray.training.meta_step.query_loss import METRIC
from metarec_ray.training.meta_step.step import Alone
from metarec_ray.training.trainer import Progress, Trainer
from metarec_ray.training.warm_start import copy, own_layout

HELD_OUT = 0.1  # share of the training entities that no period is trained on, only judged


class Periods(NamedTuple):
    """A log cut by time into periods of equally many training events.

    Attributes:
        starts: int64 [P], microseconds; period p ends where p + 1 starts.
        events: training events of each [P].

    """

    starts: list[int]
    events: list[int]

    def of(self, time: Tensor) -> Tensor:
        """Return the period of each moment, int64."""
        return torch.searchsorted(torch.tensor(self.starts[1:]), time, right=True)


class Learned(NamedTuple):
    """The model after one period.

    Attributes:
        checkpoint: its step counts all periods so far.
        quality: of every period's held-out tasks [P]: NDCG@10, accuracy, or minus the RMSE.
        metric_name: of it.

    """

    checkpoint: Checkpoint
    quality: list[float]
    metric_name: str


def period_loop(
    experiment: Experiment,
    store: TaskStore,
    folder: Path,
    *,
    report: Callable[[Progress], None],
    learned: Callable[[list[Learned], Periods], None],
) -> Path:
    """Train all periods, a checkpoint each; resume in `folder`; return the last one's path.

    `learned` is told of all models so far, after each period and before it is a checkpoint.
    """
    found: list[Learned] = []
    shares, path = cut(experiment, store), folder
    done = _done(experiment, store, folder)
    for one in periods(experiment, store, before=done, report=report):
        found.append(one)
        path = checkpoints.step_path(folder, one.checkpoint.state["step"])
        learned(found, shares)
        if len(found) > len(done):
            checkpoints.save(one.checkpoint, path)
    return path


def periods(
    experiment: Experiment,
    store: TaskStore,
    *,
    before: list[tuple[Path, Checkpoint]] | None = None,
    report: Callable[[Progress], None],
) -> Iterator[Learned]:
    """Yield the model after each period; those of `before`, the first ones, are only judged."""
    train = experiment.train
    found, done = cut(experiment, store), before or []
    steps = train.steps // train.periods
    last: tuple[Path, Checkpoint] | None = None
    for period in range(train.periods):
        start = train.init_from if period == 0 else None
        own = train.model_copy(update={"steps": steps, "periods": 1, "init_from": start})
        trainer = Trainer(
            experiment.model_copy(update={"train": own}),
            store,
            known=partial(_until, found, period, experiment.run.seed),
            taught=partial(_during, found, period),
        )
        if period < len(done):
            last = done[period]
            trainer.load(last[1].model)
            yield Learned(last[1], *_judged(trainer, found))
            continue
        if last is not None:
            copy(trainer.declared, own_layout(store), last[1], last[0])
        metrics: dict[str, float] = {}
        for line in trainer.run(Alone(), steps):
            metrics = {"query_loss": line.loss, line.metric_name: line.metric}
            report(line._replace(step=period * steps + line.step, steps=train.steps))
        checkpoint = _whole(trainer, experiment, period * steps, metrics)
        last = checkpoints.step_path(Path(), checkpoint.state["step"]), checkpoint
        yield Learned(checkpoint, *_judged(trainer, found))


def cut(experiment: Experiment, store: TaskStore) -> Periods:
    """Return `train.periods` periods of the training events.

    Raises:
        DataError: the log has no clock, or too few moments to tell periods apart.

    """
    count = experiment.train.periods
    parts = tuple(experiment.train.parts.split("+"))
    time = learned_from(store, experiment.train.domains).histories(parts).time.sort().values
    starts = time[torch.arange(count) * len(time) // count]
    if not store.manifest.has_time or bool((starts.diff() <= 0).any()):
        clock = "a" if store.manifest.has_time else "no"
        raise DataError(
            f"{count} periods need a clock with so many moments apart, the log has {clock} clock "
            f"and {time.unique().numel()} moments (train.periods)"
        )
    found = Periods(starts.tolist(), [])
    return found._replace(events=torch.bincount(found.of(time), minlength=count).tolist())


def forgetting(quality: list[list[float]]) -> list[float]:
    """Return what is forgotten of each period but the last.

    Args:
        quality: [trained up to][judged on], higher is better.

    >>> forgetting([[0.5, 0.1], [0.25, 0.5]])
    [0.25]
    """
    final = quality[-1]
    return [max(row[at] for row in quality[:-1]) - final[at] for at in range(len(quality) - 1)]


def summary(found: list[Learned], periods: Periods) -> dict[str, Any]:
    """Return the matrix and, once all periods are trained, what is forgotten, for JSON."""
    quality = [one.quality for one in found]
    whole = len(quality) == len(periods.starts)
    lost = forgetting(quality) if whole else []
    return {
        "metric": found[0].metric_name,
        "starts": periods.starts,
        "events": periods.events,
        "quality": quality,
        "forgetting": lost,
        "mean_forgetting": sum(lost) / len(lost) if lost else None,
    }


def _held_out(histories: Histories, seed: int) -> Tensor:
    """Return bool [events]: those of entities that are only judged, a pure function of ids."""
    task = histories.task_id.numpy()
    drawn = uniform(seed, np.zeros(len(task), np.int64), task, draws=5)[:, 4]
    return torch.from_numpy(drawn < HELD_OUT).repeat_interleave(histories.lengths())


def _until(found: Periods, period: int, seed: int, histories: Histories) -> Histories:
    return histories.keep((found.of(histories.time) <= period) & ~_held_out(histories, seed))


def _during(found: Periods, period: int, histories: Histories) -> Histories:
    return histories.keep(found.of(histories.time) == period)


def _judged(trainer: Trainer, found: Periods) -> tuple[list[float], str]:
    """Return the quality on held-out tasks of every period, and its name.

    Items compete that all periods together train on, so that a column of the matrix is one scale.
    """
    seed = trainer.experiment.run.seed
    parts = tuple(trainer.experiment.train.parts.split("+"))
    everything = trainer.store.histories(parts)
    held = _held_out(everything, seed)
    catalogue = torch.zeros_like(trainer.trained)
    catalogue[everything.item[~held]] = True
    asked = everything.keep(held & catalogue[everything.item])
    quality = []
    for period in range(len(found.starts)):
        own = asked.keep(found.of(asked.time) == period)
        window = trainer.experiment.train.tasks.window
        if int(own.lengths().max()) <= window:
            raise DataError(
                f"every period needs a held-out entity with more than {window} events "
                f"(train.tasks.window), period {period + 1} has none (train.periods)"
            )
        metric = trainer.judge(own, catalogue)[1]
        quality.append(-metric if trainer.feedback == "explicit" else metric)
    return quality, ("minus_" if trainer.feedback == "explicit" else "") + METRIC[trainer.feedback]


def _whole(
    trainer: Trainer, experiment: Experiment, before: int, metrics: dict[str, float]
) -> Checkpoint:
    """Return the trainer's checkpoint as one of the experiment of all periods."""
    found = trainer.checkpoint(metrics | {"seconds": round(trainer.seconds, 1)})
    return found._replace(
        config=json.loads(experiment.model_dump_json()),
        state=found.state | {"step": before + trainer.step},
    )


def _done(experiment: Experiment, store: TaskStore, folder: Path) -> list[tuple[Path, Checkpoint]]:
    """Return the good checkpoints of the first periods, up to the first that is missing."""
    steps = experiment.train.steps // experiment.train.periods
    found: list[tuple[Path, Checkpoint]] = []
    for period in range(experiment.train.periods):
        path = checkpoints.step_path(folder, (period + 1) * steps)
        try:
            found.append((path, checkpoints.load(path)))
        except CheckpointError:
            break
        require_same_run(found[-1][1], experiment, store, path)
    return found
