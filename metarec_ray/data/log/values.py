"""From the fields of a file to what they mean, and how numbers are written in text.

Marks for missing are null, decimals have a point. An integer prints as it was written: `01`, `+1`
and numbers beyond 64 bits are no integers. Does not know which values are good (`validate`).
"""

from collections.abc import Collection, Set
from typing import NamedTuple

import polars as pl

from metarec_ray.data.settings import Data
from metarec_ray.data.text_format import TextFormat

_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_WHOLE_FLOAT = r"^(0|-?[1-9][0-9]{0,15})\.0$"


def meant(
    raw: pl.DataFrame,
    form: TextFormat,
    *,
    whole: Collection[str] = (),
    numbers: Set[str] = frozenset(),
) -> pl.DataFrame:
    """Return the columns as they are meant.

    Args:
        raw: columns of a file.
        form: the keys of the section that names it.
        whole: columns of text in which `1.0` stands for 1.
        numbers: columns of text with numbers, whose decimal mark is `form.decimal`.

    """
    columns = []
    for column in raw.get_columns():
        found = column
        if column.dtype == pl.String and column.name in whole:
            found = found.str.strip_suffix(".0")
        if column.dtype == pl.String and column.name in numbers:
            found = _with_points(found, form)
        columns.append(_without_marks(found, form, number=column.name in numbers | set(whole)))
    return pl.DataFrame(columns)


def numeric(settings: Data) -> set[str]:
    """Return the columns of a log that hold numbers with decimals."""
    found = {name for name, feature in settings.context.items() if feature.kind == "numeric"}
    label = settings.roles.label
    return found | set(settings.labels) | (set() if label is None else {label})


def _with_points(text: pl.Series, form: TextFormat) -> pl.Series:
    """Return numbers with a decimal point; one with both marks is left as it is, no number."""
    if form.decimal == ".":
        return text
    # 1.234 would be 1234 to those who write 4,5: nobody can tell.
    grouped = text.str.contains(".", literal=True)
    pointed = text.str.replace_all(",", ".", literal=True)
    return pointed.zip_with(~grouped, text.str.replace(r"^(.*)$", "$1?"))


def _without_marks(column: pl.Series, form: TextFormat, *, number: bool) -> pl.Series:
    """Return the column without marks for missing; in a column of numbers 99.0 is the mark 99."""
    if column.dtype == pl.String:
        column = column.set(column.is_in(pl.Series(form.missing).implode()), None)
    if form.null_values and (column.dtype.is_numeric() or (number and column.dtype == pl.String)):
        marks = pl.Series(form.null_values).cast(pl.Float64, strict=False).drop_nulls()
        found = column.cast(pl.Float64, strict=False).is_in(marks.implode())
        return column.set(found.fill_null(False), None)
    return column


def is_integer(column: pl.Series) -> pl.Series:
    """Return whether each text is an integer of 64 bits; null where it is missing."""
    return column.str.contains(_INTEGER) & column.cast(pl.Int64, strict=False).is_not_null()


class Written(NamedTuple):
    """Which values some rows of a column of text have.

    Attributes:
        integers: some print as their number does.
        floats: some are whole and print with `.0`.
        others: some are neither.
        gaps: some are missing.

    """

    integers: bool = False
    floats: bool = False
    others: bool = False
    gaps: bool = False

    @classmethod
    def of(cls, column: pl.Series) -> "Written":
        """Look at a column of text, marks for missing being null."""
        present = column.drop_nulls()
        gaps = len(present) < len(column)
        if present.is_empty():
            return cls(gaps=gaps)
        if present.str.contains(_INTEGER).all():
            fits = present.cast(pl.Int64, strict=False).null_count() == 0
            return cls(integers=fits, others=not fits, gaps=gaps)
        floats = bool(present.str.contains(_WHOLE_FLOAT).all())
        return cls(floats=floats, others=not floats, gaps=gaps)

    def merged(self, other: "Written") -> "Written":
        """Return which values the rows of both have."""
        return Written(*(one or two for one, two in zip(self, other, strict=True)))

    @property
    def whole(self) -> bool:
        """Whether floats are there only because numbers and a gap share a column."""
        return self.floats and self.gaps and not self.others

    @property
    def dtype(self) -> pl.DataType:
        """Int64 if every value is an integer, else String."""
        integers = (self.integers or self.floats) and not self.others
        return pl.Int64() if integers and (self.whole or not self.floats) else pl.String()
