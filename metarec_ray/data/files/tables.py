"""Read one Parquet, CSV or JSON file; a broken one is a DataError of one sentence.

CSV and JSON are called text files here: all of their values are text. Does not know what a column
means.
"""

import csv
import difflib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_ray.data.files import json_rows, parts, paths, separated
from metarec_ray.data.files.parts import Part
from metarec_ray.data.text_format import TextFormat
from metarec_ray.errors import DataError

PACKED = ".gz"
SUFFIXES = {
    "Parquet": (".parquet", ".pq"),
    "CSV": (".csv", ".tsv", ".txt", ".dat"),
    "JSON lines": (".jsonl", ".ndjson", ".json"),
}
UNSURE = (".txt", ".dat", ".json")
"""Suffixes of notes beside a log, too: such files of a folder are read if it has no others."""
PLAIN = TextFormat()
Types = dict[str, pl.DataType]

_TEXT = tuple(s for kind in ("CSV", "JSON lines") for s in SUFFIXES[kind])
ALL_SUFFIXES = (*SUFFIXES["Parquet"], *_TEXT, *(suffix + PACKED for suffix in _TEXT))
_ERRORS = (
    pl.exceptions.PolarsError, pa.ArrowException, OSError, EOFError, zlib.error, csv.Error,
)  # fmt: skip


def kind(name: str) -> str:
    """Return the format of a file by its name.

    Raises:
        DataError: no such format is read.

    """
    plain = (name.partition("?")[0] if paths.is_remote(name) else name).lower()
    for found, suffixes in SUFFIXES.items():
        if plain.removesuffix(PACKED if found != "Parquet" else "").endswith(suffixes):
            return found
    raise DataError(f"an input file must be one of {', '.join(ALL_SUFFIXES)}, got {name}")


def is_text(name: str) -> bool:
    """Return whether a file is CSV or JSON, by its name."""
    return kind(name) != "Parquet"


def is_unsure(name: str) -> bool:
    """Return whether a file may be a note beside a log, by its name."""
    return name.lower().removesuffix(PACKED).endswith(UNSURE)


def read(path: str | Path, columns: Sequence[str], form: TextFormat = PLAIN) -> pl.DataFrame:
    """Return the named columns of a whole file.

    Raises:
        DataError: a column is missing, or a row is broken.

    """
    path, frames = str(path), []
    for part in batches(path, columns, form=form, rows=2**30):
        for row, reason, value in part.broken.iter_rows():
            raise DataError(f"{reason}, got {value!r} in row {row} of {path}")
        frames.append(part.frame)
    return pl.concat(frames)


def batches(
    path: str,
    columns: Sequence[str],
    *,
    groups: range | None = None,
    form: TextFormat = PLAIN,
    rows: int,
) -> Iterator[Part]:
    """Yield the named columns of a file, about `rows` rows at a time; at least one part.

    Args:
        path: of the file.
        columns: names.
        groups: row groups of a Parquet file; all by default.
        form: how a text file is written.
        rows: of a part.

    """
    names = list(dict.fromkeys(columns))
    try:
        if kind(path) == "CSV":
            _require_bytes(path)
            top = separated.head(path, form)
            require_columns(names, top.names, path)
            yield from separated.parts(path, names, top, rows)
            return
        found = schema(path, form, names)
        require_columns(names, list(found), path)
        if kind(path) == "Parquet":
            yield from parts.plain(_parquet(path, names, groups, rows))
        else:
            yield from json_rows.parts(path, {n: found[n] for n in names}, form, rows)
    except _ERRORS as error:
        raise _broken(path, error) from error


def schema(path: str | Path, form: TextFormat = PLAIN, wanted: Sequence[str] = ()) -> Types:
    """Return the columns of a file, and the types of those that are `wanted`.

    Text files have text, or lists of text. Of a JSON file these are the keys of its first rows,
    unless a wanted one is not among them. A Parquet column that is not wanted is of type unknown.
    """
    path = str(path)
    of = kind(path)
    _require_bytes(path)
    try:
        if of == "Parquet":
            with paths.opened(path) as stream:
                return _types(pq.read_schema(stream), wanted)
        if of == "CSV":
            return dict.fromkeys(separated.head(path, form).names, pl.String())
        return json_rows.columns(path, form, wanted)
    except _ERRORS as error:
        raise _broken(path, error) from error


def _require_bytes(path: str) -> None:
    if not paths.is_file(path):
        raise DataError(f"an input file must exist, none is at {path}")
    if paths.size(path) == 0:
        raise DataError(f"an input file must hold rows, got 0 bytes ({path})")


def row_groups(path: str) -> list[int]:
    """Return the number of rows of each row group of a Parquet file."""
    try:
        with paths.opened(path) as stream, pq.ParquetFile(stream) as file:
            return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def require_columns(wanted: Sequence[str], found: Sequence[str], place: str) -> None:
    """Raise a DataError that names the first missing column, all that exist and the nearest."""
    for name in wanted:
        if name not in found:
            raise DataError(
                f"column {name!r} must exist, the columns of {place} are {', '.join(found)}"
                f"{_nearest(name, found)}"
            )


def _nearest(name: str, found: Sequence[str]) -> str:
    """Return the names that a wrong one may have meant, as the end of a sentence."""
    plain = {one.lower(): one for one in found}
    near = difflib.get_close_matches(name.lower(), plain)
    return f"; nearest: {', '.join(repr(plain[one]) for one in near)}" if near else ""


def _parquet(
    path: str, names: list[str], groups: range | None, rows: int
) -> Iterator[pl.DataFrame]:
    with paths.opened(path) as stream, pq.ParquetFile(stream) as file:
        chosen = list(range(file.num_row_groups) if groups is None else groups)
        if not sum(file.metadata.row_group(number).num_rows for number in chosen):
            yield frame(file.schema_arrow.empty_table().select(names))
        for batch in file.iter_batches(rows, row_groups=chosen, columns=names):
            yield frame(pa.Table.from_batches([batch]).select(names))


def require_form(form: TextFormat, path: str, key: str) -> None:
    """Raise a DataError if a key says how a text file is written and the file is none such."""
    if not path or kind(path) == "CSV":
        return
    of = kind(path)
    idle = [name for name in form.asked() if of == "Parquet" or name not in ("encoding", "decimal")]
    if idle:
        raise DataError(f"{key}.{idle[0]} is of text files, the file is of {of} ({path})")


def _types(found: pa.Schema, wanted: Sequence[str]) -> Types:
    types: Types = dict.fromkeys(found.names, pl.Unknown())
    for name in set(wanted) & set(found.names):
        if found.names.count(name) > 1:
            raise DataError(f"a column must be named once, there are two of {name!r}")
        types[name] = frame(found.empty_table().select([name])).schema[name]
    return types


def frame(table: pa.Table) -> pl.DataFrame:
    """Return a table for polars, which panics at offsets as zones and at wide decimals.

    Words that were stored as numbers of a dictionary are words.

    Raises:
        pa.ArrowInvalid: text is no UTF-8, which polars does not bear.

    """
    table.validate(full=True)
    fields = [field.with_type(_readable(field.type)) for field in table.schema]
    found = pl.from_arrow(table.cast(pa.schema(fields), safe=False))
    assert isinstance(found, pl.DataFrame)
    return found.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _readable(dtype: pa.DataType) -> pa.DataType:
    """Return the type that polars reads: an instant stays what it is, in UTC."""
    if pa.types.is_timestamp(dtype) and dtype.tz is not None:
        return pa.timestamp(dtype.unit, "UTC")
    if pa.types.is_decimal256(dtype):
        return pa.float64()
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        return pa.large_list(_readable(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(_readable(field.type)) for field in dtype])
    return dtype


def _broken(path: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split("\n")[0].split())[:200]
    return DataError(f"a {kind(path)} file must be whole and readable, {path} is not: {reason}")
