"""Read the tables of users and items beside a log, check them, bring them to canonical columns.

A table is small and whole: its first bad value is refused, with row and place. Does not know which
ids the log has (`doubts`).
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import synthetic
from metarec_ray.data.fields import COLD
from metarec_ray.data.files import tables
from metarec_ray.data.log import roles, values
from metarec_ray.data.log.features import encode
from metarec_ray.data.log.sources import SYNTHETIC, Source, side_path
from metarec_ray.data.log.values import Written, meant
from metarec_ray.data.settings import Feature, SideTable
from metarec_ray.errors import DataError

RESERVED = ("id", "item", "title", COLD)  # columns of items.parquet


class _Place(NamedTuple):
    """Where a table is named, and its file."""

    key: str
    file: str

    def row(self, number: int, key: str) -> str:
        """Return the words for a row and the setting that reads it."""
        return f"in row {number} of {self.file} ({self.key}.{key})"


def side_tables(source: Source) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Return the tables of entities and items in canonical columns, None for a missing table.

    Raises:
        DataError: a column is missing, or a value of id or feature is none.

    """
    settings, sides = source.settings, source.settings.sides
    if settings.path == SYNTHETIC:
        log = synthetic.generate(settings.synthetic, settings.feedback, settings.seed)
        raws = (log.users, log.items)
        raws = raws if settings.entity == "user" else raws[::-1]
    else:
        raws = (_raw(sides[0], source), _raw(sides[1], source))
    one, other = settings.side_names
    return (
        _canonical(raws[0], sides[0], one, source.ids.entity),
        _canonical(raws[1], sides[1], other, source.ids.item),
    )


def _raw(table: SideTable | None, source: Source) -> pl.DataFrame | None:
    if table is None:
        return None
    layout, settings = source.layout, source.settings
    if layout is not None and table.path == layout.items:
        return layout.read_items(Path(source.folder) / table.path)
    if layout is not None and table.path == layout.users and layout.read_users is not None:
        return layout.read_users(Path(source.folder) / table.path)
    title = [table.title] if table.title is not None else []
    columns = [table.id, *title, *table.features]
    path = side_path(table, source.folder)
    tables.require_form(table, path, "data." + ("users" if table is settings.users else "items"))
    return tables.read(path, columns, table)


def _canonical(
    raw: pl.DataFrame | None, table: SideTable | None, side: str, dtype: pl.DataType
) -> pl.DataFrame | None:
    if raw is None or table is None:
        return None
    place = _Place(f"data.{side}", Path(table.path).name)
    for name in table.features:
        if name in RESERVED:
            raise DataError(f"a feature must not be called {name!r} ({place.key}.features)")
    title = [table.title] if table.title is not None else []
    tables.require_columns([table.id, *title, *table.features], raw.columns, f"the {side} table")
    kinds = {name: feature.kind for name, feature in table.features.items()}
    texts = [n for n, k in kinds.items() if k == "categorical" and raw[n].dtype == pl.String]
    numbers = {name for name, kind in kinds.items() if kind == "numeric"}
    found = meant(raw, table, numbers=numbers)
    whole = {name for name in texts if Written.of(found[name]).whole}
    found = meant(raw, table, numbers=numbers, whole=whole)
    ids = _ids(found[table.id].alias("id"), dtype, place)
    titles = _titles(found[table.title], place) if table.title else pl.lit(None, pl.String)
    features = [
        _feature(found[name], raw[name], table.features[name], place).alias(name)
        for name in sorted(table.features)
    ]
    return ids.to_frame().with_columns(titles.alias("title")).with_columns(features)


def _titles(column: pl.Series, place: _Place) -> pl.Series:
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise DataError(f"a title must be text, got {column.dtype} ({place.key}.title)")
    return column.cast(pl.String)


def _feature(column: pl.Series, raw: pl.Series, feature: Feature, place: _Place) -> pl.Series:
    """Return a feature in canonical dtype; DataError that names the first value that is none."""
    name = column.name
    made = encode.canonical(column, feature, f"{place.key}.features.{name}").alias(name)
    broken = made.to_frame().select(encode.is_not_finite(name, feature).alias("broken"))["broken"]
    if len(made) and broken.any():
        row = int(broken.arg_max() or 0)
        raise DataError(
            f"a {feature.kind} feature must be finite, got {raw.to_list()[row]!r} "
            f"{place.row(row, f'features.{name}')}"
        )
    return made


def _ids(ids: pl.Series, dtype: pl.DataType, place: _Place) -> pl.Series:
    """Return ids in the type that the log has; DataError if they are not unique or do not fit."""
    if ids.dtype.is_float():
        ids = roles.whole_numbers(ids, "ids", f"{place.key}.id")
    if dtype == pl.Int64 and ids.dtype == pl.String:
        told = Written.of(ids)
        # Where ids are integers, 1.0 in all rows can only be 1.
        ids = ids.str.strip_suffix(".0") if told.floats and not told.others else ids
    if not (ids.dtype.is_integer() or ids.dtype in (pl.String, pl.Null)):
        raise DataError(f"ids must be integers or strings, got {ids.dtype} ({place.key}.id)")
    if ids.null_count():
        row = int(ids.is_null().arg_max() or 0)
        raise DataError(
            f"every row must have an id, row {row} of {place.file} has none ({place.key}.id)"
        )
    if dtype == pl.Int64 and ids.dtype in (pl.String, pl.UInt64):
        other = ~values.is_integer(ids.cast(pl.String))
        if other.any():
            row = int(other.arg_max() or 0)
            raise DataError(
                f"ids must be integers as they are in the log, got {ids[row]!r} "
                f"{place.row(row, 'id')}"
            )
    twice = ids.filter(ids.is_duplicated())
    if len(twice):
        times = (ids == twice[0]).sum()
        raise DataError(f"ids must be unique, got {twice[0]!r} {times} times ({place.key}.id)")
    return ids.cast(dtype)
