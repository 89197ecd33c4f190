"""A rating as global mean + item bias + user bias, both shrunk."""

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from metarec_ray.algorithms.base import Problem, StatisticalLearner
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories


class UserItemBias(StatisticalLearner):
    """Mean + item bias + user bias [Koren, 2008]; the support set gives the user's.

    Item and user biases are fitted alternately. An item that training never met has bias 0.

    Attributes:
        item_shrink: number of events with residual 0 that are added to each item's.
        user_shrink: the same for entities.

    """

    name: Literal["user_item_bias"] = "user_item_bias"
    kind: ClassVar = "rival"
    suits: ClassVar = ("explicit",)
    rounds: ClassVar = 6  # the mean, then five updates of the biases
    item_shrink: PositiveFloat = 3.0
    user_shrink: PositiveFloat = 4.0

    def statistics(self, meta: Params, histories: Histories) -> Params:
        label, item = histories.label.double(), histories.item
        if not meta:
            return {
                "label": label.sum(),
                "events": torch.tensor(float(label.numel())),
                "item": torch.zeros(histories.n_items),
            }
        entity = histories.entity()
        residual = label - meta["mean"]
        n_entities = histories.n_entities
        left = torch.zeros(n_entities, dtype=torch.float64).index_add(
            0, entity, residual - meta["item"][item]
        )
        user = left / (histories.lengths() + self.user_shrink)
        total = torch.zeros(histories.n_items, dtype=torch.float64)
        return {
            "residual": total.index_add(0, item, residual - user[entity]),
            "events": torch.bincount(item, minlength=histories.n_items),
        }

    def solve(self, meta: Params, sums: Params) -> Params:
        if not meta:
            mean = (sums["label"] / sums["events"].clamp(min=1)).float()
            return {"mean": mean, "item": sums["item"]}
        bias = sums["residual"] / (sums["events"] + self.item_shrink)
        return {"mean": meta["mean"], "item": bias.float()}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        residual = (support.label - meta["mean"] - meta["item"][support.index]) * support.mask
        return {"user": residual.sum() / (support.mask.sum() + self.user_shrink)}

    def score(self, problem: Problem, meta: Params, fast: Params, candidates: Encoded) -> Tensor:
        return meta["mean"] + meta["item"][candidates.index] + fast["user"]
