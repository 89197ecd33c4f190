"""The protocol `cross_domain`: entities known in one domain, recommended to in another.

Knows a store whose items carry their domain as a categorical feature; does not know what scores.

The events of a test entity with items of the target domain are taken in order. The first k are in
the support; the `query_size` events after the first max(ks) are the query, the same at every k.
The support also holds the events in the source domain on days before the first day of the query.
Candidates are the items of the target domain, without those of the first max(ks) events.
"""

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import DAY, Features
from metarec_ray.core.histories import Histories
from metarec_ray.data.protocol_settings import CrossDomain
from metarec_ray.data.tasks.domains import items_by_value
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError
from metarec_ray.evaluation.protocols.events import (
    first_meetings,
    item_share,
    padded,
    shuffled_ties,
)
from metarec_ray.evaluation.protocols.strict import MIN_ENTITIES, TRAINING, Part
from metarec_ray.inference.supports import Supports


class CrossDomainTasks(NamedTuple):
    """The E eligible test entities of one direction, ascending by task id; I items.

    N are all events that a support may hold: of each entity in order, source and target mixed.
    """

    direction: str  # source->target
    entity: Tensor  # int64 [E]: task ids
    events: Histories  # of these entities: what may be known
    rank: Tensor  # int64 [N]: place among the entity's target events, -1 for a source event
    query: Tensor  # int64 [E, Q]: catalogue rows, padded
    mask: Tensor  # bool [E, Q]
    now: Features  # [E, 1]: context at the start of the query
    inside: Tensor  # bool [I]: items of the target domain
    trained: Tensor  # bool [I]: of those, the ones with a training event
    share: Tensor  # float [I]: share of training entities with an event on the item, > 0
    source: bool = True

    def candidates(self, k: int) -> Tensor:
        """Return bool [E, I]: the target domain without the entity's first max(ks) items."""
        del k  # the same at every k
        allowed = self.inside.expand(len(self.entity), -1).clone()
        target = self.rank >= 0
        allowed[self.events.entity()[target], self.events.item[target]] = False
        return allowed

    def gains(self) -> Tensor:
        """Return float [E, I]: 1 on the query items of each entity."""
        gains = torch.zeros(len(self.entity), len(self.inside))
        return gains.scatter_add_(1, self.query, self.mask.float()).clamp_(max=1)

    def supports(self, k: int) -> Supports:
        """Return the source events and the first k target events of each entity, oldest first."""
        kept = self.events.keep((self.rank < k) & ((self.rank >= 0) | self.source))
        rows, mask = padded(kept.offsets[:-1], kept.lengths())
        return Supports(
            item=_masked(kept.item, rows, mask),
            label=_masked(kept.label, rows, mask),
            mask=mask,
            time=_masked(kept.time, rows, mask),
            context=Features(*(_masked(c, rows, mask.unsqueeze(-1)) for c in kept.context)),
            user=kept.users.features,
            now=self.now,
            labels=_masked(kept.labels, rows, mask.unsqueeze(-1)),
        )

    def without_source(self) -> "CrossDomainTasks":
        """Return the same tasks for a method that knows the target domain only."""
        return self._replace(source=False)


class _Known(NamedTuple):
    """The catalogue [I] in training."""

    trained: Tensor
    share: Tensor


def cross_domain_tasks(
    store: TaskStore,
    settings: CrossDomain,
    *,
    part: Part = "test",
    force: bool = False,
) -> list[CrossDomainTasks]:
    """Return the tasks of every ordered pair of domains.

    Args:
        store: its items carry their domain.
        settings: of the protocol.
        part: whose tasks; with `valid`, for choices, only `train` is known.
        force: also take fewer than 100 entities.

    Raises:
        ConfigError: items have no such feature.
        DataError: fewer than two domains, no clock, or too few entities.

    """
    domains = items_by_value(store, settings.feature, key="evaluate.cross_domain.feature")
    if len(domains) < 2 or not store.manifest.has_time:
        clock = "a" if store.manifest.has_time else "no"
        raise DataError(
            "the cross_domain protocol needs two domains among the items that training met and a "
            f"clock, got {len(domains)} and {clock} clock ({store.path})"
        )
    training = store.histories(TRAINING if part == "test" else ("train",))
    known = _Known(training.met_items(), item_share(training))
    whole = _ordered(store.histories((part,), cut=False), settings)
    found: list[CrossDomainTasks] = []
    for source, target in permutations(domains, 2):
        tasks = _direction(whole, domains[source], domains[target], known, settings)
        _check_size(len(tasks.entity), f"{source}->{target}", settings, part=part, force=force)
        found.append(tasks._replace(direction=f"{source}->{target}"))
    return found


def _ordered(whole: Histories, settings: CrossDomain) -> Histories:
    """Return the histories with the events of a day shuffled, if the settings ask for it."""
    if settings.shuffle_days is None:
        return whole
    generator = torch.Generator().manual_seed(settings.shuffle_days)
    return shuffled_ties(whole, whole.time // DAY, generator)


def _direction(
    whole: Histories, source: Tensor, target: Tensor, known: _Known, settings: CrossDomain
) -> CrossDomainTasks:
    window, entity = max(settings.ks), whole.entity()
    met = first_meetings(whole, target[whole.item])
    rank = torch.where(met, _place_among(met, whole.offsets), -1)
    counts = torch.bincount(entity[met], minlength=whole.n_entities)
    eligible = counts >= window + settings.min_query
    chosen = eligible.nonzero().squeeze(1)
    asked = (met & (rank >= window) & eligible[entity]).nonzero().squeeze(1)
    rows, mask = padded(
        torch.searchsorted(entity[asked], chosen),
        (counts[chosen] - window).clamp(max=settings.query_size),
    )
    begin = torch.zeros_like(counts).index_put((chosen,), asked[rows[:, 0]])
    earlier = whole.time // DAY < (whole.time[begin] // DAY)[entity]
    kept = (source[whole.item] & earlier) | ((rank >= 0) & (rank < window))
    kept &= eligible[entity]
    return CrossDomainTasks(
        direction="",
        entity=whole.task_id[chosen],
        events=whole.keep(kept).take(chosen),
        rank=rank[kept],
        query=torch.where(mask, whole.item[asked[rows]], 0),
        mask=mask,
        now=whole.context.at(begin[chosen].unsqueeze(1)),
        inside=target,
        trained=known.trained & target,
        share=known.share,
    )


def _place_among(met: Tensor, offsets: Tensor) -> Tensor:
    """Return for each event how many earlier ones of its entity are `met`, int64 [N]."""
    before = torch.cat([torch.zeros(1, dtype=torch.int64), met.cumsum(0)])
    return before[:-1] - before[offsets[:-1]].repeat_interleave(offsets.diff())


def _masked(values: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
    """Return `values` at `rows`, 0 on padding; `values` may be empty."""
    return torch.where(mask, torch.cat([values, values.new_zeros(1, *values.shape[1:])])[rows], 0)


def _check_size(
    found: int, direction: str, settings: CrossDomain, *, part: Part, force: bool
) -> None:
    if found == 0 or (found < MIN_ENTITIES and not force):
        raise DataError(
            f"the cross_domain protocol needs {MIN_ENTITIES} {part} entities with >= "
            f"{max(settings.ks) + settings.min_query} events in the target domain, got {found} "
            f"({direction}; evaluate.force takes fewer)"
        )
