"""A rival that scores a candidate by what similar training users met next.

Knows the order of events and when users began; no content. Histories are kept as values + offsets
with an inverted index, so that nothing has items x users cells. Axes: P events of all kept
histories, V kept users, I items, N events of a support of which S are compared, M users of an item.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from metarec_ray.algorithms.base import ALONE, FittedLearner, Fitting, Problem
from metarec_ray.algorithms.sums import count_pairs, is_positive, log_shares, newest, positives
from metarec_ray.core.batch import DAY, Encoded, Params
from metarec_ray.core.histories import Histories

Share = Annotated[float, Field(ge=0, le=1)]
_TIE_BREAK = 1e-6  # of popularity: what no neighbour met has an order, too
_TINY = 1e-30
_FAR = 60.0  # scales of recency: beyond, exp is slow with numbers that are as good as 0


class SequenceNeighbours(FittedLearner):
    """What the nearest training users met after the newest item they share with the support.

    Session-based nearest neighbours, between V-SKNN [Ludewig & Jannach, 2018, arXiv:1803.09587] and
    STAN [Garg et al., 2019]. similarity = sum over shared items of decay^age x idf / sqrt(1 +
    length_penalty x items of the neighbour) x (recency_floor + (1 - recency_floor) exp(-days
    between the first events of both / recency_days)), age being the number of later items of the
    support. Each of the nearest users votes, with its squared similarity, for the `horizon` items
    that it met after the shared item of least age; the one d places further on counts
    exp(-d / distance_scale). Popularity breaks ties, and is all there is after an empty support.

    A history counts each item where it was first met. A support without times, or one that begins
    after every training user, is taken to begin on the day of the newest; without a clock all users
    are equally recent.

    Attributes:
        neighbours: number of nearest users; those without a common item never count.
        decay: weight of a shared item, relative to the next newer one.
        length_penalty: for each item of a neighbour.
        recency_days: scale of the days between the first events of two users.
        recency_floor: factor of a user who began long before, relative to one of the same day.
        horizon: number of a neighbour's items that are voted for.
        distance_scale: places over which a vote falls to 1 / e.
        last_items: newest items of the support that are compared.
        users_per_item: newest users who met an item that are looked up by it.
        max_users: newest training users that are kept.

    """

    name: Literal["sequence_neighbours"] = "sequence_neighbours"
    kind: ClassVar = "rival"
    ranks_only: ClassVar = True
    neighbours: PositiveInt = 1_000
    decay: Share = 0.8
    length_penalty: NonNegativeFloat = 0.02
    recency_days: PositiveFloat = 30.0
    recency_floor: Share = 0.3
    horizon: PositiveInt = 25
    distance_scale: PositiveFloat = 12.0
    positive_min: float | None = None
    last_items: PositiveInt = 30
    users_per_item: PositiveInt = 5_000
    max_users: PositiveInt = 200_000

    def fit(self, histories: Histories, fitting: Fitting = ALONE) -> Params:
        count = count_pairs(histories, self.positive_min)
        met = _first_meetings(histories, self.positive_min)
        kept = met.take(_newest_users(met, self.max_users))
        start = kept.starts()
        newest_start = start[-1:].sum()  # 0 without users
        item_users = torch.bincount(kept.item, minlength=kept.n_items)
        return {
            "sequence": kept.item,
            "user": kept.entity(),
            "user_end": kept.offsets[1:],
            "length": kept.lengths().float(),
            "day": ((start - newest_start).double() / DAY).float(),
            "newest_start": newest_start,
            # Events by item, those of users who began last at the end.
            "by_item": kept.item.argsort(stable=True),
            "item_end": item_users.cumsum(0),
            "item_users": item_users,
            # Its length is M: what is looked up has the same shape for all tasks.
            "back": torch.arange(1, 1 + min(self.users_per_item, int(item_users.max()))),
            "idf": torch.log1p(met.n_entities / count.clamp(min=1)),
            "popularity": count / count.max().clamp(min=1),
        }

    def adapt(self, problem: Problem, meta: Params, support: Encoded) -> Params:
        counted = positives(support, self.positive_min)
        overlap, key = self._shared(meta, support.index, counted)
        similarity = overlap * self._recency(meta, support)
        similarity = similarity / (1 + self.length_penalty * meta["length"]).sqrt()
        near = similarity.topk(min(self.neighbours, len(similarity)))
        weight = (near.values / near.values[:1].clamp(min=_TINY)).square()
        weight = weight / weight.sum().clamp(min=_TINY)
        shared = key[near.indices] % max(len(meta["sequence"]), 1)
        votes = self._votes(meta, near.indices, shared, weight)
        popularity = meta["popularity"]
        return {"scores": torch.where(counted.any(), votes + _TIE_BREAK * popularity, popularity)}

    def log_share(self, scores: Tensor) -> Tensor:
        return log_shares(scores)

    def _shared(self, meta: Params, item: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight [V] of what each user shares, and a key [V] to the newest of it.

        The key modulo P is the event of the shared item of least age; any, where nothing is shared.
        """
        item, age, counted = self._newest_items(item, counted)
        there = counted.unsqueeze(1) & (meta["back"] <= meta["item_users"][item].unsqueeze(1))
        place = meta["item_end"][item].unsqueeze(1) - meta["back"]
        event = meta["by_item"][place.clamp(min=0)]
        user = meta["user"][event].flatten()
        weight = (self.decay**age * meta["idf"][item]).unsqueeze(1) * there
        n_events, n_users = len(meta["sequence"]), len(meta["length"])
        key = ((len(age) - age).unsqueeze(1) * n_events + event) * there
        overlap = weight.new_zeros(n_users).scatter_add(0, user, weight.flatten())
        return overlap, key.new_zeros(n_users).scatter_reduce(0, user, key.flatten(), "amax")

    def _newest_items(self, item: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the newest items [S], how many are later, and whether they are counted."""
        later = counted.flip(0).cumsum(0).flip(0) - 1
        age = torch.where(counted, later, len(counted))
        place = age.argsort(stable=True)[: self.last_items]
        return item[place], age[place], counted[place]

    def _recency(self, meta: Params, support: Encoded) -> Tensor:
        """Return the factor [V] for the days between the first event of each user and of this."""
        first = support.time[:1].sum()  # 0 for no event, as for an event without a time
        ahead = torch.where(first == 0, 0, first - meta["newest_start"]).clamp(max=0)
        scales = (ahead / DAY - meta["day"]).abs() / self.recency_days
        recent = torch.exp(-scales.clamp(max=_FAR))
        return self.recency_floor + (1 - self.recency_floor) * recent

    def _votes(self, meta: Params, user: Tensor, shared: Tensor, weight: Tensor) -> Tensor:
        """Return the votes [I] of users for what they met after their event `shared`."""
        distance = torch.arange(1, 1 + self.horizon)
        event = shared.unsqueeze(1) + distance
        inside = event < meta["user_end"][user].unsqueeze(1)
        vote = weight.unsqueeze(1) * torch.exp(-distance / self.distance_scale) * inside
        item = meta["sequence"][event.clamp(max=max(len(meta["sequence"]) - 1, 0))]
        votes = torch.zeros_like(meta["popularity"])
        return votes.scatter_add(0, item.flatten(), vote.flatten())


def _first_meetings(histories: Histories, positive_min: float | None) -> Histories:
    """Return the histories with the first positive event of each item only.

    Every event gets the time of its entity's first event, be that positive or not.
    """
    pair = histories.entity() * histories.n_items + histories.item
    positive = is_positive(histories.label, positive_min)
    first = newest(pair.flip(0), positive.flip(0)).flip(0)
    began = histories.offsets[:-1].repeat_interleave(histories.lengths())
    return histories._replace(time=histories.time[began]).keep(first)


def _newest_users(histories: Histories, most: int) -> Tensor:
    """Return the entities with events that began last, ascending by their first time."""
    entity = (histories.lengths() > 0).nonzero().squeeze(1)
    return entity[histories.starts()[entity].argsort(stable=True)[-most:]]
