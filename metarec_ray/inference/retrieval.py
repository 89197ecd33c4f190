"""The best items of a catalogue for a support set, by exact scores.

Of a large catalogue only the items are scored exactly whose upper bounds reach the worst of the
best. Where these are many, or a score is not finite, all items are. Either way the ranking is that
of exact scores. Knows predictors and which items may be ranked; does not know ids or requests.
"""

from collections.abc import Callable
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.ranking import BLOCK, in_order, shortlist, top_k
from metarec_ray.inference.catalogue_scores import Scorer, Scores, scorer_of
from metarec_ray.inference.predictor import Predictor
from metarec_ray.inference.supports import Supports

LEAST = 200  # items of a first shortlist, at least; it has twice as many as asked for
MOST = 2000  # items of a shortlist, or one in BLOCK where there are more: beyond, all are scored
SMALL = 1024  # up to so many items it is faster to score all exactly; measured


class Best(NamedTuple):
    """The best items for one task, best first, ties by id."""

    rows: Tensor  # int64 [K]: rows of the catalogue
    scores: Tensor  # float32 [K]
    finite: bool = True  # whether all scores are that decided which are best


class Retriever:
    """Finds the best items by the scores of one predictor."""

    def __init__(
        self,
        predictor: Predictor,
        trained: Tensor,
        by_id: Tensor,
        *,
        clock: Callable[[], float] = perf_counter,
    ):
        """Take the items that may be ranked, bool [I], and the rank of each row's id, int64 [I].

        `clock` measures which precision is faster on this machine.
        """
        self.predictor, self.by_id, self.clock = predictor, by_id, clock
        self.rows, self.untrained = trained.nonzero().flatten(), ~trained
        self.every = len(self.rows) == len(trained)

    @cached_property
    def scorer(self) -> Scorer | None:
        """What bounds the scores of the catalogue; None if that is small."""
        return None if len(self.rows) <= SMALL else scorer_of(self.predictor, self.clock)

    @torch.inference_mode()
    def best(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
        """Return the `k` >= 1 best items for each task, or all items if there are fewer."""
        found = self.shortlisted(supports, k, exclude_seen=exclude_seen)
        left = [task for task in range(len(supports.item)) if task not in found]
        if left:
            asked = supports.at(torch.tensor(left)) if found else supports
            every = self.scored(asked, k, exclude_seen=exclude_seen)
            found |= dict(zip(left, every, strict=True))
        return [found[task] for task in range(len(found))]

    def shortlisted(self, supports: Supports, k: int, *, exclude_seen: bool) -> dict[int, Best]:
        """Return the best items of the tasks whose shortlist certainly holds them.

        A first shortlist says what score the k-th item has at least; a second one holds all items
        whose upper bounds reach that. With a score that is not finite nothing is certain.
        """
        limit = max(len(self.rows) // BLOCK, min(MOST, len(self.rows)))
        if self.scorer is None or k > limit:
            return {}
        scores = self.scorer.scores(supports)
        value = scores.bounds.value
        if not self.every:
            value.masked_fill_(self.untrained, -torch.inf)
        if exclude_seen:
            value.scatter_add_(1, supports.item, torch.where(supports.mask, -torch.inf, 0.0))
        first = min(max(2 * k, LEAST), limit)
        found, reaching = self._certain(scores, k, first)
        if len(found) == len(value):
            return found
        needed = 1 + (value >= reaching.unsqueeze(1)).sum(1)
        second = int(torch.where(needed <= limit, needed, 0).amax())
        return found if second <= first else self._certain(scores, k, second)[0]

    def _certain(self, scores: Scores, k: int, size: int) -> tuple[dict[int, Best], Tensor]:
        """Return what shortlists of `size` are certain of.

        And the values [T] below which no item is among the best `k`; NaN where one is unknown.
        """
        value, listed = shortlist(scores.bounds.value, size)
        exact = scores.exact(listed).masked_fill(value == -torch.inf, -torch.inf)
        order = in_order(exact, self.by_id[listed])[:, :k]
        rows, best = listed.gather(1, order), exact.gather(1, order)
        reaching = scores.bounds.reaching(best[:, -1])
        reaching = torch.where(best.isfinite().all(1), reaching, torch.nan)
        certain = value.amin(1) < reaching
        found = {
            task: Best(rows[task], best[task]) for task, sure in enumerate(certain.tolist()) if sure
        }
        return found, reaching

    def scored(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
        """Return the best items for each task, by the scores of the whole catalogue."""
        by_id = self.by_id if self.every else self.by_id[self.rows]
        found = []
        for task, scores in enumerate(self.predictor.scores(supports)):
            may = scores if self.every else scores[self.rows]
            seen = supports.item[task, supports.mask[task]][: None if exclude_seen else 0]
            # So many that k are left when the seen ones are taken out.
            rows = self.rows[top_k(may, by_id, min(k + len(seen), len(may)))]
            rows = rows[~torch.isin(rows, seen)][:k]
            found.append(Best(rows, scores[rows], bool(may.isfinite().all())))
        return found
