"""Rivals that score a candidate by its similarity to the items of the support.

They keep an items x items matrix, and raise an error if the catalogue is too large for it.
"""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import Problem, StatisticalLearner
from metarec_ray.algorithms.sums import gram, log_shares, positives
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError


class ItemKNN(StatisticalLearner):
    """Sum of cosines between items' sets of entities, shrunk where few entities met both items.

    similarity = cosine x both / (both + shrink) [Sarwar et al., 2001; Bell & Koren, 2007]. An empty
    support ranks by popularity.

    Attributes:
        neighbours: number of nearest items whose similarity is kept; None for all.

    """

    name: Literal["item_knn"] = "item_knn"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    shrink: NonNegativeFloat = 20.0
    neighbours: PositiveInt | None = None
    positive_min: float | None = None
    max_items: PositiveInt = 20_000

    def statistics(self, meta: Params, histories: Histories) -> Params:
        _check_catalogue(self.name, histories.n_items, self.max_items)
        return {"both": gram(histories, self.positive_min)}

    def solve(self, meta: Params, sums: Params) -> Params:
        both = sums["both"]
        count = both.diagonal().clone()
        cosine = both / torch.outer(count, count).sqrt().clamp(min=1)
        similarity = cosine * (both / (both + self.shrink).clamp(min=1e-12))
        similarity.fill_diagonal_(0)
        if self.neighbours is not None and self.neighbours < len(count):
            nearest = similarity.topk(self.neighbours, 1)
            similarity = torch.zeros_like(similarity).scatter_(1, nearest.indices, nearest.values)
        return {"similarity": similarity, "count": count}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return _summed(meta, support, self.positive_min)

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)


class Ease(StatisticalLearner):
    """Linear autoencoder of histories with a zero diagonal, in closed form.

    [Steck, 2019, arXiv:1905.03375]. The fit inverts an items x items matrix. An empty support ranks
    by popularity.
    """

    name: Literal["ease"] = "ease"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    penalty: PositiveFloat = 300.0
    positive_min: float | None = None
    max_items: PositiveInt = 20_000

    def statistics(self, meta: Params, histories: Histories) -> Params:
        _check_catalogue(self.name, histories.n_items, self.max_items)
        return {"both": gram(histories, self.positive_min)}

    def solve(self, meta: Params, sums: Params) -> Params:
        count = sums["both"].diagonal().clone()
        factor = torch.linalg.cholesky(sums["both"] + self.penalty * torch.eye(len(count)))
        inverse = torch.cholesky_inverse(factor)
        similarity = inverse / -inverse.diagonal()
        return {"similarity": similarity.fill_diagonal_(0), "count": count}

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        return _summed(meta, support, self.positive_min)

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)


def _summed(meta: Params, support: Encoded, positive_min: float | None) -> Params:
    weight = positives(support, positive_min).to(meta["count"].dtype)
    evidence = weight @ meta["similarity"][support.index]
    return {"scores": torch.where(weight.sum() > 0, evidence, meta["count"])}


def _check_catalogue(name: str, n_items: int, limit: int) -> None:
    if n_items > limit:
        raise DataError(
            f"{name} keeps an items x items matrix and takes at most {limit} items, "
            f"got a catalogue of {n_items} (max_items of {name} sets the limit)"
        )
