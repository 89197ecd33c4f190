"""Tasks as tensors. Knows shapes; does not know where events come from or what learns on them.

Axes: T tasks of a lane, N events of a padded set, U unique items of a lane, I items of the
catalogue, M tokens of an entity's feature bag, C context columns, F dense features, D dimensions of
an encoded vector, L further labels of an event (dwell, a click). A leading `*T` may be absent:
every function of one task is written without it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

DAY = 86_400_000_000  # microseconds
FARTHEST = 3.0  # of a number on the scale of features: what is farther out counts as this
Params = dict[str, Tensor]
"""Parameters by name: flat, because that is what a checkpoint holds."""


class Features(NamedTuple):
    """Side information of E entities: a weighted bag of tokens and a dense vector each.

    A categorical feature is one token of weight 1; a multi-categorical one is n tokens of weight
    1/sqrt(n); numeric and vector features stand side by side in `dense`.
    """

    tokens: Tensor  # int64 [E, M]: rows of the side's token table; 0 is padding
    weights: Tensor  # float [E, M]: 0 on padding
    dense: Tensor  # float [E, F]: numbers as ranks of about variance 1; 0 where missing

    def at(self, rows: Tensor) -> "Features":
        """Return the features at `rows`, positions of any shape or a mask."""
        return Features(*(column[rows] for column in self))


class FieldSpan(NamedTuple):
    """Where one field lies: rows first:end of the token table, or columns of `dense`.

    The first row of a categorical field stands for the unknown.
    """

    name: str
    categorical: bool
    first: int
    end: int

    @property
    def is_number(self) -> bool:
        """Whether it is a single number; else a vector, or categories."""
        return not self.categorical and self.end - self.first == 1


class SideInformation(NamedTuple):
    """What is known of E entities, with the layout that learners choose fields by."""

    features: Features  # [E]
    fields: tuple[FieldSpan, ...]
    tokens: int  # rows of the token table

    def matrix(self) -> Tensor:
        """Return float [E, tokens + F]: weights of tokens (column 0, padding, is 0), then dense."""
        return plain(self.features, self.tokens)

    def range_of(self, field: FieldSpan, learned: Tensor) -> tuple[float, float]:
        """Return the least and the largest number of a field among the rows `learned`, bool [E].

        Neither is farther than `FARTHEST` from 0, and both are 0 without such rows. What is learned
        of a number says nothing beyond them.
        """
        held = self.features.dense[learned, field.first].clamp(-FARTHEST, FARTHEST)
        return (held.min().item(), held.max().item()) if len(held) else (0.0, 0.0)

    def within_range(self, learned: Tensor) -> "SideInformation":
        """Return the side with every single number brought within its `range_of` the rows."""
        dense = self.features.dense.clone()
        for field in self.fields:
            if field.is_number:
                dense[:, field.first].clamp_(*self.range_of(field, learned))
        return self._replace(features=self.features._replace(dense=dense))


def nothing_known(n: int) -> SideInformation:
    """Return the side information of n entities that have no field."""
    none = torch.zeros(n, 0)
    return SideInformation(Features(none.long(), none, none), fields=(), tokens=0)


def plain(features: Features, tokens: int) -> Tensor:
    """Return features as vectors without an encoder, float [*E, tokens + F]."""
    bags = features.weights.new_zeros(*features.tokens.shape[:-1], tokens)
    bags = bags.scatter_add(-1, features.tokens, features.weights)
    return torch.cat([bags * (torch.arange(tokens) > 0), features.dense], -1)


def at_rows(function: Callable[..., Tensor], index: Tensor, *tables: Tensor) -> Tensor:
    """Return what `function` makes of each row, [I] of [I, ...] tables, at the rows `index` [N].

    As many rows as the tables have are not copied first: that would cost ten times an inner product
    of each.
    """
    if len(index) < len(tables[0]):
        return function(*(table[index] for table in tables))
    return function(*tables)[index]


NO_LABELS = torch.zeros(1, 0)
"""The further labels of events that have none, however many events there are."""


def labels_at(labels: Tensor, rows: Tensor) -> Tensor:
    """Return further labels [N, L] at `rows`, positions of any shape or a mask [N]."""
    if labels.shape[-1]:
        return labels[rows]
    shape = (int(rows.sum()),) if rows.dtype == torch.bool else rows.shape
    return labels.new_zeros(*shape, 0)


def own_labels(labels: Tensor, mask: Tensor) -> Tensor:
    """Return further labels [*T, N, L] of events `mask` [*T, N]; of those without any, L is 0."""
    return labels if labels.shape[-1] else labels.new_zeros(*mask.shape, 0)


class Events(NamedTuple):
    """A padded set of events, oldest first; `mask` is False on padding (item 0, label 0)."""

    item: Tensor  # int64 [*T, N]: position in the lane's unique items
    label: Tensor  # float [*T, N]
    mask: Tensor  # bool [*T, N]
    time: Tensor  # int64 [*T, N]: microseconds; 0 without a clock
    context: Features  # tokens [*T, N, C], weights, dense [*T, N, F]
    labels: Tensor = NO_LABELS  # float [*T, N, L]: ranks as of features; NaN where not known


class Task(NamedTuple):
    """Adapt on `support`, be judged on `query`; with a leading T axis the tasks of a lane."""

    support: Events
    query: Events
    negatives: Tensor  # int64 [*T, S]: sampled items the entity never met; S = 0 for none
    begins: Tensor  # bool [*T]: the window begins with the entity's first event
    answers: Tensor  # float [*T, C]: a teacher's scores of what the query asks; C = 0 without one


class OffsetChanges(NamedTuple):
    """How offsets change for tasks whose own events are left out of them: a sparse [T, U].

    A new entity has no part in the offsets it meets, so one of training must have none either.
    """

    key: Tensor  # int64 [n]: task x U + item, ascending, unique
    change: Tensor  # float [n]

    def at(self, position: Tensor, n_items: int) -> Tensor:
        """Return the changes [T, N] for the items at `position`, int64 [T, N]."""
        wanted = torch.arange(len(position), device=position.device).unsqueeze(1) * n_items
        wanted = wanted + position
        if not len(self.key):
            return torch.zeros(wanted.shape, device=position.device)
        found = torch.searchsorted(self.key, wanted).clamp(max=len(self.key) - 1)
        return torch.where(self.key[found] == wanted, self.change[found], 0.0)

    def dense(self, tasks: int, n_items: int) -> Tensor:
        """Return all changes [T, U]."""
        whole = torch.zeros(tasks * n_items, device=self.key.device)
        return whole.index_copy_(0, self.key, self.change).view(tasks, n_items)


NO_CHANGES = OffsetChanges(torch.zeros(0, dtype=torch.int64), torch.zeros(0))


class Lane(NamedTuple):
    """A fixed share of a meta-batch: what one worker computes whole."""

    entity: Tensor  # int64 [T]: task ids
    user: Features  # [T]
    items: Tensor  # int64 [U]: unique items, rows of the catalogue, ascending
    item_features: Features  # [U]
    reference: Tensor  # int64 [R]: positions of the model's reference items
    tasks: Task
    own: OffsetChanges = NO_CHANGES  # of entities that the offsets were counted from


class Encoded(NamedTuple):
    """Events of ONE task as a head sees them: after the shared encoders.

    `age` counts the later events of the set (0 is the newest). Candidates have label 0, age 0, time
    0 and mask True. Learners that are not fitted through a model find plain features in `user` and
    nothing in `item` and `context`. Of T tasks, `item` may be the whole table [U, D] that `place`
    points into (`shares_items`): what is made of an item is then made once, however many events
    have it.

    Further labels are of what has happened: candidates have none, and nobody who scores a query
    sees those of its events.
    """

    index: Tensor  # int64 [N]: rows of the catalogue  # pyright: ignore[reportIncompatibleMethodOverride]
    item: Tensor  # float [N, D]
    offset: Tensor  # float [N]: what is known of the item without the user
    user: Tensor  # float [D]
    context: Tensor  # float [N, D], or [1, D] where all share one
    label: Tensor  # float [N]
    age: Tensor  # float [N]
    mask: Tensor  # bool [N]
    time: Tensor  # int64 [N]: microseconds, 0 without a clock
    place: Tensor  # int64 [N]: rows of the table that items were encoded in
    labels: Tensor = NO_LABELS  # float [N, L]: further labels, NaN where not known

    @property
    def shares_items(self) -> bool:
        """Whether `item` is the table, and an event's vector its row `place`."""
        return self.item.dim() == self.place.dim()

    def at(self, position: Tensor) -> "Encoded":
        """Return the events at `position` [*T, n]; a context that all events share stays one."""

        def rows(values: Tensor) -> Tensor:
            return values.gather(
                -2, position.unsqueeze(-1).expand(*position.shape, values.shape[-1])
            )

        one_context = self.context.shape[-2] != self.mask.shape[-1]
        return self._replace(
            index=self.index.gather(-1, position),
            item=self.item if self.shares_items else rows(self.item),
            offset=self.offset.gather(-1, position),
            context=self.context if one_context else rows(self.context),
            label=self.label.gather(-1, position),
            age=self.age.gather(-1, position),
            mask=self.mask.gather(-1, position),
            time=self.time.gather(-1, position),
            place=self.place.gather(-1, position),
            labels=rows(own_labels(self.labels, self.mask)),
        )

    def newest(self, limit: int) -> "Encoded":
        """Return the newest `limit` events of a padded set, oldest first; all if it has fewer."""
        if self.mask.shape[-1] <= limit:
            return self
        first = (self.mask.sum(-1, keepdim=True) - limit).clamp(min=0)
        return self.at(first + torch.arange(limit))
