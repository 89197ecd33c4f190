"""Episodes for heads that are trained on whole histories: some events of an entity, shuffled.

Knows `Histories`; does not know learners. Meant for ratings without an order: windows in time are
`data.tasks.lanes`' business. Axes: T episodes, N events.
"""

import torch

from metarec_ray.core.batch import Encoded
from metarec_ray.core.histories import Histories

_BATCH = 32  # episodes padded together


def draw(
    histories: Histories, generator: torch.Generator, *, episodes: int, events: int
) -> list[Encoded]:
    """Return an episode [N] of each entity with two events or more, of at most `episodes` of them.

    An episode has at most `events` events, drawn without replacement; a batch [T, N] holds episodes
    of about one length, padded at the end.
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
    )
