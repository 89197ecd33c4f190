"""What the values of a column look like: kind, how many differ, how many are missing.

Knows the head of one column; does not know what it means (`roles`).
"""

from typing import NamedTuple

import polars as pl

FEW = 50  # values of a column that are counted one by one
_WHOLE = r"^[-+]?\d+$"
_PADDED = r"^0\d+$"
_CLEAN = 0.98  # share of the values that must be numbers


class Column(NamedTuple):
    """The head of a column.

    Attributes:
        name: in the file, or `column_N` where the file has no names.
        position: from 1.
        kind: integer, number, text, flag, list, time (of Parquet) or empty.
        rows: of the head.
        values: those that are not missing; numbers as numbers.
        distinct: how many values differ.
        counts: each value as text and how often it occurs, the most frequent first; () if more
            than `FEW` differ.
        clean: whether every value is of the kind, not only nearly every one.

    """

    name: str
    position: int
    kind: str
    rows: int
    values: pl.Series
    distinct: int
    counts: tuple[tuple[str, int], ...]
    clean: bool = True

    @property
    def missing(self) -> float:
        """Share of the rows without a value."""
        return 1 - len(self.values) / max(self.rows, 1)

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in ("integer", "number")

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number."""
        low, high = self.values.min(), self.values.max()
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        return float(low), float(high)


def look(rows: pl.DataFrame) -> list[Column]:
    """Return the columns of the head of a table."""
    return [_column(rows[name], number) for number, name in enumerate(rows.columns, start=1)]


def mean(column: pl.Series) -> float:
    """Return the mean of numbers or of flags; 0 if there are none."""
    found = column.cast(pl.Float64).mean()
    return float(found) if isinstance(found, int | float) else 0.0


def longest(text: pl.Series) -> float:
    """Return how many characters nine tenths of the texts have at most."""
    return float(text.str.len_chars().quantile(0.9) or 0)


def _column(column: pl.Series, position: int) -> Column:
    values = column.drop_nulls()
    kind, clean = "text", True
    if values.is_empty():
        kind = "empty"
    elif column.dtype == pl.Boolean:
        kind = "flag"
    elif column.dtype.is_integer():
        kind = "integer"
    elif column.dtype.is_numeric():
        kind, values = "number", values.drop_nans()
    elif column.dtype.is_temporal():
        kind = "time"
    elif column.dtype.is_nested():
        kind = "list"
    else:
        kind, values, clean = _read(values.cast(pl.String))
    if kind == "list":
        return Column(column.name, position, kind, len(column), values, 0, ())
    return _counted(column, position, kind, values, clean)


def _counted(column: pl.Series, position: int, kind: str, values: pl.Series, clean: bool) -> Column:
    distinct = values.n_unique()
    counts: tuple[tuple[str, int], ...] = ()
    if distinct <= FEW:
        found = values.alias("value").value_counts().rows()
        counts = tuple((_text(v), n) for v, n in sorted(found, key=lambda one: (-one[1], one[0])))
    return Column(column.name, position, kind, len(column), values, distinct, counts, clean)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(text: pl.Series) -> tuple[str, pl.Series, bool]:
    """Return the kind of a column of text, its values, and whether all are of the kind."""
    if text.str.to_lowercase().is_in(["true", "false"]).all():
        return "flag", text, True
    numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    good = numbers.is_not_null() & numbers.is_finite()
    if mean(good) < _CLEAN or text.str.contains(_PADDED).any():
        return "text", text, True
    clean = bool(good.all())
    whole = text.filter(good).str.strip_chars()
    if whole.str.contains(_WHOLE).all():
        integers = whole.cast(pl.Int64, strict=False)
        if integers.null_count():
            return "text", text, True  # more digits than 64 bits hold
        return "integer", integers, clean
    return "number", numbers.filter(good), clean
