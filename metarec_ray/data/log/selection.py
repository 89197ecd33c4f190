"""Rows of a log that `data.only` and `data.without` select, by the side files these name.

A published partition of a data set is such a side file: users must have it, it is not shipped.
Knows side files and their rows; does not know the log.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import by_name
from metarec_ray.data.files import paths, tables
from metarec_ray.data.settings import Data, Rows
from metarec_ray.errors import DataError

PARTITIONS = {
    "melu_protocol": ("scenario_by_row.parquet", *(f"tasks_seed{i}.parquet" for i in range(5))),
}
"""Files of a partition, by their folder; all of them are needed."""


class SelectionFiles(NamedTuple):
    """Paths of the side files of a log, None for one that the settings do not name."""

    only: Path | None = None
    without: Path | None = None


def locate(settings: Data, data_dir: Path | None) -> SelectionFiles:
    """Return the side files: in the data folder, beside the log, or below the working folder.

    Raises:
        DataError: one is missing; names all files of its partition that are.

    """
    folder = data_dir if data_dir is not None else by_name.DEFAULT_FOLDER
    named = settings.path in by_name.NAMES or paths.is_remote(settings.path)
    log = folder if named else Path(paths.folder(settings.path)).expanduser()
    looked = (folder, log if log.is_dir() else log.parent, Path())
    return SelectionFiles(
        *(
            None if rows is None else _locate(rows, looked, f"data.{name}")
            for name, rows in (("only", settings.only), ("without", settings.without))
        )
    )


def kept(settings: Data, files: SelectionFiles, sequence: str | None) -> dict[str, pl.Expr]:
    """Return expressions over canonical rows for those that are selected, by key of the settings.

    Rows are matched by sequence number; `sequence` is the name of that column in the side files.
    """
    found: dict[str, pl.Expr] = {}
    for key, path, inside in zip(SelectionFiles._fields, files, (True, False), strict=True):
        rows = getattr(settings, key)
        if rows is None:
            continue
        assert path is not None, "`locate` finds what is asked for"
        assert sequence is not None, "`sources.find` refuses a log without one"
        named = pl.col("sequence").is_in(_sequences(path, rows, sequence).implode())
        found[key] = named if inside else ~named
    return found


def _locate(rows: Rows, looked: tuple[Path, ...], key: str) -> Path:
    for place in looked:
        path = place / Path(rows.path).expanduser()
        if path.is_file():
            return path
    within = Path(rows.path).parent
    names = PARTITIONS.get(within.name, (Path(rows.path).name,))
    missing = [str(within / name) for name in names if not (looked[0] / within / name).is_file()]
    raise DataError(
        f"{key} reads files that must lie in the data folder {looked[0]} (METAREC_DATA), missing "
        f"{', '.join(missing)}"
    )


def _sequences(path: Path, rows: Rows, sequence: str) -> pl.Series:
    frame = tables.read(path, [sequence, rows.column])
    if frame[sequence].dtype == pl.String:
        frame = frame.with_columns(pl.col(sequence).cast(pl.Int64, strict=False))
        if frame[sequence].null_count():
            raise DataError(
                f"sequence numbers must be integers, row {frame[sequence].is_null().arg_max()} of "
                f"{path} has none (column {sequence})"
            )
    if not frame[sequence].dtype.is_integer():
        raise DataError(
            f"sequence numbers must be integers, got {frame[sequence].dtype} "
            f"(column {sequence} of {path})"
        )
    chosen = frame.filter(pl.col(rows.column).cast(pl.String) == str(rows.value))
    if chosen.is_empty():
        raise DataError(
            f"a side file must name some row, {path} has none with {rows.column} = {rows.value!r}"
        )
    return chosen[sequence].cast(pl.Int64)
