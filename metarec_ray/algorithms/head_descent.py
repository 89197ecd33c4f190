"""Gradient descent on the head of T tasks at once, with the inner gradients written out.

The one-task face leaves the inner gradient to autograd. Here backpropagation through the head is by
hand, so that the outer gradient is one pass of plain autograd over few large operations. Knows the
head's layers and the losses of support sets; does not know which learner asks.

Axes: T tasks, M rows of a task that its loss reads: its support and, for choices, the reference
items, K inputs and H outputs of a layer.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.algorithms.base import Params, Problem
from metarec_ray.core import losses
from metarec_ray.core.affine import Dual, FastMap, Held, Inputs, LowRank, Rates, gram
from metarec_ray.core.batch import Encoded
from metarec_ray.models.towers import askers, given_score, hidden_layers, hidden_units


class FastHead(NamedTuple):
    """The adapted layers of T tasks, lowest first: maps whose outputs are added up."""

    first: int  # the lowest adapted layer
    layers: list[list[FastMap]]

    def score(self, meta: Params, events: Encoded) -> Tensor:
        """Return the scores [T, N] of events, or of candidates that all tasks share."""
        inputs = hidden_units(meta, events, until=self.first)
        output = inputs
        for number, maps in enumerate(self.layers, start=self.first):
            parts = _inputs(meta, number, inputs, events, len(maps))
            output = _total([m.at(part) for m, part in zip(maps, parts, strict=True)])
            inputs = torch.relu(output)
        return given_score(meta, events) + output.squeeze(-1)

    def weights(self) -> Params:
        """Return the adapted weights by their names in the model, each [T, ...]."""
        fast: Params = {}
        for maps in self.layers:
            for affine in maps:
                fast |= affine.weights()
        return _joined(fast)

    def shifting(self, meta: Params) -> "FastHead":
        """Return the head that adds what was learned, as a constant, to the weights of `meta`."""
        weights = pieces(meta)
        return self._replace(layers=[[m.shifting(weights) for m in maps] for maps in self.layers])

    def distance(self, meta: Params) -> Tensor:
        """Return half the squared distance [T] to `meta`; only `meta` is differentiable."""
        weights = pieces(meta)
        every = [m.distance(weights) for maps in self.layers for m in maps]
        return torch.stack(every).sum(0)


def descend(
    problem: Problem,
    meta: Params,
    support: Encoded,
    *,
    first: int,
    rates: Rates,
    steps: int,
    weight: Tensor,
) -> FastHead:
    """Return the head after `steps` >= 1 steps on the sum of weighted losses of `support`.

    Differentiable to any order.

    Args:
        problem: of T tasks.
        meta: shared parameters.
        support: of T tasks.
        first: lowest layer that adapts; the last layer's number is that of the hidden layers.
        rates: one, or by `pieces` of the learned rates.
        steps: of descent, all at the same rates.
        weight: [T, N], what each event's loss counts; 0 on padding.

    """
    rows = support if problem.reference is None else beside(support, problem.reference)
    slope_of = _slopes(problem, support, weight)
    given = given_score(meta, rows)
    below = hidden_units(meta, rows, until=first)
    layers = _start(meta, rows, below, first=first, rates=rates, steps=steps)
    for _ in range(steps):
        inputs, outputs = below, []
        seen: list[list[Inputs]] = []
        for number, maps in enumerate(layers, start=first):
            seen.append(_inputs(meta, number, inputs, rows, len(maps)))
            outputs.append(_total([m.outputs(i) for m, i in zip(maps, seen[-1], strict=True)]))
            inputs = torch.relu(outputs[-1])
        slope = slope_of(given + outputs[-1].squeeze(-1)).unsqueeze(-1)
        for at in reversed(range(len(layers))):
            maps, under = layers[at], slope
            if at:
                # Of the maps of a layer, the first reads the layer below.
                under = maps[0].back(next(iter(seen[at][0])), slope)
                under = torch.ops.aten.threshold_backward(under, outputs[at - 1], 0)
            for affine, inputs_seen in zip(maps, seen[at], strict=True):
                affine.step(inputs_seen, slope)
            slope = under
    return FastHead(first, layers)


def beside(one: Encoded, other: Encoded) -> Encoded:
    """Return the events of both sets of each task, one after the other, for the first's user.

    `other` may be shared by all tasks. A context that all events share stays one row.
    """
    tasks = one.mask.shape[:-1]

    def joined(name: str, axis: int) -> Tensor:
        left, right = getattr(one, name), getattr(other, name)
        return torch.cat([left, right.expand(*tasks, *right.shape[axis:])], axis)

    flat = ("index", "offset", "label", "age", "mask", "time")
    # One row of context is that of the only event, or of all of them.
    context = one.context
    if context.shape[-2] == one.mask.shape[-1] or other.context.shape[-2] > 1:
        own = [e.context.expand(*tasks, e.mask.shape[-1], -1) for e in (one, other)]
        context = torch.cat(own, -2)
    return Encoded(
        **{name: joined(name, -1) for name in flat},
        item=joined("item", -2),
        user=one.user,
        context=context,
    )


def pieces(params: Params, prefix: str = "") -> Params:
    """Return the weights of the head's maps, each [K, H], by layer and what they multiply.

    With `prefix`, of the parameters so called that belong to the weights.
    """
    layers, found = hidden_layers(params), {}
    for number in range(layers):
        for kind in ("item", "user", "bias"):
            if (name := f"{prefix}head.{number}.{kind}") in params:
                value = params[name]
                found[f"{number}.{kind}"] = value.unsqueeze(0) if kind == "bias" else value
    weight = params[f"{prefix}head.out.weight"].unsqueeze(1)
    before = params[f"head.{layers - 1}.bias"].shape[0] if layers else 0
    if before:
        found["out.hidden"] = weight[:before]
    found["out.item"] = weight[before:]
    found["out.bias"] = params[f"{prefix}head.out.bias"].view(1, 1)
    return found


def _joined(fast: Params) -> Params:
    """Return the pieces of T tasks by their names in the model."""
    found = {}
    for name, value in fast.items():
        if not name.startswith("out."):
            found[f"head.{name}"] = value.squeeze(-2) if name.endswith(".bias") else value
    weight = [fast[name] for name in ("out.hidden", "out.item") if name in fast]
    found["head.out.weight"] = torch.cat(weight, -2).squeeze(-1)
    found["head.out.bias"] = fast["out.bias"].flatten(-3)
    return found


def _inputs(meta: Params, number: int, hidden: Tensor, events: Encoded, maps: int) -> list[Inputs]:
    """Return what a layer reads of events; the last one's `maps` tell the layer below apart."""
    layers = hidden_layers(meta)
    if number < layers:
        user = {"0.user": askers(events)} if number == 0 else {}
        return [{f"{number}.item": hidden, **user, f"{number}.bias": None}]
    below: Inputs = {"out.hidden": hidden} if layers else {}
    beside_it: Inputs = {"out.item": events.item, "out.bias": None}
    return [below | beside_it] if maps == 1 else [below, beside_it]


def _start(
    meta: Params, rows: Encoded, below: Tensor, *, first: int, rates: Rates, steps: int
) -> list[list[FastMap]]:
    """Return the maps of each adapted layer before the first step."""
    weights, squares = pieces(meta), {}
    last = hidden_layers(meta)
    layers = []
    for number in range(first, last + 1):
        count = 2 if first < number == last else 1
        parts = _inputs(meta, number, below, rows, count)
        own = [{name: weights[name] for name in part} for part in parts]
        changes = [number > first and at == 0 for at in range(count)]
        layers.append(
            [
                _moving(w, rates, rows=rows.mask.shape[-1], steps=steps)
                if moving
                else _fixed(w, rates, part, squares)
                for w, part, moving in zip(own, parts, changes, strict=True)
            ]
        )
    return layers


def _moving(weights: Params, rates: Rates, *, rows: int, steps: int) -> FastMap:
    """Return a map whose inputs change with every step."""
    width, height = next(iter(weights.values())).shape
    # What all later steps do with the factors, against one product with the weights a step.
    if isinstance(rates, float) and (steps - 1) * rows * (width + height) <= width * height:
        return LowRank(weights, rates, [])
    return Held(weights, rates)


def _fixed(weights: Params, rates: Rates, inputs: Inputs, squares: dict[int, Tensor]) -> FastMap:
    """Return a map whose inputs are the same in every step."""
    wide = [rows for rows in inputs.values() if rows is not None and rows.shape[-2] > 1]
    width = sum(rows.shape[-1] for rows in wide)
    if isinstance(rates, float) and wide and wide[0].shape[-2] <= 2 * width:
        return Dual(weights, rates, inputs, partial(gram, inputs, squares))
    return Held(weights, rates)


def _total(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else values[0] + values[1]


def _slopes(problem: Problem, support: Encoded, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """Return from scores [T, M] to the slopes of the weighted loss at them."""
    if problem.reference is None:
        slope = losses.SLOPES[problem.feedback]
        return lambda scores: weight * slope(scores, support.label)
    competes = support.index.unsqueeze(-1) != problem.reference.index
    events = support.mask.shape[-1]

    def of_choices(scores: Tensor) -> Tensor:
        others = scores[..., events:] - problem.reference_log_q
        return torch.cat(losses.softmax_slopes(scores[..., :events], others, weight, competes), -1)

    return of_choices
