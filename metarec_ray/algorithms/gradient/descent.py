"""Gradient descent on the heads of T tasks at once, with the exact meta-gradient by hand.

`adapt` of one task leaves gradients, and gradients of gradients, to autograd. Here the scores of
adapted heads are one autograd function (`autograd_functions`). Its inputs are the initial weights
and what the head reads of support and query events; its backward pass goes through all steps of the
inner loop (docs/gradients.md). Autograd differentiates what comes before it, from parameters to
what the head reads, and what is made of the scores.

Knows what the learners' hyper-parameters mean for the head; does not know how a layer adapts.

Axes: T tasks, N events of a task's support, M rows that are scored.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Problem
from metarec_ray.algorithms.gradient.autograd_functions import InnerLoops
from metarec_ray.algorithms.gradient.event_inputs import (
    Rates,
    TableEvents,
    event_columns,
    item_tables,
    layer_rates,
    layer_weights,
    table_events,
    with_references,
)
from metarec_ray.algorithms.gradient.inner_loop import InitialHead, InnerLoop
from metarec_ray.algorithms.gradient.task_buckets import TaskBucket, bucket_inputs, task_buckets
from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.fast_weights.loss_derivatives import LossDerivatives
from metarec_ray.models.head import hidden_layers, layer_names

INPUT_WEIGHTS = "head.0.item"


class FastHead(NamedTuple):
    """The adapted heads of T tasks."""

    inner: InnerLoops
    support: TableEvents  # tasks in the order of the inner loops
    input_weights: Tensor | None  # of the lowest hidden layer, for items
    tables: Params  # as `item_tables` made them with these weights
    support_inputs: Params  # tables and columns; empty without second order
    first: int
    rates: Rates

    def score(self, meta: Params, events: Encoded) -> Tensor:
        """Return the scores [T, M] of events, or of candidates that all tasks share.

        The changes of the inner loop are added to the weights of `meta`, which it started from.
        """
        query = table_events(events).in_order(self.inner.order)
        inputs = event_columns(meta, query, self.support, first=self.first, rates=self.rates)
        same_items = query.item_table is self.support.item_table
        same_tables = same_items and meta.get(INPUT_WEIGHTS) is self.input_weights
        if not (same_tables and self.support_inputs):
            inputs |= self.tables if same_tables else item_tables(meta, query.item_table)
        weights = layer_weights(meta)
        rates = layer_rates(meta, self.rates, first=self.first).items()
        weights |= {f"rates.{n}": rate for n, rate in rates if isinstance(rate, Tensor)}
        return self.inner.score(query.places, weights, self.support_inputs, inputs)

    def weights(self, meta: Params) -> Params:
        """Return the adapted weights, each [T, ...], by name in the model; no derivative."""
        order, loops, buckets, _ = self.inner
        each = zip(loops, buckets, strict=True)
        changes = [self._changes(loop, bucket) for loop, bucket in each]
        inverse = order.argsort()
        return {
            n: meta[n].detach() + torch.cat([c[n] for c in changes])[inverse] for n in changes[0]
        }

    def distance(self, meta: Params) -> Tensor:
        """Return half the squared distance [T] to `meta`; only `meta` is differentiable."""
        initial = {name: meta[name] for name in layer_names(meta)}
        return self.inner.distance(self._changes, initial)

    def _changes(self, loop: InnerLoop, bucket: TaskBucket) -> Params:
        """Return how far the inner loop moved the weights, [T, ...], by name in the model."""
        found: Params = {}
        layers = loop.layers
        if layers.input is not None:
            found[INPUT_WEIGHTS], *users = layers.input.weight_changes()
            user_rate, bias_rate = self._shared_rates()
            total = layers.input.grad_total()
            shared = bucket.select(self.support.user_in_context.detach()).mT
            found["head.0.user"] = users[0] if users else -user_rate * (shared @ total)
            found["head.0.bias"] = (-bias_rate * total).squeeze(1)
        for number, layer in zip(loop.head.adapting, layers.hidden, strict=True):
            found[f"head.{number}.item"], bias = layer.weight_changes()
            found[f"head.{number}.bias"] = bias.squeeze(1)
        weight, bias = layers.output.weight_changes()
        found["head.out.weight"], found["head.out.bias"] = weight.squeeze(1), bias.flatten()
        return found

    def _shared_rates(self) -> tuple[float | Tensor, float | Tensor]:
        """Return the rates of the lowest hidden layer's weights of users and of its biases."""
        if isinstance(self.rates, dict):
            return self.rates["head.0.user"].detach(), self.rates["head.0.bias"].detach()
        return self.rates, self.rates


def descend(
    problem: Problem,
    meta: Params,
    support: Encoded,
    *,
    first: int,
    rates: Rates,
    steps: int,
    weight: Tensor,
    second_order: bool,
) -> FastHead:
    """Return the heads after `steps` >= 1 steps of descent on the weighted losses of `support`.

    Args:
        problem: of T tasks.
        meta: shared parameters.
        support: of T tasks, real events first.
        first: lowest layer that adapts, counted from 0; the output layer comes after the hidden
            ones.
        rates: one, or by name in the model those of all entries; the same in all steps.
        steps: of gradient descent.
        weight: [T, N], of each event's loss; 0 on padding.
        second_order: whether scores are differentiated through the inner loop; if not, what was
            learned is a constant.

    """
    size = 0 if problem.reference is None else problem.reference.index.shape[-1]
    cheap_rows = steps == 1 or first == hidden_layers(meta)
    order, buckets = task_buckets(support.mask, size, cheap_rows=cheap_rows)
    with torch.set_grad_enabled(second_order and torch.is_grad_enabled()):
        events = _ordered_events(problem, support, order)
        columns = event_columns(meta, events, events, first=first, rates=rates)
    tables = item_tables(meta, events.item_table)
    head = _head(meta, first=first, rates=rates, steps=steps, second_order=second_order)
    loops = []
    with torch.inference_mode():
        for bucket in buckets:
            loss = _support_loss(problem, support, weight, order[bucket.tasks], bucket.longest)
            inputs = bucket_inputs(columns | tables, events.places, bucket)
            loops.append(InnerLoop(inputs, head, loss))
    return FastHead(
        inner=InnerLoops(order, loops, buckets, events.places),
        support=events,
        input_weights=meta.get(INPUT_WEIGHTS),
        tables=tables,
        support_inputs=columns | tables if second_order else {},
        first=first,
        rates=rates,
    )


def _ordered_events(problem: Problem, support: Encoded, order: Tensor) -> TableEvents:
    """Return what tasks learn from, in the order of buckets: supports, then reference items."""
    events = table_events(support).in_order(order)
    if problem.reference is None:
        return events
    return with_references(events, table_events(problem.reference).in_order(order))


def _head(meta: Params, *, first: int, rates: Rates, steps: int, second_order: bool) -> InitialHead:
    layers = hidden_layers(meta)
    every = layer_rates(meta, rates, first=first).items()
    return InitialHead(
        weights={name: value.detach() for name, value in layer_weights(meta).items()},
        rates={n: rate.detach() if isinstance(rate, Tensor) else rate for n, rate in every},
        frozen=list(range(1, first)) if first else None,
        adapting=list(range(max(1, first), layers)),
        steps=steps,
        second_order=second_order,
    )


def _support_loss(
    problem: Problem, support: Encoded, weight: Tensor, tasks: Tensor, longest: int
) -> LossDerivatives:
    def events(column: Tensor) -> Tensor:
        return column.index_select(0, tasks)[:, :longest]

    loss = problem.loss
    if isinstance(loss, LabelLoss):
        return loss.derivatives(events(support.label), events(weight))
    assert isinstance(loss, ChoiceLoss)
    assert problem.reference is not None
    competes = events(support.index).unsqueeze(-1) != problem.reference.index
    return loss.derivatives(events(weight), competes, problem.reference_log_q)


def beside(one: Encoded, other: Encoded) -> Encoded:
    """Return the events of both sets of each task for the first's user, real ones first.

    A context that all events share stays one row.
    """
    tasks, context = one.mask.shape[:-1], one.context
    # One row of context is that of the only event, or of all of them.
    if context.shape[-2] == one.mask.shape[-1] or other.context.shape[-2] > 1:
        own = [e.context.expand(*tasks, e.mask.shape[-1], -1) for e in (one, other)]
        context = torch.cat(own, -2)

    def columns(name: str) -> Tensor:
        return torch.cat([getattr(one, name), getattr(other, name)], -1)

    both = Encoded(
        index=columns("index"),
        item=one.item if one.shares_items else torch.cat([one.item, other.item], -2),
        offset=columns("offset"),
        user=one.user,
        context=context,
        label=columns("label"),
        age=columns("age"),
        mask=columns("mask"),
        time=columns("time"),
        place=columns("place"),
    )
    return both.at(torch.sort(~both.mask, dim=-1, stable=True).indices)
