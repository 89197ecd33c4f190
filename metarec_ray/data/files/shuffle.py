"""Shuffle files: rows are written by chunk of the log and read by bucket of entities.

Each chunk has one file, with its rows sorted by bucket; a bucket is read from all files. Neither
side holds more than its own part of the log. Does not know what a row means.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def write(path: Path, frames: Iterable[pl.DataFrame]) -> list[int]:
    """Write rows by their column `bucket`, without it; return the bucket of each record batch.

    Raises:
        OSError: the disk is full.

    """
    buckets: list[int] = []
    writer = None
    with path.open("wb") as stream:
        for frame in frames:
            parts = frame.partition_by("bucket", as_dict=True, include_key=False)
            for (bucket,), rows in sorted(parts.items()):
                table = arrow(rows)
                writer = writer or pa.ipc.new_file(stream, table.schema, options=_OPTIONS)
                writer.write_table(table)
                buckets += [int(bucket)] * table.column(0).num_chunks
        if writer is not None:
            writer.close()
    return buckets


def read(
    files: Sequence[tuple[Path, list[int]]], bucket: int, *, empty: pl.DataFrame
) -> pl.DataFrame:
    """Return the rows of a bucket, or `empty`; `files` have the bucket of each record batch."""
    found = []
    for path, buckets in files:
        wanted = [number for number, own in enumerate(buckets) if own == bucket]
        if wanted:
            with pa.OSFile(str(path)) as stream:
                reader = pa.ipc.open_file(stream)
                found += [reader.get_batch(number) for number in wanted]
    return pl.DataFrame(pa.Table.from_batches(found)) if found else empty


def save(path: Path, frame: pl.DataFrame) -> None:
    """Write a frame to a file."""
    table = arrow(frame)
    with path.open("wb") as stream, pa.ipc.new_file(stream, table.schema, options=_OPTIONS) as file:
        file.write_table(table)


def load(path: Path) -> pl.DataFrame:
    """Return a frame that `save` wrote."""
    with pa.OSFile(str(path)) as stream:
        return pl.DataFrame(pa.ipc.open_file(stream).read_all())


def arrow(frame: pl.DataFrame) -> pa.Table:
    """Return a frame as an Arrow table, without types that only polars knows."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
