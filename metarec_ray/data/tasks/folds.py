"""Folds: equal shares of the entities of a store, one of which a fit leaves out.

Knows task ids; does not know what is fitted.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor

from metarec_ray.data.setting_types import Settings

_SEED = 5
"""The same for all learners and seeds: what one leaves out, the others must leave out too."""


class Fold(Settings):
    """The `train.without` section: the share of the entities that a fit leaves out.

    Attributes:
        fold: its number, from 0 on.
        folds: shares that all entities are dealt to; their sizes differ by one at most.

    """

    fold: NonNegativeInt
    folds: Annotated[int, Field(ge=2, le=1000)]

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "Fold":
        if self.fold >= self.folds:
            raise ValueError(f"fold must be < folds {self.folds}, got {self.fold}")
        return self


def fold_of_entities(entities: int, folds: int) -> Tensor:
    """Return the fold of each entity of a store, by its task id, int64 [entities]."""
    order = np.random.default_rng([_SEED, entities]).permutation(entities)
    return torch.from_numpy(order % folds)
