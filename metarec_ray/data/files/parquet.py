"""Parquet files of a store: equal rows give equal bytes; files are synced and hashed."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_ray.data.files.hashes import sha256_file

ROW_GROUP = 16_384


def write_table(table: pa.Table, path: Path) -> str:
    """Write a table and return the SHA-256 of the file."""
    return _write(path, table.schema, [table.combine_chunks()])


def write_frames(frames: Iterable[pl.DataFrame], path: Path, schema: pa.Schema) -> str:
    """Write frames as one table and return the SHA-256; the cut into frames changes no byte."""
    groups = (group.to_arrow().cast(schema) for group in _groups(frames))
    return _write(path, schema, groups)


def _write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> str:
    with path.open("wb") as stream:
        with pq.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            use_dictionary=True,
            write_statistics=True,
            version="2.6",
            store_schema=False,
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=ROW_GROUP)
        stream.flush()
        os.fsync(stream.fileno())
    return sha256_file(path)


def _groups(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the rows of frames in row groups of equal size."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        while sum(map(len, held)) >= ROW_GROUP:
            whole = pl.concat(held)
            yield whole[:ROW_GROUP]
            held = [whole[ROW_GROUP:]]
    if sum(map(len, held)):
        yield pl.concat(held)
