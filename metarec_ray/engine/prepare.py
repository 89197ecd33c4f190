"""Make a task store on a Ray cluster: the same bytes as `data.store.build_store`, in parallel.

Ray Data reads and checks chunks of the log and brings each bucket's rows to one block; tasks then
summarise and write the blocks they hold. What is done to rows is in `data`; here is only where it
is done. The store must lie where every worker can write. The caller has started Ray.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import ray
import ray.data

from metarec_ray.data import catalogue, histories, logs, sources, store, validate
from metarec_ray.data.catalogue import SideTables
from metarec_ray.data.encode import Seen
from metarec_ray.data.histories import Plan, Summary
from metarec_ray.data.manifest import FileEntry, Manifest, bucket_name, load, verify
from metarec_ray.data.settings import Data, Feature
from metarec_ray.data.sources import Source
from metarec_ray.data.store import Origin, Tally
from metarec_ray.engine import blocks
from metarec_ray.engine.blocks import (
    ASIDE,
    COLLAPSED,
    FAILED,
    FILTERED,
    READ,
    REJECTED,
    by_bucket,
    split,
)
from metarec_ray.errors import DataError

Progress = Callable[[str], None]
Ref = Any  # ray.ObjectRef is generic over what get() returns, which task wrappers do not keep


class _Grouped(NamedTuple):
    """Collapsed events in the object store, one ref a block, and what was set aside on the way."""

    refs: list[Ref]
    tally: Tally
    summaries: list[Summary]


def prepare(
    settings: Data, store_path: Path, *, data_dir: Path | None, progress: Progress
) -> Manifest:
    """Bring the store at `store_path` up to date with the log and return its manifest.

    Does nothing when settings and input are those of the store. Else a new store is built beside
    it and takes its place at the end; on any error the old one stays.
    """
    source = sources.find(settings, data_dir=data_dir)
    present = _up_to_date(store_path, source)
    if present is not None:
        progress(f"prepare: {store_path} is up to date, {present.tasks} tasks")
        return present
    _quieten()
    begin = time.monotonic()
    grouped = _read(source)
    _say(progress, "read and grouped", grouped.tally.rows_in, begin)
    store.refuse_bad_share(grouped.tally, source.settings, store_path)
    begin = time.monotonic()
    made = _build(source, grouped, store_path)
    _say(progress, "wrote", made.events, begin)
    return made


def up_to_date(settings: Data, store_path: Path, *, data_dir: Path | None) -> bool:
    """Return whether `prepare` would do nothing; reads and hashes files, needs no Ray."""
    return _up_to_date(store_path, sources.find(settings, data_dir=data_dir)) is not None


def _build(source: Source, grouped: _Grouped, store_path: Path) -> Manifest:
    """Plan the store from the blocks' summaries and let the blocks be written where they are."""
    asked = source.settings
    clock = validate.roles(asked).time is not None
    outline = catalogue.outline(grouped.summaries, asked, has_time=clock)
    entities = ray.put(outline.entities.select("entity", "part"))
    looked = [
        _look.remote(ref, entities, outline.cutoff, asked.context, outline.cold)
        for ref in grouped.refs
    ]
    looks = [look for _, look in sorted(_joined(looked), key=lambda one: one[0])]
    tables = SideTables(*logs.side_tables(source))
    plan, items = catalogue.plan(outline, grouped.summaries, looks, settings=asked, tables=tables)
    with store.building(store_path) as folder:
        shared = ray.put(plan)
        written = [_write.remote(ref, shared, str(folder)) for ref in grouped.refs]
        dtypes = validate.schema(asked, source.ids)
        files = _with_empty(dict(_joined(written)), asked.buckets, dtypes, plan, folder)
        origin = Origin(asked, source.fingerprint, grouped.tally)
        return store.finish(folder, files, plan, items, source=origin)


def _up_to_date(store_path: Path, source: Source) -> Manifest | None:
    """Return the manifest of a whole store of the same settings and input, else None."""
    try:
        present = load(store_path)
        verify(store_path, present)
    except DataError:
        return None  # there is no store, or no whole one: it is built
    same = (
        present.settings_sha256 == store.settings_hash(source.settings)
        and present.source_fingerprint == source.fingerprint
    )
    return present if same else None


def _read(source: Source) -> _Grouped:
    """Run the Ray Data part: chunks to checked rows to one block for each hash of buckets."""
    chunks, settings = source.chunks, source.settings
    if not chunks:  # a Parquet file without row groups
        raise DataError(f"a log must hold rows, got none ({settings.path})")
    columns = pl.Schema({**validate.schema(settings, source.ids), **ASIDE})
    read = partial(blocks.read_chunks, chunks=chunks, settings=settings, columns=columns)
    collapse = partial(blocks.collapse, max_events=settings.max_events, shuffle=settings.tie_seed)
    dataset = ray.data.range(len(chunks), override_num_blocks=len(chunks))
    dataset = dataset.map_batches(read, batch_format="pyarrow", batch_size=1)
    # Whole blocks: after this each bucket lies in one of them.
    dataset = dataset.repartition(settings.buckets, keys=["bucket"])
    dataset = dataset.map_batches(collapse, batch_format="pyarrow", batch_size=None)
    refs = dataset.materialize().to_arrow_refs()
    found = ray.get([_summarise.remote(ref) for ref in refs])
    aside = pl.concat([one.aside for one in found])
    _refuse_failures(aside)
    if _sum(aside, READ) == 0:
        raise DataError(f"a log must hold rows, got none ({settings.path})")
    summaries = {bucket: summary for one in found for bucket, summary in one.summaries}
    assert len(summaries) == sum(len(one.summaries) for one in found), "a bucket in two blocks"
    rejected = aside.filter(pl.col("kind") == REJECTED).select(list(validate.REJECTED))
    tally = Tally(
        rows_in=_sum(aside, READ),
        filtered=_sum(aside, FILTERED),
        collapsed=_sum(aside, COLLAPSED),
        # Rows of a file come before the histories that were cut short, as in one process.
        rejected=rejected.sort(pl.col("file") == "", "file", "row", "value"),
    )
    return _Grouped(refs, tally, [summaries[bucket] for bucket in sorted(summaries)])


class _Found(NamedTuple):
    """What one block holds: summaries by bucket, and rows set aside."""

    summaries: list[tuple[int, Summary]]
    aside: pl.DataFrame


@ray.remote
def _summarise(table: pa.Table) -> _Found:
    events, aside = split(table)
    summaries = [(bucket, histories.summarise(rows)) for bucket, rows in by_bucket(events)]
    return _Found(summaries, aside)


@ray.remote
def _look(
    table: pa.Table,
    entities: pl.DataFrame,
    cutoff: int | None,
    context: dict[str, Feature],
    cold: pl.DataFrame,
) -> list[tuple[int, tuple[pl.DataFrame, dict[str, Seen]]]]:
    return [
        (bucket, histories.look(rows, entities, cutoff, context, cold))
        for bucket, rows in by_bucket(split(table)[0])
    ]


@ray.remote
def _write(table: pa.Table, plan: Plan, folder: str) -> list[tuple[str, FileEntry]]:
    written: list[tuple[str, FileEntry]] = []
    for bucket, rows in by_bucket(split(table)[0]):
        name = bucket_name(bucket)
        written.append((name, store.write_table(histories.build(rows, plan), Path(folder) / name)))
    return written


def _with_empty(
    files: dict[str, FileEntry],
    buckets: int,
    dtypes: pl.Schema,
    plan: Plan,
    folder: Path,
) -> dict[str, FileEntry]:
    """Write the files of the buckets that no entity fell into."""
    nothing = histories.build(pl.DataFrame(schema=dtypes), plan)
    for name in map(bucket_name, range(buckets)):
        if name not in files:
            files[name] = store.write_table(nothing, folder / name)
    return files


def _refuse_failures(aside: pl.DataFrame) -> None:
    failed = aside.filter(pl.col("kind") == FAILED).sort("file", "value")
    if len(failed):
        raise DataError(failed["value"][0])


def _sum(aside: pl.DataFrame, kind: int) -> int:
    return int(aside.filter(pl.col("kind") == kind)["rows"].sum())


def _joined(refs: list[Ref]) -> list[Any]:
    return [one for found in ray.get(refs) for one in found]


def _quieten() -> None:
    """Silence Ray Data's bars and its lines on each execution: progress lines say the same."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns that the bars, just switched off, are off.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


def _say(progress: Progress, what: str, rows: int, begin: float) -> None:
    seconds = time.monotonic() - begin
    progress(f"prepare: {what} {rows} rows in {seconds:.1f} s, {rows / max(seconds, 1e-9):.0f}/s")
