"""Item statistics that are fixed before meta-training: offsets and the reference sample.

Knows sums over the training histories; does not know encoders or learners. Offsets are not learned,
because a learned item bias overfits: there are few starts of histories.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import DAY, Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.negatives import Sampling
from metarec_ray.models.towers import Towers

SHRINKAGE = 5.0
OUTSIDE = 1e-3  # weight of events outside `prior_positions`, for items without others


def item_buffers(
    table: Histories,
    trained: Tensor,
    model: Towers,
    feedback: Feedback,
    *,
    cutoff: int | None,
    reference: int,
    seed: int,
    sampling: Sampling = "uniform",
) -> Params:
    """Return `offset` [I], `offset.later` [I], `reference.items` [R], its log_q, `catalogue_size`.

    And `negatives.log_q` [I] if negatives are not sampled uniformly.

    The offset is the score of an item without a user, up to a constant: log of its share of events,
    recency-weighted (implicit), shrunk mean label (explicit), shrunk log-odds of a click (binary).
    """
    weight = _weights(table, model, cutoff)
    offset, count = _offset(table, trained, weight, feedback)
    # First events prefer other items than later ones: for those all events count alike.
    later = _offset(table, trained, torch.ones_like(weight), feedback)[0]
    items, log_q = reference_sample(count, trained, reference, seed)
    found = {
        "offset": offset.float(),
        "offset.later": (later if feedback == "implicit" else offset).float(),
        "reference.items": items,
        "reference.log_q": log_q.float(),
        "catalogue_size": trained.sum().float(),
    }
    if sampling != "uniform":
        met = torch.bincount(table.item, minlength=len(trained)).double()
        found["negatives.log_q"] = torch.log(met.clamp(min=0.5) / met.sum()).float()
    return found


def _offset(
    table: Histories, trained: Tensor, weight: Tensor, feedback: Feedback
) -> tuple[Tensor, Tensor]:
    """Return the offsets [I] of events with these weights, and the sum of weights of each item."""
    n_items = len(trained)
    count = torch.zeros(n_items, dtype=torch.float64).index_add_(0, table.item, weight)
    if feedback == "implicit":
        offset = torch.log((count + 0.3) / (count.sum() + 0.3 * n_items))
        return offset - offset[trained].mean(), count
    total = torch.zeros(n_items, dtype=torch.float64).index_add_(
        0, table.item, weight * table.label.double()
    )
    mean = total.sum() / count.sum().clamp(min=1e-9)
    offset = (total + SHRINKAGE * mean) / (count + SHRINKAGE)
    return torch.logit(offset.clamp(1e-3, 1 - 1e-3)) if feedback == "binary" else offset, count


def reference_sample(count: Tensor, trained: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return `size` trained items (all, if there are fewer) and their log-probabilities.

    Drawn without replacement, in proportion to count^0.75, so that popular items, which dominate a
    softmax, are in it. The inclusion probability is n q / sum(q), at most 1.
    """
    catalogue = torch.nonzero(trained).flatten()
    if len(catalogue) <= size:
        return catalogue, torch.zeros(len(catalogue), dtype=torch.float64)
    q = (count[catalogue] + 1) ** 0.75
    inclusion = _inclusion(q, size)
    generator = torch.Generator().manual_seed(seed)
    # Systematic sampling over a shuffled list: exactly `size` items with these probabilities.
    order = torch.randperm(len(catalogue), generator=generator)
    edges = inclusion[order].cumsum(0)
    points = torch.arange(size, dtype=torch.float64) + torch.rand(
        (), generator=generator, dtype=torch.float64
    )
    chosen = order[torch.searchsorted(edges, points.clamp(max=float(edges[-1]) - 1e-9))].unique()
    return catalogue[chosen], torch.log(inclusion[chosen])


def _inclusion(q: Tensor, size: int) -> Tensor:
    """Return inclusion probabilities proportional to q, capped at 1, that sum to `size`."""
    inclusion = torch.zeros_like(q)
    certain = torch.zeros_like(q, dtype=torch.bool)
    for _ in range(50):
        rest = size - int(certain.sum())
        inclusion = torch.where(certain, 1.0, rest * q / q[~certain].sum())
        if not bool((inclusion > 1).any()):
            break
        certain |= inclusion >= 1
    return inclusion


def _weights(table: Histories, model: Towers, cutoff: int | None) -> Tensor:
    """Return the weight of every event in the item statistics."""
    weight = torch.ones(len(table.item), dtype=torch.float64)
    if not len(weight):
        return weight
    entity = table.entity()
    if model.prior_positions is not None:
        position = table.position()
        first, end = model.prior_positions
        weight *= ((position >= first) & (position < end)).double().clamp(min=OUTSIDE)
    if model.prior_days is not None and cutoff is not None:
        # An entity without events has no start: any index will do, the value is never read.
        start = table.time[table.offsets[:-1].clamp(max=len(table.item) - 1)]
        weight *= torch.exp(-(cutoff - start[entity]).double() / DAY / model.prior_days)
    return weight
