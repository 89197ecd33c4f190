"""Scores of a catalogue for a batch of support sets: bounds of all, exact ones of a few.

Knows predictors; does not know which items may be ranked, ids or requests.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarec_ray.algorithms.label_scale import UNCHANGED
from metarec_ray.algorithms.problem import EncodedItems
from metarec_ray.core.batch import Params
from metarec_ray.core.quantization import adds_up
from metarec_ray.inference.predictor import Blend, Predictor, member_scores
from metarec_ray.inference.single import Trained
from metarec_ray.inference.supports import Supports
from metarec_ray.models.bounded_catalogue import BoundedCatalogue
from metarec_ray.models.upper_bounds import UpperBounds, affine, exactly, weighted_sum

SAMPLE, TRIALS = 100_000, 5  # items and repetitions of timing a precision
Clock = Callable[[], float]


class Scores(NamedTuple):
    """What T tasks' scores of I items are at most, and how to get those of some items exactly."""

    bounds: UpperBounds
    exact: Callable[[Tensor], Tensor]
    """From items of each task, int64 [T, L], to their scores, float32 [T, L]."""


class Scorer(Protocol):
    """Scores a catalogue as one predictor does."""

    def scores(self, supports: Supports) -> Scores:
        """Return the scores of tasks after adapting on their support sets."""
        ...


def scorer_of(predictor: Predictor, clock: Clock) -> Scorer:
    """Return what bounds and scores as a predictor does, by the head's bounds if it scores by one.

    `clock` measures which precision is faster on this machine.
    """
    if isinstance(predictor, Blend):
        return OfBlend(predictor, clock)
    if isinstance(predictor, Trained) and predictor.by_head:
        return OfHead(predictor, clock)
    return OfAll(predictor)


class OfAll:
    """Scores every item exactly."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor

    def scores(self, supports: Supports) -> Scores:
        return _known(self.predictor.scores(supports))


class OfHead:
    """Bounds every item's score by the adapted head, and scores those asked for exactly."""

    def __init__(self, predictor: Trained, clock: Clock):
        self.predictor, self.clock = predictor, clock

    @cached_property
    def bounded(self) -> BoundedCatalogue:
        """The catalogue as bounds need it.

        Made at the first request, about a second for a million items.
        """
        meta, items = self.predictor.meta, self.predictor.items
        low = _low_is_faster(meta, items, self.clock)
        return BoundedCatalogue(meta, items.vector, items.offset, low=low)

    def scores(self, supports: Supports) -> Scores:
        heads = self.predictor.heads(supports)
        bounds = self.bounded.bounds(heads.params, heads.user + heads.now[:, 0])
        if heads.label_scale != UNCHANGED:
            bounds = affine(bounds, heads.label_scale.std, heads.label_scale.mean)
        return Scores(bounds, lambda listed: heads.scores(self.predictor.items.at(listed)))


class OfBlend:
    """Adds the bounds of members up, and the exact scores: weights are not negative."""

    def __init__(self, blend: Blend, clock: Clock):
        self.blend = blend
        self.members = [scorer_of(member, clock) for member in blend.members]

    def scores(self, supports: Supports) -> Scores:
        numbers, weights = self.blend.counting(supports)
        parts = [self._member(number, supports) for number in numbers]

        def exact(listed: Tensor) -> Tensor:
            found = torch.stack([part.exact(listed) for part in parts], -1)
            return (found @ weights.unsqueeze(-1)).squeeze(-1)

        return Scores(weighted_sum([part.bounds for part in parts], weights), exact)

    def _member(self, number: int, supports: Supports) -> Scores:
        member, feedback = self.blend.members[number], self.blend.feedback
        if feedback == "implicit" and not member.shares_are_scores:
            return _known(member_scores(member, supports, feedback))
        return self.members[number].scores(supports)


def _known(scores: Tensor) -> Scores:
    return Scores(exactly(scores), lambda listed: scores.gather(1, listed))


def _low_is_faster(meta: Params, items: EncodedItems, clock: Clock) -> bool:
    """Return whether this machine scores faster in low precision than in float32."""
    width = items.vector.shape[1]
    if not adds_up(width):
        return False
    some = items.vector[:SAMPLE], items.offset[:SAMPLE]
    query = torch.zeros(1, width)

    def seconds(bounded: BoundedCatalogue) -> float:
        started = clock()
        bounded.bounds(meta, query)
        return clock() - started

    rivals = [BoundedCatalogue(meta, *some, low=low) for low in (False, True)]
    # By turns, so that other load on the machine slows both down; the first trial is a warm-up.
    trials = [[seconds(one) for one in rivals] for _ in range(TRIALS + 1)]
    single, low = (min(times) for times in zip(*trials[1:], strict=True))
    return low < single
