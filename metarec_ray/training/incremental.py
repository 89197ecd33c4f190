"""Training period by period, and how much is forgotten on the way.

Every period starts from the model of the one before, replays what was seen and is drawn to that
model; a period that ends below it is refused. Every model is evaluated on all periods. The
forgetting of a period is the best quality that any earlier model had on it, minus the quality of
the last model [Chaudhry et al., 2018, arXiv:1801.10112]. Does not know ray.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from metarec_ray import checkpoint as checkpoints
from metarec_ray.atomic import replace_text
from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError
from metarec_ray.training.artifact import own_config, require_same_run
from metarec_ray.training.held_out import HeldOut, Verdict
from metarec_ray.training.meta_step.anchor import Anchor
from metarec_ray.training.periods import cut, mixed, up_to, within
from metarec_ray.training.run_folder.metrics_log import Progress
from metarec_ray.training.segments import Metrics, Segment
from metarec_ray.training.source.task_source import every_event
from metarec_ray.training.trainer import Trainer
from metarec_ray.training.warm_start import copy, own_layout

FORGETTING = "forgetting.json"
VERDICT = "verdict"
"""Key of a checkpoint's state."""


class PeriodModel(NamedTuple):
    """The model after one period.

    Attributes:
        checkpoint: its step counts all periods so far.
        verdict: on the period; the model of a refused one is the model before, with the item
            statistics of this period.
        quality: of the held-out tasks of every period [P]: NDCG@10, accuracy, or minus the RMSE.

    """

    checkpoint: Checkpoint
    verdict: Verdict
    quality: list[float]


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
        self._held_out = HeldOut(experiment, store, self.periods)
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
            kept, verdict = self._judged(trainer)
            checkpoint = self._checkpoint(kept, metrics, verdict)
            self._add(kept, checkpoint)
            save(checkpoint)

        return [
            Segment(self.steps, partial(self._prepared, period), partial(self._run, period), at_end)
            for period in range(len(self.models), self.experiment.train.periods)
        ]

    def summary(self) -> dict[str, Any]:
        """Return the matrix of qualities, what was refused and what is forgotten, for JSON.

        `seen` is the quality on all that was seen so far, before and after each period; what is
        forgotten is known after the last period.
        """
        quality = [model.quality for model in self.models]
        whole = len(quality) == len(self.periods.starts)
        lost = forgetting(quality) if whole else []
        return {
            "metric": self._held_out.metric_name,
            "starts": self.periods.starts,
            "events": self.periods.events,
            "quality": quality,
            "seen": [model.verdict._asdict() for model in self.models],
            "refused": [model.verdict.refused for model in self.models],
            "forgetting": lost,
            "mean_forgetting": sum(lost) / len(lost) if lost else None,
        }

    def write_summary(self, directory: Path) -> None:
        """Write `forgetting.json` into the run's folder."""
        replace_text(directory / FORGETTING, json.dumps(self.summary(), indent=1) + "\n")

    def sentence(self) -> str:
        """Return the last model's qualities, whether its period was refused, and what is forgotten.

        What is forgotten is known after the last period.
        """
        table, (_, verdict, quality) = self.summary(), self.models[-1]
        name = self._held_out.metric_name
        shown = " ".join(f"{value:.4f}" for value in quality)
        lost = "".join(f"  forgotten {value:.4f}" for value in table["forgetting"])
        return f"after period {len(self.models)}  {name} {shown}{verdict.sentence()}{lost}"

    def _prepared(self, period: int) -> Trainer:
        """Return the trainer of a period, with the parameters of the period before."""
        trainer = self._trainer(period)
        if period > 0:
            before = self.models[period - 1].checkpoint
            path = checkpoints.step_path(Path(), before.state["step"])
            copy(trainer.declared, own_layout(self.store), before, path)
            if "item.ids" in trainer.state.tables:  # a new item is its features
                new = trainer.trained & ~before.model[BUFFER + "trained"].bool()
                trainer.state.tables["item.ids"][new] = 0.0
            if self.experiment.train.anchor:
                trainer.after_step = Anchor(trainer.state, self.experiment.train.anchor)
        return trainer

    def _trainer(self, period: int) -> Trainer:
        """Return a trainer with fresh parameters; in the first period with those of `init_from`."""
        train, seed = self.experiment.train, self.experiment.run.seed
        own = train.model_copy(
            update={
                "steps": self.steps,
                "periods": 1,
                "outer_lr": train.outer_lr / (period + 1),
                "init_from": train.init_from if period == 0 else None,
            }
        )
        new = partial(within, period, self.periods)
        trainer = Trainer(
            self.experiment.model_copy(update={"train": own}),
            self.store,
            statistics_from=partial(up_to, period, self.periods, seed),
            tasks_from=every_event if train.replay == 1 else new,
        )
        if period > 0 and 0 < train.replay < 1:
            whole = trainer.source.sampler()
            trainer.draw_from(mixed(trainer.sampler, whole, train.replay))
        return trainer

    def _judged(self, trainer: Trainer) -> tuple[Trainer, Verdict]:
        """Return the trainer whose parameters go on: as the period ended, or as it began."""
        period, train = len(self.models), self.experiment.train
        after = self._held_out.seen(trainer, period)
        if period == 0 and train.init_from is None:
            return trainer, Verdict(None, after)
        start = self._prepared(period)
        verdict = Verdict(self._held_out.seen(start, period), after)
        return (start if verdict.refused else trainer), verdict

    def _run(self, period: int, trainer: Trainer, until: int) -> Iterator[Progress]:
        """Train a period; yield lines whose steps count all periods."""
        first, steps = period * self.steps, self.experiment.train.steps
        for line in trainer.run(until):
            yield line._replace(step=first + line.step, steps=steps)

    def _checkpoint(self, trainer: Trainer, metrics: Metrics, verdict: Verdict) -> Checkpoint:
        """Return the trainer's checkpoint as one of the experiment of all periods."""
        found = trainer.checkpoint(metrics)
        step = (len(self.models) + 1) * self.steps
        return found._replace(
            config=own_config(self.experiment, step),
            state=found.state | {"step": step, VERDICT: verdict._asdict()},
        )

    def _add(self, trainer: Trainer, checkpoint: Checkpoint) -> None:
        verdict = Verdict(**checkpoint.state[VERDICT])
        quality = self._held_out.period_by_period(trainer)
        self.models.append(PeriodModel(checkpoint, verdict, quality))
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
        if VERDICT not in found[-1].state:
            raise CheckpointError(
                f"periods resume with the verdict on each period, {path} has none: it was written "
                "by an older version; choose another run.dir to begin anew"
            )
    return found
