"""From the fields of a file to what they mean: marks for missing are null, decimals have a point.

Knows settings and columns; does not know which values are good (`validate`).
"""

from collections.abc import Collection

import polars as pl

from metarec_ray.data.settings import Data
from metarec_ray.data.text_format import TextFormat


def meant(
    raw: pl.DataFrame,
    form: TextFormat,
    *,
    whole: Collection[str] = (),
    numbers: Collection[str] = (),
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
        found = _without_marks(column, form)
        if column.dtype == pl.String and column.name in whole:
            found = found.str.strip_suffix(".0")
        if column.dtype == pl.String and column.name in numbers and form.decimal == ",":
            found = found.str.replace_all(",", ".", literal=True)
        columns.append(found)
    return pl.DataFrame(columns)


def numeric(settings: Data) -> set[str]:
    """Return the columns of a log that hold numbers."""
    roles = settings.roles
    named = {name for name in (roles.label, roles.time) if name is not None}
    return named | {n for n, f in settings.context.items() if f.kind == "numeric"}


def _without_marks(column: pl.Series, form: TextFormat) -> pl.Series:
    if column.dtype == pl.String:
        return column.set(column.is_in(pl.Series(form.missing).implode()), None)
    if column.dtype.is_numeric() and form.null_values:
        marks = pl.Series(form.null_values).cast(pl.Float64, strict=False).drop_nulls()
        return column.set(column.cast(pl.Float64).is_in(marks.implode()), None)
    return column
