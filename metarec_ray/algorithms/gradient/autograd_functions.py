"""Scores of adapted heads, and their distance to the initial weights, as autograd functions.

Each is a single operation to autograd, with its backward pass by hand. Knows inner loops and their
buckets; does not know the model's parameters, nor who asks.

Axes: T tasks, M rows that are scored.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metarec_ray.algorithms.gradient.inner_loop import InnerLoop
from metarec_ray.algorithms.gradient.query_pass import HeadGrads, QueryPass
from metarec_ray.algorithms.gradient.task_buckets import (
    TABLES,
    TaskBucket,
    add_table_grads,
    bucket_inputs,
    column_grad,
    weight_grad,
)
from metarec_ray.core.batch import Params
from metarec_ray.core.fast_weights.batched_ops import Grads, accumulate

ALL_ROWS = slice(None)


class InnerLoops(NamedTuple):
    """The inner loops of T tasks, one for each bucket."""

    order: Tensor  # int64 [T]: tasks as they stand in buckets
    loops: list[InnerLoop]
    buckets: list[TaskBucket]
    places: Tensor  # int64 [T, M], in order: rows of the item table, of the support rows

    def score(self, places: Tensor, weights: Params, support: Params, query: Params) -> Tensor:
        """Return the adapted scores [T, M] of query rows.

        Args:
            places: int64 [T, M] in order, or [M] for all tasks: rows of the item table.
            weights: initial weights, and rates with "rates." before their names, as in
                `InitialHead`.
            support: what the head reads of support rows, as in `bucket_inputs`; empty where scores
                are not differentiated through the inner loop.
            query: what it reads of query rows; without tables, those of `support` are meant.

        """
        inputs = (weights, support, query)
        names = [list(part) for part in inputs]
        return _Scores.apply(self, places, names, *(v for part in inputs for v in part.values()))

    def distance(self, changes: "Changes", initial: Params) -> Tensor:
        """Return half the squared distance [T] of the adapted weights to the `initial` ones.

        Its derivative with respect to these takes the adapted ones as constants.
        """
        return _Distance.apply(self, changes, list(initial), *initial.values())


Changes = Callable[[InnerLoop, TaskBucket], Params]
"""Return how far a bucket's inner loop moved the weights, [T, ...], by name."""


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inner: InnerLoops, places: Tensor, names: list[list[str]], *values: Tensor
    ) -> Tensor:
        ctx.inner, ctx.places, ctx.names = inner, places, names
        ctx.shapes = [value.shape for value in values]
        _, support, query = _named(names, values)
        tables = {name: support[name] for name in TABLES if name in support}
        found = values[0].new_empty(len(inner.order), places.shape[-1])
        with torch.inference_mode():
            ctx.passes = []
            for loop, bucket in zip(inner.loops, inner.buckets, strict=True):
                every_row = bucket._replace(rows=ALL_ROWS)
                inputs = bucket_inputs(tables | query, places, every_row)
                ctx.passes.append(QueryPass(loop, inputs))
            scores = torch.cat([one.scores.squeeze(1) for one in ctx.passes])
            return found.index_copy_(0, inner.order, scores)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        inner: InnerLoops = ctx.inner
        weights, support, query = _named(ctx.names, ctx.shapes)
        grad = grad.index_select(0, inner.order).unsqueeze(1)
        support_tables, query_tables = (
            {n: grad.new_zeros(shapes[n]) for n in TABLES if n in shapes}
            for shapes in (support, query)
        )
        query_buckets = [bucket._replace(rows=ALL_ROWS) for bucket in inner.buckets]
        found: list[HeadGrads] = []
        with torch.inference_mode():
            each = zip(ctx.passes, inner.buckets, query_buckets, strict=True)
            for query_pass, bucket, every_row in each:
                grads = query_pass.meta_gradient(grad[bucket.tasks])
                add_table_grads(grads.support, support_tables, inner.places, bucket)
                totals = query_tables or support_tables
                add_table_grads(grads.query, totals, ctx.places, every_row)
                found.append(grads)
        # Outside inference mode: autograd cannot take tensors that were made in it.
        gradients = [weight_grad([grads.weights.get(name) for grads in found]) for name in weights]
        of_support, of_query = [one.support for one in found], [one.query for one in found]
        gradients += _input_grads(of_support, support, support_tables, inner.buckets)
        gradients += _input_grads(of_query, query, query_tables, query_buckets)
        return None, None, None, *gradients


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inner: InnerLoops, changes: Changes, names: list[str], *values: Tensor
    ) -> Tensor:
        ctx.inner, ctx.changes, ctx.names = inner, changes, names
        found = []
        for loop, bucket in zip(inner.loops, inner.buckets, strict=True):
            squares = [(c**2).reshape(len(c), -1).sum(1) for c in changes(loop, bucket).values()]
            found.append(torch.stack(squares).sum(0) / 2)
        return torch.cat(found)[inner.order.argsort()]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        inner: InnerLoops = ctx.inner
        grad = grad[inner.order]
        found: Grads = dict.fromkeys(ctx.names)
        # Formed again, a bucket at a time: together they would be all weights of all tasks.
        for loop, bucket in zip(inner.loops, inner.buckets, strict=True):
            for name, change in ctx.changes(loop, bucket).items():
                term = -torch.tensordot(grad[bucket.tasks], change, 1)
                found[name] = accumulate(found[name], term)
        return None, None, None, *found.values()


def _named(names: list[list[str]], values: Any) -> list[dict[str, Any]]:
    rest = iter(values)
    return [{name: next(rest) for name in part} for part in names]


def _input_grads(
    grads: list[Grads], shapes: dict[str, torch.Size], tables: Params, buckets: list[TaskBucket]
) -> list[Tensor | None]:
    return [
        tables[name] if name in tables else column_grad(name, grads, shape, buckets)
        for name, shape in shapes.items()
    ]
