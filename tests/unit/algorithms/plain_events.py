"""Events for learners that are not fitted through a model, shared by tests."""

import torch
from torch import Tensor

from metarec_ray.algorithms.problem import encode_candidates, unencoded
from metarec_ray.core.batch import Encoded


def index_only(item: Tensor, label: Tensor, mask: Tensor) -> Encoded:
    """Return events [*T, N] for learners that are not fitted through a model, oldest first.

    Nothing is known of users, and no event has a time.
    """
    later = mask.flip(-1).cumsum(-1).flip(-1) - mask.to(torch.int64)
    nothing = torch.zeros(*item.shape, 0)
    return Encoded(
        index=item,
        item=nothing,
        offset=torch.zeros(item.shape),
        user=torch.zeros(*item.shape[:-1], 0),
        context=nothing,
        label=label,
        age=torch.where(mask, later, 0).to(torch.float32),
        mask=mask,
        time=torch.zeros_like(item),
        place=item,
    )


def catalogue_of(n_items: int) -> Encoded:
    """Return every item as candidates for learners that are not fitted through a model."""
    user = torch.zeros(0)
    return encode_candidates(unencoded(n_items), user, torch.zeros(1, 0))
