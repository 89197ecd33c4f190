"""The best items of a catalogue for a support set: all are scored, or those that can be among them.

Knows predictors and what may be ranked; does not know ids or requests. A prepared catalogue is
scored approximately, and the few items that come first exactly; where exact scores do not show that
no other item can be among the best, all are scored. The ranking is that of exact scores either way.
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

LEAST = 200  # items of a shortlist; twice as many as are asked for, where that is more
SMALL = 1024  # items that are scored exactly rather than twice; measured
DOUBT = 2.0  # times the largest error on a shortlist: more than other errors are taken to be
SAMPLE, TRIALS = 100_000, 5  # items that a precision is timed on, and how often


class Best(NamedTuple):
    """The best items for one task, best first, ties by id."""

    rows: Tensor  # int64 [K]: rows of the catalogue
    scores: Tensor  # float32 [K]


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
        """Take what may be ranked, bool [I], and the rank of each row's id, int64 [I].

        `clock` decides which precision is faster here.
        """
        self.predictor, self.by_id, self.clock = predictor, by_id, clock
        self.rows, self.untrained = trained.nonzero().flatten(), ~trained
        self.every = len(self.rows) == len(trained)

    @torch.inference_mode()
    def best(self, supports: Supports, k: int, *, exclude_seen: bool) -> list[Best]:
        """Return the `k` >= 1 best items for each task, or all there are if they are fewer."""
        found = self.shortlisted(supports, k, exclude_seen=exclude_seen)
        left = [task for task in range(len(supports.item)) if task not in found]
        if left:
            asked = supports.at(torch.tensor(left)) if found else supports
            every = self._scored(asked, k, exclude_seen=exclude_seen)
            found |= dict(zip(left, every, strict=True))
        return [found[task] for task in range(len(found))]

    @cached_property
    def approximate(self) -> ApproximateCatalogue | None:
        """The prepared catalogue; None where it is small, or scores are not a head's alone.

        Made for the first request, in the time of some tens of requests.
        """
        if len(self.rows) <= SMALL or not isinstance(self.predictor, Trained):
            return None
        if not self.predictor.by_head:
            return None
        meta, items = self.predictor.meta, self.predictor.items
        low = _low_is_faster(meta, items, self.clock)
        return ApproximateCatalogue(meta, items.vector, items.offset, low=low)

    def shortlisted(self, supports: Supports, k: int, *, exclude_seen: bool) -> dict[int, Best]:
        """Return the best for those tasks whose shortlist is certain to hold them.

        By approximate scores an item beside the shortlist is at most the list's last; by exact ones
        it may be above it by an error. A score that is not finite leaves nothing certain.
        """
        size = max(2 * k, LEAST)
        if self.approximate is None or size > len(self.rows):
            return {}
        assert isinstance(self.predictor, Trained)
        heads = self.predictor.heads(supports)
        scores = self.approximate.scores(heads.params, heads.user + heads.now[:, 0])
        if not self.every:
            scores.masked_fill_(self.untrained, -torch.inf)
        if exclude_seen:
            scores.scatter_add_(1, supports.item, torch.where(supports.mask, -torch.inf, 0.0))
        rough, listed = shortlist(scores, size)
        exact = heads.scores(self.predictor.items.at(listed))
        order = in_order(exact, self.by_id[listed])[:, :k]
        rows, best = listed.gather(1, order), exact.gather(1, order)
        error = exact - rough
        shift = error.mean(1)  # approximate scores are exact ones less a constant
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
            # More than asked for, less those that are not wanted, leaves enough.
            rows = self.rows[top_k(may, by_id, min(k + len(seen), len(may)))]
            rows = rows[~torch.isin(rows, seen)][:k]
            found.append(Best(rows, scores[rows]))
        return found


def _low_is_faster(meta: Params, items: EncodedItems, clock: Callable[[], float]) -> bool:
    """Return whether this machine scores a catalogue sooner in low precision than in single."""
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
    # In turn, so that what else the machine does meets both; the first trial prepares.
    trials = [[seconds(one) for one in rivals] for _ in range(TRIALS + 1)]
    single, low = (min(times) for times in zip(*trials[1:], strict=True))
    return low < single
