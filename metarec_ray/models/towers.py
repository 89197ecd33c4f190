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
    bag = params[f"{side}.tokens"][features.tokens]
    vector = (bag * features.weights.unsqueeze(-1)).sum(-2) + features.dense @ params[
        f"{side}.dense"
    ]
    return vector if ids is None else vector + ids


def head_features(params: Params, events: Encoded) -> Tensor:
    """Return the vectors [N, P] that the head's last layer is linear in."""
    if "head.0.item" not in params:
        return events.item
    query = events.user + events.context
    hidden, layer = events.item, 0
    while f"head.{layer}.item" in params:
        hidden = hidden @ params[f"head.{layer}.item"] + params[f"head.{layer}.bias"]
        hidden = torch.relu(hidden + query @ params["head.0.user"] if layer == 0 else hidden)
        layer += 1
    return torch.cat([hidden, events.item], -1)


def head_score(params: Params, events: Encoded) -> Tensor:
    """Return the scores [N] of one task's events."""
    linear = head_features(params, events) @ params["head.out.weight"] + params["head.out.bias"]
    if events.context.shape[0] == 1:
        match = events.item @ (events.user + events.context[0])
    else:
        match = ((events.user + events.context) * events.item).sum(-1)
    return linear + match + params["offset.scale"] * events.offset


def shift_user(params: Params, shift: Tensor) -> Params:
    """Return parameters that score every user as if `shift` [D] were added to the user's vector.

    What a learner knows of a user then travels with the parameters, to reference items as well.
    """
    weight = params["head.out.weight"]
    before = weight.shape[0] - shift.shape[0]
    shifted = {"head.out.weight": weight + torch.cat([weight.new_zeros(before), shift])}
    if "head.0.user" in params:
        shifted["head.0.bias"] = params["head.0.bias"] + shift @ params["head.0.user"]
    return params | shifted
