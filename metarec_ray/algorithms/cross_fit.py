"""Cross-fitting: heads are trained on entities that their backbone was not fitted on.

On entities that the backbone was fitted on, residuals are too small, and a head would learn to
trust the backbone too much [Chernozhukov et al., 2018, have the same remedy]. Here each entity is
an episode for the head on the one backbone that has not seen it. What is served uses a backbone
that was fitted on all entities. Knows `FittedLearner`; does not know heads: they take a `CrossFit`.
"""

from functools import partial
from typing import NamedTuple

import torch

from metarec_ray.algorithms.base import FittedLearner, Fitting
from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError


class Fold(NamedTuple):
    """A backbone, and the entities it was not fitted on.

    Attributes:
        params: of the backbone.
        seen: the histories it was fitted on, without events of hidden items.
        unseen: whole histories of the other entities, as episodes for a head.

    """

    params: Params
    seen: Histories
    unseen: Histories


class CrossFit(NamedTuple):
    """Folds to train a head on, and the backbone of all entities, which is served."""

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
    """Fit a backbone for each fold, on the entities of all others, and one on all entities.

    The fits are independent and go through `fitting.each`, in parallel where that is a cluster.

    Args:
        backbone: any learner that is fitted on histories.
        histories: at least `folds` entities.
        fitting: its seed shuffles entities and items.
        folds: how many, >= 2.
        hidden_items: share of the items whose events a fold's backbone is not fitted on either,
            other items in each fold; unseen histories then have items that are new to it.

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
