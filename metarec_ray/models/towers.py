"""Two towers and a head: what all users share, and the part that adapts.

An encoder turns side information into vectors of D dimensions, once a lane, and ids add vectors of
their own; the head scores one task's items against its user. Knows sizes and declares parameters;
does not know learners, losses or tasks.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor

from metarec_ray.core.batch import Features, Params
from metarec_ray.core.parameters import Declared, Parameter, Rows, of_part
from metarec_ray.data.setting_types import Settings
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.encoders.token_sum import TokenSum
from metarec_ray.models.encoders.union import AnyEncoder
from metarec_ray.models.head import init_head

SIDES = ("item", "user", "context")
TABLES = ("item.ids", "user.ids")  # rows of single items and users


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
        encoder: turns side information into vectors.
        item_ids, user_ids: learn a vector an id beside the features (an endpoint knows no users:
            it takes everybody for a new one); a new id starts at the zero
            vector, so that it is known by its features alone.
        user_dropout: share of training tasks that know nothing of their user, features and id: what
            tells who a user is would spare the learner to adapt [DropoutNet, Volkovs et al., 2017].
        hidden: widths of the head's hidden layers; () is a head linear in everything it adapts.
        init_scale: standard deviation of fresh embeddings.
        prior_days: time constant of the recency weights in the item offsets; None for none.
        prior_positions: events of a history (first, end) that count in the item offsets.

    """

    dim: Annotated[int, Field(ge=1, le=1024)] = 32
    encoder: AnyEncoder = TokenSum()
    item_ids: bool = True
    user_ids: bool = False
    user_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    hidden: tuple[PositiveInt, ...] = ()
    init_scale: Annotated[float, Field(gt=0, le=1)] = 0.1
    prior_days: Annotated[float, Field(gt=0)] | None = None
    prior_positions: tuple[Annotated[int, Field(ge=0)], PositiveInt] | None = None

    def init(self, sides: Sides, generator: Generator) -> Declared:
        """Return fresh parameters.

        Users start at zero, their features alone; so must items that are never trained, which the
        caller knows.
        """
        declared: Declared = {}
        for side in SIDES:
            declared |= of_part(side, self._encoder(side, getattr(sides, side), generator))
        declared |= of_part("head", init_head(self.dim, self.hidden, generator))
        if self.item_ids:
            vectors = torch.randn((sides.items, self.dim), generator=generator) * self.init_scale
            declared |= of_part("item", _table("item", vectors))
        if self.user_ids:
            declared |= of_part("user", _table("user", torch.zeros(sides.users, self.dim)))
        return declared

    def adapted(self) -> tuple[str, ...]:
        """Return the names of what adapts to a task beside the head, where the encoder adapts.

        That is of users and items what the encoder declares so: contexts and ids never adapt.
        """
        if not self.encoder.adapts:
            return ()
        own: Declared = {}
        for side in ("item", "user"):
            own |= self._encoder(side, Side(tokens=1, dense=1), torch.Generator())
        return tuple(name for name, parameter in own.items() if parameter.adapts)

    def encode(
        self, params: Params, side: str, features: Features, ids: Tensor | None = None
    ) -> Tensor:
        """Return the vectors [*E, D] of entities: what the encoder makes of them, and id rows."""
        vector = self.encoder.encode(params, side, features)
        return vector if ids is None else vector + ids

    def _encoder(self, side: str, sizes: Side, generator: Generator) -> Declared:
        return self.encoder.init(side, sizes, self.dim, scale=self.init_scale, generator=generator)


def _table(side: str, vectors: Tensor) -> Declared:
    return {f"{side}.ids": Parameter(vectors, decays=True, rows=Rows(side, "ids"))}
