"""Read one Parquet, CSV or JSON lines file; a broken one is a DataError of one sentence.

CSV and JSON lines are called text files here. Does not know what a column means.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_ray.data.files import paths
from metarec_ray.errors import DataError

SUFFIXES = {
    "Parquet": (".parquet", ".pq"),
    "CSV": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "JSON lines": (".jsonl", ".ndjson"),
}
ALL_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
Types = dict[str, pl.DataType]


def kind(name: str) -> str:
    """Return the format of a file by its name.

    Raises:
        DataError: no such format is read.

    """
    plain = name.partition("?")[0] if paths.is_remote(name) else name
    for found, suffixes in SUFFIXES.items():
        if plain.lower().endswith(suffixes):
            return found
    raise DataError(f"an input file must be one of {', '.join(ALL_SUFFIXES)}, got {name}")


def read(path: str | Path, columns: Sequence[str], *, text: Sequence[str] = ()) -> pl.DataFrame:
    """Return the named columns of a file; those in `text` are read as text from a text file."""
    types = schema(path)
    require_columns(columns, list(types), str(path))
    types |= {name: pl.String() for name in text}
    asked = {name: types[name] for name in columns}
    return pl.concat(batches(str(path), columns, types=asked, rows=2**30))


def batches(
    path: str,
    columns: Sequence[str],
    *,
    groups: range | None = None,
    types: Types | None = None,
    rows: int,
) -> Iterator[pl.DataFrame]:
    """Yield the named columns of a file, about `rows` rows at a time; at least one frame.

    Args:
        path: of the file.
        columns: names.
        groups: row groups of a Parquet file; all by default.
        types: of the named columns of a text file; by default inferred from all of its rows.
        rows: of a frame.

    """
    names = list(dict.fromkeys(columns))
    if types is None:
        found = schema(path)
        require_columns(names, list(found), path)
        types = {name: found[name] for name in names}
    try:
        if kind(path) == "Parquet":
            yield from _parquet(path, names, groups, rows)
        else:
            yield from _text(path, names, types, rows)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def schema(path: str | Path) -> Types:
    """Return the columns of a file and their types, inferred from all rows of a text file."""
    path = str(path)
    form = kind(path)
    if not paths.is_file(path):
        raise DataError(f"an input file must exist, none is at {path}")
    if paths.size(path) == 0:
        raise DataError(f"an input file must hold rows, got 0 bytes ({path})")
    try:
        if form == "Parquet":
            with paths.opened(path) as stream:
                return dict(_frame(pq.read_schema(stream).empty_table()).schema)
        with paths.local(path) as file:
            return dict(_scan(file, None).collect_schema())
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def empty_columns(path: str, names: Sequence[str]) -> list[str]:
    """Return which of these columns of a text file have no value."""
    types: Types = {name: pl.String() for name in names}
    empty = set(names)
    for frame in batches(path, names, types=types, rows=2**20):
        empty -= {name for name in empty if frame[name].null_count() < len(frame)}
        if not empty:
            break
    return sorted(empty)


def row_groups(path: str) -> list[int]:
    """Return the number of rows of each row group of a Parquet file."""
    try:
        with paths.opened(path) as stream, pq.ParquetFile(stream) as file:
            return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def require_columns(wanted: Sequence[str], found: Sequence[str], place: str) -> None:
    """Raise a DataError that names the first missing column and all that exist."""
    for name in wanted:
        if name not in found:
            raise DataError(
                f"column {name!r} must exist, the columns of {place} are {', '.join(found)}"
            )


def _parquet(
    path: str, names: list[str], groups: range | None, rows: int
) -> Iterator[pl.DataFrame]:
    with paths.opened(path) as stream, pq.ParquetFile(stream) as file:
        chosen = list(range(file.num_row_groups) if groups is None else groups)
        if not sum(file.metadata.row_group(number).num_rows for number in chosen):
            yield _frame(file.schema_arrow.empty_table().select(names))
        for batch in file.iter_batches(rows, row_groups=chosen, columns=names):
            yield _frame(pa.Table.from_batches([batch]).select(names))


def _text(path: str, names: list[str], types: Types, rows: int) -> Iterator[pl.DataFrame]:
    empty = True
    with paths.local(path) as file:
        for frame in _scan(file, types).select(names).collect_batches(chunk_size=rows):
            empty = False
            yield frame
    if empty:
        yield pl.DataFrame(schema={name: types[name] for name in names})


def _scan(file: Path, types: Types | None) -> pl.LazyFrame:
    name = file.name.lower()
    if kind(name) == "JSON lines":
        return pl.scan_ndjson(file, schema_overrides=types, infer_schema_length=None)
    tab = name.endswith((".tsv", ".tsv.gz"))
    return pl.scan_csv(
        file,
        separator="\t" if tab else ",",
        schema_overrides=types,
        infer_schema_length=None if types is None else 0,
    )


def _frame(table: pa.Table) -> pl.DataFrame:
    """Return a table for polars, which panics at offsets as zones and at wide decimals."""
    fields = [field.with_type(_readable(field.type)) for field in table.schema]
    frame = pl.from_arrow(table.cast(pa.schema(fields), safe=False))
    assert isinstance(frame, pl.DataFrame)
    return frame


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
