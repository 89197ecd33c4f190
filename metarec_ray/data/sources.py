"""Find the log of a config: its files cut into chunks, the defaults of its layout, its hash.

A source is the synthetic model, a known layout, or any Parquet or CSV files whose columns the
config names. Knows where rows lie; `data.logs` reads them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data import datasets, layouts, selection, synthetic, tables, validate
from metarec_ray.data.manifest import sha256_file, sha256_json
from metarec_ray.data.movielens import Layout
from metarec_ray.data.selection import Sides
from metarec_ray.data.settings import Columns, Data, SideTable
from metarec_ray.data.validate import Ids
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
        text: columns of a CSV file that are read as strings whatever they look like.
        sides: where the files of `data.only` and `data.without` were found.

    """

    path: str
    file: str
    first_row: int = 0
    groups: range | None = None
    layout: str | None = None
    text: frozenset[str] = frozenset()
    sides: Sides = Sides()


class Source(NamedTuple):
    """Where a log lies: settings with the defaults of its layout, chunks, and what it hashes to."""

    settings: Data
    folder: Path
    layout: Layout | None
    chunks: list[Chunk]
    ids: Ids
    fingerprint: str


def find(settings: Data, *, data_dir: Path | None = None) -> Source:
    """Return where the log of a config lies; `data_dir` holds data sets by name."""
    # Before the log, which may have to be fetched if it is a data set by name.
    sides = selection.locate(settings, data_dir)
    source = _find(settings, data_dir)
    found = [path for path in sides if path is not None]
    if not found:
        return source
    if validate.roles(source.settings).sequence is None:
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
    if settings.path in datasets.NAMES:
        path = datasets.obtain(settings.path, data_dir)
    else:
        path = Path(settings.path).expanduser()
    if not path.exists():
        known = ", ".join([SYNTHETIC, *datasets.NAMES])
        raise DataError(
            f"data.path must be a file, a folder or one of {known}, got {settings.path!r}"
        )
    layout = layouts.detect(path) if path.is_dir() else None
    if layout is not None:
        effective = layouts.effective(settings, layout, path)
        log = path / layout.log
        chunks = [Chunk(str(log), layout.log, layout=layout.name)]
        inputs = [log, *layout.further(path, effective)]
        fingerprint = _fingerprint(inputs, path, effective)
        return Source(effective, path, layout, chunks, INTEGERS, fingerprint)
    return _plain(settings, path)


def columns(settings: Data) -> list[str]:
    """Return the columns of the log that a config names, context last."""
    named = [name for name in validate.roles(settings).model_dump().values() if name is not None]
    return [*named, *sorted(settings.context)]


def side_path(table: SideTable, folder: Path) -> Path:
    """Return where a side table lies: beside the log, else where its path says."""
    beside = folder / table.path
    return beside if beside.is_file() else Path(table.path).expanduser()


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
    return Source(effective, Path(), None, [chunk], INTEGERS, fingerprint)


def _plain(settings: Data, path: Path) -> Source:
    """Return the source of one file, or of all Parquet or all CSV files below a folder."""
    files = [path] if path.is_file() else _below(path, settings)
    folder = path.parent if path.is_file() else path
    roles = validate.roles(settings)
    effective = settings.model_copy(update={"columns": settings.columns or Columns()})
    if settings.feedback != "implicit" and roles.label is None:
        raise DataError(
            f"data.columns.label must be named for {settings.feedback} feedback, got none "
            f"({settings.path})"
        )
    ids = _id_types(files, effective)
    names = (roles.entity, roles.item)
    text = frozenset(n for n, dtype in zip(names, ids, strict=True) if dtype == pl.String)
    chunks = [chunk for file in files for chunk in _chunks(file, folder, text)]
    return Source(effective, folder, None, chunks, ids, _fingerprint(files, folder, effective))


def _below(folder: Path, settings: Data) -> list[Path]:
    """Return the files of the log: not hidden, and not its tables of users or items."""
    sides = {side_path(t, folder) for t in (settings.users, settings.items) if t is not None}
    sides |= {folder / rows.path for rows in (settings.only, settings.without) if rows is not None}
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in tables.SUFFIXES
        and path not in sides
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )
    kinds = {path.suffix for path in found}
    if len(kinds) != 1:
        got = " and ".join(sorted(kinds)) or "none"
        raise DataError(f"a folder must hold .parquet or .csv files, got {got} ({folder})")
    return found


def _id_types(files: Sequence[Path], settings: Data) -> Ids:
    """Check that every file has the columns; ids that are integers in all files stay integers.

    CSV ids that are not become strings; of other types than these two `data.validate` complains.
    """
    roles = validate.roles(settings)
    seen: dict[str, dict[bool, Path]] = {roles.entity: {}, roles.item: {}}
    for file in files:
        found = tables.schema(file)
        tables.require_columns(columns(settings), list(found), file.name)
        for name, places in seen.items():
            places.setdefault(found[name].is_integer(), file)
    for name, places in seen.items():
        if len(places) > 1 and files[0].suffix == ".parquet":
            raise DataError(
                f"ids must be of one type in all files, column {name!r} is of integers in "
                f"{places[True].name} and not in {places[False].name}"
            )
    kinds = {name: pl.String() if False in places else pl.Int64() for name, places in seen.items()}
    return Ids(kinds[roles.entity], kinds[roles.item])


def _chunks(file: Path, folder: Path, text: frozenset[str]) -> list[Chunk]:
    """Cut a Parquet file between row groups into chunks of about a million rows."""
    name = file.relative_to(folder).as_posix()
    if file.suffix != ".parquet":
        return [Chunk(str(file), name, text=text)]
    chunks: list[Chunk] = []
    start, first, rows = 0, 0, 0
    sizes = tables.row_groups(file)
    for index, size in enumerate(sizes):
        rows += size
        if rows >= CHUNK_ROWS or index == len(sizes) - 1:
            chunks.append(Chunk(str(file), name, first, range(start, index + 1)))
            start, first, rows = index + 1, first + rows, 0
    return chunks


def _fingerprint(log: Sequence[Path], folder: Path, settings: Data) -> str:
    """Hash the relative name, size and content of each input file."""
    sides = [side_path(t, folder) for t in (settings.users, settings.items) if t is not None]
    entries = []
    for path in sorted({*log, *sides}):
        if not path.is_file():
            raise DataError(f"an input file must exist, none is at {path}")
        inside = path.is_relative_to(folder)
        name = path.relative_to(folder).as_posix() if inside else path.name
        entries.append([name, path.stat().st_size, sha256_file(path)])
    return sha256_json(entries)
