"""Tasks of like length side by side: what the head reads of some, out of what it reads of all.

Knows shapes; does not know layers. Tasks stand in an order in which those of a cut are neighbours.

Axes: T tasks, M rows of a task, U rows of the table of items, D dimensions, H outputs of the lowest
layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.gradient.part import Inputs
from metarec_ray.core.batch import Params
from metarec_ray.core.buckets import buckets
from metarec_ray.core.fast.rows import Gradients, Rows

OVERHEAD = 120  # rows that cost as much as the calls of one more part; measured
OVERHEAD_IF_LIGHT = 350
TABLES = {"table": "item", "lowest": "start"}
"""Of a whole, what all tasks share, and what a part reads of it."""


class Cut(NamedTuple):
    """Which tasks stand side by side, and which of their rows are read."""

    tasks: slice
    rows: slice | Tensor
    longest: int  # events of the longest support, at least 1

    def of(self, column: Tensor) -> Tensor:
        """Return the cut of a column [T or 1, M or 1, ...]; what is 1 is shared, and stays."""
        some = column if len(column) == 1 else column[self.tasks]
        return some if some.shape[1] == 1 else some[:, self.rows]


def cuts(mask: Tensor, more: int, *, light: bool) -> tuple[Tensor, list[Cut]]:
    """Return an order of tasks, int64 [T], and the cuts of those in order.

    Args:
        mask: bool [T, N], real events first: rows that are padding in a whole cut are not read.
        more: rows after these, all of which are.
        light: whether a row costs little: the last layer alone adapts, or all layers do once.

    """
    width, device = mask.shape[1], mask.device
    lengths, rest = mask.sum(1).tolist(), torch.arange(width, width + more, device=device)
    overhead = OVERHEAD_IF_LIGHT if light else OVERHEAD
    found, begin, some = [], 0, buckets(mask, overhead=overhead)
    for tasks in some:
        longest = max(1, *(lengths[task] for task in tasks.tolist()))
        rows: slice | Tensor = slice(0, longest)
        if more:
            rows = torch.cat([torch.arange(longest, device=device), rest])
        found.append(Cut(slice(begin, begin + len(tasks)), rows, longest))
        begin += len(tasks)
    return torch.cat(some), found


def part_inputs(whole: Params, places: Tensor, cut: Cut) -> Inputs:
    """Return what the tasks of a cut read.

    Args:
        whole: table [U, D] and lowest [U, H], what the lowest layer makes of it; given [T, M];
            shift [T, 1 or M, H], what it adds; weights, alike and user_in_context as in `Inputs`.
        places: int64 [T, M], rows of the table; or [M] for all tasks.
        cut: whose.

    """
    tasks = cut.tasks.stop - cut.tasks.start
    places = _places(places, cut)
    start = None
    if "lowest" in whole:
        start = _looked_up(whole["lowest"], places, tasks)
        # What all tasks share is one row in memory.
        shift = cut.of(whole["shift"])
        start = start.add_(shift) if places.dim() == 2 else start + shift
    return Inputs(
        given=cut.of(whole["given"]).unsqueeze(1),
        item=Rows(_looked_up(whole["table"], places, tasks)),
        weights=cut.of(whole["weights"]),
        start=start,
        alike=cut.of(whole["alike"]) if "alike" in whole else None,
        user_in_context=Rows(cut.of(whole["user_in_context"]))
        if "user_in_context" in whole
        else None,
    )


def add_to_tables(found: Gradients, tables: Params, places: Tensor, cut: Cut) -> None:
    """Add the gradients of what a cut's tasks read of tables to those of the tables."""
    places = _places(places, cut)
    for table, name in TABLES.items():
        value = found.get(name)
        if value is not None:
            value = value if places.dim() == 2 else value.sum(0)
            tables[table].index_add_(0, places.reshape(-1), value.reshape(-1, value.shape[-1]))


def sum_of(values: list[Tensor | None]) -> Tensor | None:
    """Return a sum over parts; None for 0."""
    some = [value for value in values if value is not None]
    return torch.stack(some).sum(0) if some else None


def of_column(name: str, found: list[Gradients], shape: torch.Size, parts: list[Cut]) -> Tensor:
    """Return the gradient of a column of the whole, of those of all parts."""
    # What the lowest layer adds to an item's outputs has their slopes.
    values = [each["start" if name == "shift" else name] for each in found]
    some = [value if name != "given" else value.squeeze(1) for value in values if value is not None]
    if shape[0] < parts[-1].tasks.stop:
        return torch.stack([value.sum_to_size(shape) for value in some]).sum(0)
    if shape[1] == 1:
        some = [value.sum(1, keepdim=True) if value.shape[1] > 1 else value for value in some]
    if all(value.shape[1] == shape[1] for value in some):
        return torch.cat(some)
    total = some[0].new_zeros(shape)
    for value, cut in zip(some, parts, strict=True):
        total[cut.tasks][:, cut.rows] = value
    return total


def _places(places: Tensor, cut: Cut) -> Tensor:
    return places if places.dim() == 1 else cut.of(places)


def _looked_up(table: Tensor, places: Tensor, tasks: int) -> Tensor:
    rows = table.index_select(0, places.reshape(-1)).view(*places.shape, -1)
    return rows if places.dim() == 2 else rows.expand(tasks, *rows.shape)
