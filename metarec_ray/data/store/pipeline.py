"""From a log to a version of a store, unit by unit: chunks are read, buckets are written.

Memory is that of a unit, plus one row an entity and an item. Knows the order of the stages; does
not know where a unit runs: `Run` says that.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from metarec_ray.data.files import shuffle
from metarec_ray.data.log.quarantine import refuse_bad_share
from metarec_ray.data.log.sources import Source
from metarec_ray.data.progress import Meter
from metarec_ray.data.store import stages, writing
from metarec_ray.data.store.bucket_files import BucketPlan
from metarec_ray.data.store.manifest import FileEntry, Manifest, bucket_name
from metarec_ray.data.store.planning import Job, Run, metered, plan
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.stages import Done, Work
from metarec_ray.data.store.versions import Staging, building, overtaken, publish
from metarec_ray.data.store.writing import Origin, RowCounts
from metarec_ray.errors import DataError


def build(
    source: Source,
    path: Path,
    run: Run,
    *,
    previous: Previous | None = None,
    since: int | None = None,
) -> Manifest:
    """Publish a version of the store at `path` made of a log, and return its manifest.

    With a `previous` version, the log's events from `since` (microseconds) on are added to it;
    buckets in which nothing changes are shared. A build that was killed is resumed by the next
    one of the same input.

    Raises:
        DataError: what is in the log cannot make a store; the present version stays.

    """
    settings = source.settings
    version = None if previous is None else previous.manifest.version
    key = [writing.settings_hash(settings), source.fingerprint, version, since]
    with building(path, key) as staging:
        if version is not None and version != staging.version - 1:
            raise overtaken(path, staging.version - 1)  # the rows of that version would be lost
        job = Job(source, Work(settings, source.ids, staging.scratch, previous, since), run)
        scanned = _scan(job, staging.store)
        made = plan(job, scanned)
        for note in made.notes:
            run.say(f"prepare: {note}")
        buckets = _write(job, staging, made.store.buckets, [done.unit for done in made.grouped])
        counts = _row_counts(job.work, scanned, made.grouped)
        origin = Origin(settings, source.ids, source.fingerprint, counts, made.notes)
        finished = writing.finish(staging, buckets, made.store, origin=origin)
        publish(staging, finished, keep=settings.versions)
    return finished


def _scan(job: Job, store: Path) -> list[Done]:
    """Read the log into shuffle files; DataError if it is empty or has too many bad rows."""
    chunks, settings = job.source.chunks, job.work.settings
    empty = DataError(f"a log must hold rows, got none ({settings.path})")
    if not chunks:  # a Parquet file without row groups
        raise empty
    meter = Meter(job.run.say, "read", "chunks", len(chunks))
    scan = partial(_scan_chunk, job.work)
    scanned = metered(job.run.read(scan, list(enumerate(chunks))), meter)
    rows, bad = sum(done.rows for done in scanned), sum(done.rejected for done in scanned)
    if not rows:
        raise empty
    refuse_bad_share(bad, rows, rejected(job.work, scanned, []), settings, store)
    return scanned


def _write(
    job: Job, staging: Staging, plan: BucketPlan, buckets: Sequence[int]
) -> dict[str, FileEntry]:
    """Write the files of buckets; return all files, the others being of the previous version."""
    meter = Meter(job.run.say, "wrote", "buckets", len(buckets))
    stages.partition(job.work, "plan", plan.entities, buckets)
    bare = plan._replace(entities=plan.entities.clear())
    write = partial(stages.write, job.work, bare, staging.files)
    files = {} if job.work.previous is None else job.work.previous.buckets()
    for done in metered(job.run.each(write, buckets), meter):
        name = bucket_name(done.unit)
        files[name] = staging.entry(name, rows=done.kept, sha256=done.sha256)
    return files


def _row_counts(work: Work, scanned: list[Done], grouped: list[Done]) -> RowCounts:
    """Return what became of all rows, those of the previous version among them."""
    counts = RowCounts(
        rows_in=sum(done.rows for done in scanned),
        filtered=sum(sum(done.tally.filtered.values()) for done in scanned),
        collapsed=sum(done.rows - done.kept - done.rejected for done in grouped),
        rejected=rejected(work, scanned, grouped),
    )
    return counts if work.previous is None else work.previous.added(counts)


def rejected(work: Work, scanned: list[Done], grouped: list[Done]) -> Iterator[pl.DataFrame]:
    """Yield the rows to quarantine: bad ones, then those of histories that are too long."""
    for name, units in (("rejected", scanned), ("too_long", grouped)):
        for done in sorted(units, key=lambda done: done.unit):
            if done.rejected:
                yield shuffle.load(work.file(name, done.unit))


def _scan_chunk(work: Work, unit: Any) -> Done:
    number, chunk = unit
    return stages.scan(work, chunk, number)
