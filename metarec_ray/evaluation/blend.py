"""Fit a blend: every member, and the weights of their sum for each size of the support.

Knows members and validation entities. Weights are chosen with members fitted without validation
entities; what is added up are members fitted on the entities of `train.parts`.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, Fitting
from metarec_ray.algorithms.blending import select, sharpness
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.batch import Params
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.predictor import MEMBER, SIZES, WEIGHTS, member_scores
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.artifact import assemble
from metarec_ray.training.fit import fit


def fit_blend(experiment: Experiment, store: TaskStore, *, fitting: Fitting = ALONE) -> Checkpoint:
    """Return the blend of `experiment`; its members are fitted through `fitting.each`.

    Raises:
        ConfigError: as in `member_experiments`.
        NotFinite: a member's score for a validation entity is NaN or infinite.

    """
    started = time.perf_counter()
    asked = member_experiments(experiment, store)
    found = fitting.each(partial(_fit, path=store.path), list(asked.values()))
    members = dict(zip(asked, found, strict=True))
    return blend(experiment, store, members, fitting=fitting, started=started)


def member_experiments(experiment: Experiment, store: TaskStore) -> dict[str, Experiment]:
    """Return the experiments of a blend's members, two for each.

    NAME-train is fitted without validation entities, to choose the weights on those; NAME-final is
    what the blend adds up, fitted on `train.parts`.

    Raises:
        ConfigError: a member does not predict labels, and labels are added up; or the store holds
            out no entities to choose weights by.

    """
    if store.held_last:
        raise ConfigError(
            "a blend has weights for each k of evaluate.ks, and none where the last events of "
            "histories are held out (data.split=last, blend.members)"
        )
    members = experiment.members()
    for name, member in members.items():
        if store.manifest.feedback != "implicit" and member.algorithm.ranks_only:
            raise ConfigError(
                f"a blend for {store.manifest.feedback} feedback adds predicted labels up, got "
                f"{member.algorithm.name}, which only ranks (blend.members.{name})"
            )
    return {f"{name}-train": _of_training(one) for name, one in members.items()} | {
        f"{name}-final": one for name, one in members.items()
    }


def blend(
    experiment: Experiment,
    store: TaskStore,
    members: Mapping[str, Checkpoint],
    *,
    fitting: Fitting = ALONE,
    started: float,
) -> Checkpoint:
    """Return the blend of fitted members.

    Args:
        experiment: with members in `blend`.
        store: of the whole blend.
        members: the checkpoint of each of `member_experiments`.
        fitting: reports the weights.
        started: `time.perf_counter()` before the first member was fitted.

    """
    names = list(experiment.blend.members)
    judged, final = ([members[f"{name}-{kind}"] for name in names] for kind in ("train", "final"))
    weights = _weights(experiment, store, judged, fitting)
    metrics = {"seconds": round(time.perf_counter() - started, 1)}
    return added_up(experiment, store, final, weights, metrics)


def added_up(
    experiment: Experiment,
    store: TaskStore,
    members: Sequence[Checkpoint],
    weights: Tensor,
    metrics: dict[str, float],
) -> Checkpoint:
    """Return the blend of `members`, in the order of their names, with given weights [K, M]."""
    model: Params = {WEIGHTS: weights, SIZES: torch.tensor(support_sizes(experiment))}
    for name, checkpoint in zip(experiment.blend.members, members, strict=True):
        model |= {f"{MEMBER}{name}.{key}": value for key, value in checkpoint.model.items()}
    return assemble(
        experiment,
        store,
        model,
        trained=torch.stack([one.model["buffer.trained"] for one in members]).all(0),
        step=0,
        optimizer={},
        metrics=metrics,
    )


def _weights(
    experiment: Experiment, store: TaskStore, members: list[Checkpoint], fitting: Fitting
) -> Tensor:
    """Return the weights [K, M] that are best on validation entities; ks ascend."""
    judge = validation(experiment, store)._replace(method="a blend")
    names = list(experiment.blend.members)
    predictors = [Recommender(member).predictor for member in members]
    rows = []
    for k in support_sizes(experiment):
        supports = judge.tasks.supports(k)
        parts = torch.stack([member_scores(p, supports, judge.feedback) for p in predictors])
        for name, scores in zip(names, parts, strict=True):
            judge.require_finite(scores, k, method=name)
        powers = torch.ones(len(parts))
        if judge.feedback == "implicit":
            candidates = judge.tasks.candidates(k)
            powers = torch.tensor([sharpness(p, judge.tasks.query, candidates) for p in parts])
            parts = parts * powers[:, None, None]
        weights = select(parts, partial(judge.quality, k=k), rounds=experiment.blend.rounds)
        rows.append(weights * powers)
        shown = ", ".join(
            f"{name} {weight:.2f}" for name, weight in zip(names, weights.tolist(), strict=True)
        )
        fitting.progress(f"blend: after {k} events {shown}")
    return torch.stack(rows)


def support_sizes(experiment: Experiment) -> list[int]:
    """Return the support sizes with weights of their own; the first is 0."""
    return sorted({0, *experiment.evaluate.ks})


def _of_training(experiment: Experiment) -> Experiment:
    train = experiment.train.model_copy(update={"parts": "train"})
    return experiment.model_copy(update={"train": train})


def _fit(experiment: Experiment, path: Path) -> Checkpoint:
    return fit(experiment, TaskStore.open(path))
