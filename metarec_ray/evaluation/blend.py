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

FitMembers = Callable[[Mapping[str, Experiment]], Mapping[str, Checkpoint]]
POWERS = tuple(2.0 ** (step / 2) for step in range(-6, 15))


def fit_blend(
    experiment: Experiment,
    store: TaskStore,
    *,
    fitting: Fitting = ALONE,
    fit_members: FitMembers | None = None,
) -> Checkpoint:
    """Return the blend of `experiment`.

    Args:
        experiment: with members in `blend`.
        store: of the whole blend.
        fitting: says how far it is; fits the members where there is no `fit_members`.
        fit_members: how members are fitted; every one comes twice, NAME-train (without validation
            entities) and NAME-final.

    Raises:
        ConfigError: a member that predicts no labels, where those are added up.

    """
    started = time.perf_counter()
    members = experiment.members()
    for name, member in members.items():
        if store.manifest.feedback != "implicit" and member.algorithm.ranks_only:
            raise ConfigError(
                f"a blend for {store.manifest.feedback} feedback adds predicted labels up, got "
                f"{member.algorithm.name}, which only ranks (blend.members.{name})"
            )
    asked = {f"{n}-train": _with_parts(m, "train") for n, m in members.items()} | {
        f"{n}-final": _with_parts(m, "train+valid") for n, m in members.items()
    }
    found = fit_members(asked) if fit_members else _beside(asked, store, fitting)
    judged, final = ([found[f"{n}-{which}"] for n in members] for which in ("train", "final"))
    weights = _weights(experiment, store, judged, fitting)
    model: Params = {WEIGHTS: weights, SIZES: torch.tensor(_sizes(experiment))}
    for name, checkpoint in zip(members, final, strict=True):
        model |= {f"{MEMBER}{name}.{key}": value for key, value in checkpoint.model.items()}
    trained = torch.stack([c.model["buffer.trained"] for c in final]).all(0)
    seconds = round(time.perf_counter() - started, 1)
    return assemble(
        experiment,
        store,
        model,
        trained=trained,
        step=0,
        optimizer={},
        metrics={"seconds": seconds},
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


def _beside(
    asked: Mapping[str, Experiment], store: TaskStore, fitting: Fitting
) -> dict[str, Checkpoint]:
    found = fitting.each(partial(_fit, path=store.path), list(asked.values()))
    return dict(zip(asked, found, strict=True))


def _fit(experiment: Experiment, path: Path) -> Checkpoint:
    return fit(experiment, TaskStore.open(path))
