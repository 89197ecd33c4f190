"""Rivals that score items by how their content relates to that of the support.

Know plain item features; without features they are biases and popularity. Axes: I items, F
columns of content, N events of a support.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.sums import count_pairs, positives
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.core.matrices.spd import solve_spd
from metarec_ray.data.settings import Feedback
from metarec_ray.errors import DataError

_BLOCK = 4096  # rows in float64 at a time


class ContentRidge(FittedLearner):
    """Ridge regression of a user's residual ratings on item content and a bias.

    [Hoerl & Kennard, 1970; for recommenders Pazzani & Billsus, 2007]. The residual is the rating
    minus the training mean and the item's bias b_i. That bias is shrunk towards a ridge regression
    of all items' biases on content, so that a new item has the bias its content predicts. An empty
    support predicts mean + b_i.

    Attributes:
        penalty: of a user's squared weights.
        bias_penalty: of a user's squared bias.
        item_penalty: of the weights that predict item biases.
        item_shrink: weight, in events, of the content's prediction of an item's bias.
        max_features: largest number of columns of content; the fit solves a system of that size.

    """

    name: Literal["content_ridge"] = "content_ridge"
    kind: ClassVar = "rival"
    suits: ClassVar[tuple[Feedback, ...]] = ("explicit",)
    penalty: PositiveFloat = 14.0
    bias_penalty: PositiveFloat = 4.0
    item_penalty: PositiveFloat = 10.0
    item_shrink: PositiveFloat = 5.0
    max_features: PositiveInt = 8192

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        count = torch.bincount(histories.item, minlength=histories.n_items).float()
        content = _item_content(self.name, histories, self.max_features, learned=count > 0)
        bias = UserItemBias(item_shrink=self.item_shrink, user_shrink=self.bias_penalty)
        meta = bias.fit(histories, fitting)
        content = content - _weighted_mean(content, count)
        trust = count / (count + self.item_shrink)
        normal = self.item_penalty * torch.eye(content.shape[1], dtype=torch.float64)
        for rows, own in zip(content.split(_BLOCK), trust.split(_BLOCK), strict=True):
            normal += (rows * own.unsqueeze(1)).double().T @ rows.double()
        # The bias is the mean residual times `trust`.
        expected = content @ solve_spd(normal, content.T @ meta["item"])
        item = meta["item"] + (1 - trust) * expected
        return {"mean": meta["mean"], "item": item, "content": content}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        content = meta["content"][support.index] * support.mask.unsqueeze(1)
        residual = (support.label - meta["mean"] - meta["item"][support.index]) * support.mask
        # The dual of the ridge problem: N equations, whatever the width of the content.
        both = support.mask.unsqueeze(1) * support.mask
        kernel = content @ content.T / self.penalty + both / self.bias_penalty
        dual = solve_spd(kernel + torch.eye(len(residual), dtype=kernel.dtype), residual)
        return {"weights": content.T @ dual / self.penalty, "bias": dual.sum() / self.bias_penalty}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        item = candidates.index
        taste = meta["content"][item] @ fast["weights"]
        return meta["mean"] + meta["item"][item] + fast["bias"] + taste


class ContentProfile(FittedLearner):
    """Log-popularity + similarity of an item's content to the mean content of the support.

    [Rocchio, 1971; Pazzani & Billsus, 2007]. Columns are standardised over training events, then
    rows are scaled to length 1. The profile is the sum of the support's rows divided by (positives
    + shrink). An empty support ranks by popularity.

    Attributes:
        strength: weight of the similarity against log-popularity.
        shrink: number of positives without content that are added to the support.

    """

    name: Literal["content_profile"] = "content_profile"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    strength: NonNegativeFloat = 4.0
    shrink: NonNegativeFloat = 5.0
    positive_min: float | None = None
    max_features: PositiveInt = 8192

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        learned = histories.met_items()
        content = _item_content(self.name, histories, self.max_features, learned=learned)
        count = count_pairs(histories, self.positive_min)
        centred = content - _weighted_mean(content, count)
        spread = _weighted_mean(centred.square(), count).sqrt()
        unit = torch.where(spread > 0, centred / spread.clamp(min=1e-6), 0.0)
        length = unit.norm(dim=1, keepdim=True)
        return {"content": unit / length.clamp(min=1e-6), "popularity": torch.log(count + 1)}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        weight = positives(support, self.positive_min).to(meta["content"].dtype)
        total = weight @ meta["content"][support.index]
        return {"profile": total / (weight.sum() + self.shrink).clamp(min=1.0)}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        match = meta["content"][candidates.index] @ fast["profile"]
        return meta["popularity"][candidates.index] + self.strength * match


def _item_content(name: str, histories: Histories, limit: int, *, learned: Tensor) -> Tensor:
    """Return the plain features of the catalogue, float [I, F]; F = 0 without features.

    Numbers are within the range of the items that are `learned` from, bool [I].
    """
    width = histories.items.tokens + histories.items.features.dense.shape[1]
    if width > limit:
        raise DataError(
            f"{name} takes items of at most {limit} columns of content, got {width} "
            f"(max_features of {name} sets the limit)"
        )
    return histories.items.within_range(learned).matrix()


def _weighted_mean(table: Tensor, weight: Tensor) -> Tensor:
    return weight @ table / weight.sum().clamp(min=1)
