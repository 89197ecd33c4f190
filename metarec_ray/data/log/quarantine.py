"""Rows that were set aside, with the reason: counted, listed in a file, judged by their share.

They come frame by frame: a log may hold more of them than memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.files.parquet import write_frames
from metarec_ray.data.settings import Data
from metarec_ray.errors import DataError

COLUMNS = pl.Schema(
    {
        "file": pl.String(),
        "row": pl.Int64(),
        "reason": pl.String(),
        "value": pl.String(),
        "rows": pl.Int64(),
    }
)
"""Of a row that was set aside; a history that was cut short is one, of so many `rows`."""


class Listed(NamedTuple):
    """A file of rows set aside.

    Attributes:
        lines: of the file; a history that was cut short is one.
        reasons: rows by reason.
        sha256: of the file.

    """

    lines: int
    reasons: dict[str, int]
    sha256: str


def write(frames: Iterable[pl.DataFrame], path: Path) -> Listed:
    """Write rows set aside to a file."""
    reasons: Counter[str] = Counter()
    lines = 0

    def counted() -> Iterator[pl.DataFrame]:
        nonlocal lines
        for frame in frames:
            lines += len(frame)
            reasons.update(count(frame))
            yield frame

    schema = COLUMNS.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    sha256 = write_frames(counted(), path, schema)
    return Listed(lines, dict(sorted(reasons.items())), sha256)


def count(frame: pl.DataFrame) -> dict[str, int]:
    """Return how many rows were set aside for which reason."""
    return dict(frame.group_by("reason").agg(pl.col("rows").sum()).iter_rows())


def refuse_bad_share(
    bad: int, rows: int, frames: Iterable[pl.DataFrame], settings: Data, store: Path
) -> None:
    """Raise a DataError when too many of a log's `rows` are bad; the list is then beside `store`.

    `frames` list the `bad` ones.
    """
    if bad <= settings.max_bad_share * rows:
        return
    listing = store.with_name(f"{store.name}.quarantine.parquet")
    listing.parent.mkdir(parents=True, exist_ok=True)
    write(frames, listing)
    first = pl.read_parquet(listing, n_rows=1, glob=False).row(0, named=True)
    raise DataError(
        f"at most {settings.max_bad_share:.2%} of rows may be bad (data.max_bad_share), got {bad} "
        f"of {rows}: {first['reason']}, got {first['value']} in row {first['row']} of "
        f"{first['file']} (all in {listing})"
    )
