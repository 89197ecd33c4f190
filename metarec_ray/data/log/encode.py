"""Side information: from raw columns to canonical ones, from canonical ones to numbers.

Canonical dtypes: categorical String, multi_categorical List(String), numeric Float32, vector
List(Float32); null is missing. Numbers: index into the sorted vocabulary + 1, 0 for an unknown or
missing value; numeric and vector columns stay raw (the reader standardises). Knows columns; does
not know which rows may be looked at: the caller hands in those of the training entities.
"""

import math
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.numbers import one_zero
from metarec_ray.data.settings import Feature
from metarec_ray.errors import DataError

CANONICAL: dict[str, pl.DataType] = {
    "categorical": pl.String(),
    "multi_categorical": pl.List(pl.String()),
    "numeric": pl.Float32(),
    "vector": pl.List(pl.Float32()),
}
ARROW: dict[str, pa.DataType] = {
    "categorical": pa.int32(),
    "multi_categorical": pa.list_(pa.int32()),
    "numeric": pa.float32(),
    "vector": pa.list_(pa.float32()),
}


class Seen(NamedTuple):
    """What part of a feature column holds: adds up over the parts of a log.

    Attributes:
        values: of a (multi-)categorical feature.
        present: present numbers of a numeric feature; present vectors of a vector feature.
        total: their sum.
        squares: the sum of their squares.
        dims: lengths of vectors.

    """

    values: frozenset[str] = frozenset()
    present: int = 0
    total: float = 0.0
    squares: float = 0.0
    dims: frozenset[int] = frozenset()

    def merge(self, other: "Seen") -> "Seen":
        """Return what both parts hold; call it in a fixed order, floats are summed."""
        return Seen(
            self.values | other.values,
            self.present + other.present,
            self.total + other.total,
            self.squares + other.squares,
            self.dims | other.dims,
        )


class Encoder(NamedTuple):
    """A feature as it is written: its field in the manifest and its sorted vocabulary."""

    field: FeatureField
    vocabulary: list[str]


def canonical(column: pl.Series, feature: Feature, place: str) -> pl.Series:
    """Return the column in its canonical dtype; NaN becomes missing.

    `place` names the column in an error.
    """
    refused = DataError(f"a {feature.kind} feature cannot be read from {column.dtype} ({place})")
    kind, dtype = feature.kind, column.dtype
    if dtype == pl.Null:
        return column.cast(CANONICAL[kind])
    if kind == "numeric" and dtype.is_numeric():
        return one_zero(column.cast(pl.Float32).fill_nan(None))
    if kind == "categorical" and _is_label(dtype):
        return column.cast(pl.String)
    if kind == "multi_categorical":
        return _tokens(column, feature, refused)
    if kind == "vector" and _is_list_of_numbers(dtype):
        return column.cast(pl.List(pl.Float32))
    raise refused


def is_not_finite(name: str, feature: Feature) -> pl.Expr:
    """Return whether a canonical column holds a number that is none: a missing value is not one."""
    column = pl.col(name)
    if feature.kind == "numeric":
        return column.is_infinite().fill_null(False)
    if feature.kind == "vector":
        return (
            column.list.eval(~pl.element().is_finite().fill_null(False)).list.any().fill_null(False)
        )
    return pl.lit(False)


def look(column: pl.Series, feature: Feature) -> Seen:
    """Return what a canonical column holds."""
    present = column.drop_nulls()
    if feature.kind == "categorical":
        return Seen(values=frozenset(present.unique().to_list()))
    if feature.kind == "multi_categorical":
        return Seen(values=frozenset(present.explode(empty_as_null=False).unique().to_list()))
    if feature.kind == "vector":
        return Seen(present=len(present), dims=frozenset(present.list.len().unique().to_list()))
    numbers = present.cast(pl.Float64).to_numpy()
    return Seen(
        present=len(numbers), total=float(numbers.sum()), squares=float(np.square(numbers).sum())
    )


def encoder(
    name: str, feature: Feature, seen: Seen, place: str, *, known: Encoder | None = None
) -> Encoder:
    """Return how a feature is written, given what the training rows hold.

    What is `known` of an older version stays: its values keep their places, new ones come after
    them, and numbers keep their mean and standard deviation.
    """
    vocabulary = sorted(seen.values)
    if known is not None and known.field.kind == feature.kind:
        vocabulary = known.vocabulary + sorted(seen.values.difference(known.vocabulary))
        if feature.kind == "numeric":
            return known
        if feature.kind == "vector":
            seen = seen._replace(dims=seen.dims | {known.field.dim} - {0})
    if feature.kind == "vector":
        if len(seen.dims) > 1:
            raise DataError(
                f"vectors of a feature must have one length, got {sorted(seen.dims)} ({place})"
            )
        dim = next(iter(seen.dims), 0)
        return Encoder(FeatureField(name=name, kind=feature.kind, dim=dim), vocabulary)
    if feature.kind == "numeric":
        mean = seen.total / seen.present if seen.present else 0.0
        variance = seen.squares / seen.present - mean**2 if seen.present else 0.0
        std = math.sqrt(variance) if variance > 1e-12 * max(1.0, mean**2) else 1.0
        return Encoder(
            FeatureField(name=name, kind=feature.kind, dim=1, mean=mean, std=std), vocabulary
        )
    return Encoder(FeatureField(name=name, kind=feature.kind, size=len(vocabulary)), vocabulary)


def encode(column: pl.Series, using: Encoder, *, place: str | None = None) -> pl.Series:
    """Return a canonical column as numbers; a missing list becomes an empty one.

    `place` names the column in an error, by default the feature's name does.

    Raises:
        DataError: a vector has another length than those of training.

    """
    kind = using.field.kind
    if kind == "vector":
        return _of_length(column, using.field, place or using.field.name)
    if kind == "numeric":
        return column
    known = {value: index for index, value in enumerate(using.vocabulary, start=1)}
    if kind == "categorical":
        return _indices(column, known)
    rows = pl.DataFrame({"row": np.arange(len(column)), "token": column})
    flat = rows.explode("token").drop_nulls("token")
    flat = flat.with_columns(_indices(flat["token"], known).alias("token"))
    lists = flat.group_by("row").agg(pl.col("token").unique().sort())
    empty = pl.lit([], dtype=pl.List(pl.Int32))
    joined = rows.select("row").join(lists, on="row", how="left", maintain_order="left")
    return joined.select(pl.col("token").fill_null(empty)).to_series()


def _of_length(column: pl.Series, field: FeatureField, place: str) -> pl.Series:
    """Return vectors as they are: none is known where training met none."""
    if not field.dim:
        return pl.repeat(None, len(column), dtype=column.dtype, eager=True)
    other = column.list.len().drop_nulls()
    other = other.filter(other != field.dim)
    if len(other):
        raise DataError(
            f"vectors of a feature must have one length, got {other[0]} beside {field.dim} of "
            f"training ({place})"
        )
    return column


def _indices(column: pl.Series, known: dict[str, int]) -> pl.Series:
    table = pl.DataFrame(
        {"value": list(known), "index": list(known.values())},
        schema={"value": pl.String, "index": pl.Int32},
    )
    values = column.to_frame("value")
    joined = values.join(table, on="value", how="left", maintain_order="left")
    return joined["index"].fill_null(0)


def _is_label(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)


def _is_list_of_numbers(dtype: pl.DataType) -> bool:
    return (
        isinstance(dtype, pl.List | pl.Array)
        and pl.Series([], dtype=dtype.inner).dtype.is_numeric()
    )


def _tokens(column: pl.Series, feature: Feature, refused: DataError) -> pl.Series:
    if isinstance(column.dtype, pl.List) and _is_label(column.dtype.inner):  # type: ignore[arg-type]
        return column.cast(pl.List(pl.String))
    if column.dtype != pl.String or feature.separator is None:
        raise refused
    parts = column.str.split(feature.separator).to_frame("t")
    kept = pl.element().str.strip_chars()
    return parts.select(pl.col("t").list.eval(kept.filter(kept != ""))).to_series()
