"""What the head reads of events that does not depend on fast weights; autograd differentiates it.

Knows the towers' parameters; does not know gradient descent. Items are rows of a table, so that
what a layer makes of an item is computed once, however many events have it.

Axes: T tasks, M events of a task, U rows of the item table, D dimensions, H outputs of the lowest
hidden layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.fast_weights.batched_ops import Rate
from metarec_ray.models.head import hidden_layers, users_in_context

Rates = float | Params
"""One learning rate of all weights of the head, or by name in the model those of all entries."""


class TableEvents(NamedTuple):
    """Events of T tasks, or candidates that all tasks share: then `places` is [M]."""

    item_table: Tensor  # [U, D]
    places: Tensor  # int64 [T, M]: rows of the table
    offset: Tensor  # [T, M], or [1, M] where all tasks share it
    user_in_context: Tensor  # [T, M, D], or [T, 1, D] where the events of a task share one

    @property
    def user_varies(self) -> bool:
        """Whether events of a task differ in `user_in_context`."""
        return self.user_in_context.shape[-2] > 1

    def in_order(self, order: Tensor) -> "TableEvents":
        """Return the events with their tasks in another order, int64 [T]."""
        places = self.places if self.places.dim() == 1 else self.places.index_select(0, order)
        offset = self.offset if len(self.offset) == 1 else self.offset.index_select(0, order)
        user_in_context = self.user_in_context.index_select(0, order)
        return TableEvents(self.item_table, places, offset, user_in_context)


def table_events(events: Encoded) -> TableEvents:
    """Return encoded events, or candidates, with their items as rows of a table."""
    user_in_context, item = users_in_context(events), events.item
    offset = events.offset if events.offset.dim() == 2 else events.offset.unsqueeze(0)
    if events.shares_items:
        return TableEvents(item, events.place, offset, user_in_context)
    places = torch.arange(item.shape[:-1].numel(), device=item.device)
    return TableEvents(item.flatten(0, -2), places.view(item.shape[:-1]), offset, user_in_context)


def with_references(support: TableEvents, references: TableEvents) -> TableEvents:
    """Return each task's support events, then the reference items, which all tasks may share."""
    tasks, events = support.places.shape
    size, places = references.places.shape[-1], references.places + len(support.item_table)
    user_in_context = support.user_in_context
    # One row is that of the only event, or of all events.
    if user_in_context.shape[-2] == events or references.user_varies:
        both = [
            user_in_context.expand(-1, events, -1),
            references.user_in_context.expand(-1, size, -1),
        ]
        user_in_context = torch.cat(both, 1)
    return TableEvents(
        item_table=torch.cat([support.item_table, references.item_table]),
        places=torch.cat([support.places, places.expand(tasks, size)], 1),
        offset=torch.cat([support.offset, references.offset.expand(tasks, size)], 1),
        user_in_context=user_in_context,
    )


def item_tables(meta: Params, item_table: Tensor) -> Params:
    """Return item_table [U, D] and, with hidden layers, output_table [U, H].

    That is the items' part of the lowest hidden layer's outputs, before any step.
    """
    tables = {"item_table": item_table}
    if hidden_layers(meta):
        tables["output_table"] = item_table @ meta["head.0.item"]
    return tables


def event_columns(
    meta: Params, events: TableEvents, support: TableEvents, *, first: int, rates: Rates
) -> Params:
    """Return all that the head reads of events besides their items.

    Args:
        meta: shared parameters.
        events: that are scored: query events, or the support itself.
        support: that tasks adapt on.
        first: the lowest layer that adapts.
        rates: learning rates of the inner loop.

    Returns:
        base_score [T or 1, M]: scores without the head.
        item_weights [T or 1, 1, D]: initial weights that score items.
        user_output [T, 1 or M, H], with hidden layers: what user, context and bias add to the
        lowest one's outputs before any step.
        If the lowest layer adapts, shared_dot [T, 1 or M, 1 or H]: the inner product of the input
        columns that are the same in all support events of a task with those of the events; columns
        that have rates of their own are multiplied by these.
        And user_in_context [T, M, D] if it is not among those columns.

    """
    width = events.user_in_context.shape[-1]
    base_score = meta["offset.scale"] * events.offset
    weights = meta["head.out.weight"][-width:]
    if events.user_varies:
        items = events.item_table[events.places]
        base_score = base_score + (events.user_in_context * items).sum(-1)
        columns = {"base_score": base_score, "item_weights": weights.view(1, 1, width)}
    else:
        columns = {"base_score": base_score, "item_weights": weights + events.user_in_context}
    if hidden_layers(meta):
        of_user = events.user_in_context @ meta["head.0.user"]
        columns["user_output"] = of_user + meta["head.0.bias"]
        if not first:
            columns |= _user_columns(events, support, rates)
    return columns


def _user_columns(events: TableEvents, support: TableEvents, rates: Rates) -> Params:
    user_rate, bias_dot = None, events.user_in_context.new_ones(1, 1, 1)
    if isinstance(rates, dict):
        user_rate, bias_dot = rates["head.0.user"], rates["head.0.bias"].view(1, 1, -1)
    if support.user_varies:
        return {
            "user_in_context": events.user_in_context.expand(-1, events.places.shape[-1], -1),
            "shared_dot": bias_dot,
        }
    products = events.user_in_context * support.user_in_context
    user_dot = products.sum(-1, keepdim=True) if user_rate is None else products @ user_rate
    return {"shared_dot": user_dot + bias_dot}


def layer_weights(meta: Params) -> Params:
    """Return the weights above the lowest hidden layer, but those that score items.

    By the names of `InitialHead`. Those that score hidden activations are a row, [1, 1, H].
    """
    layers, weight = hidden_layers(meta), meta["head.out.weight"]
    found = {
        f"{number}.{kind}": meta[f"head.{number}.{kind}"]
        for number in range(1, layers)
        for kind in ("item", "bias")
    }
    if layers:
        found["out.hidden"] = weight[: _last_width(meta, layers)].view(1, 1, -1)
    return found | {"out.bias": meta["head.out.bias"].view(1, 1, 1)}


def layer_rates(meta: Params, rates: Rates, *, first: int) -> dict[str, Rate]:
    """Return the rates of all that adapts, by the names of `InitialHead`."""
    layers = hidden_layers(meta)
    adapting = range(max(1, first), layers)
    names = [f"{number}.{kind}" for number in adapting for kind in ("item", "bias")]
    names += ["0.item", "0.user"] if layers and not first else []
    if not isinstance(rates, dict):
        return dict.fromkeys([*names, "out.hidden", "out.item", "out.bias"], rates)
    weight, width = rates["head.out.weight"], _last_width(meta, layers)
    found: dict[str, Rate] = {name: rates[f"head.{name}"] for name in names}
    found["out.item"] = weight[width:].view(1, 1, -1)
    found["out.bias"] = rates["head.out.bias"].view(1, 1, 1)
    return found | ({"out.hidden": weight[:width].view(1, 1, -1)} if layers else {})


def _last_width(meta: Params, layers: int) -> int:
    """Return the width of the last hidden layer, 0 without one."""
    return len(meta[f"head.{layers - 1}.bias"]) if layers else 0
