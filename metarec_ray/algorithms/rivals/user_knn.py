"""Rivals that score a candidate by what the most similar training users did.

They keep an items x users matrix, and raise an error if the data are too large for it. Axes: I
items, V training users, N events of a support.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.sums import log_shares, newest, positive_pairs, positives
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from metarec_ray.errors import DataError


class UserKNN(FittedLearner):
    """The sum of the similarities of the nearest users that met the candidate.

    similarity = both / sqrt(n_u n_v) x both / (both + shrink) [Herlocker et al., 1999]: the shrunk
    cosine of sets of items. An empty support ranks by popularity.

    Attributes:
        shrink: number of common items at which a cosine is halved.
        neighbours: number of nearest users; those without a common item never count.
        max_cells: largest items x users matrix, in cells of 4 bytes.

    """

    name: Literal["user_knn"] = "user_knn"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    shrink: NonNegativeFloat = 5.0
    neighbours: PositiveInt = 100
    positive_min: float | None = None
    max_cells: PositiveInt = 100_000_000

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        _check_cells(self.name, histories, self.max_cells)
        user, item = positive_pairs(histories, self.positive_min)
        met = torch.zeros(histories.n_items, histories.n_entities)
        met[item, user] = 1.0
        return {"met": met, "count": met.sum(1), "size": met.sum(0)}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        weight = positives(support, self.positive_min).to(meta["met"].dtype)
        both = weight @ meta["met"][support.index]
        cosine = both / (weight.sum() * meta["size"]).sqrt().clamp(min=1e-9)
        near = _nearest(_shrunk(cosine, both, self.shrink), self.neighbours)
        return {"scores": torch.where(weight.sum() > 0, meta["met"] @ near, meta["count"])}

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)


class RatingUserKNN(FittedLearner):
    """Ratings of the nearest users, each centred by the bias model mean + b_u + b_i.

    [Herlocker et al., 1999; Koren, 2008]. The similarity is the shrunk cosine of centred ratings
    over the items that both rated; the prediction is the bias model's plus the neighbours' mean
    centred rating. Of several ratings of an item only the last counts, but all do in the biases. An
    empty support predicts mean + b_i.

    Attributes:
        shrink: number of common items at which a cosine is halved.
        neighbours: number of nearest users; those with a cosine <= 0 never count.
        damping: total similarity of imagined neighbours with a centred rating of 0.
        item_shrink, user_shrink: of the biases, as in `UserItemBias`.
        max_cells: largest items x users matrix, in cells of 8 bytes.

    """

    name: Literal["user_knn_ratings"] = "user_knn_ratings"
    kind: ClassVar = "rival"
    suits: ClassVar[tuple[Feedback, ...]] = ("explicit",)
    shrink: NonNegativeFloat = 30.0
    neighbours: PositiveInt = 100
    damping: PositiveFloat = 2.0
    item_shrink: PositiveFloat = 3.0
    user_shrink: PositiveFloat = 4.0
    max_cells: PositiveInt = 50_000_000

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        _check_cells(self.name, histories, self.max_cells)
        bias = self._biases().fit(histories, fitting)
        user, n_users = histories.entity(), histories.n_entities
        residual = histories.label - bias["mean"] - bias["item"][histories.item]
        total = torch.zeros(n_users).index_add(0, user, residual)
        centred = residual - (total / (histories.lengths() + self.user_shrink))[user]
        rating = torch.zeros(histories.n_items, n_users)
        met = torch.zeros(histories.n_items, n_users)
        pair = user * histories.n_items + histories.item
        last = newest(pair, torch.ones_like(pair, dtype=torch.bool))
        rating[histories.item[last], user[last]] = centred[last]
        met[histories.item, user] = 1.0
        return bias | {"centred": rating, "met": met}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        bias = self._biases().adapt(problem, meta, support)["user"]
        last = newest(support.index, support.mask).to(meta["met"].dtype)
        own = (support.label - meta["mean"] - meta["item"][support.index] - bias) * last
        met, theirs = meta["met"][support.index], meta["centred"][support.index]
        both = last @ met
        norms = (own.square() @ met) * (last @ theirs.square())
        cosine = (own @ theirs) / norms.clamp(min=1e-12).sqrt()
        near = _nearest(_shrunk(cosine, both, self.shrink), self.neighbours)
        taste = (meta["centred"] @ near) / (meta["met"] @ near + self.damping)
        return {"scores": meta["mean"] + meta["item"] + bias + taste}

    def _biases(self) -> UserItemBias:
        return UserItemBias(item_shrink=self.item_shrink, user_shrink=self.user_shrink)


def _shrunk(cosine: Tensor, both: Tensor, shrink: float) -> Tensor:
    return cosine * (both / (both + shrink).clamp(min=1e-9))


def _nearest(similarity: Tensor, neighbours: int) -> Tensor:
    """Return the similarities [V] of the nearest users with one > 0; 0 for all others."""
    best = similarity.clamp(min=0).topk(min(neighbours, similarity.shape[0]), 0)
    return torch.zeros_like(similarity).scatter(0, best.indices, best.values)


def _check_cells(name: str, histories: Histories, limit: int) -> None:
    users, items = histories.n_entities, histories.n_items
    if users * items > limit:
        raise DataError(
            f"{name} keeps an items x users matrix and takes at most {limit} cells, "
            f"got {items} items x {users} users (max_cells of {name} sets the limit)"
        )
