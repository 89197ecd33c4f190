"""Support sets of several tasks as padded tensors: the input of every predictor.

Knows columns; does not know ids, learners or where events come from.
"""

from typing import NamedTuple

from torch import Tensor

from metarec_ray.core.batch import Features


class Supports(NamedTuple):
    """Padded support sets of T tasks, real events first, oldest first."""

    item: Tensor  # int64 [T, N]: catalogue rows
    label: Tensor  # float [T, N]
    mask: Tensor  # bool [T, N]
    time: Tensor  # int64 [T, N]: microseconds, 0 without a clock
    context: Features  # [T, N]
    user: Features  # [T]
    now: Features  # [T, 1]: context in which candidates are scored

    def at(self, tasks: Tensor) -> "Supports":
        """Return the support sets of `tasks`, int64 [n]."""

        def part(features: Features) -> Features:
            return Features(*(column[tasks] for column in features))

        return Supports(
            item=self.item[tasks],
            label=self.label[tasks],
            mask=self.mask[tasks],
            time=self.time[tasks],
            context=part(self.context),
            user=part(self.user),
            now=part(self.now),
        )
