"""From a log to a version of a store, unit by unit: chunks are read, buckets are written.

Peak memory is that of a unit, and of what the whole log has one row of an entity or item of. Knows
the order of the stages; does not know where a unit runs: `Run` says that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from metarec_ray.data import catalogue, histories, logs, spool, stages, store, validate
from metarec_ray.data.catalogue import NOTHING, Outline, SideTables
from metarec_ray.data.encode import Seen
from metarec_ray.data.histories import Summary
from metarec_ray.data.manifest import FileEntry, Manifest, bucket_name
from metarec_ray.data.meter import Meter
from metarec_ray.data.past import Past
from metarec_ray.data.sources import Source
from metarec_ray.data.stages import Done, Work
from metarec_ray.data.store import Origin, Tally
from metarec_ray.data.versions import Site, building, publish
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
    source: Source, path: Path, run: Run, *, past: Past | None = None, since: int | None = None
) -> Manifest:
    """Publish a version of the store at `path` made of a log, and return its manifest.

    With a `past`, the log's events from `since` on are added to it: buckets in which nothing
    changes are shared. A build of the same input that was killed goes on from what was done.

    Raises:
        DataError: what is in the log cannot make a store; the present version stays.

    """
    settings = source.settings
    version = None if past is None else past.manifest.version
    with building(
        path, [store.settings_hash(settings), source.fingerprint, version, since]
    ) as site:
        _refuse_overtaken(past, site)
        work = Work(settings, source.ids, site.scratch, past, since)
        scanned = _scanned(source, work, run)
        tally = _tally(work, scanned, [])
        store.refuse_bad_share(tally.rejected, tally.rows_in, settings, path)
        everything = range(settings.buckets)
        new = sorted({bucket for done in scanned for bucket in done.batches or []})
        touched = list(everything) if past is None else new
        grouped = _collapsed(work, scanned, touched, run)
        outline, summaries = _outline(work, touched)
        moved = sorted(_moved(outline.entities, past) - set(touched))
        grouped += _collapsed(work, scanned, moved, run)
        tally = _tally(work, scanned, grouped)
        tally = tally if past is None else past.added(tally)
        made = _written(source, site, work, run, outline=outline, summaries=summaries, tally=tally,
                        scanned=scanned, buckets=sorted([*touched, *moved]))  # fmt: skip
        publish(site, made, keep=settings.versions)
    return made


def _refuse_overtaken(past: Past | None, site: Site) -> None:
    """Raise a DataError where `past` is no longer the newest version: what came since would go."""
    if past is not None and past.manifest.version != site.version - 1:
        raise DataError(
            f"a store must be written by one process at a time, another one has published version "
            f"{site.version - 1} meanwhile ({site.store})"
        )


def _scanned(source: Source, work: Work, run: Run) -> list[Done]:
    """Read the log into spools."""
    if not source.chunks:  # a Parquet file without row groups
        raise DataError(f"a log must hold rows, got none ({source.settings.path})")
    units = list(enumerate(source.chunks))
    meter = Meter(run.say, "read", "chunks", len(units))
    scanned = _done(run.read(partial(_scan, work), units), meter)
    if not any(done.rows for done in scanned):
        raise DataError(f"a log must hold rows, got none ({source.settings.path})")
    return scanned


def _collapsed(work: Work, scanned: list[Done], buckets: Sequence[int], run: Run) -> list[Done]:
    """Bring rows to their buckets."""
    if not buckets:
        return []
    spools = {done.unit: done.batches or [] for done in scanned}
    meter = Meter(run.say, "grouped", "buckets", len(buckets))
    return _done(run.each(partial(stages.collapse, work, spools), buckets), meter)


def _tally(work: Work, scanned: list[Done], buckets: list[Done]) -> Tally:
    """Return what became of the rows so far."""
    bad = [spool.load(work.file("rejected", done.unit)) for done in scanned if done.rejected]
    beyond = [spool.load(work.file("beyond", done.unit)) for done in buckets if done.rejected]
    return Tally(
        rows_in=sum(done.rows for done in scanned),
        filtered=sum(done.filtered for done in scanned),
        collapsed=sum(done.rows - done.kept - done.rejected for done in buckets),
        rejected=store.listed([*bad, *beyond]),
    )


def _outline(work: Work, touched: Iterable[int]) -> tuple[Outline, list[Summary]]:
    """Give numbers to what all buckets hold, those that did not change among them."""
    past, settings, new = work.past, work.settings, set(touched)
    summaries, items = [], []
    for bucket in range(settings.buckets):
        one = (
            stages.summary(work, bucket) if past is None or bucket in new else past.summary(bucket)
        )
        summaries.append(one._replace(items=one.items.clear()))
        items.append(one.items)
        if len(items) == AT_ONCE:
            items = [histories.first_met(items)]
    # Each bucket knows nearly all items: kept apart they would be items x buckets.
    summaries[0] = summaries[0]._replace(items=histories.first_met(items))
    known = NOTHING if past is None else past.known()
    clock = validate.roles(settings).time is not None
    return catalogue.outline(summaries, settings, has_time=clock, known=known), summaries


def _moved(entities: pl.DataFrame, past: Past | None) -> set[int]:
    """Return the buckets of entities that were in another part or had other features before."""
    if past is None:
        return set()
    names = [name for name in entities.columns if name == "part" or name.startswith("user.")]
    now = entities.select("task_id", *names)
    both = past.entities(names).join(now, on="task_id", suffix=" now")
    other = (pl.col(name).ne_missing(pl.col(f"{name} now")) for name in names)
    return set(both.filter(pl.any_horizontal(other))["bucket"])


def _written(
    source: Source,
    site: Site,
    work: Work,
    run: Run,
    *,
    outline: Outline,
    summaries: list[Summary],
    tally: Tally,
    scanned: list[Done],
    buckets: list[int],
) -> Manifest:
    """Plan the version from what buckets hold, and write its files."""
    past, tables = work.past, SideTables(*logs.side_tables(source))
    plan, items = catalogue.plan(
        outline,
        summaries,
        _looks(work, outline, run, buckets, encoded=bool(source.settings.held_features)),
        settings=source.settings,
        tables=tables,
        known=NOTHING if past is None else past.known(),
    )
    further = sorted(_moved(plan.entities, past) - set(buckets))
    _collapsed(work, scanned, further, run)
    buckets = [*buckets, *further]
    meter = Meter(run.say, "wrote", "buckets", len(buckets))
    stages.hand_out(work, "planned", plan.entities, buckets)
    bare = plan._replace(entities=plan.entities.clear())
    written = _done(run.each(partial(stages.write, work, bare, site.files), buckets), meter)
    files = {
        bucket_name(done.unit): FileEntry(
            rows=done.kept, sha256=done.sha256, path=site.place(bucket_name(done.unit))
        )
        for done in written
    }
    origin = Origin(source.settings, source.ids, source.fingerprint, tally)
    shared = {} if past is None else past.buckets()
    return store.finish(site, shared | files, plan, items, source=origin)


def _looks(
    work: Work, outline: Outline, run: Run, buckets: Sequence[int], *, encoded: bool
) -> list[tuple[Any, dict[str, Seen]]]:
    """Return what the training rows of buckets hold, in the order of buckets."""
    # It matters to vocabularies and moments alone.
    if not encoded and not work.settings.context:
        return []
    stages.hand_out(work, "parts", outline.entities.select("entity", "part", "bucket"), buckets)
    look = partial(stages.look, work, outline.cutoff, outline.cold)
    return [seen for _, seen in sorted(run.each(look, buckets), key=_unit)]


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
