"""Find the log of a config: its files cut into chunks, the defaults of its layout, its hash.

A source is the synthetic model, a known layout, or any files of one format, here or at a URI, whose
columns the config names. Knows where rows lie; `reading` reads them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import by_name, layouts, synthetic
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.fields import IdKind
from metarec_ray.data.files import paths, tables
from metarec_ray.data.files.hashes import sha256_file, sha256_json
from metarec_ray.data.files.paths import File
from metarec_ray.data.log import file_types, selection
from metarec_ray.data.log.selection import Sides
from metarec_ray.data.log.validate import Ids
from metarec_ray.data.settings import Columns, Data, SideTable
from metarec_ray.errors import DataError

SYNTHETIC = "synthetic"
CHUNK_ROWS = 1_000_000
INTEGERS = Ids(pl.Int64(), pl.Int64())


class Chunk(NamedTuple):
    """A part of the log that is read at once.

    Attributes:
        path: the file, or `synthetic`.
        file: its name relative to the folder of the log.
        first_row: number of its first row in the file.
        groups: row groups of a Parquet file; None for all of the file.
        layout: name of a known layout, or None.
        types: of the columns of a file of text; None for Parquet.
        partitions: columns that the names of folders hold, and their value in all rows.
        sides: where the files of `data.only` and `data.without` were found.

    """

    path: str
    file: str
    first_row: int = 0
    groups: range | None = None
    layout: str | None = None
    types: tables.Types | None = None
    partitions: dict[str, int | str] = {}  # noqa: RUF012
    sides: Sides = Sides()


class Source(NamedTuple):
    """Where a log lies: settings with the defaults of its layout, chunks, and what it hashes to."""

    settings: Data
    folder: str
    layout: Layout | None
    chunks: list[Chunk]
    ids: Ids
    fingerprint: str


def find(settings: Data, *, data_dir: Path | None = None) -> Source:
    """Return where the log of a config lies; `data_dir` holds data sets by name."""
    # Before the log, which may have to be fetched if it is a data set by name.
    sides = selection.locate(settings, data_dir)
    source = _find(settings, data_dir)
    for name in ("session_gap", "since", "until"):
        if getattr(source.settings, name) is not None:
            require_time(source.settings, f"data.{name}")
    found = [path for path in sides if path is not None]
    if not found:
        return source
    if source.settings.roles.sequence is None:
        raise DataError(
            "data.columns.sequence must be named for data.only and data.without, got none "
            f"({settings.path})"
        )
    return source._replace(
        chunks=[chunk._replace(sides=sides) for chunk in source.chunks],
        fingerprint=sha256_json([source.fingerprint, *map(sha256_file, found)]),
    )


def _find(settings: Data, data_dir: Path | None) -> Source:
    if settings.path == SYNTHETIC:
        return _synthetic(settings)
    path = settings.path
    if path in by_name.NAMES:
        path = str(by_name.obtain(path, data_dir))
    elif not paths.is_remote(path):
        path = str(Path(path).expanduser())
    if not paths.exists(path):
        known = ", ".join([SYNTHETIC, *by_name.NAMES])
        raise DataError(
            f"data.path must be a file, a folder or one of {known}, got {settings.path!r}"
        )
    local = None if paths.is_remote(path) else Path(path)
    layout = layouts.detect(local) if local is not None and local.is_dir() else None
    if layout is None or local is None:
        return _plain(settings, path)
    effective = layouts.effective(settings, layout, local)
    log = local / layout.log
    chunks = [Chunk(str(log), layout.log, layout=layout.name)]
    further = [str(one) for one in layout.further(local, effective)]
    fingerprint = _fingerprint([str(log), *further], path, effective)
    return Source(effective, path, layout, chunks, INTEGERS, fingerprint)


def require_time(settings: Data, key: str) -> None:
    """Raise a DataError where the log has no time column, which `key` needs."""
    if settings.roles.time is None:
        raise DataError(f"data.columns.time must be named for {key}, got none ({settings.path})")


def with_text_ids(source: Source, kinds: tuple[IdKind, IdKind]) -> Source:
    """Return the source with digits read as text where ids of these kinds are text.

    Of files of text: ids that all are digits by chance. What Parquet says is as it is.
    """
    if any(chunk.types is None for chunk in source.chunks):
        return source
    text = [role for role, kind in zip(Ids._fields, kinds, strict=True) if kind == "text"]
    roles = source.settings.roles
    forced = {getattr(roles, role): pl.String() for role in text}
    return source._replace(
        ids=source.ids._replace(**dict.fromkeys(text, pl.String())),
        chunks=[
            chunk._replace(types={n: forced.get(n, t) for n, t in (chunk.types or {}).items()})
            for chunk in source.chunks
        ],
    )


def columns(settings: Data) -> list[str]:
    """Return the columns of the log that a config names, context last."""
    named = [name for name in settings.roles.model_dump().values() if name is not None]
    return [*named, *sorted(settings.context)]


def side_path(table: SideTable, folder: str) -> str:
    """Return where a side table lies: beside the log, else where its path says."""
    beside = paths.inside(folder, table.path)
    if not paths.is_remote(table.path) and paths.is_file(beside):
        return beside
    return table.path if paths.is_remote(table.path) else str(Path(table.path).expanduser())


def _synthetic(settings: Data) -> Source:
    users = SideTable(path=SYNTHETIC, id="id", features=synthetic.USER_FEATURES)
    items = SideTable(path=SYNTHETIC, id="id", title="title", features=synthetic.ITEM_FEATURES)
    effective = settings.model_copy(
        update={
            "columns": Columns(label="label", time="time"),
            "time_unit": "s",
            "users": settings.users or users,
            "items": settings.items or items,
            "context": settings.context or synthetic.CONTEXT,
        }
    )
    made_of = [settings.synthetic.model_dump(mode="json"), settings.feedback, settings.seed]
    chunk = Chunk(SYNTHETIC, SYNTHETIC)
    fingerprint = sha256_json([synthetic.VERSION, *made_of])
    return Source(effective, "", None, [chunk], INTEGERS, fingerprint)


def _plain(settings: Data, path: str) -> Source:
    """Return the source of a file, of those of a pattern, or of all of one format in a folder."""
    folder = paths.folder(path)
    if paths.is_file(path):
        folder = paths.parent(path)
        files = paths.find(path, tables.ALL_SUFFIXES)
    else:
        files = _below(path, folder, settings)
    roles = settings.roles
    effective = settings.model_copy(update={"columns": settings.columns or Columns()})
    if settings.feedback != "implicit" and not settings.labelled:
        raise DataError(
            f"data.columns.label must be named for {settings.feedback} feedback, got none "
            f"({settings.path})"
        )
    schemas = file_types.schemas(files, columns(effective))
    ids = file_types.id_types(schemas, roles)
    forced = file_types.text_types(schemas, effective)
    forced |= zip((roles.entity, roles.item), ids, strict=True)
    chunks = [chunk for file, found in schemas for chunk in _chunks(file, found, forced, effective)]
    fingerprint = _fingerprint([file.path for file in files], folder, effective)
    return Source(effective, folder, None, chunks, ids, fingerprint)


def _below(path: str, folder: str, settings: Data) -> list[File]:
    """Return the files of the log, without its tables of users or items."""
    sides = {side_path(t, folder) for t in (settings.users, settings.items) if t is not None}
    sides |= {
        paths.inside(folder, rows.path)
        for rows in (settings.only, settings.without)
        if rows is not None
    }
    own = {paths.identity(side) for side in sides}
    files = paths.find(path, tables.ALL_SUFFIXES)
    found = [file for file in files if paths.identity(file.path) not in own]
    kinds = {tables.kind(file.path) for file in found}
    if len(kinds) != 1:
        got = " and ".join(sorted(kinds)) or "none"
        raise DataError(
            f"a log must be files of one format, {', '.join(tables.SUFFIXES)}, got {got} ({path})"
        )
    return found


def _chunks(file: File, found: tables.Types, forced: tables.Types, settings: Data) -> list[Chunk]:
    """Cut a Parquet file between row groups into chunks of about a million rows."""
    partitions = {
        name: int(value) if found[name].is_integer() else value
        for name, value in file.partitions.items()
    }
    whole = Chunk(file.path, file.name, partitions=partitions)
    if tables.kind(file.path) != "Parquet":
        named = {name: found[name] for name in columns(settings) if name not in partitions}
        return [whole._replace(types=named | {n: t for n, t in forced.items() if n in named})]
    chunks: list[Chunk] = []
    start, first, rows = 0, 0, 0
    sizes = tables.row_groups(file.path)
    for index, size in enumerate(sizes):
        rows += size
        if rows >= CHUNK_ROWS or index == len(sizes) - 1:
            chunks.append(whole._replace(first_row=first, groups=range(start, index + 1)))
            start, first, rows = index + 1, first + rows, 0
    return chunks


def _fingerprint(log: Sequence[str], folder: str, settings: Data) -> str:
    """Hash the relative name and content of each input file, of a remote one its tag."""
    sides = [side_path(t, folder) for t in (settings.users, settings.items) if t is not None]
    entries = []
    for path in sorted({*log, *sides}):
        if not paths.is_file(path):
            raise DataError(f"an input file must exist, none is at {path}")
        entries.append([paths.name(path, folder), paths.size(path), paths.stamp(path)])
    return sha256_json(entries)
