"""Two towers and a head: what all users share, and the part that adapts.

Encoders turn side information (and, if wanted, ids) into vectors of D dimensions, once a lane. The
head scores one task's items against its user; its parameters, named `head.*`, are what gradient
learners adapt. Knows nothing of learners, losses or tasks.

The head's last layer is linear in `features`: score = features . head.out.weight + head.out.bias +
user . item + offset. Closed-form learners replace the last layer's weights by their posterior.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn.functional import embedding_bag

from metarec_ray.core.batch import Encoded, Features, Params
from metarec_ray.data.settings import Settings

TABLES = ("item.ids", "user.ids")  # rows of single items and users


class Side(NamedTuple):
    """Sizes of one side's features: rows of its token table and width of its dense vector."""

    tokens: int
    dense: int


class Sides(NamedTuple):
    """Everything an initialiser must know of a store."""

    user: Side
    item: Side
    context: Side
    users: int
    items: int


class Towers(Settings):
    """The `model` section.

    Attributes:
        dim: length D of every encoded vector.
        item_ids, user_ids: learn a vector an id beside the features (an endpoint knows no users:
            it takes everybody for a new one); a new id starts at the zero
            vector, so that it is known by its features alone.
        hidden: widths of the head's hidden layers; () is a head linear in everything it adapts.
        prior_days: time constant of the recency weights in the item offsets; None for none.
        prior_positions: events of a history (first, end) that count in the item offsets.

    """

    dim: Annotated[int, Field(ge=1, le=1024)] = 32
    item_ids: bool = True
    user_ids: bool = False
    hidden: tuple[PositiveInt, ...] = ()
    init_scale: Annotated[float, Field(gt=0, le=1)] = 0.1
    prior_days: Annotated[float, Field(gt=0)] | None = None
    prior_positions: tuple[Annotated[int, Field(ge=0)], PositiveInt] | None = None

    def init(self, sides: Sides, generator: torch.Generator) -> tuple[Params, Params]:
        """Return fresh dense parameters and tables of ids.

        Users start at zero, their features alone; so must items that are never trained, which the
        caller knows.
        """
        dense: Params = {"offset.scale": torch.ones(())}
        for name in ("item", "user", "context"):
            side: Side = getattr(sides, name)
            dense[f"{name}.tokens"] = self._normal((side.tokens, self.dim), generator)
            dense[f"{name}.dense"] = self._normal((side.dense, self.dim), generator)
        width = self.dim
        for i, size in enumerate(self.hidden):
            dense[f"head.{i}.item"] = self._normal((width, size), generator, width**-0.5)
            if i == 0:
                dense["head.0.user"] = self._normal((self.dim, size), generator, self.dim**-0.5)
            dense[f"head.{i}.bias"] = torch.zeros(size)
            width = size
        dense["head.out.weight"] = torch.zeros(self.features_dim)
        dense["head.out.bias"] = torch.zeros(())
        tables: Params = {}
        if self.item_ids:
            tables["item.ids"] = self._normal((sides.items, self.dim), generator)
        if self.user_ids:
            tables["user.ids"] = torch.zeros(sides.users, self.dim)
        return dense, tables

    @property
    def features_dim(self) -> int:
        """Length of the vector the last layer is linear in."""
        return self.dim + (self.hidden[-1] if self.hidden else 0)

    def _normal(
        self, shape: tuple[int, ...], generator: torch.Generator, scale: float | None = None
    ) -> Tensor:
        return torch.randn(shape, generator=generator) * (
            self.init_scale if scale is None else scale
        )


def encode(params: Params, side: str, features: Features, ids: Tensor | None = None) -> Tensor:
    """Return the vectors [*E, D] of entities: token rows, dense features and id rows, summed."""
    vector = _bags(params[f"{side}.tokens"], features)
    if features.dense.shape[-1]:
        vector = vector + features.dense @ params[f"{side}.dense"]
    return vector if ids is None else vector + ids


def _bags(table: Tensor, features: Features) -> Tensor:
    """Return the weighted sums [*E, D] of each entity's rows of the token table."""
    entities, tokens = features.tokens.shape[:-1], features.tokens.flatten(0, -2)
    weights = features.weights.flatten(0, -2)
    # Values and offsets: what is padding is not read.
    real = weights != 0
    sizes = real.sum(1)
    vectors = embedding_bag(
        tokens[real], table, sizes.cumsum(0) - sizes, per_sample_weights=weights[real], mode="sum"
    )
    return vectors.view(*entities, table.shape[1])


def hidden_layers(params: Params) -> int:
    """Return how many hidden layers the head has."""
    layers = 0
    while f"head.{layers}.item" in params:
        layers += 1
    return layers


def users_in_context(events: Encoded) -> Tensor:
    """Return user + context, [*T, N, D], or [*T, 1, D] where all events of a task share one."""
    return events.user.unsqueeze(-2) + events.context


def hidden_units(params: Params, events: Encoded, *, until: int | None = None) -> Tensor:
    """Return the units [*T, N, H] of the last hidden layer, or of the first `until`.

    Without a hidden layer these are the items themselves.
    """
    hidden = events.item
    for layer in range(hidden_layers(params) if until is None else until):
        hidden = hidden @ params[f"head.{layer}.item"] + params[f"head.{layer}.bias"].unsqueeze(-2)
        hidden = torch.relu(
            hidden + users_in_context(events) @ params["head.0.user"] if layer == 0 else hidden
        )
    return hidden


def head_features(params: Params, events: Encoded) -> Tensor:
    """Return the vectors [*T, N, P] that the head's last layer is linear in."""
    if not hidden_layers(params):
        return events.item
    hidden = hidden_units(params, events)
    return torch.cat([hidden, events.item.expand(*hidden.shape[:-1], -1)], -1)


def given_score(params: Params, events: Encoded, *, beside: Tensor | None = None) -> Tensor:
    """Return the scores [*T, N] without the head: how user and item match, and the item's offset.

    `beside` [*T, D] is added to every user's vector.
    """
    query = users_in_context(events)
    query = query if beside is None else query + beside.unsqueeze(-2)
    if query.shape[-2] == 1:
        match = dot(events.item, query.squeeze(-2))
    else:
        match = (query * events.item).sum(-1)
    return match + params["offset.scale"].unsqueeze(-1) * events.offset


def head_score(params: Params, events: Encoded) -> Tensor:
    """Return the scores [*T, N] of events; parameters may have the leading `*T` as well."""
    weight = params["head.out.weight"]
    before = weight.shape[-1] - events.item.shape[-1]
    scores = given_score(params, events, beside=weight[..., before:])
    if before:
        scores = scores + dot(hidden_units(params, events), weight[..., :before])
    return scores + params["head.out.bias"].unsqueeze(-1)


def score_of(params: Params, features: Tensor, events: Encoded) -> Tensor:
    """Return the scores [*T, N] of events whose `head_features` are at hand."""
    linear = dot(features, params["head.out.weight"]) + params["head.out.bias"].unsqueeze(-1)
    return linear + given_score(params, events)


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
