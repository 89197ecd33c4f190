"""Training period by period, and how much is forgotten on the way.

Every period starts from the model of the one before; every model is evaluated on all periods. The
forgetting of a period is the best quality that any earlier model had on it, minus the quality of
the last model [Chaudhry et al., 2018, arXiv:1801.10112]. Does not know ray.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.atomic import replace_text
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, DataError
from metarec_ray.training.artifact import own_config, require_same_run
from metarec_ray.training.meta_step.query_loss import METRIC
from metarec_ray.training.metrics_log import Progress
from metarec_ray.training.periods import Periods, cut, held_out, up_to, within
from metarec_ray.training.segments import Metrics, Segment
from metarec_ray.training.trainer import Trainer
from metarec_ray.training.validation import evaluate_starts
from metarec_ray.training.warm_start import copy, own_layout

FORGETTING = "forgetting.json"


class PeriodModel(NamedTuple):
    """The model after one period.

    Attributes:
        checkpoint: its step counts all periods so far.
        quality: of the held-out tasks of every period [P]: NDCG@10, accuracy, or minus the RMSE.
        metric_name: of it.

    """

    checkpoint: Checkpoint
    quality: list[float]
    metric_name: str


class PeriodRun:
    """A run with one model per period.

    Attributes:
        periods: of the log.
        models: those so far; each starts the next.
        steps: of each period.

    """

    def __init__(
        self,
        experiment: Experiment,
        store: TaskStore,
        *,
        learned: Callable[["PeriodRun"], None] = lambda run: None,
    ):
        """Begin without models; `learned` is called after each new one, before it is saved."""
        self.experiment, self.store, self._learned = experiment, store, learned
        self.periods = cut(experiment, store)
        self.models: list[PeriodModel] = []
        self.steps = experiment.train.steps // experiment.train.periods

    def resume(self, folder: Path) -> None:
        """Take over the checkpoints of the first periods, up to the first missing or damaged one.

        Raises:
            CheckpointError: one is of another run.

        """
        for checkpoint in _first_checkpoints(self.experiment, self.store, folder):
            trainer = self._trainer(len(self.models))
            trainer.load(checkpoint.model)
            self._add(trainer, checkpoint)

    def segments(
        self, save: Callable[[Checkpoint], object] = lambda checkpoint: None
    ) -> list[Segment]:
        """Return a segment for each period that is left; `save` is given its checkpoint."""

        def at_end(trainer: Trainer, metrics: Metrics) -> None:
            checkpoint = self._checkpoint(trainer, metrics)
            self._add(trainer, checkpoint)
            save(checkpoint)

        return [
            Segment(self.steps, partial(self._prepared, period), partial(self._run, period), at_end)
            for period in range(len(self.models), self.experiment.train.periods)
        ]

    def summary(self) -> dict[str, Any]:
        """Return the matrix of qualities and, after the last period, the forgetting, for JSON."""
        quality = [model.quality for model in self.models]
        whole = len(quality) == len(self.periods.starts)
        lost = forgetting(quality) if whole else []
        return {
            "metric": self.models[0].metric_name,
            "starts": self.periods.starts,
            "events": self.periods.events,
            "quality": quality,
            "forgetting": lost,
            "mean_forgetting": sum(lost) / len(lost) if lost else None,
        }

    def write_summary(self, directory: Path) -> None:
        """Write `forgetting.json` into the run's folder."""
        replace_text(directory / FORGETTING, json.dumps(self.summary(), indent=1) + "\n")

    def sentence(self) -> str:
        """Return the qualities of the last model and, after the last period, the forgetting."""
        table = self.summary()
        quality = " ".join(f"{value:.4f}" for value in self.models[-1].quality)
        lost = "".join(f"  forgotten {value:.4f}" for value in table["forgetting"])
        return f"after period {len(self.models)}  {table['metric']} {quality}{lost}"

    def _prepared(self, period: int) -> Trainer:
        """Return the trainer of a period, with the parameters of the period before."""
        trainer = self._trainer(period)
        if period > 0:
            before = self.models[period - 1].checkpoint
            path = checkpoints.step_path(Path(), before.state["step"])
            copy(trainer.declared, own_layout(self.store), before, path)
        return trainer

    def _trainer(self, period: int) -> Trainer:
        """Return a trainer with fresh parameters; in the first period with those of `init_from`."""
        train, seed = self.experiment.train, self.experiment.run.seed
        start = train.init_from if period == 0 else None
        own = train.model_copy(update={"steps": self.steps, "periods": 1, "init_from": start})
        return Trainer(
            self.experiment.model_copy(update={"train": own}),
            self.store,
            statistics_from=partial(up_to, period, self.periods, seed),
            tasks_from=partial(within, period, self.periods),
        )

    def _run(self, period: int, trainer: Trainer, until: int) -> Iterator[Progress]:
        """Train a period; yield lines whose steps count all periods."""
        first, steps = period * self.steps, self.experiment.train.steps
        for line in trainer.run(until):
            yield line._replace(step=first + line.step, steps=steps)

    def _checkpoint(self, trainer: Trainer, metrics: Metrics) -> Checkpoint:
        """Return the trainer's checkpoint as one of the experiment of all periods."""
        found = trainer.checkpoint(metrics)
        step = len(self.models) * self.steps + trainer.step
        return found._replace(
            config=own_config(self.experiment, step), state=found.state | {"step": step}
        )

    def _add(self, trainer: Trainer, checkpoint: Checkpoint) -> None:
        self.models.append(PeriodModel(checkpoint, *_quality(trainer, self.periods)))
        self._learned(self)


def forgetting(quality: list[list[float]]) -> list[float]:
    """Return the forgetting of each period but the last.

    Args:
        quality: [trained up to][evaluated on], higher is better.

    >>> forgetting([[0.5, 0.1], [0.25, 0.5]])
    [0.25]
    """
    final = quality[-1]
    return [max(row[at] for row in quality[:-1]) - final[at] for at in range(len(quality) - 1)]


def _quality(trainer: Trainer, periods: Periods) -> tuple[list[float], str]:
    """Return the quality on the held-out tasks of each period, and the name of the metric.

    The competing items are those of all periods, so that a column of the matrix is comparable.
    """
    train = trainer.experiment.train
    everything = trainer.store.histories(tuple(train.parts.split("+")))
    held = held_out(everything, trainer.experiment.run.seed)
    catalogue = torch.zeros_like(trainer.trained)
    catalogue[everything.item[~held]] = True
    asked = everything.keep(held & catalogue[everything.item])
    quality = []
    for period in range(len(periods.starts)):
        own = within(period, periods, asked)
        if int(own.lengths().max()) <= train.tasks.window:
            raise DataError(
                f"every period needs a held-out entity with more than {train.tasks.window} events "
                f"(train.tasks.window), period {period + 1} has none (train.periods)"
            )
        metric = evaluate_starts(trainer, own, catalogue)[1]
        quality.append(-metric if trainer.feedback == "explicit" else metric)
    return quality, ("minus_" if trainer.feedback == "explicit" else "") + METRIC[trainer.feedback]


def _first_checkpoints(experiment: Experiment, store: TaskStore, folder: Path) -> list[Checkpoint]:
    steps = experiment.train.steps // experiment.train.periods
    found: list[Checkpoint] = []
    for period in range(experiment.train.periods):
        path = checkpoints.step_path(folder, (period + 1) * steps)
        try:
            found.append(checkpoints.load(path))
        except CheckpointError:
            break
        require_same_run(found[-1], experiment, store, path)
    return found
