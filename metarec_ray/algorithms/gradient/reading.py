"""What the head reads of events, as autograd knows it: what does not depend on what it learns.

Knows the towers' parameters; does not know descent. Items are rows of a table, so that what a layer
makes of an item is computed once, however many events have it.

Axes: T tasks, M events of a task, U rows of the table, D dimensions, H units of the lowest layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.fast.rows import Rate
from metarec_ray.models.head import hidden_layers, users_in_context

Rates = float | Params
"""One rate of all weights of the head, or by the names in the model the rates of all entries."""


class Reading(NamedTuple):
    """Events of T tasks, or candidates that all tasks share: then places are [M]."""

    table: Tensor  # [U, D]
    places: Tensor  # int64 [T, M]: rows of the table
    offset: Tensor  # [T, M], or [1, M] where all tasks share it
    user_in_context: Tensor  # [T, M, D], or [T, 1, D] where the events of a task share one

    @property
    def apart(self) -> bool:
        """Whether the events of a task differ in who asks."""
        return self.user_in_context.shape[-2] > 1

    def in_order(self, order: Tensor) -> "Reading":
        """Return the reading with its tasks in another order, int64 [T]."""
        places = self.places if self.places.dim() == 1 else self.places.index_select(0, order)
        offset = self.offset if len(self.offset) == 1 else self.offset.index_select(0, order)
        return Reading(self.table, places, offset, self.user_in_context.index_select(0, order))


def read(events: Encoded) -> Reading:
    """Return the reading of events, or of candidates."""
    user_in_context, item = users_in_context(events), events.item
    offset = events.offset if events.offset.dim() == 2 else events.offset.unsqueeze(0)
    if events.shares_items:
        return Reading(item, events.place, offset, user_in_context)
    places = torch.arange(item.shape[:-1].numel(), device=item.device)
    return Reading(item.flatten(0, -2), places.view(item.shape[:-1]), offset, user_in_context)


def reading_beside(one: Reading, other: Reading) -> Reading:
    """Return the events of both of each task; the second's may be shared by all tasks."""
    tasks, events = one.places.shape
    size, places = other.places.shape[-1], other.places + len(one.table)
    user_in_context = one.user_in_context
    # One row is that of the only event, or of all of them.
    if user_in_context.shape[-2] == events or other.apart:
        user_in_context = torch.cat(
            [user_in_context.expand(-1, events, -1), other.user_in_context.expand(-1, size, -1)], 1
        )
    return Reading(
        table=torch.cat([one.table, other.table]),
        places=torch.cat([one.places, places.expand(tasks, size)], 1),
        offset=torch.cat([one.offset, other.offset.expand(tasks, size)], 1),
        user_in_context=user_in_context,
    )


def first_outputs(meta: Params, table: Tensor) -> Params:
    """Return a table of items [U, D] and, with a hidden layer, what the lowest makes of it."""
    return {"table": table} | (
        {"lowest": table @ meta["head.0.item"]} if hidden_layers(meta) else {}
    )


def what_is_read(meta: Params, seen: Reading, own: Reading, *, first: int, rates: Rates) -> Params:
    """Return all besides items that a head reads whose layers from `first` on adapt.

    Args:
        meta: shared parameters.
        seen: what is scored.
        own: what tasks learn from; it may be the same.
        first: the lowest layer that adapts.
        rates: of descent.

    Returns:
        given [T or 1, M]: scores without the head. weights [T or 1, 1, D]: what scores an item.
        shift [T, 1 or M, H]: what the lowest layer adds to what it makes of an item. If it adapts,
        alike [T, 1 or M, 1 or H]: how far a slope at any event that is learned from moves the
        outputs here, beside what items do; one rate of all is left out. And
        user_in_context [T, M, D], where the events that are learned from differ in it.

    """
    width = seen.user_in_context.shape[-1]
    given = meta["offset.scale"] * seen.offset
    weights = meta["head.out.weight"][-width:]
    if seen.apart:
        given = given + (seen.user_in_context * seen.table[seen.places]).sum(-1)
        found = {"given": given, "weights": weights.view(1, 1, width)}
    else:
        found = {"given": given, "weights": weights + seen.user_in_context}
    if hidden_layers(meta):
        found["shift"] = seen.user_in_context @ meta["head.0.user"] + meta["head.0.bias"]
        if not first:
            found |= _of_users_in_context(seen, own, rates)
    return found


def _of_users_in_context(seen: Reading, own: Reading, rates: Rates) -> Params:
    by_user, bias = None, seen.user_in_context.new_ones(1, 1, 1)
    if isinstance(rates, dict):
        by_user, bias = rates["head.0.user"], rates["head.0.bias"].view(1, 1, -1)
    if own.apart:
        return {
            "user_in_context": seen.user_in_context.expand(-1, seen.places.shape[-1], -1),
            "alike": bias,
        }
    both = seen.user_in_context * own.user_in_context
    alike = both.sum(-1, keepdim=True) if by_user is None else both @ by_user
    return {"alike": alike + bias}


def layer_weights(meta: Params) -> Params:
    """Return the weights above the lowest hidden layer, but those of items: vectors are rows."""
    layers, weight = hidden_layers(meta), meta["head.out.weight"]
    found = {
        f"{number}.{kind}": meta[f"head.{number}.{kind}"]
        for number in range(1, layers)
        for kind in ("item", "bias")
    }
    if layers:
        found["out.hidden"] = weight[: _units(meta, layers)].view(1, 1, -1)
    return found | {"out.bias": meta["head.out.bias"].view(1, 1, 1)}


def layer_rates(meta: Params, rates: Rates, *, first: int) -> dict[str, Rate]:
    """Return the rates of all that adapts.

    By the names of `layer_weights`; of the lowest layer "0.item" and "0.user", and "out.item".
    """
    layers = hidden_layers(meta)
    adapting = range(max(1, first), layers)
    names = [f"{number}.{kind}" for number in adapting for kind in ("item", "bias")]
    names += ["0.item", "0.user"] if layers and not first else []
    if not isinstance(rates, dict):
        return dict.fromkeys([*names, "out.hidden", "out.item", "out.bias"], rates)
    weight, units = rates["head.out.weight"], _units(meta, layers)
    found: dict[str, Rate] = {name: rates[f"head.{name}"] for name in names}
    found["out.item"] = weight[units:].view(1, 1, -1)
    found["out.bias"] = rates["head.out.bias"].view(1, 1, 1)
    return found | ({"out.hidden": weight[:units].view(1, 1, -1)} if layers else {})


def _units(meta: Params, layers: int) -> int:
    return len(meta[f"head.{layers - 1}.bias"]) if layers else 0
