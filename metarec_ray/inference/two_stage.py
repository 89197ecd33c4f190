"""A first stage over the whole catalogue, and a second one that orders its best items.

Knows predictors and what a second stage reads; does not know ids, requests or how it was fitted.
Evaluation, the endpoint and the fit of a second stage all take their shortlists from here.

Axes: T tasks, I items, C items of a shortlist, Q items that are asked for, M members.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarec_ray.algorithms.second_stage.reranker import Reranker
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.core.batch import Params
from metarec_ray.core.ranking import in_order, top_k
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.predictor import Blend, Predictor, as_blend
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.supports import Supports

SECOND = "second_stage."
"""What the names of a second stage's parameters begin with in a checkpoint."""
WHOLE = 20_000
"""Up to so many items every member scores the whole catalogue: it is faster than adapting twice."""
CHUNK = 256  # tasks whose shortlists are ordered side by side


class Catalogue(NamedTuple):
    """Which items may be ranked, and how ties are broken.

    Attributes:
        trained: bool [I], items that training met.
        by_id: int64 [I], the rank of each row's id in sorted order.

    """

    trained: Tensor
    by_id: Tensor


class FirstStage:
    """Finds the shortlists of tasks by a blend, or by one predictor as a blend of one."""

    def __init__(self, blend: Blend, catalogue: Catalogue, *, candidates: int):
        """Take the members, and the size C of shortlists."""
        self.blend, self.catalogue = blend, catalogue
        self.candidates = min(candidates, int(catalogue.trained.sum()))
        self.retriever = Retriever(blend, *catalogue)

    def shortlists(self, supports: Supports, allowed: Tensor | None = None) -> Shortlist:
        """Return the best items of each task that it has not met.

        Args:
            supports: of T tasks.
            allowed: bool [T, I], of these items only; None for all that training met.

        """
        if allowed is None and len(self.catalogue.trained) > WHOLE:
            return self._retrieved(supports)
        parts = self.blend.parts(supports)
        total = self.blend.total(parts, supports)
        may = self.catalogue.trained.expand(len(total), -1) if allowed is None else allowed
        value = total.masked_fill(~may, -torch.inf)
        value.scatter_add_(1, supports.item, torch.where(supports.mask, -torch.inf, 0.0))
        item = torch.stack([top_k(row, self.catalogue.by_id, self.candidates) for row in value])
        real = value.gather(1, item) > -torch.inf
        inside = parts.gather(2, item.expand(len(parts), -1, -1))
        return _shortlist(supports, item, real, total.gather(1, item), inside)

    def _retrieved(self, supports: Supports) -> Shortlist:
        """Return the shortlists by upper bounds of scores: members are asked for few items only."""
        found = self.retriever.best(supports, self.candidates, exclude_seen=True)
        item = torch.zeros(len(found), self.candidates, dtype=torch.int64)
        real = torch.zeros(len(found), self.candidates, dtype=torch.bool)
        for task, best in enumerate(found):
            item[task, : len(best.rows)] = best.rows
            real[task, : len(best.rows)] = best.scores > -torch.inf
        if len(self.blend.members) > 1:
            parts = self.blend.parts(supports, items=item)
            return _shortlist(supports, item, real, self.blend.total(parts, supports), parts)
        score = torch.zeros(item.shape)
        for task, best in enumerate(found):
            score[task, : len(best.scores)] = best.scores
        return _shortlist(supports, item, real, score, score.unsqueeze(0))


class TwoStage:
    """A predictor whose best items are put in order by a second stage.

    An item outside a shortlist scores less than all inside it; those outside keep the order of the
    first stage. Outside are the items of the support, too, and items that training never met: a
    second stage orders what an entity has not met yet.
    """

    shares_are_scores = True

    def __init__(self, first: FirstStage, reranker: Reranker):
        self.first, self.reranker = first, reranker
        self.catalogue = first.catalogue
        self._whole = Retriever(self, *self.catalogue)

    def log_share(self, scores: Tensor) -> Tensor:
        return scores

    def adapted(self, supports: Supports) -> int:
        return self.first.blend.adapted(supports)

    @torch.no_grad()
    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        found = []
        for tasks in torch.arange(len(supports.item)).split(CHUNK):
            asked = supports.at(tasks)
            wanted = None if items is None else items[tasks]
            found.append(self._scores(asked, wanted))
        return torch.cat(found)

    @torch.inference_mode()
    def best(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
        """Return the `k` >= 1 best items for each task, or all items if there are fewer."""
        if k > self.first.candidates or not exclude_seen:
            return self._whole.scored(supports, k, exclude_seen=exclude_seen)
        asked = self.first.shortlists(supports)
        scores = self.reranker.scores(asked)
        order = in_order(scores, self.catalogue.by_id[asked.item])[:, :k]
        rows, best = asked.item.gather(1, order), scores.gather(1, order)
        finite = torch.where(asked.real, scores, 0.0).isfinite().all(1)
        counts = asked.real.sum(1).clamp(max=k).tolist()
        return [
            Best(rows[task, :n], best[task, :n], bool(finite[task]))
            for task, n in enumerate(counts)
        ]

    def _scores(self, supports: Supports, items: Tensor | None) -> Tensor:
        """Return the scores [T, I] of the catalogue, or [T, Q] of the items of each task."""
        first = self.first.blend.scores(supports, items=items)
        asked = self.first.shortlists(supports)
        ordered = self.reranker.scores(asked)
        worst = torch.where(asked.real, asked.score, torch.inf).amin(1, keepdim=True)
        lowest = torch.where(asked.real, ordered, torch.inf).amin(1, keepdim=True)
        # Monotone, and below 0 wherever the first stage would have the item.
        outside = lowest - 1 - softplus(worst - first)
        if items is None:
            inside = torch.where(asked.real, ordered, outside.gather(1, asked.item))
            return outside.scatter(1, asked.item, inside)
        return _looked_up(asked, ordered, items, outside)


def two_stages(
    first: Predictor,
    model: Params,
    feedback: Feedback,
    catalogue: Catalogue,
    *,
    candidates: int,
) -> TwoStage:
    """Return a first stage with the second stage of a checkpoint's model on top."""
    own = {n.removeprefix(SECOND): p for n, p in model.items() if n.startswith(SECOND)}
    listing = FirstStage(as_blend(first, feedback), catalogue, candidates=candidates)
    return TwoStage(listing, Reranker(own))


def first_stage_model(model: Params) -> Params:
    """Return the parameters of a checkpoint's model without those of a second stage."""
    return {name: value for name, value in model.items() if not name.startswith(SECOND)}


def _looked_up(asked: Shortlist, ordered: Tensor, items: Tensor, outside: Tensor) -> Tensor:
    """Return the scores [T, Q] of `items`: of a shortlist's where it has them, else `outside`."""
    rows, place = torch.where(asked.real, asked.item, -1).sort(1)
    at = torch.searchsorted(rows, items).clamp(max=rows.shape[1] - 1)
    inside = rows.gather(1, at) == items
    return torch.where(inside, ordered.gather(1, place.gather(1, at)), outside)


def _shortlist(
    supports: Supports, item: Tensor, real: Tensor, score: Tensor, parts: Tensor
) -> Shortlist:
    return Shortlist(
        item=item,
        real=real,
        score=score,
        parts=parts,
        support=supports.item,
        mask=supports.mask,
        time=supports.time,
        user=supports.user,
    )
