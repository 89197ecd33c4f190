"""Item statistics that are fixed before meta-training: offsets and the reference sample.

Knows sums over the training histories; does not know encoders or learners. Offsets are not learned,
because a learned item bias overfits: there are few starts of histories. A task of training is asked
with the offsets that its entity's own events have no part in: else a query would help to predict
itself, the more the fewer events an item has, and the outer loop would trust offsets that new
entities do not find.
"""

import torch
from torch import Tensor

from metarec_ray.core.batch import DAY, OffsetChanges, Params
from metarec_ray.core.histories import Histories
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.negatives import Sampling
from metarec_ray.models.towers import Towers

SHRINKAGE = 5.0
PSEUDO_COUNT = 0.3
OUTSIDE = 1e-3  # weight of events outside `prior_positions`, for items without others


class ItemStatistics:
    """Sums over training events, and the offsets of items that are made of them.

    The offset is the score of an item without a user, up to a constant: log of its share of events,
    recency-weighted (implicit), shrunk mean label (explicit), shrunk log-odds of a click (binary).
    First events prefer other items than later ones: for items that are met later, all events count
    alike (implicit).

    Attributes:
        count: float64 [I], sum of the weights of an item's events.
        events: float64 [I], number of an item's events.
        offset, later: float64 [I], of items at the start of a history, and later.

    """

    def __init__(
        self,
        table: Histories,
        trained: Tensor,
        model: Towers,
        feedback: Feedback,
        cutoff: int | None,
    ):
        """Sum over `table`; `trained` bool [I] are the items that offsets are centred on."""
        self.table, self.feedback = table, feedback
        self._weight = _weights(table, model, cutoff)
        self.count, self._total = self._sums(self._weight, table.item, table.label, len(trained))
        self.events = torch.bincount(table.item, minlength=len(trained)).double()
        self.offset, self.later = (
            self._offset(count, self._total) for count in (self.count, self._later)
        )
        if feedback == "implicit":
            self.offset, self.later = (o - o[trained].mean() for o in (self.offset, self.later))

    @property
    def _later(self) -> Tensor:
        """Return the weights of items that are met later."""
        return self.events if self.feedback == "implicit" else self.count

    def without_own(self, entities: Tensor, begins: Tensor, items: Tensor) -> OffsetChanges:
        """Return how the offsets change for tasks of these entities without their own events.

        Of implicit feedback up to a constant a task, which changes no choice.

        Args:
            entities: int64 [T], positions in the histories that were summed.
            begins: bool [T], whether a task begins its history.
            items: int64 [U], of the lane, ascending.

        """
        own = self.table.take(entities)
        weight, task = self._weight[self.table.events_of(entities)], own.entity()
        if self.feedback == "implicit":
            weight = torch.where(begins[task], weight, 1.0)
        at = torch.searchsorted(items, own.item).clamp(max=len(items) - 1)
        known = items[at] == own.item
        key, entry = torch.unique((task * len(items) + at)[known], return_inverse=True)
        owner, item = key // len(items), items[key % len(items)]
        removed = self._sums(weight[known], entry, own.label[known], len(key))
        if self.feedback == "implicit":
            change = self._share_change(item, removed[0], begins[owner])
        else:
            # The mean that offsets are shrunk to is one of the others too.
            count, total = self._sums(weight, task, own.label, len(entities))
            count, total = self.count.sum() - count, self._total.sum() - total
            mean = torch.where(count > 0, total / count.clamp(min=1e-9), self._mean)
            change = self._mean_change(item, *removed, mean[owner])
        return OffsetChanges(key, change.float())

    def _share_change(self, item: Tensor, count: Tensor, begins: Tensor) -> Tensor:
        whole = torch.where(begins, self.count[item], self.events[item])
        return _log_share((whole - count).clamp(min=0)) - _log_share(whole)

    def _mean_change(self, item: Tensor, count: Tensor, total: Tensor, mean: Tensor) -> Tensor:
        rest = (self.count[item] - count).clamp(min=0)
        return self._shrunk(rest, self._total[item] - total, mean) - self.offset[item]

    @property
    def _mean(self) -> Tensor:
        return self._total.sum() / self.count.sum().clamp(min=1e-9)

    def _offset(self, count: Tensor, total: Tensor) -> Tensor:
        if self.feedback == "implicit":
            return _log_share(count)
        return self._shrunk(count, total, self._mean)

    def _shrunk(self, count: Tensor, total: Tensor, mean: Tensor) -> Tensor:
        """Return the mean labels of items, shrunk to the mean of all; of clicks the log-odds."""
        found = (total + SHRINKAGE * mean) / (count + SHRINKAGE)
        return torch.logit(found.clamp(1e-3, 1 - 1e-3)) if self.feedback == "binary" else found

    def _sums(self, weight: Tensor, to: Tensor, label: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return the sums of weights and of weighted labels [size], each event added at `to`."""
        zeros = torch.zeros(2, size, dtype=torch.float64)
        both = torch.stack([weight, weight * label.double()])
        weights, labels = zeros.index_add_(1, to, both)
        return weights, labels


def item_buffers(
    statistics: ItemStatistics,
    trained: Tensor,
    *,
    reference: int,
    seed: int,
    sampling: Sampling = "uniform",
) -> Params:
    """Return `offset` [I], `offset.later` [I], `reference.items` [R], its log_q, `catalogue_size`.

    And `negatives.log_q` [I] if negatives are not sampled uniformly.
    """
    items, log_q = reference_sample(statistics.count, trained, reference, seed)
    found = {
        "offset": statistics.offset.float(),
        "offset.later": statistics.later.float(),
        "reference.items": items,
        "reference.log_q": log_q.float(),
        "catalogue_size": trained.sum().float(),
    }
    if sampling != "uniform":
        met = statistics.events
        found["negatives.log_q"] = torch.log(met.clamp(min=0.5) / met.sum()).float()
    return found


def _log_share(count: Tensor) -> Tensor:
    """Return the logarithms of the items' shares of events, up to a constant."""
    return torch.log(count + PSEUDO_COUNT)


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
