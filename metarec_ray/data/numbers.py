"""Columns of numbers, which a log may have as text."""

import polars as pl

from metarec_ray.errors import DataError

_TRUE = pl.Series(["true", "True", "TRUE"])
_FALSE = pl.Series(["false", "False", "FALSE"])


def number(column: pl.Series, role: str, place: str) -> pl.Series:
    """Return the column as numbers; a string that is no number becomes NaN, to be quarantined.

    True and false are 1 and 0, as in columns of that type.

    Raises:
        DataError: its type holds no numbers; `role` and `place` name the column.

    """
    if column.dtype == pl.String:
        words = column.str.strip_chars()
        words = words.set(words.is_in(_TRUE.implode()), "1").set(words.is_in(_FALSE.implode()), "0")
        parsed = words.cast(pl.Float64, strict=False)
        return parsed.zip_with(parsed.is_not_null() | column.is_null(), _nan(len(parsed)))
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column if column.dtype.is_numeric() else column.cast(pl.Float64)
    raise DataError(f"{role} must be a number, got {column.dtype} {first(column)} ({place})")


def one_zero(column: pl.Series) -> pl.Series:
    """Return floats with 0.0 for -0.0: equal values have equal bytes."""
    return column.set(column == 0.0, 0.0)


def first(column: pl.Series) -> str:
    """Return the first value that is not missing, for an error."""
    present = column.drop_nulls()
    return repr(present.head(1).to_list()[0]) if len(present) else "null"


def _nan(count: int) -> pl.Series:
    return pl.repeat(float("nan"), count, dtype=pl.Float64, eager=True)
