"""Sums over histories and supports that several rivals share.

Knows `Histories`; does not know what the sums are for.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import DAY, Encoded
from metarec_ray.core.histories import Histories

_CHUNK = 2048  # entities made dense at a time
# Not 0: items that nobody met at the counted positions still rank by their popularity.
_OUTSIDE = 1e-3


def check_positions(first: int, last: int) -> None:
    """Raise ValueError unless `first` .. `last - 1` are positions."""
    if first >= last:
        raise ValueError(f"first_position must be < last_position {last}, got {first}")


def position_weight(histories: Histories, first: int, last: int) -> Tensor:
    """Return 1 for events at the positions first .. last - 1, nearly 0 elsewhere, float64 [N]."""
    position = histories.position()
    inside = (position >= first) & (position < last)
    return torch.where(inside, 1.0, _OUTSIDE).double()


def freshness(histories: Histories, half_life_days: float) -> Tensor:
    """Return 2^(-days between an entity's first event and the cutoff / half life), float64 [E].

    0 for an entity without events. If the log has no cutoff in time, 1 for all others.
    """
    met = histories.lengths() > 0
    weight = met.double()
    if histories.cutoff is not None:
        days = (histories.cutoff - histories.starts()[met]).clamp(min=0).double() / DAY
        weight[met] = torch.exp2(-days / half_life_days)
    return weight


def is_positive(label: Tensor, positive_min: float | None) -> Tensor:
    """Return whether each event is a positive; with None, every event is."""
    return (
        torch.ones_like(label, dtype=torch.bool) if positive_min is None else label >= positive_min
    )


def newest(key: Tensor, mask: Tensor) -> Tensor:
    """Return bool [*, N]: for each value of `key`, int64 >= 0, the last event in `mask`."""
    ordered, place = torch.where(mask, key, -1).sort(dim=-1, stable=True)
    last = ordered[..., 1:] != ordered[..., :-1]
    last = torch.cat([last, torch.ones_like(ordered[..., :1], dtype=torch.bool)], -1)
    return torch.zeros_like(mask).scatter(-1, place, last) & mask


def positives(support: Encoded, positive_min: float | None) -> Tensor:
    """Return bool [N]: positive events of a support, the last one of each item.

    So a support counts each item once, as fits do.
    """
    return newest(support.index, support.mask & is_positive(support.label, positive_min))


def positive_pairs(histories: Histories, positive_min: float | None) -> tuple[Tensor, Tensor]:
    """Return (entity, item) of the distinct pairs with a positive event, ascending."""
    keep = is_positive(histories.label, positive_min)
    keys = histories.entity()[keep] * histories.n_items + histories.item[keep]
    pairs = torch.unique(keys)
    return pairs // histories.n_items, pairs % histories.n_items


def count_pairs(histories: Histories, positive_min: float | None) -> Tensor:
    """Return the number of entities with a positive event on each item, float [n_items]."""
    item = positive_pairs(histories, positive_min)[1]
    return torch.bincount(item, minlength=histories.n_items).float()


def gram(histories: Histories, positive_min: float | None) -> Tensor:
    """Return the number of entities with positives on both items, float [n_items, n_items].

    Costs pairs x n_items multiplications: about a second for 400,000 pairs and 3,400 items.
    """
    entity, item = positive_pairs(histories, positive_min)
    total = torch.zeros(histories.n_items, histories.n_items)
    for start in range(0, histories.n_entities, _CHUNK):
        low, high = torch.searchsorted(entity, torch.tensor([start, start + _CHUNK])).tolist()
        rows, columns = entity[low:high] - start, item[low:high]
        dense = torch.zeros(_CHUNK, histories.n_items)
        dense[rows, columns] = 1.0
        sparse = torch.sparse_coo_tensor(
            torch.stack([columns, rows]),
            torch.ones(high - low),
            (histories.n_items, _CHUNK),
            check_invariants=True,
        )
        total += torch.sparse.mm(sparse, dense)
    return total


def log_shares(scores: Tensor, floor: float = 0.1) -> Tensor:
    """Return the log of scores [*, I] normalised to sum to 1, up to a constant.

    Negative scores count as 0. Every item gets `floor` / I in addition, so that no item, even one
    the rival knows nothing of, has probability 0.
    """
    positive = scores.clamp(min=0)
    share = positive / positive.sum(-1, keepdim=True).clamp(min=1e-12)
    return torch.log(share + floor / scores.shape[-1])
