"""Gradient descent on the head of T tasks at once, and the meta-gradient through it, by hand.

The one-task face leaves gradients and their gradients to autograd. Here an adapted head is asked
for scores by one operation of autograd's: its inputs are what the head reads and the weights it
began with, and its derivative goes back through all steps of descent. What is computed before, from
parameters to what the head reads, is autograd's, as is what is made of the scores.

Knows which learner's hyper-parameters mean what for the head; does not know how a layer learns.

Axes: T tasks, N events of a task's support, M rows that are scored.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Params, Problem
from metarec_ray.algorithms.gradient.cuts import Cut, cuts, part_inputs
from metarec_ray.algorithms.gradient.part import Head, Part
from metarec_ray.algorithms.gradient.reading import (
    Rates,
    Reading,
    first_outputs,
    layer_rates,
    layer_weights,
    read,
    reading_beside,
    what_is_read,
)
from metarec_ray.algorithms.gradient.scores import Descents
from metarec_ray.algorithms.losses.base import ChoiceLoss, LabelLoss
from metarec_ray.core.batch import Encoded
from metarec_ray.core.fast.curvature import Curvature
from metarec_ray.models.head import hidden_layers

__all__ = ["FastHead", "Rates", "beside", "descend"]
LOWEST = "head.0.item"


class FastHead(NamedTuple):
    """The adapted heads of T tasks."""

    descents: Descents
    own: Reading  # what was learned from, tasks in the order of the descents
    lowest: Tensor | None  # weights of the lowest layer's items
    tables: Params  # of items, and of what these weights make of them
    whole: Params  # all that was read; nothing, where there is no way back through the descent
    first: int
    rates: Rates

    def score(self, meta: Params, events: Encoded) -> Tensor:
        """Return the scores [T, M] of events, or of candidates that all tasks share.

        What was learned is added to the weights of `meta`, those that it was learned from.
        """
        seen = read(events).in_order(self.descents.order)
        asked = what_is_read(meta, seen, self.own, first=self.first, rates=self.rates)
        known = seen.table is self.own.table and meta.get(LOWEST) is self.lowest
        if not (known and self.whole):
            asked |= self.tables if known else first_outputs(meta, seen.table)
        weights = layer_weights(meta)
        rates = layer_rates(meta, self.rates, first=self.first).items()
        weights |= {f"rates.{n}": rate for n, rate in rates if isinstance(rate, Tensor)}
        return self.descents.score(seen.places, weights, self.whole, asked)

    def weights(self, meta: Params) -> Params:
        """Return the adapted weights by their names in the model, each [T, ...]; no derivative."""
        order, parts, some, _ = self.descents
        changes = [self._changes(part, cut) for part, cut in zip(parts, some, strict=True)]
        back = order.argsort()
        return {n: meta[n].detach() + torch.cat([c[n] for c in changes])[back] for n in changes[0]}

    def distance(self, meta: Params) -> Tensor:
        """Return half the squared distance [T] to `meta`; only `meta` is differentiable."""
        before = {name: value for name, value in meta.items() if name.startswith("head.")}
        return self.descents.distance(self._changes, before)

    def _changes(self, part: Part, cut: Cut) -> Params:
        """Return what was added to the weights of the model, [T, ...]."""
        found: Params = {}
        if part.lowest is not None:
            found[LOWEST], *users = part.lowest.changes()
            user, bias = self._alike_rates()
            total = part.lowest.total()
            alike = cut.of(self.own.user_in_context.detach()).mT
            found["head.0.user"] = users[0] if users else -user * (alike @ total)
            found["head.0.bias"] = (-bias * total).squeeze(1)
        for number, layer in zip(part.head.adapting, part.adapting, strict=True):
            found[f"head.{number}.item"], bias = layer.changes()
            found[f"head.{number}.bias"] = bias.squeeze(1)
        weight, bias = part.readout.changes()
        found["head.out.weight"], found["head.out.bias"] = weight.squeeze(1), bias.flatten()
        return found

    def _alike_rates(self) -> tuple[float | Tensor, float | Tensor]:
        """Return the rates of the lowest layer's weights of users and of its biases."""
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
    """Return the head after `steps` >= 1 steps on the sum of weighted losses of `support`.

    Args:
        problem: of T tasks.
        meta: shared parameters.
        support: of T tasks, real events first.
        first: lowest layer that adapts; the last layer's number is that of the hidden layers.
        rates: one, or by names in the model those of all entries; the same in all steps.
        steps: of descent.
        weight: [T, N], what each event's loss counts; 0 on padding.
        second_order: whether scores are differentiated through the descent; or else what is learned
            is a constant.

    """
    rivals = problem.reference
    light = steps == 1 or first == hidden_layers(meta)
    more = 0 if rivals is None else rivals.index.shape[-1]
    order, parts = cuts(support.mask, more, light=light)
    with torch.set_grad_enabled(second_order and torch.is_grad_enabled()):
        own = read(support).in_order(order)
        if rivals is not None:
            own = reading_beside(own, read(rivals).in_order(order))
        whole = what_is_read(meta, own, own, first=first, rates=rates)
    tables = first_outputs(meta, own.table)
    head = _head(meta, first=first, rates=rates, steps=steps, second_order=second_order)
    found = []
    with torch.inference_mode():
        for cut in parts:
            loss = _curvature(problem, support, weight, order[cut.tasks], cut.longest)
            found.append(Part(part_inputs(whole | tables, own.places, cut), head, loss))
    return FastHead(
        descents=Descents(order, found, parts, own.places),
        own=own,
        lowest=meta.get(LOWEST),
        tables=tables,
        whole=whole | tables if second_order else {},
        first=first,
        rates=rates,
    )


def _head(meta: Params, *, first: int, rates: Rates, steps: int, second_order: bool) -> Head:
    layers = hidden_layers(meta)
    every = layer_rates(meta, rates, first=first).items()
    return Head(
        weights={name: value.detach() for name, value in layer_weights(meta).items()},
        rates={n: rate.detach() if isinstance(rate, Tensor) else rate for n, rate in every},
        frozen=list(range(1, first)) if first else None,
        adapting=list(range(max(1, first), layers)),
        steps=steps,
        second_order=second_order,
    )


def _curvature(
    problem: Problem, support: Encoded, weight: Tensor, tasks: Tensor, longest: int
) -> Curvature:
    def events(column: Tensor) -> Tensor:
        return column.index_select(0, tasks)[:, :longest]

    loss = problem.loss
    if isinstance(loss, LabelLoss):
        return loss.curvature(events(support.label), events(weight))
    assert isinstance(loss, ChoiceLoss)
    assert problem.reference is not None
    competes = events(support.index).unsqueeze(-1) != problem.reference.index
    return loss.curvature(events(weight), competes, problem.reference_log_q)


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
