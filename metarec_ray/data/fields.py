"""Feature columns and kinds of ids: what the files of a log and those of a store have in common."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from metarec_ray.data.settings import Kind

COLD = "cold"
"""Column of the items that are held out of training; absent where none is."""

IdKind = Literal["integer", "text"]
Side = Literal["user", "item", "context"]


class Frozen(BaseModel):
    """What is written to a file and read again: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureField(Frozen):
    """One encoded feature column.

    Attributes:
        name: column name without the side's prefix.
        kind: how the column is encoded.
        size: number of known values of a (multi-)categorical feature, without the unknown (0).
        dim: length of a vector feature; 1 for a numeric one, 0 for a categorical one.
        mean: mean of the present values of a numeric feature before the cutoff; 0 otherwise.
        std: their standard deviation, 1 where it would be 0 or has no meaning.

    """

    name: str
    kind: Kind
    size: int = 0
    dim: int = 0
    mean: float = 0.0
    std: float = 1.0
