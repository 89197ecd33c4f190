"""Find the log of a config: its files, cut into chunks, and a fingerprint of them.

A log is the synthetic model, a data set in a known layout, or files of one format, local or at a
URI. Knows files and their columns; does not read rows (`reading`).
"""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import by_name, layouts, synthetic
from metarec_ray.data.datasets.movielens import Layout
from metarec_ray.data.fields import IdKind
from metarec_ray.data.files import paths, tables
from metarec_ray.data.files.hashes import sha256_file, sha256_json
from metarec_ray.data.files.paths import File
from metarec_ray.data.log import selection, survey
from metarec_ray.data.log.roles import Ids
from metarec_ray.data.log.selection import SelectionFiles
from metarec_ray.data.settings import Columns, Data, SideTable, told_twice
from metarec_ray.errors import DataError

SYNTHETIC = "synthetic"
CHUNK_ROWS = 1_000_000
INTEGERS = Ids(pl.Int64(), pl.Int64())
TEXTS = Ids(pl.String(), pl.String())


class Chunk(NamedTuple):
    """A part of the log that one worker reads.

    Attributes:
        path: the file, or `synthetic`.
        file: its name relative to the folder of the log.
        first_row: number of its first row in the file.
        groups: row groups of a Parquet file; None for the whole file.
        layout: name of a known layout, or None.
        whole: columns of text in which `1.0` stands for 1, because of a gap.
        partitions: partition columns of the folder names, `day=1/`, and their value.
        selection: the files of `data.only` and `data.without`.

    """

    path: str
    file: str
    first_row: int = 0
    groups: range | None = None
    layout: str | None = None
    whole: frozenset[str] = frozenset()
    partitions: dict[str, str | None] = {}  # noqa: RUF012
    selection: SelectionFiles = SelectionFiles()


class Source(NamedTuple):
    """A log that was found.

    Attributes:
        settings: with the defaults of the layout.
        folder: of the log.
        layout: a known one, or None.
        chunks: of the log.
        ids: types of its ids.
        fingerprint: hash of the input.
        notes: sentences on how it is read, for people.

    """

    settings: Data
    folder: str
    layout: Layout | None
    chunks: list[Chunk]
    ids: Ids
    fingerprint: str
    notes: tuple[str, ...] = ()


def find(settings: Data, *, data_dir: Path | None = None) -> Source:
    """Return the log of a config; `data_dir` holds data sets by name.

    DataError if a file, a column or a role is missing, or files do not fit together.
    """
    # First the side files: the log may have to be fetched, for nothing if these are missing.
    files = selection.locate(settings, data_dir)
    source = _find(settings, data_dir)
    if (told := told_twice(source.settings)) is not None:  # by the columns of a known layout
        raise DataError(f"{told} (data.labels, data.context; {settings.path})")
    for name in ("session_gap", "since", "until"):
        if getattr(source.settings, name) is not None:
            require_time(source.settings, f"data.{name}")
    found = [path for path in files if path is not None]
    if not found:
        return source
    if source.settings.roles.sequence is None:
        raise DataError(
            "data.columns.sequence must be named for data.only and data.without, got none "
            f"({settings.path})"
        )
    return source._replace(
        chunks=[chunk._replace(selection=files) for chunk in source.chunks],
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
        return _files(settings, path)
    effective = layouts.effective(settings, layout, local)
    log = local / layout.log
    chunks = [Chunk(str(log), layout.log, layout=layout.name)]
    further = [str(one) for one in layout.further(local, effective)]
    fingerprint = _fingerprint([str(log), *further], path, effective)
    ids = TEXTS if layout.has_text_ids else INTEGERS
    return Source(effective, path, layout, chunks, ids, fingerprint)


def require_time(settings: Data, key: str) -> None:
    """Raise a DataError if the log has no time column; `key` is the setting that needs one."""
    if settings.roles.time is None:
        raise DataError(f"data.columns.time must be named for {key}, got none ({settings.path})")


def with_text_ids(source: Source, kinds: tuple[IdKind, IdKind]) -> Source:
    """Return the source with ids read as text where `kinds` says text.

    All ids of a text file may be digits by chance. The types of a Parquet file stay.
    """
    made = source.settings.path == SYNTHETIC or source.layout is not None
    if made or not all(tables.is_text(one.path) for one in source.chunks):
        return source
    text = [role for role, kind in zip(Ids._fields, kinds, strict=True) if kind == "text"]
    ids = source.ids._replace(**dict.fromkeys(text, pl.String()))
    roles = source.settings.roles
    return as_written(source._replace(ids=ids), {getattr(roles, role) for role in text})


def as_written(source: Source, names: Set[str]) -> Source:
    """Return the source with these columns of text as they are: `1.0` stays `1.0` in them."""
    chunks = [chunk._replace(whole=chunk.whole - names) for chunk in source.chunks]
    notes = [note for note in source.notes if not any(f"column {n!r} are" in note for n in names)]
    return source._replace(chunks=chunks, notes=tuple(notes))


def columns(settings: Data) -> list[str]:
    """Return the columns of the log that a config names, roles first."""
    named = [name for name in settings.roles.model_dump().values() if name is not None]
    return [*named, *(column.partition(".")[2] for column in settings.event_features)]


def side_path(table: SideTable, folder: str) -> str:
    """Return the path of a side table: beside the log, else as it is given."""
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


def _files(settings: Data, path: str) -> Source:
    """Return the source of one file, of the files of a pattern, or of those in a folder."""
    folder = paths.folder(path)
    if paths.is_file(path):
        folder = paths.parent(path)
        files = paths.find(path, tables.ALL_SUFFIXES)
    else:
        files = _log_files(path, folder, settings)
    effective = settings.model_copy(update={"columns": settings.columns or Columns()})
    if settings.feedback != "implicit" and not settings.labelled:
        raise DataError(
            f"data.columns.label must be named for {settings.feedback} feedback, got none "
            f"({settings.path})"
        )
    tables.require_form(settings, files[0].path if files else "", "data")
    found = survey.schemas(files, columns(effective), effective)
    read = survey.survey(found, effective)
    chunks = [chunk for file, _ in found for chunk in _chunks(file, read.whole)]
    fingerprint = _fingerprint([file.path for file in files], folder, effective)
    return Source(effective, folder, None, chunks, read.ids, fingerprint, read.notes)


def _log_files(path: str, folder: str, settings: Data) -> list[File]:
    """Return the files of the log, without its side tables and side files."""
    sides = {side_path(t, folder) for t in (settings.users, settings.items) if t is not None}
    sides |= {
        paths.inside(folder, rows.path)
        for rows in (settings.only, settings.without)
        if rows is not None
    }
    own = {paths.identity(side) for side in sides}
    files = paths.find(path, tables.ALL_SUFFIXES)
    found = [file for file in files if paths.identity(file.path) not in own]
    sure = [file for file in found if not tables.is_unsure(file.name)]
    found = sure or found
    kinds = {tables.kind(file.path) for file in found}
    if len(kinds) != 1:
        got = " and ".join(sorted(kinds)) or "none"
        raise DataError(
            f"a log must be files of one format, {', '.join(tables.SUFFIXES)}, got {got} ({path})"
        )
    return found


def _chunks(file: File, whole: frozenset[str]) -> list[Chunk]:
    """Cut a Parquet file, between row groups, into chunks of at least a million rows."""
    one = Chunk(file.path, file.name, whole=whole, partitions=file.partitions)
    if tables.is_text(file.path):
        return [one]
    chunks: list[Chunk] = []
    start, first, rows = 0, 0, 0
    sizes = tables.row_groups(file.path)
    for index, size in enumerate(sizes):
        rows += size
        if rows >= CHUNK_ROWS or index == len(sizes) - 1:
            chunks.append(one._replace(first_row=first, groups=range(start, index + 1)))
            start, first, rows = index + 1, first + rows, 0
    return chunks


def _fingerprint(log: Sequence[str], folder: str, settings: Data) -> str:
    """Hash the relative name, size and content of each input file (tag, if it is remote)."""
    sides = [side_path(t, folder) for t in (settings.users, settings.items) if t is not None]
    entries = []
    for path in sorted({*log, *sides}):
        if not paths.is_file(path):
            raise DataError(f"an input file must exist, none is at {path}")
        entries.append([paths.name(path, folder), paths.size(path), paths.stamp(path)])
    return sha256_json(entries)
