"""Blocks of a log on their way to buckets: Arrow tables of events and of rows set aside.

One table carries both, so that what is quarantined and how much was read, filtered or collapsed
travels with the rows: `kind` says which. Knows no Ray: `engine.prepare` says where these run.
"""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from metarec_ray.data import histories, logs, validate
from metarec_ray.data.settings import Data
from metarec_ray.data.sources import Chunk
from metarec_ray.errors import DataError

# Rows of a block that are no events: `rows` is their number, `value` what a person reads.
EVENT, REJECTED, READ, FILTERED, COLLAPSED, FAILED = range(6)
NO_BUCKET = -1
ASIDE = pl.Schema({**validate.REJECTED, "kind": pl.Int32(), "bucket": pl.Int32()})


def read_chunks(
    batch: pa.Table, *, chunks: Sequence[Chunk], settings: Data, columns: pl.Schema
) -> pa.Table:
    """Return the checked rows of the chunks that a batch numbers, with what was set aside."""
    parts = [pl.DataFrame(schema=columns)]
    for number in batch["id"].to_pylist():
        chunk = chunks[number]
        try:
            rows, checked = logs.check_chunk(chunk, settings)
        except DataError as error:
            # Ray wraps what a function raises: the sentence travels as a row instead.
            parts.append(_aside(FAILED, 1, file=chunk.file, value=str(error)))
            continue
        known = pl.Schema({name: columns[name] for name in checked.events.columns})
        events = histories.with_bucket(checked.events.cast(known), settings.buckets)
        parts.append(events.with_columns(kind=pl.lit(EVENT, pl.Int32)))
        parts += [
            _rejected(checked.rejected),
            _aside(READ, rows),
            _aside(FILTERED, checked.filtered),
        ]
    return _arrow(pl.concat(parts, how="diagonal"))


def collapse(table: pa.Table, *, max_events: int, shuffle: int | None) -> pa.Table:
    """Return the sorted, unique, limited events of a block's buckets, and what was set aside."""
    events, aside = split(table)
    if events is None:
        return table
    kept = histories.collapse(events, shuffle=shuffle)
    limited, beyond = histories.truncate(kept, max_events)
    collapsed = _aside(COLLAPSED, len(events) - len(kept))
    limited = limited.with_columns(kind=pl.lit(EVENT, pl.Int32))
    return _arrow(pl.concat([limited, aside, _rejected(beyond), collapsed], how="diagonal"))


def split(table: pa.Table) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """Part a block into events (None where it has none) and rows set aside."""
    if "kind" not in table.column_names:
        return None, pl.DataFrame(schema=ASIDE)
    frame = pl.DataFrame(table)
    aside = frame.filter(pl.col("kind") != EVENT).select(list(ASIDE)).cast(ASIDE)
    events = frame.filter(pl.col("kind") == EVENT)
    if events.is_empty():
        return None, aside
    return events.drop([name for name in ASIDE if name != "bucket"]), aside


def by_bucket(events: pl.DataFrame | None) -> list[tuple[int, pl.DataFrame]]:
    """Return the events of each bucket that has any."""
    if events is None:
        return []
    parts = events.partition_by("bucket", as_dict=True, include_key=False, maintain_order=True)
    return [(int(bucket), rows) for (bucket,), rows in parts.items()]


def _rejected(rows: pl.DataFrame) -> pl.DataFrame:
    kind, bucket = pl.lit(REJECTED, pl.Int32), pl.lit(NO_BUCKET, pl.Int32)
    return rows.with_columns(kind=kind, bucket=bucket)


def _aside(kind: int, rows: int, *, file: str = "", value: str = "") -> pl.DataFrame:
    row = {"file": file, "row": None, "reason": "", "value": value, "rows": rows}
    return pl.DataFrame({**row, "kind": kind, "bucket": NO_BUCKET}, schema=ASIDE)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
