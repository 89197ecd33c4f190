"""Fit a blend: every member, and the weights of their sum for each size of the support.

Knows members and validation entities. The weights are chosen on members that were fitted without
those; then every member is fitted again on all training entities.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, Fitting
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.core.outer_loop import Params
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.validation import validation
from metarec_ray.inference.predictor import MEMBER, SIZES, WEIGHTS, member_scores
from metarec_ray.inference.recommender import Recommender
from metarec_ray.training.artifact import assemble
from metarec_ray.training.fit import fit

POWERS = tuple(2.0 ** (step / 2) for step in range(-6, 15))


def fit_blend(experiment: Experiment, store: TaskStore, *, fitting: Fitting = ALONE) -> Checkpoint:
    """Return the blend of `experiment`; its members are fitted through `fitting.each`.

    Raises:
        ConfigError: as in `member_experiments`.

    """
    started = time.perf_counter()
    asked = member_experiments(experiment, store)
    found = fitting.each(partial(_fit, path=store.path), list(asked.values()))
    members = dict(zip(asked, found, strict=True))
    return blend(experiment, store, members, fitting=fitting, started=started)


def member_experiments(experiment: Experiment, store: TaskStore) -> dict[str, Experiment]:
    """Return what is fitted for a blend: each member twice.

    NAME-train is fitted without validation entities, on which the weights are chosen; NAME-final
    is what the blend adds up.

    Raises:
        ConfigError: a member that predicts no labels, where labels are added up.

    """
    members = experiment.members()
    for name, member in members.items():
        if store.manifest.feedback != "implicit" and member.algorithm.ranks_only:
            raise ConfigError(
                f"a blend for {store.manifest.feedback} feedback adds predicted labels up, got "
                f"{member.algorithm.name}, which only ranks (blend.members.{name})"
            )
    return {f"{name}-train": _with_parts(one, "train") for name, one in members.items()} | {
        f"{name}-final": _with_parts(one, "train+valid") for name, one in members.items()
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
        members: one for each of `member_experiments`.
        fitting: is told the weights.
        started: `time.perf_counter()` before the first member was fitted.

    """
    names = list(experiment.blend.members)
    judged, final = ([members[f"{name}-{kind}"] for name in names] for kind in ("train", "final"))
    weights = _weights(experiment, store, judged, fitting)
    model: Params = {WEIGHTS: weights, SIZES: torch.tensor(_sizes(experiment))}
    for name, checkpoint in zip(names, final, strict=True):
        model |= {f"{MEMBER}{name}.{key}": value for key, value in checkpoint.model.items()}
    return assemble(
        experiment,
        store,
        model,
        trained=torch.stack([one.model["buffer.trained"] for one in final]).all(0),
        step=0,
        optimizer={},
        metrics={"seconds": round(time.perf_counter() - started, 1)},
    )


def select(parts: Tensor, quality: Callable[[Tensor], Tensor], *, rounds: int) -> Tensor:
    """Return the weights [M], multiples of 1 / rounds or coarser, of a greedy forward selection.

    Every round adds, with replacement, the member that makes the mean best; the best round of all
    is kept [Caruana et al., 2004].

    Args:
        parts: [M, T, I], what is added up.
        quality: scores [T, I] -> [T], higher is better.
        rounds: members taken, at most.

    """
    counts, total = torch.zeros(len(parts)), torch.zeros_like(parts[0])
    best, weights = -torch.inf, counts
    for taken in range(1, rounds + 1):
        means = torch.stack([quality((total + part) / taken).mean() for part in parts])
        chosen = int(means.argmax())
        counts[chosen] += 1
        total = total + parts[chosen]
        if means[chosen] > best:
            best, weights = float(means[chosen]), counts / taken
    return weights


def sharpness(shares: Tensor, query: Tensor, candidates: Tensor) -> Tensor:
    """Return the power of `shares` [T, I], log-probabilities, that makes `query` [T, Q] likeliest.

    Scores of different learners have different scales; probabilities have one. Only `candidates`
    [T, I] share the probability: what is never ranked must not decide.
    """
    ranked = shares.masked_fill(~candidates, -torch.inf)
    likelihood = [torch.log_softmax(power * ranked, 1).gather(1, query).mean() for power in POWERS]
    return torch.tensor(POWERS[int(torch.stack(likelihood).argmax())])


def _weights(
    experiment: Experiment, store: TaskStore, members: list[Checkpoint], fitting: Fitting
) -> Tensor:
    """Return the weights [K, M] that are best on validation entities, for ascending ks."""
    judge = validation(experiment, store)
    predictors = [Recommender(member).predictor for member in members]
    rows = []
    for k in _sizes(experiment):
        supports = judge.tasks.supports(k)
        parts = torch.stack([member_scores(p, supports, judge.feedback) for p in predictors])
        powers = torch.ones(len(parts))
        if judge.feedback == "implicit":
            candidates = judge.tasks.candidates(k)
            powers = torch.stack([sharpness(p, judge.tasks.query, candidates) for p in parts])
            parts = parts * powers[:, None, None]
        weights = select(parts, partial(judge.quality, k=k), rounds=experiment.blend.rounds)
        rows.append(weights * powers)
        shown = ", ".join(
            f"{name} {weight:.2f}"
            for name, weight in zip(experiment.blend.members, weights.tolist(), strict=True)
        )
        fitting.progress(f"blend: after {k} events {shown}")
    return torch.stack(rows)


def _sizes(experiment: Experiment) -> list[int]:
    """Return the support sizes with weights of their own; the first is 0."""
    return sorted({0, *experiment.evaluate.ks})


def _with_parts(experiment: Experiment, parts: str) -> Experiment:
    train = experiment.train.model_copy(update={"parts": parts})
    return experiment.model_copy(update={"train": train})


def _fit(experiment: Experiment, path: Path) -> Checkpoint:
    return fit(experiment, TaskStore.open(path))
