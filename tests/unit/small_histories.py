"""Histories written down event by event, for the tests of all packages."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metarec_ray.core.batch import nothing_known
from metarec_ray.core.histories import Histories


def histories_of(
    items: Sequence[Sequence[int]],
    *,
    n_items: int,
    label: Sequence[float] | Tensor | None = None,
    time: Sequence[int] | Tensor | None = None,
    cutoff: int | None = None,
) -> Histories:
    """One list of items an entity; `label` and `time` of all events in a row, 1.0 and no clock."""
    flat = torch.tensor([item for history in items for item in history], dtype=torch.int64)
    sizes = torch.tensor([len(history) for history in items], dtype=torch.int64)
    return Histories(
        task_id=torch.arange(len(items)),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
        item=flat,
        label=torch.ones(len(flat)) if label is None else torch.as_tensor(label).float(),
        time=torch.zeros_like(flat) if time is None else torch.as_tensor(time, dtype=torch.int64),
        context=nothing_known(len(flat)).features,
        users=nothing_known(len(items)),
        items=nothing_known(n_items),
        cutoff=cutoff,
    )
