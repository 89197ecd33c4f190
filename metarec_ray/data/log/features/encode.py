"""Feature columns: from raw to canonical, from canonical to encoded.

Canonical dtypes: categorical String, multi_categorical List(String), numeric Float32, vector
List(Float32); null is missing. Encoded: a categorical value is its index in the sorted vocabulary
+ 1, 0 if unknown or missing; numeric and vector columns stay as they are: the reader ranks numbers.

Knows columns; does not know which rows are training rows: the caller passes these.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from metarec_ray.data.fields import FeatureField
from metarec_ray.data.log.features import ranks, stored, written
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


class ColumnStats(NamedTuple):
    """What the values of a feature column are; statistics of parts of a log can be merged.

    Attributes:
        values: distinct values of a (multi-)categorical feature.
        numbers: numbers and how many rows have each, a sample of the most where they are many.
        dims: distinct lengths of the vectors.

    """

    values: frozenset[str] = frozenset()
    numbers: ranks.Counted = ()
    dims: frozenset[int] = frozenset()

    def merge(self, *others: "ColumnStats") -> "ColumnStats":
        """Return the statistics of all parts together, whatever their order."""
        parts = (self, *others)
        return ColumnStats(
            values=frozenset().union(*(part.values for part in parts)),
            numbers=ranks.merged(part.numbers for part in parts),
            dims=frozenset().union(*(part.dims for part in parts)),
        )


class Encoder(NamedTuple):
    """How a feature is encoded: its field in the manifest and its vocabulary."""

    field: FeatureField
    vocabulary: list[str]


def canonical(column: pl.Series, feature: Feature, place: str) -> pl.Series:
    """Return the column in its canonical dtype; NaN becomes missing.

    Text is read as what the feature is: numbers, lists that are written out (`[1, 4]`), or parts
    between separators.

    Raises:
        DataError: its dtype or a value cannot be such a feature; `place` names the column.

    """
    kind = feature.kind
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.Null:
        found = column.cast(CANONICAL[kind])
    elif column.dtype == pl.String:
        found = written.read(column, feature, place)
    else:
        found = stored.read(column, kind, place)
    return one_zero(found.cast(pl.Float32).fill_nan(None)) if kind == "numeric" else found


def is_not_finite(name: str, feature: Feature) -> pl.Expr:
    """Return whether a row of a canonical column holds NaN or infinity; missing is neither."""
    column = pl.col(name)
    if feature.kind == "numeric":
        return column.is_infinite().fill_null(False)
    if feature.kind == "vector":
        return (
            column.list.eval(~pl.element().is_finite().fill_null(False)).list.any().fill_null(False)
        )
    return pl.lit(False)


def column_stats(column: pl.Series, feature: Feature) -> ColumnStats:
    """Return the statistics of a canonical column."""
    present = column.drop_nulls()
    if feature.kind == "categorical":
        return ColumnStats(values=frozenset(present.unique().to_list()))
    if feature.kind == "multi_categorical":
        tokens = present.explode(empty_as_null=False).unique()
        return ColumnStats(values=frozenset(tokens.to_list()))
    if feature.kind == "vector":
        return ColumnStats(dims=frozenset(present.list.len().unique().to_list()))
    return ColumnStats(numbers=ranks.counted(present.to_numpy()))


def make_encoder(
    name: str,
    feature: Feature,
    stats: ColumnStats,
    *,
    place: str,
    known: Encoder | None = None,
) -> Encoder:
    """Return the encoder of a feature, from the statistics of the training rows.

    What is `known` of an older version stays: values keep their numbers and new ones follow, a
    numeric feature keeps its map to ranks. `place` names the feature in an error.

    Raises:
        DataError: vectors of more than one length.

    """
    if known is not None and known.field.kind != feature.kind:
        known = None
    if feature.kind == "numeric":
        return known or Encoder(_numeric_field(name, stats), [])
    if feature.kind == "vector":
        old = {known.field.dim} - {0} if known is not None else set()
        dims = stats.dims | old
        if len(dims) > 1:
            raise DataError(
                f"vectors of a feature must have one length, got {sorted(dims)} ({place})"
            )
        return Encoder(FeatureField(name=name, kind=feature.kind, dim=next(iter(dims), 0)), [])
    first = [] if known is None else known.vocabulary
    vocabulary = first + sorted(stats.values.difference(first))
    return Encoder(FeatureField(name=name, kind=feature.kind, size=len(vocabulary)), vocabulary)


def encode(column: pl.Series, using: Encoder, *, place: str | None = None) -> pl.Series:
    """Return a canonical column encoded; a missing list becomes an empty one.

    Raises:
        DataError: a vector has another length than those of training; `place` names the column,
            the feature's name by default.

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


def _numeric_field(name: str, stats: ColumnStats) -> FeatureField:
    found = ranks.rank_map(stats.numbers)
    return FeatureField(name=name, kind="numeric", dim=1, knots=found.knots, ranks=found.ranks)


def _of_length(column: pl.Series, field: FeatureField, place: str) -> pl.Series:
    """Return the vectors, all missing where training had none."""
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
