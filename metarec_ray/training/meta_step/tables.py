"""Tables of embedding rows: what a lane looks up, and what a step updates of them.

The only module that reads or writes rows of a table in training: a table that is cut into shards
over workers needs no more than another `lookup` and `update`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Lane, Params
from metarec_ray.core.parameters import Rows
from metarec_ray.training.meta_step.optimizer import adamw_step


class LaneRows(NamedTuple):
    """The rows of a table that a lane reads, each once.

    Attributes:
        ids: int64 [n], unique.
        values: [n, D].
        inverse: int64 [m], which of them each of the lane's entries is; None where entry i is row
            i.

    """

    ids: Tensor
    values: Tensor
    inverse: Tensor | None

    def each(self, values: Tensor) -> Tensor:
        """Return a row for each entry [m, D], given the n rows."""
        return values if self.inverse is None else values[self.inverse]


def entries(rows: Rows, lane: Lane) -> Tensor:
    """Return the ids that a lane looks up in a table of such rows, int64 [m]."""
    return {"item": lane.items, "user": lane.entity}[rows.side]


def lookup(rows: Rows, table: Tensor, lane: Lane) -> LaneRows:
    """Return the rows of a table that the lane reads."""
    ids, inverse = entries(rows, lane), None
    if rows.side == "user":  # a lane's items are unique, its entities need not be
        ids, inverse = torch.unique(ids, return_inverse=True)
    return LaneRows(ids, table.index_select(0, ids), inverse)


def changed(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the rows of a table that any lane read, int64 [n], ascending: those a step updates.

    Args:
        parts: of each lane its unique ids and the gradients of these rows.

    """
    return torch.unique(torch.cat([ids for ids, _ in parts]))


def merge(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the rows that any lane read and their mean gradients, added in lane order.

    Args:
        parts: of each lane its unique ids [n] and the gradients of these rows [n, D].

    """
    if len(parts) == 1:
        return parts[0][0], parts[0][1].clone()
    unique = changed(parts)
    total = torch.zeros(len(unique), *parts[0][1].shape[1:], dtype=parts[0][1].dtype)
    for ids, gradient in parts:
        total[torch.searchsorted(unique, ids)] += gradient  # ids are unique within a lane
    return unique, total / len(parts)


def update(
    name: str,
    table: Tensor,
    moments: Params,
    ids: Tensor,
    gradient: Tensor,
    *,
    step: int,
    lr: float,
    weight_decay: float,
) -> None:
    """Take one step of AdamW on the rows `ids` (unique) of `table` and of its moments, in place.

    Rows that no lane read keep their value and their moments.
    """
    whole = (table, moments[f"m.{name}"], moments[f"v.{name}"])
    value, m, v = (part.index_select(0, ids) for part in whole)
    adamw_step([value], [gradient], [m], [v], step=step, lr=lr, weight_decay=weight_decay)
    for part, changed in zip(whole, (value, m, v), strict=True):
        part.index_copy_(0, ids, changed)
