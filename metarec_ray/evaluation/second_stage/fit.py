"""Fit a second stage: learn how to order what a first stage lists for entities it has not seen.

A ranker learns from the shortlists of all folds but one and is judged on that: what it gains
there, at each size of the support, decides whether it is used. Knows rankers and checkpoints; the
shortlists are made in `shortlists.py`.

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
from metarec_ray.algorithms.second_stage.rankers.base import Ranker
from metarec_ray.algorithms.second_stage.rankers.inputs import scale_of, standardised
from metarec_ray.algorithms.second_stage.rankers.listwise import (
    LabelledShortlists,
    concatenated,
    ndcg_of,
)
from metarec_ray.algorithms.second_stage.reranker import parameters
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Params
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.blend import added_up, blend, fit_blend, support_sizes
from metarec_ray.evaluation.second_stage.experiments import stage_experiments
from metarec_ray.evaluation.second_stage.shortlists import (
    FoldRequest,
    shortlists_of_fold,
    training_histories,
)
from metarec_ray.inference.predictor import WEIGHTS
from metarec_ray.inference.two_stage import PREFIX
from metarec_ray.training.artifact import own_config
from metarec_ray.training.fit import fit
from metarec_ray.training.process import set_up

DEPTH = 10  # of the rankings by which it is decided where fits are used
METRIC = f"ndcg@{DEPTH}"
CHUNK = 256  # shortlists that are judged side by side


class _RankerFit(NamedTuple):
    """What a ranker is fitted on; it can be sent to other processes."""

    ranker: Ranker
    folds: list[LabelledShortlists]
    scale: Params
    sizes: int
    seed: int


class _Verdict(NamedTuple):
    """What fits are worth on shortlists they were not fitted on, at each size of the support.

    Attributes:
        first: mean NDCG@10 [K] of the first stage's order.
        second: of the fits'; NaN where one has diverged, which helps nowhere.

    """

    first: Tensor
    second: Tensor

    @property
    def helps(self) -> Tensor:
        """Return where the fits are better, bool [K]."""
        return self.second > self.first

    def metrics(self) -> dict[str, float]:
        """Return the means over all sizes, of what is served after each."""
        served = torch.where(self.helps, self.second, self.first)
        return {
            f"first_stage_{METRIC}": round(self.first.mean().item(), 5),
            f"second_stage_{METRIC}": round(served.mean().item(), 5),
        }

    def sentences(self, ks: list[int]) -> list[str]:
        """Return a line for people, for each size."""
        rows = zip(ks, self.first.tolist(), self.second.tolist(), strict=True)
        return [
            f"second stage: after {k} events {METRIC} {first:.4f} -> {second:.4f}, "
            + ("used" if second > first else "not used")
            for k, first, second in rows
        ]


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
    return fit_second_stage(experiment, store, stages, fitting=fitting, started=started)


def fit_second_stage(
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
        fitting: makes the shortlists of folds, and fits the ranker, beside each other.
        started: `time.perf_counter()` before the first learner was fitted.

    """
    assert experiment.second_stage is not None
    final, without = _first_stages(experiment, store, stages, fitting, started)
    fitting.progress(f"second stage: shortlists of {len(without)} folds")
    requests = [FoldRequest(experiment, store.path, n, one) for n, one in enumerate(without)]
    folds = fitting.each(shortlists_of_fold, requests)
    scale, ks = _scale(folds), support_sizes(experiment)
    fits = _fits(experiment, folds, scale, fitting)
    verdict = _judged(experiment.second_stage.ranker, folds, fits, scale, len(ks))
    for line in verdict.sentences(ks):
        fitting.progress(line)
    own = parameters(
        item_knowledge(training_histories(experiment, store)),
        fits,
        scale,
        ks=torch.tensor(ks),
        helps=verdict.helps,
    )
    return final._replace(
        model=final.model | {PREFIX + name: value for name, value in own.items()},
        config=own_config(experiment, 0),
        metrics={"seconds": round(time.perf_counter() - started, 1)} | verdict.metrics(),
        state=final.state | {"step": 0},
        optimizer={},
    )


def _first_stages(
    experiment: Experiment,
    store: TaskStore,
    stages: Mapping[str, Checkpoint],
    fitting: Fitting,
    started: float,
) -> tuple[Checkpoint, list[Checkpoint]]:
    """Return the first stage that is served, and those that were fitted without each fold."""
    first, stage = experiment.first_stage(), experiment.second_stage
    assert stage is not None
    if not first.blend.members:
        return stages["first"], [stages[f"first-fold{fold}"] for fold in range(stage.folds)]
    final = blend(first, store, stages, fitting=fitting, started=started)
    weights, names = final.model[WEIGHTS], list(first.blend.members)
    of_folds = [[stages[f"{name}-fold{fold}"] for name in names] for fold in range(stage.folds)]
    return final, [added_up(first, store, members, weights, {}) for members in of_folds]


def _scale(folds: list[LabelledShortlists]) -> Params:
    every = [(one.inputs.features, one.inputs.real) for one in folds]
    return scale_of(*(torch.cat(column) for column in zip(*every, strict=True)))


def _fits(
    experiment: Experiment, folds: list[LabelledShortlists], scale: Params, fitting: Fitting
) -> list[Params]:
    """Return a fit of the ranker for each fold, on the other folds."""
    stage = experiment.second_stage
    assert stage is not None
    count, seed = sum(len(one.weight) for one in folds), experiment.run.seed * stage.folds
    fitting.progress(f"second stage: {len(folds)} {stage.ranker.fits} on {count:,} shortlists")
    sizes = len(support_sizes(experiment))
    asked = [
        _RankerFit(stage.ranker, folds[:fold] + folds[fold + 1 :], scale, sizes, seed + fold)
        for fold in range(len(folds))
    ]
    return fitting.each(_ranker_fit, asked)


def _ranker_fit(one: _RankerFit) -> Params:
    set_up(torch.device("cpu"))
    return one.ranker.fit(concatenated(one.folds), one.scale, sizes=one.sizes, seed=one.seed)


def _judged(
    ranker: Ranker,
    folds: list[LabelledShortlists],
    fits: list[Params],
    scale: Params,
    sizes: int,
) -> _Verdict:
    """Judge each fit on the fold that it was not fitted on; newest entities weigh most."""
    totals = torch.zeros(3, sizes, dtype=torch.float64)
    for fold, fitted in zip(folds, fits, strict=True):
        for tasks in torch.arange(len(fold.weight)).split(CHUNK):
            part = fold.at(tasks)
            inputs = part.inputs
            second = ranker.scores(fitted, standardised(scale, inputs), inputs)[0]
            values = [ndcg_of(scores, part, depth=DEPTH) for scores in (inputs.score, second)]
            weighed = torch.stack([*values, torch.ones_like(values[0])]) * part.weight
            totals.index_add_(1, inputs.size, weighed)
    return _Verdict(totals[0] / totals[2], totals[1] / totals[2])


def _fit(experiment: Experiment, path: Path) -> Checkpoint:
    return fit(experiment, TaskStore.open(path))
