"""The shortlist of a task: the items that a second stage orders, and what it is told of them.

Axes: T tasks, N events of a padded support, C items of a shortlist, M members of the first stage.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Features


class Shortlist(NamedTuple):
    """Shortlists of T tasks, best item of the first stage first.

    Attributes:
        item: int64 [T, C], rows of the catalogue.
        real: bool [T, C], False where a list has fewer items; real ones come first.
        score: float [T, C], of the first stage, as log-shares up to a constant a task.
        parts: float [M, T, C], the same of each of its members; a first stage without members has
            itself alone.
        support: int64 [T, N], rows of the support's items, real events first, oldest first.
        mask: bool [T, N].
        time: int64 [T, N], microseconds; 0 without a clock.
        user: features [T].

    """

    item: Tensor
    real: Tensor
    score: Tensor
    parts: Tensor
    support: Tensor
    mask: Tensor
    time: Tensor
    user: Features

    def events(self) -> Tensor:
        """Return the size of each support, int64 [T]."""
        return self.mask.sum(1)

    def behind(self) -> Tensor:
        """Return how far each score is behind the best of its list, float [T, C], <= 0."""
        return torch.where(self.real, self.score - self.score[:, :1], 0.0)

    def share(self) -> Tensor:
        """Return 1 / the size of the support at each event, float [T, N]; 0 on padding."""
        return self.mask / self.mask.sum(1, keepdim=True).clamp(min=1)

    def newest(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the newest items [T, count], newest first, and whether there are so many."""
        place = self.events().unsqueeze(1) - 1 - torch.arange(count)
        return self.support.gather(1, place.clamp(min=0)), place >= 0
