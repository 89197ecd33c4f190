"""Query loss and metric of a trainer's model on entities that it was not trained on.

Tasks are cut at the start of histories, as of new users, and sampled as training samples them. No
parameter changes, and nothing is chosen by it: choices are made by `evaluation.validation`.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import Lane
from metarec_ray.core.histories import Histories
from metarec_ray.training.meta_step import tables
from metarec_ray.training.meta_step.objective import lane_objective
from metarec_ray.training.meta_step.step import to_device
from metarec_ray.training.trainer import Trainer


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
        sampler = trainer.lane_sampler(histories, histories, catalogue, cut)
        for lane in sampler.epoch(0, lane_tasks=train.lane_tasks):
            totals += len(lane.entity) * _lane_means(trainer, lane)
        count += len(sampler)
    loss, metric = (totals / count).tolist()
    return loss, trainer.reported(metric)


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
