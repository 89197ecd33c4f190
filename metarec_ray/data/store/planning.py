"""The plan of a version of a store: buckets grouped, the log split, tables joined, ids numbered.

Knows the order of these stages, and what is doubtful of a log; does not know where a unit runs
(`Run` says that), nor how a version is written (`pipeline`).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import polars as pl

from metarec_ray.data.log import doubts, sessions, side_tables
from metarec_ray.data.log.doubts import Join
from metarec_ray.data.log.sources import Source
from metarec_ray.data.log.tally import total
from metarec_ray.data.progress import Meter
from metarec_ray.data.store import stages
from metarec_ray.data.store.bucket_rows import Summary, first_met
from metarec_ray.data.store.catalogue import SideTables, StorePlan, WholeLog, plan_store
from metarec_ray.data.store.previous import Previous
from metarec_ray.data.store.split import Split, split_log
from metarec_ray.data.store.stages import Done, Work
from metarec_ray.data.store.training_rows import TrainingSummary
from metarec_ray.errors import DataError

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Yield a function of every unit, in any order."""

MERGED_AT_ONCE = 8  # buckets whose items are held apart


class Run(NamedTuple):
    """How units are run: `read` maps over chunks of a log, `each` over buckets, `say` logs."""

    read: Each
    each: Each
    say: Callable[[str], None]


class Job(NamedTuple):
    """A log that becomes a version of a store: which, what its units know, how they are run."""

    source: Source
    work: Work
    run: Run


class Planned(NamedTuple):
    """What will be written.

    Attributes:
        store: the plan.
        grouped: what grouping its buckets did.
        joins: how the side tables fit the log.
        notes: sentences on what is doubtful of the log.

    """

    store: StorePlan
    grouped: list[Done]
    joins: list[Join]
    notes: tuple[str, ...]


def plan(job: Job, scanned: list[Done]) -> Planned:
    """Group the buckets that must be written and return what will be.

    A bucket changes if it has new rows, or an entity whose part or features are others than in the
    previous version.

    Raises:
        DataError: what was scanned cannot make a store.

    """
    previous, settings = job.work.previous, job.work.settings
    whole = total(done.tally for done in scanned)
    files = [(job.source.chunks[done.unit].file, done.tally) for done in scanned]
    told = doubts.of_times(settings, files, time.time_ns() // 1000)
    if previous is not None and any("data.time_unit" in one for one in told):
        raise DataError(f"events must be added in the unit of the store: {told[0]}")
    notes = [*job.source.notes, *told]
    notes += [] if previous else doubts.of_settings(job.source, whole)
    changed = {bucket for done in scanned for bucket in done.batches or []}
    if previous is None:
        changed = set(range(settings.buckets))
    grouped = group(job, scanned, changed)
    split, summaries = _split(job.work, changed)
    sizes = {"entity": len(split.entities), "item": summaries[0].items["item"].n_unique()}
    notes += doubts.of_marks(settings, whole, sizes)
    moved = _moved(split.entities, previous) - changed
    grouped += group(job, scanned, moved)
    tables = SideTables(*side_tables.side_tables(job.source))
    fits = _joins(job.work, split, summaries, tables)
    notes += doubts.of_joins(fits)
    training = _summarise_training(job, split, sorted(changed | moved))
    log = WholeLog(split, summaries, training, tables)
    store = plan_store(log, settings, mappings=job.work.mappings)
    reencoded = _moved(store.buckets.entities, previous) - changed - moved
    return Planned(store, grouped + group(job, scanned, reencoded), fits, tuple(notes))


def _joins(
    work: Work, split: Split, summaries: Sequence[Summary], tables: SideTables
) -> list[Join]:
    """Return how the side tables and the ids of the log fit."""
    entities = split.entities["entity"]
    if work.settings.session_gap is not None:
        own = sessions.entity_of(pl.col("entity"), work.ids.entity)
        entities = split.entities.select(own)["entity"].unique()
    ids = (entities, summaries[0].items["item"].unique())
    settings = work.settings
    sides = zip(ids, tables, settings.sides, settings.side_names, strict=True)
    return [
        doubts.join(own, table["id"], side, name)
        for own, table, side, name in sides
        if table is not None and side is not None
    ]


def group(job: Job, scanned: list[Done], buckets: Collection[int]) -> list[Done]:
    """Bring the rows of some buckets together."""
    if not buckets:
        return []
    shuffled = {done.unit: done.batches or [] for done in scanned}
    meter = Meter(job.run.say, "grouped", "buckets", len(buckets))
    group = partial(stages.group, job.work, shuffled)
    return metered(job.run.each(group, sorted(buckets)), meter)


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


def _summarise_training(job: Job, split: Split, buckets: Sequence[int]) -> list[TrainingSummary]:
    """Return what the training rows of buckets hold; nothing where no feature asks for it."""
    if not job.work.settings.held_features and not job.work.settings.event_features:
        return []
    told = split.entities.select("entity", "part", "bucket")
    stages.partition(job.work, "split", told, buckets)
    bare = split._replace(entities=told.clear())
    summarise = partial(stages.summarise_training, job.work, bare)
    return [found for _, found in sorted(job.run.each(summarise, buckets), key=_unit)]


def metered(found: Iterator[Done], meter: Meter) -> list[Done]:
    """Return what units did, sorted by unit, and show how far they are."""
    units = []
    for done in found:
        units.append(done)
        meter.add(done.rows, done.peak_bytes)
    meter.end()
    return sorted(units, key=lambda done: done.unit)


def _unit(result: tuple) -> int:
    return result[0]
