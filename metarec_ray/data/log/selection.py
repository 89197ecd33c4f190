"""The part of a log that may be used, as `data.only` and `data.without` name it row by row.

Knows where their side files are looked for and which rows these name; does not know the log.
Partitions that others published are files like these: not shipped, but looked up.
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
"""Files of a partition by the folder they share: one is of no use without the others."""


class Sides(NamedTuple):
    """Where the side files of a log lie, None for one that is not asked for."""

    only: Path | None = None
    without: Path | None = None


def locate(settings: Data, data_dir: Path | None) -> Sides:
    """Return the side files: in the data folder, beside the log, else below the working folder.

    DataError names all files of a partition that are missing from the data folder.
    """
    folder = data_dir if data_dir is not None else by_name.DEFAULT_FOLDER
    named = settings.path in by_name.NAMES or paths.is_remote(settings.path)
    log = folder if named else Path(paths.folder(settings.path)).expanduser()
    looked = (folder, log if log.is_dir() else log.parent, Path())
    return Sides(
        *(
            None if rows is None else _locate(rows, looked, f"data.{name}")
            for name, rows in (("only", settings.only), ("without", settings.without))
        )
    )


def kept(settings: Data, sides: Sides, sequence: str | None) -> pl.Expr | None:
    """Return which rows of a canonical log are kept, None for all; without a sequence they are.

    `sequence` is its column in the side files.
    """
    wanted: pl.Expr | None = None
    asked = (settings.only, settings.without)
    for rows, path, inside in zip(asked, sides, (True, False), strict=True):
        if rows is None:
            continue
        assert path is not None, "`locate` finds what is asked for"
        assert sequence is not None, "`sources.find` refuses a log without one"
        named = pl.col("sequence").is_in(_sequences(path, rows, sequence).implode())
        # A row without a sequence is for quarantine to judge.
        one = (named if inside else ~named).fill_null(True)
        wanted = one if wanted is None else wanted & one
    return wanted


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
