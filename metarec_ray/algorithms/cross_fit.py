"""Cross-fitting: backbones on disjoint entities, so that a head can be trained on honest episodes.

A head that is meta-trained on entities its backbone was fitted on sees residuals that are too small
and learns to trust the backbone too much [Chernozhukov et al., 2018, the same remedy]. Here every
entity is an episode of the one backbone that has not seen it; what is served stands on a backbone
fitted on everybody. Knows `FittedLearner`; does not know heads: they take a `CrossFit`.
"""

from functools import partial
from typing import NamedTuple

import torch

from metarec_ray.algorithms.base import FittedLearner, Fitting, Params
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError


class Fold(NamedTuple):
    """A backbone and what it was not shown.

    Attributes:
        params: of the backbone.
        seen: histories that it was fitted on, without events of hidden items.
        unseen: whole histories of the other entities: episodes for a head.

    """

    params: Params
    seen: Histories
    unseen: Histories


class CrossFit(NamedTuple):
    """Folds for the head's training, and the backbone of everybody for what it serves."""

    folds: list[Fold]
    final: Params


def cross_fit(
    backbone: FittedLearner,
    histories: Histories,
    fitting: Fitting,
    *,
    folds: int,
    hidden_items: float = 0.0,
) -> CrossFit:
    """Fit a backbone for each fold of entities, on the others, and one on everybody.

    The fits are independent and go through `fitting.each`: side by side where that is a cluster.

    Args:
        backbone: any learner that is fitted on histories.
        histories: at least `folds` entities.
        fitting: its seed shuffles entities and items.
        folds: parts that entities are dealt into, >= 2.
        hidden_items: share of the items whose events a fold's backbone is not shown either, others
            in each fold: unseen histories then have items that are new to it.

    """
    entities = histories.n_entities
    if not 2 <= folds <= entities:
        raise DataError(f"folds must be >= 2 and <= {entities}, the entities, got {folds}")
    generator = torch.Generator().manual_seed(fitting.seed)
    dealt = torch.randperm(entities, generator=generator) % folds
    order = torch.randperm(histories.n_items, generator=generator)
    size = int(hidden_items * histories.n_items)
    seen = []
    for fold in range(folds):
        hidden = torch.zeros(histories.n_items, dtype=torch.bool)
        hidden[order.roll(-fold * size)[:size]] = True
        others = histories.take((dealt != fold).nonzero().flatten())
        seen.append(others.keep(~hidden[others.item]))
    params = fitting.each(partial(_fit, backbone, fitting.seed), [*seen, histories])
    unseen = [histories.take((dealt == fold).nonzero().flatten()) for fold in range(folds)]
    final = params.pop()
    return CrossFit([Fold(*one) for one in zip(params, seen, unseen, strict=True)], final)


def _fit(backbone: FittedLearner, seed: int, histories: Histories) -> Params:
    return backbone.fit(histories, Fitting(seed=seed))
