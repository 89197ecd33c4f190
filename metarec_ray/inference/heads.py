"""Heads after adapting, and what they score: the fast path of learners that score by the head.

Knows parameters and encoded items; does not know how a head was adapted.
"""

from typing import NamedTuple

from torch import Tensor

from metarec_ray.algorithms.label_scale import LabelScale
from metarec_ray.algorithms.problem import EncodedItems, encode_candidates
from metarec_ray.core.batch import Params
from metarec_ray.models.head import head_score


class Heads(NamedTuple):
    """Adapted heads of T tasks, and whom they score for."""

    label_scale: LabelScale
    params: Params  # adapted ones [T, ...], those that all tasks share without T
    user: Tensor  # float [T, D]
    now: Tensor  # float [T, 1, D]

    def scores(self, items: EncodedItems) -> Tensor:
        """Return the scores [T, M] of the items [T, M] of each task, or of [M] for all."""
        found = head_score(self.params, encode_candidates(items, self.user, self.now))
        return self.label_scale.restore(found)
