"""Read the rows and side tables of a source, check them, bring them to canonical columns.

Does not know where a log is found (`sources`), nor what is made of its rows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import layouts, synthetic
from metarec_ray.data.fields import COLD
from metarec_ray.data.files import tables
from metarec_ray.data.log import encode, selection, validate
from metarec_ray.data.log.sources import SYNTHETIC, Chunk, Source, columns, find, side_path
from metarec_ray.data.log.validate import Checked
from metarec_ray.data.settings import Data, SideTable
from metarec_ray.errors import DataError

BATCH_ROWS = 1_000_000  # read at a time
RESERVED = ("id", "item", "title", COLD)  # columns of items.parquet


class Log(NamedTuple):
    """A checked log.

    Attributes:
        events: entity, item, label, time (absent without a clock), sequence, domain (absent without
            its role), `context.<feature>`.
        users: id and features in canonical dtypes, or None.
        items: id, title and features likewise, or None.
        settings: the `data` section with the defaults of the layout filled in.
        fingerprint: hash of the input.
        rejected: bad rows: file, row, reason, value, rows (1 each).
        rows_in: number of rows read, bad and filtered ones included.
        filtered: number of rows that the settings leave out.

    """

    events: pl.DataFrame
    users: pl.DataFrame | None
    items: pl.DataFrame | None
    settings: Data
    fingerprint: str
    rejected: pl.DataFrame
    rows_in: int
    filtered: int


def read_chunk(chunk: Chunk, settings: Data) -> Iterator[pl.DataFrame]:
    """Yield the raw rows of a chunk, a batch at a time, with the columns that `settings` name."""
    wanted = columns(settings)
    if chunk.path == SYNTHETIC:
        log = synthetic.generate(settings.synthetic, settings.feedback, settings.seed)
        raw = log.events
    elif chunk.layout is not None:
        raw = layouts.named(chunk.layout).read_log(Path(chunk.path))
    else:
        yield from _of_file(chunk, wanted)
        return
    tables.require_columns(wanted, raw.columns, chunk.file)
    yield raw.select(list(dict.fromkeys(wanted)))


def _of_file(chunk: Chunk, wanted: list[str]) -> Iterator[pl.DataFrame]:
    own = [name for name in dict.fromkeys(wanted) if name not in chunk.partitions]
    values = [pl.lit(value).alias(name) for name, value in chunk.partitions.items()]
    frames = tables.batches(
        chunk.path, own, groups=chunk.groups, types=chunk.types, rows=BATCH_ROWS
    )
    for frame in frames:
        yield frame.with_columns(values)


def check_chunk(
    chunk: Chunk, settings: Data, *, since: int | None = None
) -> Iterator[tuple[int, Checked]]:
    """Read a chunk a batch at a time; yield how many rows were read, and the checked ones.

    Events before `since` (microseconds) are filtered.
    """
    kept = selection.kept(settings, chunk.selection, settings.roles.sequence)
    first_row = chunk.first_row
    for raw in read_chunk(chunk, settings):
        found = validate.check(
            raw, settings, file=chunk.file, first_row=first_row, kept=kept, since=since
        )
        yield len(raw), found
        first_row += len(raw)


def read_log(settings: Data, *, data_dir: Path | None = None) -> Log:
    """Read and check a whole log in this process."""
    source = find(settings, data_dir=data_dir)
    checked: list[Checked] = []
    rows_in = 0
    for chunk in source.chunks:
        for rows, found in check_chunk(chunk, source.settings):
            rows_in += rows
            checked.append(found)
    if rows_in == 0:
        raise DataError(f"a log must hold rows, got none ({source.settings.path})")
    users, items = side_tables(source)
    dtypes = validate.schema(source.settings, source.ids)
    events = pl.concat([one.events.cast(dtypes) for one in checked])
    return Log(
        events=events,
        users=users,
        items=items,
        settings=source.settings,
        fingerprint=source.fingerprint,
        rejected=pl.concat([one.rejected for one in checked]).sort("file", "row"),
        rows_in=rows_in,
        filtered=sum(one.filtered for one in checked),
    )


def side_tables(source: Source) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Return the tables of entities and items in canonical columns, None for a missing table."""
    settings, sides = source.settings, source.settings.sides
    if settings.path == SYNTHETIC:
        log = synthetic.generate(settings.synthetic, settings.feedback, settings.seed)
        raws = (log.users, log.items)
        raws = raws if settings.entity == "user" else raws[::-1]
    else:
        raws = [_raw_side(*side, source) for side in zip(sides, source.ids, strict=True)]
    names = settings.side_names
    return (
        _side(raws[0], sides[0], names[0], source.ids.entity),
        _side(raws[1], sides[1], names[1], source.ids.item),
    )


def _raw_side(table: SideTable | None, ids: pl.DataType, source: Source) -> pl.DataFrame | None:
    if table is None:
        return None
    layout = source.layout
    if layout is not None and table.path == layout.items:
        return layout.read_items(Path(source.folder) / table.path)
    if layout is not None and table.path == layout.users and layout.read_users is not None:
        return layout.read_users(Path(source.folder) / table.path)
    title = [table.title] if table.title is not None else []
    # As in the log: `01` and `1` are two ids.
    text = [table.id] if ids == pl.String else []
    columns = [table.id, *title, *table.features]
    return tables.read(side_path(table, source.folder), columns, text=text)


def _side(
    raw: pl.DataFrame | None, table: SideTable | None, side: str, dtype: pl.DataType
) -> pl.DataFrame | None:
    if raw is None or table is None:
        return None
    place = f"data.{side}"
    for name in table.features:
        if name in RESERVED:
            raise DataError(f"a feature must not be called {name!r} ({place}.features)")
    title = [table.title] if table.title is not None else []
    tables.require_columns([table.id, *title, *table.features], raw.columns, f"the {side} table")
    ids = _ids(raw[table.id].alias("id"), dtype, f"{place}.id")
    titles = raw[table.title].cast(pl.String) if table.title else pl.lit(None, pl.String)
    features = [
        encode.canonical(raw[name], feature, f"{place}.features.{name}").alias(name)
        for name, feature in sorted(table.features.items())
    ]
    made = ids.to_frame().with_columns(titles.alias("title")).with_columns(features)
    for name, feature in table.features.items():
        broken = made.filter(encode.is_not_finite(name, feature))
        if len(broken):
            raise DataError(
                f"a {feature.kind} feature must be finite, got {broken[name].to_list()[0]} of "
                f"{broken['id'][0]!r} ({place}.features.{name})"
            )
    return made


def _ids(ids: pl.Series, dtype: pl.DataType, place: str) -> pl.Series:
    """Return ids in the type that the log has; DataError if they are not unique or do not fit."""
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        raise DataError(f"ids must be integers or strings, got {ids.dtype} ({place})")
    if ids.null_count():
        row = ids.is_null().arg_max()
        raise DataError(f"every row must have an id, row {row} has none ({place})")
    if dtype == pl.Int64 and ids.dtype == pl.String:
        raise DataError(f"ids must be integers as they are in the log, got {ids[0]!r} ({place})")
    twice = ids.filter(ids.is_duplicated())
    if len(twice):
        times = (ids == twice[0]).sum()
        raise DataError(f"ids must be unique, got {twice[0]!r} {times} times ({place})")
    return ids.cast(dtype)
