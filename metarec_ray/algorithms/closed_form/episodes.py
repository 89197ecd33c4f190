"""Episodes to train heads on: random events of an entity's whole history.

Knows `Histories`; does not know learners. For ratings, whose order is ignored; windows in time are
made by `data.tasks.lanes`. Axes: T episodes, N events.
"""

import torch

from metarec_ray.core.batch import Encoded
from metarec_ray.core.histories import Histories

_BATCH = 32  # episodes padded together


def draw(
    histories: Histories, generator: torch.Generator, *, episodes: int, events: int
) -> list[Encoded]:
    """Return batches of episodes [T, N] of random entities with two events or more.

    There are at most `episodes`, one for each entity, of at most `events` events, drawn without
    replacement. A batch holds episodes of similar length, padded at the end.
    """
    sizes = histories.lengths().clamp(max=events)
    usable = (sizes >= 2).nonzero().flatten()
    chosen = usable[torch.randperm(len(usable), generator=generator)[:episodes]]
    if not len(chosen):
        return []
    chosen = chosen[sizes[chosen].argsort(stable=True)]
    return [_batch(histories, part, generator, events) for part in chosen.split(_BATCH)]


def _batch(
    histories: Histories, entities: torch.Tensor, generator: torch.Generator, events: int
) -> Encoded:
    sizes = histories.lengths()[entities]
    real = torch.arange(int(sizes.max())) < sizes.unsqueeze(1)
    key = torch.rand(real.shape, generator=generator).masked_fill(~real, 2.0)
    place = histories.offsets[entities].unsqueeze(1) + key.argsort(1)[:, :events]
    mask = real[:, :events]
    place = torch.where(mask, place, 0)
    n, width = mask.shape
    index = torch.where(mask, histories.item[place], 0)
    return Encoded(
        index=index,
        item=torch.zeros(n, width, 0),
        offset=torch.zeros(n, width),
        user=histories.take(entities).users.matrix(),
        context=torch.zeros(n, 1, 0),
        label=torch.where(mask, histories.label[place], 0.0),
        age=(mask.sum(1, keepdim=True) - 1 - torch.arange(width)).clamp(min=0).float(),
        mask=mask,
        time=torch.zeros_like(place),
        place=index,
        labels=torch.zeros(n, width, 0),
    )
