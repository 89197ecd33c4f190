"""Read one Parquet or CSV file: rows that are asked for, and one clear sentence when it is broken.

Knows file formats; does not know what a column means.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_ray.errors import DataError

SUFFIXES = (".parquet", ".csv")


def read(
    path: Path,
    columns: Sequence[str],
    *,
    groups: range | None = None,
    text: frozenset[str] = frozenset(),
) -> pl.DataFrame:
    """Return the named columns of a file.

    `groups` are the row groups of a Parquet file, all by default; columns in `text` of a CSV file
    are read as strings whatever they look like.
    """
    return pl.concat(batches(path, columns, groups=groups, text=text, rows=2**30))


def batches(
    path: Path,
    columns: Sequence[str],
    *,
    groups: range | None = None,
    text: frozenset[str] = frozenset(),
    rows: int,
) -> Iterator[pl.DataFrame]:
    """Yield what `read` returns, at most `rows` rows of a Parquet file at a time, and one frame."""
    names = list(dict.fromkeys(columns))
    require_columns(names, list(schema(path)), path.name)
    if path.suffix == ".parquet":
        yield from _parquet(path, names, groups, rows)
        return
    overrides = {name: pl.String() for name in names if name in text}
    try:
        yield pl.read_csv(
            path, columns=names, infer_schema_length=None, schema_overrides=overrides
        ).select(names)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _broken(path, error) from error


def schema(path: Path) -> dict[str, pl.DataType]:
    """Return the columns of a file and their dtypes; of a CSV file, judged by all of its rows."""
    if not path.is_file():
        raise DataError(f"an input file must exist, none is at {path}")
    if path.suffix not in SUFFIXES:
        raise DataError(f"an input file must be one of {', '.join(SUFFIXES)}, got {path.name}")
    if path.stat().st_size == 0:
        raise DataError(f"an input file must hold rows, got 0 bytes ({path})")
    try:
        if path.suffix == ".parquet":
            found = pl.from_arrow(pq.read_schema(path).empty_table())
            assert isinstance(found, pl.DataFrame)
            return dict(found.schema)
        return dict(pl.scan_csv(path, infer_schema_length=None).collect_schema())
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def row_groups(path: Path) -> list[int]:
    """Return the number of rows of each row group of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def require_columns(wanted: Sequence[str], found: Sequence[str], place: str) -> None:
    """Raise a DataError that names the first column that is missing and those that are there."""
    for name in wanted:
        if name not in found:
            raise DataError(
                f"column {name!r} must exist, the columns of {place} are {', '.join(found)}"
            )


def _parquet(
    path: Path, names: list[str], groups: range | None, rows: int
) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            chosen = list(range(file.num_row_groups) if groups is None else groups)
            if not sum(file.metadata.row_group(number).num_rows for number in chosen):
                yield _frame(file.schema_arrow.empty_table().select(names))
            for batch in file.iter_batches(rows, row_groups=chosen, columns=names):
                yield _frame(pa.Table.from_batches([batch]).select(names))
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from error


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _broken(path: Path, error: Exception) -> DataError:
    kind = "Parquet" if path.suffix == ".parquet" else "CSV"
    reason = " ".join(str(error).split("\n")[0].split())[:200]
    return DataError(f"a {kind} file must be whole and readable, {path} is not: {reason}")
