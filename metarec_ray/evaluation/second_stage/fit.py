"""Fit a second stage: learn how to order what a first stage lists for entities it has not seen.

A network learns from the lists of all folds but one and is judged on that: what it gains there, at
each size of the support, decides whether it is used. Knows networks and checkpoints; lists are made
in `lists.py`.

Axes: K sizes of the support.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, Fitting
from metarec_ray.algorithms.second_stage.features import item_knowledge
from metarec_ray.algorithms.second_stage.fitting import (
    Graded,
    Schedule,
    fit_network,
    joined,
    quality_of_lists,
)
from metarec_ray.algorithms.second_stage.ranking_net import net_scores, scale_of, standardised
from metarec_ray.algorithms.second_stage.reranker import parameters
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Params
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.blend import added_up, blend, fit_blend, support_sizes
from metarec_ray.evaluation.second_stage.experiments import stage_experiments
from metarec_ray.evaluation.second_stage.lists import Fit, lists_of_fold, training_histories
from metarec_ray.inference.predictor import WEIGHTS
from metarec_ray.inference.two_stage import SECOND
from metarec_ray.training.artifact import own_config
from metarec_ray.training.fit import fit
from metarec_ray.training.process import set_up

DEPTH = 10  # of the lists by which it is decided where networks are used
CHUNK = 256  # lists that are judged side by side


class _Network(NamedTuple):
    """What a network is fitted on."""

    lists: list[Graded]  # of the folds that it learns from
    scale: Params
    sizes: int
    schedule: Schedule
    seed: int


def fit_experiment(
    experiment: Experiment, store: TaskStore, *, fitting: Fitting = ALONE
) -> Checkpoint:
    """Return the checkpoint of any experiment: a learner, a blend, or a second stage on either.

    Raises:
        ConfigError: as in `stage_experiments` and `member_experiments`.
        DataError: too few entities to learn from.

    """
    if experiment.second_stage is None:
        fitted = fit_blend if experiment.blend.members else fit
        return fitted(experiment, store, fitting=fitting)
    started = time.perf_counter()
    asked = stage_experiments(experiment, store)
    found = fitting.each(partial(_fit, path=store.path), list(asked.values()))
    stages = dict(zip(asked, found, strict=True))
    return second_stage(experiment, store, stages, fitting=fitting, started=started)


def second_stage(
    experiment: Experiment,
    store: TaskStore,
    stages: Mapping[str, Checkpoint],
    *,
    fitting: Fitting = ALONE,
    started: float,
) -> Checkpoint:
    """Return both stages as one checkpoint.

    Args:
        experiment: with a `second_stage`.
        store: of the whole experiment.
        stages: the checkpoint of each of `stage_experiments`.
        fitting: makes the lists of folds, and fits networks, beside each other.
        started: `time.perf_counter()` before the first learner was fitted.

    """
    stage = experiment.second_stage
    assert stage is not None
    first = experiment.first_stage()
    final, without = _first_stages(first, store, stages, stage.folds, fitting, started)
    fitting.progress(f"second stage: lists of {stage.folds} folds")
    asked = [Fit(experiment, store.path, fold, one) for fold, one in enumerate(without)]
    lists = fitting.each(lists_of_fold, asked)
    networks, scale = _networks(experiment, lists, fitting)
    ks = torch.tensor(support_sizes(experiment))
    before, after = _judged(lists, networks, scale, len(ks))
    helps = after > before
    for k, old, new, used in zip(*(c.tolist() for c in (ks, before, after, helps)), strict=True):
        told = "used" if used else "not used"
        fitting.progress(f"second stage: after {k} events ndcg@10 {old:.4f} -> {new:.4f}, {told}")
    knowledge = item_knowledge(training_histories(experiment, store))
    own = parameters(knowledge, networks, scale, ks=ks, helps=helps)
    metrics = {
        "seconds": round(time.perf_counter() - started, 1),
        "first_stage_ndcg@10": round(before.mean().item(), 5),
        "second_stage_ndcg@10": round(torch.where(helps, after, before).mean().item(), 5),
    }
    return final._replace(
        model=final.model | {SECOND + name: value for name, value in own.items()},
        config=own_config(experiment, 0),
        metrics=metrics,
        state=final.state | {"step": 0},
        optimizer={},
    )


def _first_stages(
    first: Experiment,
    store: TaskStore,
    stages: Mapping[str, Checkpoint],
    folds: int,
    fitting: Fitting,
    started: float,
) -> tuple[Checkpoint, list[Checkpoint]]:
    """Return the first stage that is served, and those that were fitted without each fold."""
    if not first.blend.members:
        return stages["first"], [stages[f"first-fold{fold}"] for fold in range(folds)]
    final = blend(first, store, stages, fitting=fitting, started=started)
    weights, names = final.model[WEIGHTS], list(first.blend.members)
    of_folds = [[stages[f"{name}-fold{fold}"] for name in names] for fold in range(folds)]
    return final, [added_up(first, store, members, weights, {}) for members in of_folds]


def _networks(
    experiment: Experiment, lists: list[Graded], fitting: Fitting
) -> tuple[list[Params], Params]:
    """Return a network for each fold, fitted on the other folds, and the scale of its inputs."""
    stage = experiment.second_stage
    assert stage is not None
    every = [(one.inputs.features, one.inputs.real) for one in lists]
    scale = scale_of(*(torch.cat(column) for column in zip(*every, strict=True)))
    schedule = Schedule(stage.epochs, stage.learning_rate, stage.weight_decay, stage.dropout)
    sizes = len(support_sizes(experiment))
    fitting.progress(
        f"second stage: {len(lists)} networks on {sum(len(o.wanted) for o in lists):,} lists"
    )
    asked = [
        _Network(
            lists[:fold] + lists[fold + 1 :], scale, sizes, schedule, experiment.run.seed + fold
        )
        for fold in range(len(lists))
    ]
    return fitting.each(_network, asked), scale


def _network(asked: _Network) -> Params:
    set_up(torch.device("cpu"))
    return fit_network(
        joined(asked.lists),
        asked.scale,
        sizes=asked.sizes,
        schedule=asked.schedule,
        seed=asked.seed,
    )


def _judged(
    lists: list[Graded], networks: list[Params], scale: Params, sizes: int
) -> tuple[Tensor, Tensor]:
    """Return the mean NDCG@10 [K] of both stages on lists that a network was not fitted on."""
    totals = torch.zeros(3, sizes, dtype=torch.float64)
    for graded, network in zip(lists, networks, strict=True):
        for some in torch.arange(len(graded.weight)).split(CHUNK):
            part = graded.at(some)
            inputs = part.inputs
            after = net_scores(network, standardised(scale, inputs), inputs)[0]
            for row, scores in enumerate((inputs.score, after)):
                value = part.weight * quality_of_lists(scores, part, depth=DEPTH)
                totals[row].index_add_(0, inputs.size, value.double())
            totals[2].index_add_(0, inputs.size, part.weight.double())
    return totals[0] / totals[2], totals[1] / totals[2]


def _fit(experiment: Experiment, path: Path) -> Checkpoint:
    return fit(experiment, TaskStore.open(path))
