"""From a log to a version of a store, unit by unit: chunks are read, buckets are written.

Peak memory is that of a unit, and of what the whole log has one row of an entity or item of. Knows
the order of the stages; does not know where a unit runs: `each` says that.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from metarec_ray.data import catalogue, logs, spool, stages, store, validate
from metarec_ray.data.catalogue import SideTables
from metarec_ray.data.manifest import FileEntry, Manifest, bucket_name
from metarec_ray.data.meter import Meter
from metarec_ray.data.sources import Source
from metarec_ray.data.stages import Done, Work
from metarec_ray.data.store import Origin, Tally
from metarec_ray.data.versions import Site, building, publish
from metarec_ray.errors import DataError

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Yield a function of every unit, in any order."""
Say = Callable[[str], None]


class Found(NamedTuple):
    """A log in buckets: what became of its rows, and what each bucket did."""

    work: Work
    tally: Tally
    buckets: list[Done]


def build(source: Source, path: Path, *, read: Each, each: Each, say: Say) -> Manifest:
    """Publish a version of the store at `path` made of a log, and return its manifest.

    `read` runs what reads chunks, `each` what works on buckets. A build of the same log and
    settings that was killed goes on from the units that were done.

    Raises:
        DataError: what is in the log cannot make a store; the present version stays.

    """
    settings = source.settings
    with building(path, [store.settings_hash(settings), source.fingerprint]) as site:
        found = _gather(source, site, read, each, say)
        store.refuse_bad_share(found.tally, settings, path)
        made = _write(source, site, found, each, say)
        publish(site, made, keep=settings.versions)
    return made


def _gather(source: Source, site: Site, read: Each, each: Each, say: Say) -> Found:
    """Bring the rows of the log to buckets."""
    settings = source.settings
    if not source.chunks:  # a Parquet file without row groups
        raise DataError(f"a log must hold rows, got none ({settings.path})")
    work = Work(settings, source.ids, site.scratch)
    units = list(enumerate(source.chunks))
    scanned = _run(partial(_scan, work), units, read, Meter(say, "read", "chunks", len(units)))
    rows_in = sum(done.rows for done in scanned)
    if not rows_in:
        raise DataError(f"a log must hold rows, got none ({settings.path})")
    spools = {done.unit: done.batches or [] for done in scanned}
    meter = Meter(say, "grouped", "buckets", settings.buckets)
    collapse = partial(stages.collapse, work, spools)
    buckets = _run(collapse, range(settings.buckets), each, meter)
    bad = [spool.load(work.file("rejected", done.unit)) for done in scanned if done.rejected]
    beyond = [spool.load(work.file("beyond", done.unit)) for done in buckets if done.rejected]
    tally = Tally(
        rows_in=rows_in,
        filtered=sum(done.filtered for done in scanned),
        collapsed=sum(done.rows - done.kept - done.rejected for done in buckets),
        rejected=store.listed([*bad, *beyond]),
    )
    return Found(work, tally, buckets)


def _write(source: Source, site: Site, found: Found, each: Each, say: Say) -> Manifest:
    """Plan the version from what buckets hold, and write its files."""
    settings, work = source.settings, found.work
    numbers = range(settings.buckets)
    clock = validate.roles(settings).time is not None
    summaries = [stages.summary(work, bucket) for bucket in numbers]
    outline = catalogue.outline(summaries, settings, has_time=clock)
    tables = SideTables(*logs.side_tables(source))
    look = partial(
        stages.look, work, outline.entities.select("entity", "part"), outline.cutoff, outline.cold
    )
    # What training rows hold matters to vocabularies and moments alone.
    encoded = bool(settings.context) or tables.items is not None
    looks = [seen for _, seen in sorted(each(look, numbers), key=_unit)] if encoded else []
    plan, items = catalogue.plan(outline, summaries, looks, settings=settings, tables=tables)
    meter = Meter(say, "wrote", "buckets", settings.buckets)
    written = _run(partial(stages.write, work, plan, site.files), numbers, each, meter)
    files = {
        bucket_name(done.unit): FileEntry(
            rows=done.kept, sha256=done.sha256, path=site.place(bucket_name(done.unit))
        )
        for done in written
    }
    origin = Origin(settings, source.fingerprint, found.tally)
    return store.finish(site, files, plan, items, source=origin)


def _scan(work: Work, unit: Any) -> Done:
    number, chunk = unit
    return stages.scan(work, chunk, number)


def _run(function: Callable[[Any], Done], units: Sequence, each: Each, meter: Meter) -> list[Done]:
    found = []
    for done in each(function, units):
        found.append(done)
        meter.add(done.rows, done.peak_bytes)
    meter.end()
    return sorted(found, key=lambda done: done.unit)


def _unit(result: tuple) -> int:
    return result[0]
