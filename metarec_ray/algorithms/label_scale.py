"""Labels without a unit: how many standard deviations they are above the mean of training.

What is learned from ratings is then the same whether they are stars, points or cents: no setting,
no first guess of a parameter and no rate of a step means anything in a unit. Knows labels; does not
know who learns from them (`Learner.label_scale`).
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories

_PART = 2**15  # labels in float64 at a time, which torch sums in one thread
_ROUNDING = 1e-9  # relative
_MEAN, _STD = "label.mean", "label.std"


class LabelScale(NamedTuple):
    """What labels are standardised by, both ways; the default leaves them as they are.

    Attributes:
        mean: of the labels of training, in their unit.
        std: their standard deviation, > 0, in their unit.

    """

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, label: Tensor) -> "LabelScale":
        """Return the scale of labels [N]; of labels that are all equal `std` is 1."""
        if not len(label):
            return UNCHANGED
        mean = _sum(label, lambda part: part) / len(label)
        variance = _sum(label, lambda part: (part - mean).square()) / len(label)
        equal = bool((label == label[0]).all())
        return cls(mean, 1.0 if equal else math.sqrt(variance))

    @classmethod
    def of_buffers(cls, model: Mapping[str, Tensor], prefix: str) -> "LabelScale | None":
        """Return the scale among tensors whose names begin with `prefix`; None if there is none."""
        found = [model.get(prefix + name) for name in (_MEAN, _STD)]
        mean, std = (None if value is None else value.item() for value in found)
        return None if mean is None or std is None else cls(mean, std)

    def buffers(self, prefix: str = "") -> Params:
        """Return the scale as tensors, float64, named `label.mean` and `label.std`."""
        pairs = zip((_MEAN, _STD), self, strict=True)
        return {prefix + name: torch.tensor(value, dtype=torch.float64) for name, value in pairs}

    def standardise(self, label: Tensor, mask: Tensor) -> Tensor:
        """Return the labels [*] without a unit, 0 where `mask` [*] is False."""
        if self == UNCHANGED:
            return label
        return torch.where(mask, self._standard(label), 0.0)

    def standardise_histories(self, histories: Histories) -> Histories:
        """Return the histories with labels without a unit."""
        if self == UNCHANGED:
            return histories
        return histories._replace(label=self._standard(histories.label))

    def restore(self, scores: Tensor) -> Tensor:
        """Return predicted labels [*] in the unit that labels have."""
        return scores if self == UNCHANGED else scores * self.std + self.mean

    def is_close(self, other: "LabelScale") -> bool:
        """Return whether both mean the same, but for rounding."""
        apart = abs(self.mean - other.mean), abs(self.std - other.std)
        return max(apart) <= _ROUNDING * max(self.std, abs(self.mean))

    def _standard(self, label: Tensor) -> Tensor:
        # In float64: of labels far from 0, float32 keeps few digits of the difference.
        parts = label.split(_PART)
        return torch.cat(
            [((part.double() - self.mean) / self.std).to(label.dtype) for part in parts]
        )


UNCHANGED = LabelScale()
"""The scale of labels that are not standardised."""


def _sum(label: Tensor, of_part: Callable[[Tensor], Tensor]) -> float:
    """Return the sum over labels, the same number however many threads there are."""
    return sum(of_part(part.double()).sum().item() for part in label.split(_PART))
