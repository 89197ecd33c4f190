"""Feature columns and types of ids, as a log has them and a store writes them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from metarec_ray.data.settings import Kind

COLD = "cold"
"""Column of items.parquet: which items are held out of training; absent if none is."""

IdKind = Literal["integer", "text"]
Side = Literal["user", "item", "context", "label"]
"""What a feature is of; `label` holds the further labels of events, of stores that have any."""


class Frozen(BaseModel):
    """A part of a file's content: immutable, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureField(Frozen):
    """One encoded feature column.

    Attributes:
        name: column name without `user.`, `context.` or `label.`.
        kind: how the column is encoded.
        size: of the vocabulary of a (multi-)categorical feature, without the unknown (0).
        dim: length of a vector feature; 1 for a numeric one, 0 for a categorical one.
        knots: of a numeric feature, numbers of training rows, ascending; () for other kinds.
        ranks: of each of these the share of training rows below it, ties counted half.
        mean, std: of a numeric feature in stores that were made before there were ranks: its
            training rows' mean and standard deviation; else 0 and 1.

    """

    name: str
    kind: Kind
    size: int = 0
    dim: int = 0
    knots: tuple[float, ...] = ()
    ranks: tuple[float, ...] = ()
    mean: float = 0.0
    std: float = 1.0
