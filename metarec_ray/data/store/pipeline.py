"""From a log to a version of a store, unit by unit: chunks are read, buckets are written.

Peak memory is that of a unit, and of what the whole log has one row of an entity or item of. Knows
the order of the stages; does not know where a unit runs: `Run` says that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from metarec_ray.data.files import shuffle
from metarec_ray.data.log import reading
from metarec_ray.data.log.quarantine import refuse_bad_share
from metarec_ray.data.log.sources import Source
from metarec_ray.data.progress import Meter
from metarec_ray.data.store import bucket_rows, catalogue, stages, writing
from metarec_ray.data.store.bucket_files import Plan
from metarec_ray.data.store.bucket_rows import Look, Summary
from metarec_ray.data.store.catalogue import Catalogue, Outline, SideTables
from metarec_ray.data.store.manifest import FileEntry, Manifest, bucket_name
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.stages import Done, Work
from metarec_ray.data.store.versions import Site, building, overtaken, publish
from metarec_ray.data.store.writing import Origin, Tally
from metarec_ray.errors import DataError

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Yield a function of every unit, in any order."""


AT_ONCE = 8  # buckets whose items are merged


class Run(NamedTuple):
    """Where units run, and who is told: `read` is for chunks of a log, `each` for buckets."""

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

    With a `previous` version, the log's events from `since` on are added to it; buckets in which
    nothing changes are shared. A build of the same input that was killed goes on from what was
    done.

    Raises:
        DataError: what is in the log cannot make a store; the present version stays.

    """
    settings = source.settings
    version = None if previous is None else previous.manifest.version
    with building(
        path, [writing.settings_hash(settings), source.fingerprint, version, since]
    ) as site:
        if previous is not None and previous.manifest.version != site.version - 1:
            raise overtaken(path, site.version - 1)  # what came since would be lost
        job = _Job(source, Work(settings, source.ids, site.scratch, previous, since), run)
        scanned = _scanned(job)
        bad, rows = (sum(getattr(done, what) for done in scanned) for what in ("rejected", "rows"))
        refuse_bad_share(bad, rows, _aside(job.work, scanned, []), settings, path)
        new = {bucket for done in scanned for bucket in done.batches or []}
        buckets = sorted(new) if previous is not None else list(range(settings.buckets))
        grouped = _collapsed(job, scanned, buckets)
        outline, summaries = _outline(job.work, buckets)
        moved = sorted(_moved(outline.entities, previous) - set(buckets))
        grouped += _collapsed(job, scanned, moved)
        plan, items = _planned(job, outline, summaries, sorted([*buckets, *moved]))
        others = sorted(_moved(plan.entities, previous) - {*buckets, *moved})
        grouped += _collapsed(job, scanned, others)
        files = _written(job, plan, site, [*buckets, *moved, *others])
        tally = _tally(job.work, scanned, grouped)
        tally = tally if previous is None else previous.added(tally)
        origin = Origin(settings, source.ids, source.fingerprint, tally)
        made = writing.finish(site, files, plan, items, origin=origin)
        publish(site, made, keep=settings.versions)
    return made


class _Job(NamedTuple):
    """What is built of what, and where its units run."""

    source: Source
    work: Work
    run: Run


def _scanned(job: _Job) -> list[Done]:
    """Read the log into shuffled."""
    chunks, path = job.source.chunks, job.source.settings.path
    if not chunks:  # a Parquet file without row groups
        raise DataError(f"a log must hold rows, got none ({path})")
    meter = Meter(job.run.say, "read", "chunks", len(chunks))
    scanned = _done(job.run.read(partial(_scan, job.work), list(enumerate(chunks))), meter)
    if not any(done.rows for done in scanned):
        raise DataError(f"a log must hold rows, got none ({path})")
    return scanned


def _collapsed(job: _Job, scanned: list[Done], buckets: Sequence[int]) -> list[Done]:
    """Bring rows to their buckets."""
    if not buckets:
        return []
    shuffled = {done.unit: done.batches or [] for done in scanned}
    meter = Meter(job.run.say, "grouped", "buckets", len(buckets))
    return _done(job.run.each(partial(stages.collapse, job.work, shuffled), buckets), meter)


def _tally(work: Work, scanned: list[Done], grouped: list[Done]) -> Tally:
    """Return what became of the rows read so far."""
    return Tally(
        rows_in=sum(done.rows for done in scanned),
        filtered=sum(done.filtered for done in scanned),
        collapsed=sum(done.rows - done.kept - done.rejected for done in grouped),
        rejected=_aside(work, scanned, grouped),
    )


def _aside(work: Work, scanned: list[Done], grouped: list[Done]) -> Iterator[pl.DataFrame]:
    """Yield the rows that were set aside: bad ones, then what histories hold too many of."""
    for name, units in (("rejected", scanned), ("beyond", grouped)):
        for done in sorted(units, key=lambda done: done.unit):
            if done.rejected:
                yield shuffle.load(work.file(name, done.unit))


def _outline(work: Work, touched: Iterable[int]) -> tuple[Outline, list[Summary]]:
    """Give numbers to what all buckets hold, those that did not change among them."""
    previous, settings, new = work.previous, work.settings, set(touched)
    summaries, items = [], []
    for bucket in range(settings.buckets):
        one = (
            stages.summary(work, bucket)
            if previous is None or bucket in new
            else previous.summary(bucket)
        )
        summaries.append(one._replace(items=one.items.clear()))
        items.append(one.items)
        if len(items) == AT_ONCE:
            items = [bucket_rows.first_met(items)]
    # Each bucket knows nearly all items: kept apart they would be items x buckets.
    summaries[0] = summaries[0]._replace(items=bucket_rows.first_met(items))
    clock = settings.roles.time is not None
    return catalogue.outline(summaries, settings, has_time=clock, known=work.known), summaries


def _moved(entities: pl.DataFrame, previous: Previous | None) -> set[int]:
    """Return the buckets of entities that were in another part or had other features before."""
    if previous is None:
        return set()
    names = [name for name in entities.columns if name == "part" or name.startswith("user.")]
    now = entities.select("task_id", *names)
    both = previous.entities(names).join(now, on="task_id", suffix=" now")
    other = (pl.col(name).ne_missing(pl.col(f"{name} now")) for name in names)
    return set(both.filter(pl.any_horizontal(other))["bucket"])


def _planned(
    job: _Job, outline: Outline, summaries: list[Summary], buckets: Sequence[int]
) -> tuple[Plan, Catalogue]:
    """Return what buckets must know of each other, and the items."""
    work, settings = job.work, job.source.settings
    looks: list[Look] = []
    if settings.held_features or settings.context:  # only vocabularies and moments need them
        told = outline.entities.select("entity", "part", "bucket")
        stages.hand_out(work, "parts", told, buckets)
        look = partial(stages.look, work, outline.cutoff, outline.cold)
        looks = [found for _, found in sorted(job.run.each(look, buckets), key=_unit)]
    tables = SideTables(*reading.side_tables(job.source))
    return catalogue.plan(
        outline, summaries, looks, settings=settings, tables=tables, known=work.known
    )


def _written(job: _Job, plan: Plan, site: Site, buckets: Sequence[int]) -> dict[str, FileEntry]:
    """Write the files of buckets; return all files, those of the previous version among them."""
    work = job.work
    meter = Meter(job.run.say, "wrote", "buckets", len(buckets))
    stages.hand_out(work, "planned", plan.entities, buckets)
    bare = plan._replace(entities=plan.entities.clear())
    written = _done(job.run.each(partial(stages.write, work, bare, site.files), buckets), meter)
    files = {} if work.previous is None else work.previous.buckets()
    for done in written:
        name = bucket_name(done.unit)
        files[name] = site.entry(name, rows=done.kept, sha256=done.sha256)
    return files


def _scan(work: Work, unit: Any) -> Done:
    number, chunk = unit
    return stages.scan(work, chunk, number)


def _done(found: Iterator[Done], meter: Meter) -> list[Done]:
    units = []
    for done in found:
        units.append(done)
        meter.add(done.rows, done.peak_bytes)
    meter.end()
    return sorted(units, key=lambda done: done.unit)


def _unit(result: tuple) -> int:
    return result[0]
