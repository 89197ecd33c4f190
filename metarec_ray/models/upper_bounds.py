"""Upper bounds of scores: what an item can reach at most, so that few need to be scored exactly.

Knows float32's rounding; does not know what is scored, or how the bounds were found.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.quantization import rounding


class UpperBounds(NamedTuple):
    """The score of item i for task t, as float32 adds it up in any order, is not above this.

    It is value[t, i] + shift[t]; NaN where nothing is known.
    """

    value: Tensor  # float32 [T, I]
    shift: Tensor  # float64 [T]

    def reaching(self, scores: Tensor) -> Tensor:
        """Return float32 [T]: an item of a lower `value` has a lower score than `scores` [T]."""
        slack = rounding(1) * scores.double().abs()
        value = scores.double() - slack - self.shift
        return torch.nextafter(value.float(), torch.tensor(-torch.inf))


def exactly(scores: Tensor) -> UpperBounds:
    """Return scores [T, I] as bounds of themselves, in memory of their own."""
    return UpperBounds(scores.clone(), torch.zeros(len(scores), dtype=torch.float64))


def affine(bounds: UpperBounds, factor: float, constant: float) -> UpperBounds:
    """Return bounds of factor x score + constant, factor > 0, as float32 finds them."""
    weights = torch.full((len(bounds.value), 1), factor)
    value, shift = weighted_sum([bounds], weights)
    largest = torch.maximum(value.amax(1), -value.amin(1)).double() + shift.abs() + abs(constant)
    return UpperBounds(value, shift + constant + rounding(2) * largest)


def weighted_sum(parts: Sequence[UpperBounds], weights: Tensor) -> UpperBounds:
    """Return bounds of sums of scores, added up with `weights` [T, M] >= 0 in float32."""
    total, shift = torch.zeros_like(parts[0].value), torch.zeros_like(parts[0].shift)
    for part, weight in zip(parts, weights.T, strict=True):
        total.addcmul_(part.value, weight.unsqueeze(1))
        largest = torch.maximum(part.value.amax(1), -part.value.amin(1)).double()
        terms = weight * (largest + part.shift.abs())
        shift += weight * part.shift + rounding(len(parts)) * terms
    return UpperBounds(total, shift)
