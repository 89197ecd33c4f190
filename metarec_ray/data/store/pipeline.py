"""From a log to a version of a store, unit by unit: chunks are read, buckets are written.

Memory is that of a unit, plus one row an entity and an item. Knows the order of the stages; does
not know where a unit runs: `Run` says that.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from metarec_ray.data.files import shuffle
from metarec_ray.data.log import side_tables
from metarec_ray.data.log.quarantine import refuse_bad_share
from metarec_ray.data.log.sources import Source
from metarec_ray.data.progress import Meter
from metarec_ray.data.store import stages, writing
from metarec_ray.data.store.bucket_files import BucketPlan
from metarec_ray.data.store.bucket_rows import Summary, first_met
from metarec_ray.data.store.catalogue import SideTables, StorePlan, WholeLog, plan_store
from metarec_ray.data.store.manifest import FileEntry, Manifest, bucket_name
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.split import Split, split_log
from metarec_ray.data.store.stages import Done, Work
from metarec_ray.data.store.training_rows import TrainingSummary
from metarec_ray.data.store.versions import Staging, building, overtaken, publish
from metarec_ray.data.store.writing import Origin, RowCounts
from metarec_ray.errors import DataError

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Yield a function of every unit, in any order."""

MERGED_AT_ONCE = 8  # buckets whose items are held apart


class Run(NamedTuple):
    """How units are run: `read` maps over chunks of a log, `each` over buckets, `say` logs."""

    read: Each
    each: Each
    say: Callable[[str], None]


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
        work = Work(settings, source.ids, staging.scratch, previous, since)
        job = _Job(source, work, run, staging)
        scanned = _scan(job)
        plan, grouped = _plan(job, scanned)
        buckets = _write(job, plan.buckets, [done.unit for done in grouped])
        counts = _row_counts(work, scanned, grouped)
        origin = Origin(settings, source.ids, source.fingerprint, counts)
        made = writing.finish(staging, buckets, plan, origin=origin)
        publish(staging, made, keep=settings.versions)
    return made


class _Job(NamedTuple):
    """One build: of which log, what its units know, how they are run, where files are written."""

    source: Source
    work: Work
    run: Run
    staging: Staging


def _scan(job: _Job) -> list[Done]:
    """Read the log into shuffle files; DataError if it is empty or has too many bad rows."""
    chunks, settings = job.source.chunks, job.work.settings
    empty = DataError(f"a log must hold rows, got none ({settings.path})")
    if not chunks:  # a Parquet file without row groups
        raise empty
    meter = Meter(job.run.say, "read", "chunks", len(chunks))
    scan = partial(_scan_chunk, job.work)
    scanned = _metered(job.run.read(scan, list(enumerate(chunks))), meter)
    rows, bad = sum(done.rows for done in scanned), sum(done.rejected for done in scanned)
    if not rows:
        raise empty
    refuse_bad_share(bad, rows, _rejected(job.work, scanned, []), settings, job.staging.store)
    return scanned


def _plan(job: _Job, scanned: list[Done]) -> tuple[StorePlan, list[Done]]:
    """Group the buckets that must be written; return the plan, and what grouping them did.

    A bucket changes if it has new rows, or an entity whose part or features are others than in the
    previous version.
    """
    previous, settings = job.work.previous, job.work.settings
    changed = {bucket for done in scanned for bucket in done.batches or []}
    if previous is None:
        changed = set(range(settings.buckets))
    grouped = _group(job, scanned, changed)
    split, summaries = _split(job.work, changed)
    moved = _moved(split.entities, previous) - changed
    grouped += _group(job, scanned, moved)
    training = _summarise_training(job, split, sorted(changed | moved))
    tables = SideTables(*side_tables.side_tables(job.source))
    log = WholeLog(split, summaries, training, tables)
    plan = plan_store(log, settings, mappings=job.work.mappings)
    reencoded = _moved(plan.buckets.entities, previous) - changed - moved
    return plan, grouped + _group(job, scanned, reencoded)


def _group(job: _Job, scanned: list[Done], buckets: Collection[int]) -> list[Done]:
    """Bring the rows of some buckets together."""
    if not buckets:
        return []
    shuffled = {done.unit: done.batches or [] for done in scanned}
    meter = Meter(job.run.say, "grouped", "buckets", len(buckets))
    group = partial(stages.group, job.work, shuffled)
    return _metered(job.run.each(group, sorted(buckets)), meter)


def _split(work: Work, changed: Collection[int]) -> tuple[Split, list[Summary]]:
    """Return the split over all buckets, those that did not change among them.

    Of the summaries that are returned, the first has the items of all buckets: each bucket has
    nearly all items, kept apart they would be items x buckets.
    """
    previous, settings = work.previous, work.settings
    summaries, items = [], []
    for bucket in range(settings.buckets):
        if previous is None or bucket in changed:
            one = stages.summary(work, bucket)
        else:
            one = previous.summary(bucket)
        summaries.append(one._replace(items=one.items.clear()))
        items.append(one.items)
        if len(items) == MERGED_AT_ONCE:
            items = [first_met(items)]
    summaries[0] = summaries[0]._replace(items=first_met(items))
    clock = settings.roles.time is not None
    return split_log(summaries, settings, has_time=clock, mappings=work.mappings), summaries


def _moved(entities: pl.DataFrame, previous: Previous | None) -> set[int]:
    """Return the buckets of entities that were in another part or had other features before."""
    if previous is None:
        return set()
    names = [name for name in entities.columns if name == "part" or name.startswith("user.")]
    now = entities.select("task_id", *names)
    both = previous.entities(names).join(now, on="task_id", suffix=" now")
    other = (pl.col(name).ne_missing(pl.col(f"{name} now")) for name in names)
    return set(both.filter(pl.any_horizontal(other))["bucket"])


def _summarise_training(job: _Job, split: Split, buckets: Sequence[int]) -> list[TrainingSummary]:
    """Return what the training rows of buckets hold; nothing where no feature asks for it."""
    if not job.work.settings.held_features and not job.work.settings.context:
        return []
    told = split.entities.select("entity", "part", "bucket")
    stages.partition(job.work, "split", told, buckets)
    bare = split._replace(entities=told.clear())
    summarise = partial(stages.summarise_training, job.work, bare)
    return [found for _, found in sorted(job.run.each(summarise, buckets), key=_unit)]


def _write(job: _Job, plan: BucketPlan, buckets: Sequence[int]) -> dict[str, FileEntry]:
    """Write the files of buckets; return all files, the others being of the previous version."""
    meter = Meter(job.run.say, "wrote", "buckets", len(buckets))
    stages.partition(job.work, "plan", plan.entities, buckets)
    bare = plan._replace(entities=plan.entities.clear())
    write = partial(stages.write, job.work, bare, job.staging.files)
    files = {} if job.work.previous is None else job.work.previous.buckets()
    for done in _metered(job.run.each(write, buckets), meter):
        name = bucket_name(done.unit)
        files[name] = job.staging.entry(name, rows=done.kept, sha256=done.sha256)
    return files


def _row_counts(work: Work, scanned: list[Done], grouped: list[Done]) -> RowCounts:
    """Return what became of all rows, those of the previous version among them."""
    counts = RowCounts(
        rows_in=sum(done.rows for done in scanned),
        filtered=sum(sum(done.filtered.values()) for done in scanned),
        collapsed=sum(done.rows - done.kept - done.rejected for done in grouped),
        rejected=_rejected(work, scanned, grouped),
    )
    return counts if work.previous is None else work.previous.added(counts)


def _rejected(work: Work, scanned: list[Done], grouped: list[Done]) -> Iterator[pl.DataFrame]:
    """Yield the rows to quarantine: bad ones, then those of histories that are too long."""
    for name, units in (("rejected", scanned), ("too_long", grouped)):
        for done in sorted(units, key=lambda done: done.unit):
            if done.rejected:
                yield shuffle.load(work.file(name, done.unit))


def _scan_chunk(work: Work, unit: Any) -> Done:
    number, chunk = unit
    return stages.scan(work, chunk, number)


def _metered(found: Iterator[Done], meter: Meter) -> list[Done]:
    """Return what units did, sorted by unit, and show how far they are."""
    units = []
    for done in found:
        units.append(done)
        meter.add(done.rows, done.peak_bytes)
    meter.end()
    return sorted(units, key=lambda done: done.unit)


def _unit(result: tuple) -> int:
    return result[0]
