"""The head: what scores the items of one task against its user, and what gradient learners adapt.

Its last layer is linear in `head_features`: score = features . weight + bias + user . item +
scale x offset. Closed-form learners replace the last layer's weights by their posterior. Knows
vectors; does not know encoders, learners or losses.

Axes: T tasks, N events, D dimensions of a vector, H units of a hidden layer, P = H + D features.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.parameters import Declared, Parameter


class Layer(NamedTuple):
    """A hidden layer: relu(x @ weight + bias)."""

    weight: Tensor  # [*T, inputs, H]
    bias: Tensor  # [*T, H]


class Head(NamedTuple):
    """The head's parameters by what they do; parameters of single tasks have the leading `*T`."""

    layers: list[Layer]
    user: Tensor | None  # [*T, D, H]: what the lowest hidden layer makes of the user
    of_units: Tensor  # [*T, H]: the last layer's weights of hidden units; H = 0 without any
    of_item: Tensor  # [*T, D]: its weights of the item's vector
    bias: Tensor  # [*T]
    offset_scale: Tensor  # [*T]


def init_head(dim: int, hidden: tuple[int, ...], generator: Generator) -> Declared:
    """Return a fresh head over vectors of `dim` whose last layer adds nothing yet."""
    declared: Declared = {}
    width = dim
    for i, size in enumerate(hidden):
        declared[f"head.{i}.item"] = _drawn((width, size), generator)
        if i == 0:
            declared["head.0.user"] = _drawn((dim, size), generator)
        declared[f"head.{i}.bias"] = Parameter(torch.zeros(size))
        width = size
    features = dim + (width if hidden else 0)
    declared["head.out.weight"] = Parameter(torch.zeros(features), decays=True)
    declared["head.out.bias"] = Parameter(torch.zeros(()))
    declared["offset.scale"] = Parameter(torch.ones(()))
    return declared


def layer_names(params: Params, first: int = 0) -> list[str]:
    """Return the names of the weights and biases of a head's layers from number `first` on.

    Hidden layers are counted from 0, the output layer comes last. In the order of `params`.
    """
    own = {"head.out.weight", "head.out.bias"}
    for layer in range(first, hidden_layers(params)):
        own |= {f"head.{layer}.{kind}" for kind in ("item", "user", "bias")}
    return [name for name in params if name in own]


def head_of(params: Params, dim: int) -> Head:
    """Return the head among parameters, over vectors of `dim`."""
    layers = [
        Layer(params[f"head.{i}.item"], params[f"head.{i}.bias"])
        for i in range(hidden_layers(params))
    ]
    weight = params["head.out.weight"]
    units = weight.shape[-1] - dim
    return Head(
        layers,
        params.get("head.0.user"),
        weight[..., :units],
        weight[..., units:],
        params["head.out.bias"],
        params["offset.scale"],
    )


def dimensions(params: Params) -> int:
    """Return the length D of encoded vectors."""
    user = params.get("head.0.user")
    return len(params["head.out.weight"]) if user is None else len(user)


def hidden_layers(params: Params) -> int:
    """Return how many hidden layers the head has."""
    layers = 0
    while f"head.{layers}.item" in params:
        layers += 1
    return layers


def users_in_context(events: Encoded) -> Tensor:
    """Return user + context, [*T, N, D], or [*T, 1, D] where all events of a task share one."""
    return events.user.unsqueeze(-2) + events.context


def head_features(params: Params, events: Encoded) -> Tensor:
    """Return the vectors [*T, N, P] that the head's last layer is linear in."""
    head = head_of(params, events.item.shape[-1])
    if not head.layers:
        return events.item
    units = _units(head, events)
    return torch.cat([units, events.item.expand(*units.shape[:-1], -1)], -1)


def head_score(params: Params, events: Encoded) -> Tensor:
    """Return the scores [*T, N] of events; parameters may have the leading `*T` as well."""
    head = head_of(params, events.item.shape[-1])
    scores = _base_score(head.offset_scale, events, beside=head.of_item)
    if head.layers:
        scores = scores + dot(_units(head, events), head.of_units)
    return scores + head.bias.unsqueeze(-1)


def score_of(params: Params, features: Tensor, events: Encoded) -> Tensor:
    """Return the scores [*T, N] of events whose `head_features` are at hand."""
    linear = dot(features, params["head.out.weight"]) + params["head.out.bias"].unsqueeze(-1)
    return linear + _base_score(params["offset.scale"], events)


def dot(rows: Tensor, weight: Tensor) -> Tensor:
    """Return the products [*T, N] of rows [*T, N, P] and vectors [*T, P].

    Rows that all tasks share, [N, P], cost one matrix product.
    """
    if rows.dim() == 2:
        return weight @ rows.T
    if weight.dim() == 1:
        return rows @ weight
    # On a CPU a batch of matrices times a column each takes several times as long.
    return (rows * weight.unsqueeze(-2)).sum(-1)


def shift_user(params: Params, shift: Tensor) -> Params:
    """Return parameters that score users as if `shift` [*T, D] were added to their vectors.

    What a learner knows of a user then travels with the parameters, to reference items as well.
    """
    weight = params["head.out.weight"]
    before = weight.shape[-1] - shift.shape[-1]
    shifted = {"head.out.weight": weight + torch.nn.functional.pad(shift, (before, 0))}
    if "head.0.user" in params:
        shifted["head.0.bias"] = params["head.0.bias"] + shift @ params["head.0.user"]
    return params | shifted


def _units(head: Head, events: Encoded) -> Tensor:
    """Return the units [*T, N, H] of the last hidden layer."""
    assert head.user is not None
    units = events.item
    for number, (weight, bias) in enumerate(head.layers):
        units = units @ weight + bias.unsqueeze(-2)
        if number == 0:
            units = units + users_in_context(events) @ head.user
        units = torch.relu(units)
    return units


def _base_score(scale: Tensor, events: Encoded, *, beside: Tensor | None = None) -> Tensor:
    """Return the scores [*T, N] without the head: how user and item match, and the item's offset.

    `beside` [*T, D] is added to every user's vector.
    """
    query = users_in_context(events)
    query = query if beside is None else query + beside.unsqueeze(-2)
    if query.shape[-2] == 1:
        match = dot(events.item, query.squeeze(-2))
    else:
        match = (query * events.item).sum(-1)
    return match + scale.unsqueeze(-1) * events.offset


def _drawn(shape: tuple[int, int], generator: Generator) -> Parameter:
    return Parameter(torch.randn(shape, generator=generator) * shape[0] ** -0.5, decays=True)
