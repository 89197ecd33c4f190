"""Rejected rows and their reasons: counted, written to a file, refused if there are too many.

They come frame by frame: a log may have more of them than fit in memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data import times
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
"""Of rejected rows; a history that was truncated is one line, which stands for `rows` rows."""


class QuarantineFile(NamedTuple):
    """A file of rejected rows.

    Attributes:
        lines: of the file.
        reasons: rows by reason.
        sha256: of the file.

    """

    lines: int
    reasons: dict[str, int]
    sha256: str


def write(frames: Iterable[pl.DataFrame], path: Path) -> QuarantineFile:
    """Write rejected rows to a file."""
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
    return QuarantineFile(lines, dict(sorted(reasons.items())), sha256)


def count(frame: pl.DataFrame) -> dict[str, int]:
    """Return the number of rejected rows by reason."""
    return dict(frame.group_by("reason").agg(pl.col("rows").sum()).iter_rows())


def refuse_bad_share(
    bad: int, rows: int, frames: Iterable[pl.DataFrame], settings: Data, store: Path
) -> None:
    """Raise a DataError if more than `data.max_bad_share` of a log's `rows` are `bad`.

    The bad ones, `frames`, are then written to a file beside `store`.
    """
    listed = list(frames) if bad > settings.max_bad_share * rows else []
    if told := bad_share(bad, rows, listed, settings):
        listing = store.with_name(f"{store.name}.quarantine.parquet")
        listing.parent.mkdir(parents=True, exist_ok=True)
        write(listed, listing)
        raise DataError(f"{told} (all in {listing})")


def bad_share(bad: int, rows: int, frames: Iterable[pl.DataFrame], settings: Data) -> str | None:
    """Return a sentence if more than `data.max_bad_share` of `rows` are `bad`, with the first."""
    if bad <= settings.max_bad_share * rows:
        return None
    first = next(frame for frame in frames if len(frame)).row(0, named=True)
    return (
        f"at most {settings.max_bad_share:.2%} of rows may be bad (data.max_bad_share), got {bad} "
        f"of {rows}: {first['reason']}, got {first['value']} in row {first['row']} of "
        f"{first['file']}{_advice(first['reason'], first['value'], settings)}"
    )


def _advice(reason: str, value: str, settings: Data) -> str:
    unread = reason in (times.UNREAD, times.NO_NUMBER)
    return f": {times.advice(value, settings.time_format)}" if unread else ""
