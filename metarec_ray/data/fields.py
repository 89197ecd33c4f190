"""Feature columns and types of ids, as a log has them and a store writes them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from metarec_ray.data.settings import Kind

COLD = "cold"
"""Column of items.parquet: which items are held out of training; absent if none is."""

IdKind = Literal["integer", "text"]
Side = Literal["user", "item", "context"]


class Frozen(BaseModel):
    """A part of a file's content: immutable, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureField(Frozen):
    """One encoded feature column.

    Attributes:
        name: column name without `user.` or `context.`.
        kind: how the column is encoded.
        size: of the vocabulary of a (multi-)categorical feature, without the unknown (0).
        dim: length of a vector feature; 1 for a numeric one, 0 for a categorical one.
        mean: mean of a numeric feature over training rows; 0 for other kinds.
        std: its standard deviation; 1 where that is 0, and for other kinds.

    """

    name: str
    kind: Kind
    size: int = 0
    dim: int = 0
    mean: float = 0.0
    std: float = 1.0
