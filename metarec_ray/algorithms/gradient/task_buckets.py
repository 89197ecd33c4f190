"""Buckets of tasks of like length: what the head reads of each, out of what it reads of all tasks.

Knows shapes; does not know layers. Tasks are in an order in which those of a bucket are neighbours.

Axes: T tasks, M rows of a task, U rows of the item table, D dimensions, H outputs of the lowest
hidden layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.gradient.inner_loop import HeadInputs
from metarec_ray.core.batch import Params
from metarec_ray.core.buckets import buckets
from metarec_ray.core.fast_weights.batched_ops import Grads, Rows

OVERHEAD = 120  # rows that cost as much as the calls of one more bucket; measured
OVERHEAD_IF_CHEAP = 350
TABLES = {"item_table": "item", "output_table": "initial_output"}
"""Of each table that all tasks share, the field of `HeadInputs` that is looked up in it."""


class TaskBucket(NamedTuple):
    """Tasks that are computed at once, and which of their rows are read."""

    tasks: slice
    rows: slice | Tensor
    longest: int  # events of the longest support, at least 1

    def select(self, column: Tensor) -> Tensor:
        """Return the bucket's part of a column [T or 1, M or 1, ...]; axes of 1 stay."""
        some = column if len(column) == 1 else column[self.tasks]
        return some if some.shape[1] == 1 else some[:, self.rows]


def task_buckets(
    mask: Tensor, references: int, *, cheap_rows: bool
) -> tuple[Tensor, list[TaskBucket]]:
    """Return an order of tasks, int64 [T], and the buckets of those in order.

    Args:
        mask: bool [T, N], real events first. What is padding in a whole bucket is not read.
        references: number of rows after the events, which every task reads.
        cheap_rows: whether a row costs little: only the last layer adapts, or there is one step.

    """
    width, device = mask.shape[1], mask.device
    lengths = mask.sum(1).tolist()
    reference_rows = torch.arange(width, width + references, device=device)
    overhead = OVERHEAD_IF_CHEAP if cheap_rows else OVERHEAD
    found, begin, positions = [], 0, buckets(mask, overhead=overhead)
    for tasks in positions:
        longest = max(1, *(lengths[task] for task in tasks.tolist()))
        rows: slice | Tensor = slice(0, longest)
        if references:
            rows = torch.cat([torch.arange(longest, device=device), reference_rows])
        found.append(TaskBucket(slice(begin, begin + len(tasks)), rows, longest))
        begin += len(tasks)
    return torch.cat(positions), found


def bucket_inputs(inputs: Params, places: Tensor, bucket: TaskBucket) -> HeadInputs:
    """Return what the head reads of a bucket's rows.

    Args:
        inputs: what it reads of all tasks: item_table [U, D] and, with hidden layers, output_table
            [U, H], as `item_tables` returns them; the columns that `event_columns` returns.
        places: int64 [T, M], rows of the tables; or [M] for all tasks.
        bucket: whose.

    """
    tasks = bucket.tasks.stop - bucket.tasks.start
    places = _places(places, bucket)
    initial_output = None
    if "output_table" in inputs:
        of_item = _looked_up(inputs["output_table"], places, tasks)
        # Candidates that all tasks share are one row in memory: not to be written to.
        of_user = bucket.select(inputs["user_output"])
        initial_output = of_item.add_(of_user) if places.dim() == 2 else of_item + of_user
    user = inputs.get("user_in_context")
    return HeadInputs(
        base_score=bucket.select(inputs["base_score"]).unsqueeze(1),
        item=Rows(_looked_up(inputs["item_table"], places, tasks)),
        item_weights=bucket.select(inputs["item_weights"]),
        initial_output=initial_output,
        shared_dot=bucket.select(inputs["shared_dot"]) if "shared_dot" in inputs else None,
        user_in_context=None if user is None else Rows(bucket.select(user)),
    )


def add_table_grads(grads: Grads, totals: Params, places: Tensor, bucket: TaskBucket) -> None:
    """Add a bucket's gradients of what it looked up to the `totals` of the tables."""
    places = _places(places, bucket)
    for table, field in TABLES.items():
        grad = grads.get(field)
        if grad is not None:
            grad = grad if places.dim() == 2 else grad.sum(0)
            totals[table].index_add_(0, places.reshape(-1), grad.reshape(-1, grad.shape[-1]))


def weight_grad(grads: list[Tensor | None]) -> Tensor | None:
    """Return the sum of all buckets' gradients of a weight; None for 0."""
    some = [grad for grad in grads if grad is not None]
    return torch.stack(some).sum(0) if some else None


def column_grad(
    name: str, grads: list[Grads], shape: torch.Size, buckets: list[TaskBucket]
) -> Tensor:
    """Return the gradient of a column of all tasks, given those of all buckets."""
    # It is added to the items' part of `initial_output`, and so has the same gradient.
    field = "initial_output" if name == "user_output" else name
    some = [grad for grad in (each[field] for each in grads) if grad is not None]
    if name == "base_score":
        some = [grad.squeeze(1) for grad in some]
    if shape[0] < buckets[-1].tasks.stop:
        return torch.stack([grad.sum_to_size(shape) for grad in some]).sum(0)
    if shape[1] == 1:
        some = [grad.sum(1, keepdim=True) if grad.shape[1] > 1 else grad for grad in some]
    if all(grad.shape[1] == shape[1] for grad in some):
        return torch.cat(some)
    total = some[0].new_zeros(shape)
    for grad, bucket in zip(some, buckets, strict=True):
        total[bucket.tasks][:, bucket.rows] = grad
    return total


def _places(places: Tensor, bucket: TaskBucket) -> Tensor:
    return places if places.dim() == 1 else bucket.select(places)


def _looked_up(table: Tensor, places: Tensor, tasks: int) -> Tensor:
    rows = table.index_select(0, places.reshape(-1)).view(*places.shape, -1)
    return rows if places.dim() == 2 else rows.expand(tasks, *rows.shape)
