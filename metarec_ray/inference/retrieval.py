"""The best items of a catalogue for a support set, by exact scores.

A large catalogue is first scored approximately, and only a shortlist exactly. If the exact scores
do not prove that the shortlist holds the best items, all items are scored exactly. Either way the
ranking is that of exact scores. Knows predictors and which items may be ranked; does not know ids
or requests.
"""

from collections.abc import Callable
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.problem import EncodedItems
from metarec_ray.core.batch import Params
from metarec_ray.core.quantization import adds_up
from metarec_ray.core.ranking import in_order, shortlist, top_k
from metarec_ray.inference.predictor import Predictor
from metarec_ray.inference.single import Trained
from metarec_ray.inference.supports import Supports
from metarec_ray.models.approximate_catalogue import ApproximateCatalogue

LEAST = 200  # items of a shortlist, at least; it has twice as many as asked for
SMALL = 1024  # up to so many items it is faster to score all exactly; measured
DOUBT = 2.0  # errors outside a shortlist are below so many times the largest inside
SAMPLE, TRIALS = 100_000, 5  # items and repetitions of timing a precision


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

    @torch.inference_mode()
    def best(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
        """Return the `k` >= 1 best items for each task, or all items if there are fewer."""
        found = self.shortlisted(supports, k, exclude_seen=exclude_seen)
        left = [task for task in range(len(supports.item)) if task not in found]
        if left:
            asked = supports.at(torch.tensor(left)) if found else supports
            every = self._scored(asked, k, exclude_seen=exclude_seen)
            found |= dict(zip(left, every, strict=True))
        return [found[task] for task in range(len(found))]

    @cached_property
    def approximate(self) -> ApproximateCatalogue | None:
        """The catalogue for approximate scores; None if it is small or not scored by a head alone.

        Built at the first request, which takes as long as some tens of requests.
        """
        if len(self.rows) <= SMALL or not isinstance(self.predictor, Trained):
            return None
        if not self.predictor.by_head:
            return None
        meta, items = self.predictor.meta, self.predictor.items
        low = _low_is_faster(meta, items, self.clock)
        return ApproximateCatalogue(meta, items.vector, items.offset, low=low)

    def shortlisted(self, supports: Supports, k: int, *, exclude_seen: bool) -> dict[int, Best]:
        """Return the best items of the tasks whose shortlist certainly holds them.

        An item outside the shortlist has at most the approximate score of the last one inside; its
        exact score may be higher by the error. With a score that is not finite nothing is certain.
        """
        size = max(2 * k, LEAST)
        if self.approximate is None or size > len(self.rows):
            return {}
        assert isinstance(self.predictor, Trained)
        heads = self.predictor.heads(supports)
        query = heads.user + heads.now[:, 0]
        scores = heads.label_scale.restore(self.approximate.scores(heads.params, query))
        if not self.every:
            scores.masked_fill_(self.untrained, -torch.inf)
        if exclude_seen:
            scores.scatter_add_(1, supports.item, torch.where(supports.mask, -torch.inf, 0.0))
        rough, listed = shortlist(scores, size)
        exact = heads.scores(self.predictor.items.at(listed))
        order = in_order(exact, self.by_id[listed])[:, :k]
        rows, best = listed.gather(1, order), exact.gather(1, order)
        error = exact - rough
        shift = error.mean(1)  # a constant difference between the scores does not matter
        doubt = DOUBT * (error - shift.unsqueeze(1)).abs().amax(1)
        certain = best[:, -1] > rough.amin(1) + shift + doubt
        return {
            task: Best(rows[task], best[task]) for task, sure in enumerate(certain.tolist()) if sure
        }

    def _scored(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
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


def _low_is_faster(meta: Params, items: EncodedItems, clock: Callable[[], float]) -> bool:
    """Return whether this machine scores faster in low precision than in float32."""
    width = items.vector.shape[1]
    if not adds_up(width):
        return False
    some = items.vector[:SAMPLE], items.offset[:SAMPLE]
    query = torch.zeros(1, width)

    def seconds(approximate: ApproximateCatalogue) -> float:
        started = clock()
        approximate.scores(meta, query)
        return clock() - started

    rivals = [ApproximateCatalogue(meta, *some, low=low) for low in (False, True)]
    # By turns, so that other load on the machine slows both down; the first trial is a warm-up.
    trials = [[seconds(one) for one in rivals] for _ in range(TRIALS + 1)]
    single, low = (min(times) for times in zip(*trials[1:], strict=True))
    return low < single
