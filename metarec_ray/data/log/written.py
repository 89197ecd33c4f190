"""How numbers are written in a column of text: as integers, as floats because of a gap, or not.

An integer prints as it was written: `01`, `+1` and numbers beyond 64 bits are no integers. Does not
know what the column means.
"""

from typing import NamedTuple

import polars as pl

_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_WHOLE_FLOAT = r"^(0|-?[1-9][0-9]{0,15})\.0$"


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
