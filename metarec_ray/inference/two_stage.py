"""A first stage over the whole catalogue, and a second one that orders its best items.

Knows predictors and what a second stage reads; does not know ids, requests or how it was fitted.
Evaluation, the endpoint and the fit of a second stage all take their shortlists from here.

Axes: T tasks, I items, C items of a shortlist, Q items that are asked for, M members.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.reranker import Reranker
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.config.judging import SecondStage
from metarec_ray.core.batch import Params
from metarec_ray.core.parameters import under
from metarec_ray.core.ranking import in_order, top_k
from metarec_ray.data.settings import Feedback
from metarec_ray.inference.predictor import Predictor, as_blend
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.supports import Supports

PREFIX = "second_stage."
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


class CandidateRetriever:
    """Finds the shortlists of tasks by a first stage: a blend, or one predictor alone."""

    def __init__(
        self, first: Predictor, feedback: Feedback, catalogue: Catalogue, *, candidates: int
    ):
        """Take the first stage, and the size C of shortlists."""
        self.blend, self.catalogue = as_blend(first, feedback), catalogue
        self.candidates = max(1, min(candidates, int(catalogue.trained.sum())))
        self.retriever = Retriever(self.blend, *catalogue)

    def shortlists(self, supports: Supports, allowed: Tensor | None = None) -> Shortlist:
        """Return the best items of each task that it has not met.

        Args:
            supports: of T tasks.
            allowed: bool [T, I], of these items only; None for all that training met.

        """
        if allowed is None and self.retrieves:
            return self._retrieved(supports)
        return self.of_parts(self.blend.parts(supports), supports, allowed)

    @property
    def retrieves(self) -> bool:
        """Whether shortlists are found without scoring the whole catalogue."""
        return len(self.catalogue.trained) > WHOLE

    def of_parts(
        self, parts: Tensor, supports: Supports, allowed: Tensor | None = None
    ) -> Shortlist:
        """Return the `shortlists` by the scores of members [M, T, I] that are known already."""
        total = self.blend.total(parts, supports)
        may = self.catalogue.trained.expand(len(total), -1) if allowed is None else allowed
        met = torch.zeros_like(total).scatter_add_(1, supports.item, supports.mask.float()) > 0
        may = may & ~met
        value = torch.where(may, total, -torch.inf)
        item = torch.stack([top_k(row, self.catalogue.by_id, self.candidates) for row in value])
        # Of a list that a score which is no number had a part in, nothing is known.
        sure = torch.where(may, total, 0.0).isfinite().all(1, keepdim=True)
        score = torch.where(sure, total.gather(1, item), torch.nan)
        inside = parts.gather(2, item.expand(len(parts), -1, -1))
        return _shortlist(supports, item, may.gather(1, item), score, inside)

    def _retrieved(self, supports: Supports) -> Shortlist:
        """Return the shortlists by upper bounds of scores: members are asked for few items only."""
        found = self.retriever.best(supports, self.candidates, exclude_seen=True)
        item = torch.zeros(len(found), self.candidates, dtype=torch.int64)
        real, score = torch.zeros_like(item, dtype=torch.bool), torch.zeros(item.shape)
        for task, best in enumerate(found):
            count = len(best.rows)
            item[task, :count], real[task, :count] = best.rows, True
            score[task, :count] = best.scores if best.finite else torch.nan
        parts = score.unsqueeze(0)
        if len(self.blend.members) > 1:
            parts = self.blend.parts(supports, items=item)
        return _shortlist(supports, item, real, score, parts)


class TwoStage:
    """A predictor whose best items are put in order by a second stage.

    An item outside a shortlist scores less than all inside it; those outside keep the order of the
    first stage. Outside are the items of the support, too, and items that training never met: a
    second stage orders what an entity has not met yet.
    """

    shares_are_scores = True

    def __init__(self, candidates: CandidateRetriever, reranker: Reranker):
        self.candidates, self.reranker = candidates, reranker
        self.catalogue = candidates.catalogue
        self._whole = Retriever(self, *self.catalogue)

    def log_share(self, scores: Tensor) -> Tensor:
        return scores

    def stds(self, supports: Supports, items: Tensor) -> None:
        """Return None: an order has no unit that a deviation could be in."""

    def adapted(self, supports: Supports) -> int:
        return self.candidates.blend.adapted(supports)

    @torch.no_grad()
    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        found = []
        for tasks in torch.arange(len(supports.item)).split(CHUNK):
            some = supports.at(tasks)
            wanted = None if items is None else items[tasks]
            found.append(self._scores(some, wanted))
        return torch.cat(found)

    @torch.inference_mode()
    def best(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
        """Return the `k` >= 1 best items for each task, or all items if there are fewer."""
        holds_met = not exclude_seen and bool(supports.mask.any())
        if k > self.candidates.candidates or holds_met:
            return self._whole.scored(supports, k, exclude_seen=exclude_seen)
        listed = self.candidates.shortlists(supports)
        scores = self.reranker.scores(listed)
        order = in_order(scores, self.catalogue.by_id[listed.item])[:, :k]
        rows, best = listed.item.gather(1, order), scores.gather(1, order)
        finite = torch.where(listed.real, scores, 0.0).isfinite().all(1)
        counts = listed.real.sum(1).clamp(max=k).tolist()
        return [
            Best(rows[task, :n], best[task, :n], bool(finite[task]))
            for task, n in enumerate(counts)
        ]

    def _scores(self, supports: Supports, items: Tensor | None) -> Tensor:
        """Return the scores [T, I] of the catalogue, or [T, Q] of the items of each task."""
        first, listed = self._first(supports, items)
        ordered = self.reranker.scores(listed)
        any_listed = listed.real.any(1, keepdim=True)
        worst = torch.where(listed.real, listed.score, torch.inf).amin(1, keepdim=True)
        lowest = torch.where(listed.real, ordered, torch.inf).amin(1, keepdim=True)
        above = first - torch.where(any_listed, worst, 0.0)
        # Below -1 and below all that is listed, in the order of the first stage, also of those
        # that stand above the list there: what was met, and what training never met.
        below = torch.where(above > 0, -1 / (1 + above), above - 1)
        outside = torch.where(any_listed, lowest, 0.0) - 1 + below
        if items is None:
            inside = torch.where(listed.real, ordered, -torch.inf)
            return outside.scatter_reduce(1, listed.item, inside, "amax")
        return _looked_up(listed, ordered, items, outside)

    def _first(self, supports: Supports, items: Tensor | None) -> tuple[Tensor, Shortlist]:
        """Return the scores of the first stage, [T, I] or [T, Q], and its shortlists."""
        blend = self.candidates.blend
        if self.candidates.retrieves:
            return blend.scores(supports, items=items), self.candidates.shortlists(supports)
        parts = blend.parts(supports)  # of everything: both come from it
        scores = blend.total(parts, supports)
        listed = self.candidates.of_parts(parts, supports)
        return scores if items is None else scores.gather(1, items), listed


def two_stage_of(
    first: Predictor,
    model: Params,
    feedback: Feedback,
    catalogue: Catalogue,
    asked: SecondStage,
) -> TwoStage:
    """Return a first stage with the second stage of a checkpoint's model on top, as `asked` for."""
    retriever = CandidateRetriever(first, feedback, catalogue, candidates=asked.candidates)
    return TwoStage(retriever, Reranker(asked.ranker, under(PREFIX, model)))


def first_stage_model(model: Params) -> Params:
    """Return the parameters of a checkpoint's model without those of a second stage."""
    return {name: value for name, value in model.items() if not name.startswith(PREFIX)}


def _looked_up(listed: Shortlist, ordered: Tensor, items: Tensor, outside: Tensor) -> Tensor:
    """Return the scores [T, Q] of `items`: of a shortlist's where it has them, else `outside`."""
    rows, place = torch.where(listed.real, listed.item, -1).sort(1)
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
        # A member that does not count may give no number: it says nothing of its own.
        parts=torch.where(parts.isfinite(), parts, score),
        support=supports.item,
        mask=supports.mask,
        time=supports.time,
        user=supports.user,
    )
