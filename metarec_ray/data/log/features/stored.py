"""Values of features in the types of Parquet: which can be what a feature is, and which cannot.

Does not know text, nor how a value is encoded.
"""

import polars as pl

from metarec_ray.data.settings import Kind
from metarec_ray.errors import DataError

WHOLE = 2**53
"""Up to where floats hold every whole number."""


def read(column: pl.Series, kind: Kind, place: str) -> pl.Series:
    """Return numbers, categories or lists of them; whole floats are categories as integers are.

    Raises:
        DataError: the type cannot be such a feature, or a value cannot; `place` names the column.

    """
    dtype = column.dtype
    refused = DataError(f"a {kind} feature cannot be read from {dtype} ({place})")
    if isinstance(dtype, pl.List | pl.Array):
        return _lists(column.cast(pl.List(dtype.inner)), kind, refused, place)
    if kind == "numeric" and (dtype.is_numeric() or dtype == pl.Boolean):
        return column
    if kind == "categorical" and _is_category(dtype):
        _refuse_fractions(column, kind, place)
        return column.to_frame("x").select(_category(pl.col("x"), dtype)).to_series()
    raise refused


def _lists(lists: pl.Series, kind: Kind, refused: DataError, place: str) -> pl.Series:
    values = lists.explode(empty_as_null=False)
    if kind == "vector" and values.dtype.is_numeric():
        return lists.cast(pl.List(pl.Float32))
    if kind == "vector" and values.dtype == pl.String:  # JSON, whose numbers stay as written
        numbers = lists.cast(pl.List(pl.Float32), strict=False)
        lost = numbers.explode(empty_as_null=False).null_count() - values.null_count()
        if not lost:
            return numbers
    if kind == "multi_categorical" and _is_category(values.dtype):
        _refuse_fractions(values, kind, place)
        return lists.list.eval(_category(pl.element(), values.dtype).drop_nulls())
    raise refused


def _is_category(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)


def _has_fractions(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() and not dtype.is_integer()


def _category(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return values as text; integers with a gap are floats in Parquet."""
    if _has_fractions(dtype):
        values = values.cast(pl.Float64).fill_nan(None).cast(pl.Int64)
    return values.cast(pl.String)


def _refuse_fractions(values: pl.Series, kind: Kind, place: str) -> None:
    if not _has_fractions(values.dtype):
        return
    floats = values.cast(pl.Float64).fill_nan(None)
    other = floats.filter((floats != floats.round()) | (floats.abs() >= WHOLE))
    if len(other):
        raise DataError(
            f"a {kind} feature cannot be read from {other[0]}, which is no whole number ({place}): "
            "make it numeric, or write its classes as text"
        )
