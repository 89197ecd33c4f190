"""How good a model is on training entities that no period is trained on.

Tasks are cut at the start of histories, as of new users, and sampled as training samples them. No
parameter changes, and nothing but whether a period is refused is decided by it: choices are made by
`evaluation.validation`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Lane
from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.domains import learned_from
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.meta_step.query_loss import METRIC
from metarec_ray.training.meta_step.step import to_device
from metarec_ray.training.periods import Periods, held_out, within
from metarec_ray.training.trainer import Trainer


class Verdict(NamedTuple):
    """Whether a period's model goes on.

    Attributes:
        before: quality of the model that the period began with, on held-out entities' first tasks
            of all that was seen so far, this period included; None if the period began with fresh
            parameters.
        after: that of the model that the period ended with.

    """

    before: float | None
    after: float

    @property
    def refused(self) -> bool:
        """Whether the period ended below the model that it began with."""
        return self.before is not None and not self.after >= self.before

    def sentence(self) -> str:
        """Return what a refused period is told by; an empty text for others."""
        if self.before is None or not self.refused:
            return ""
        numbers = f"{self.after:.4f} on all that was seen, {self.before:.4f} before it"
        return f"  refused: {numbers}; the model before goes on"


class HeldOut:
    """The training entities that no period is trained on, and how good a model is on them.

    Quality is higher for the better: NDCG@10, accuracy, or minus the RMSE, on the first task of
    each entity, over all ks.

    Attributes:
        metric_name: of the quality.

    """

    def __init__(self, experiment: Experiment, store: TaskStore, periods: Periods):
        """Look for them in the log; DataError if a period has none that gives a task."""
        train, feedback = experiment.train, store.manifest.feedback
        self.metric_name = ("minus_" if feedback == "explicit" else "") + METRIC[feedback]
        learned = learned_from(store, train.domains).without(train.without)
        everything = learned.histories(tuple(train.parts.split("+")))
        held = held_out(everything, experiment.run.seed)
        self._periods, self._histories = periods, everything.keep(held)
        self._met = everything.keep(~held).met_items()
        known = self._histories.keep(self._met[self._histories.item])
        self._of_period = [within(period, periods, known) for period in range(len(periods.starts))]
        for number, histories in enumerate(self._of_period, 1):
            seen = periods.of(everything.time) < number
            met = everything.keep(~held & seen).met_items()
            judged = everything.keep(held & seen & met[everything.item])
            longest = min(int(some.lengths().max()) for some in (histories, judged))
            if longest <= train.tasks.window:
                raise DataError(
                    f"every period needs a held-out entity with more than {train.tasks.window} "
                    f"events (train.tasks.window), period {number} has none (train.periods)"
                )

    def period_by_period(self, trainer: Trainer) -> list[float]:
        """Return the quality on each period's events [P].

        Candidates are the items of all periods, so that the periods of two models compare.
        """
        return [_quality(trainer, histories, self._met) for histories in self._of_period]

    def seen(self, trainer: Trainer, period: int) -> float:
        """Return the quality on all events up to a period, among the items that training met."""
        seen = self._histories.keep(self._periods.of(self._histories.time) <= period)
        return _quality(trainer, seen.keep(trainer.trained[seen.item]), trainer.trained)


def evaluate_starts(
    trainer: Trainer, histories: Histories, catalogue: Tensor
) -> tuple[float, float]:
    """Return the mean query loss and metric of tasks at the start of `histories`, over all ks.

    Of ratings, the loss is that of standardised labels, the metric in the unit of the labels.

    Every entity with enough events counts once at each k. `catalogue` bool [I] are the competing
    items, those of the histories included.
    """
    train = trainer.experiment.train
    histories = trainer.label_scale.standardise_histories(histories)
    starts = train.tasks.model_copy(update={"start_share": 1.0})
    totals, count = torch.zeros(2), 0
    for cut in (starts.model_copy(update={"ks": (k,)}) for k in starts.ks):
        sampler = trainer.source.sampler_of(histories, catalogue, cut)
        for lane in sampler.epoch(0, lane_tasks=train.lane_tasks):
            totals += len(lane.entity) * _lane_means(trainer, lane)
        count += len(sampler)
    loss, metric = (totals / count).tolist()
    return loss, trainer.reported(metric)


def _quality(trainer: Trainer, histories: Histories, catalogue: Tensor) -> float:
    metric = evaluate_starts(trainer, histories, catalogue)[1]
    return -metric if trainer.feedback == "explicit" else metric


def _lane_means(trainer: Trainer, lane: Lane) -> Tensor:
    """Return the mean [query loss, query metric] of a lane's tasks."""
    with trainer.on_device, torch.no_grad():
        lane = to_device(lane, trainer.device)
        objective = lane_objective(trainer.recipe, trainer.buffers, lane)
        rows = {
            name: table[tables.entries(trainer.table_rows[name], lane)]
            for name, table in trainer.state.tables.items()
        }
        return objective(trainer.state.dense, rows)[1].cpu()
