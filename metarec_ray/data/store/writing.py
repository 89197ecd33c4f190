"""Write a task store: bucket files, entities, items, vocabularies, quarantine, manifest last.

Knows files and their order; does not know what a row holds (`bucket_files`). `build_store` does
all of it in one process.
"""

import importlib.metadata
import json
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from metarec_ray.data.files.hashes import sha256_file, sha256_json
from metarec_ray.data.log import quarantine, sessions
from metarec_ray.data.log.quarantine import refuse_bad_share
from metarec_ray.data.log.reading import Log
from metarec_ray.data.log.validate import Ids
from metarec_ray.data.settings import Data
from metarec_ray.data.store import bucket_rows
from metarec_ray.data.store.bucket_files import bucket_table
from metarec_ray.data.store.catalogue import SideTables, StorePlan, WholeLog, plan_store
from metarec_ray.data.store.manifest import (
    ENTITIES,
    ITEMS,
    QUARANTINE,
    VOCABULARIES,
    Counts,
    FileEntry,
    Manifest,
    bucket_name,
    store_hash,
)
from metarec_ray.data.store.split import split_log
from metarec_ray.data.store.training_rows import summarise_training
from metarec_ray.data.store.versions import Site, building, publish


class Tally(NamedTuple):
    """What became of the rows of a log; `rejected` lists the quarantined ones, frame by frame."""

    rows_in: int
    filtered: int
    collapsed: int
    rejected: Iterable[pl.DataFrame]


def effective(settings: Data, log: Data) -> Data:
    """Return `settings` with the roles, tables and features that were read with the log."""
    read = ("columns", "label_min", "time_unit", "users", "items", "context")
    return settings.model_copy(update={name: getattr(log, name) for name in read})


class Origin(NamedTuple):
    """Where a store comes from: effective settings, types of ids, the input's hash, its rows."""

    settings: Data
    ids: Ids
    fingerprint: str
    tally: Tally


def settings_hash(settings: Data) -> str:
    """Return the hash of what a store depends on: not of where the log lies, its content counts."""
    return sha256_json(settings.model_dump(mode="json", exclude={"path", "versions"}))


def build_store(log: Log, settings: Data, path: Path) -> Manifest:
    """Write the store of a checked log to `path`, whole or not at all, and return its manifest.

    What `log.settings` says of roles, tables and features wins over `settings`. A store that is
    there already is replaced. All in memory: what `pipeline.build` does unit by unit.
    """
    asked = effective(settings, log.settings)
    refuse_bad_share(len(log.rejected), log.rows_in, [log.rejected], asked, path)
    rows, tally = _grouped(log, asked)
    summaries = [bucket_rows.summarise(part) for part in rows]
    split = split_log(summaries, asked, has_time="time" in log.events.columns)
    training = [summarise_training(part, split, context=asked.context) for part in rows]
    tables = SideTables(log.users, log.items)
    plan = plan_store(WholeLog(split, summaries, training, tables), asked)
    with building(path, [settings_hash(asked), log.fingerprint]) as site:
        names = [bucket_name(bucket) for bucket in range(asked.buckets)]
        files = {
            name: site.write_table(name, bucket_table(part, plan.buckets))
            for name, part in zip(names, rows, strict=True)
        }
        ids = Ids(log.events["entity"].dtype, log.events["item"].dtype)
        made = finish(site, files, plan, origin=Origin(asked, ids, log.fingerprint, tally))
        publish(site, made, keep=asked.versions)
    return made


def finish(
    site: Site, buckets: dict[str, FileEntry], plan: StorePlan, *, origin: Origin
) -> Manifest:
    """Write what is not a bucket and return the manifest of the version.

    Args:
        site: where it is built.
        buckets: the files of all buckets, by name.
        plan: what they were written by.
        origin: what the version is made of.

    """
    aside = quarantine.write(origin.tally.rejected, site.files / QUARANTINE)
    files = buckets | _whole_log_files(site, plan)
    files[QUARANTINE] = site.entry(QUARANTINE, rows=aside.lines, sha256=aside.sha256)
    entities, settings = plan.buckets.entities, origin.settings
    counts = Counts(
        rows_in=origin.tally.rows_in,
        kept=int(entities["events"].sum()),
        filtered=origin.tally.filtered,
        collapsed=origin.tally.collapsed,
        quarantined=aside.reasons,
    )
    return Manifest(
        version=site.version,
        feedback=settings.feedback,
        entity=settings.roles.entity,
        ids=origin.ids.kinds,
        counts=counts,
        tasks=len(entities),
        events=counts.kept,
        items=plan.catalogue.table.num_rows,
        parts=dict(entities.group_by("part").len().sort("part").iter_rows()),
        has_time=plan.buckets.has_time,
        cutoff=plan.buckets.cutoff,
        buckets=settings.buckets,
        features={side: [one.field for one in own] for side, own in plan.encoders().items()},
        files=files,
        settings=settings.model_dump(mode="json"),
        settings_sha256=settings_hash(settings),
        source_fingerprint=origin.fingerprint,
        store_sha256=store_hash(files),
        versions=_library_versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _grouped(log: Log, settings: Data) -> tuple[list[pl.DataFrame], Tally]:
    """Return the rows of each bucket, sorted and deduplicated, and what became of all rows."""
    rows = sessions.cut(bucket_rows.with_bucket(log.events, settings.buckets), settings)
    unique = bucket_rows.deduplicate(rows, shuffle=settings.tie_seed)
    by_bucket = unique.partition_by("bucket", as_dict=True, include_key=False)
    empty = unique.clear().drop("bucket")
    parts = [by_bucket.get((bucket,), empty) for bucket in range(settings.buckets)]
    cut = [bucket_rows.truncate(part, settings.max_events) for part in parts]
    tally = Tally(
        rows_in=log.rows_in,
        filtered=log.filtered,
        collapsed=len(rows) - len(unique),
        rejected=[log.rejected, *(too_long for _, too_long in cut)],
    )
    return [kept for kept, _ in cut], tally


def _whole_log_files(site: Site, plan: StorePlan) -> dict[str, FileEntry]:
    """Write entities, items and vocabularies."""
    entities = plan.buckets.entities
    entities = entities.select("task_id", pl.col("entity").cast(pl.String).alias("id"))
    schema = pa.schema([("task_id", pa.int64()), ("id", pa.string())])
    vocabularies = site.files / VOCABULARIES
    text = json.dumps(plan.vocabularies(), indent=0, sort_keys=True)
    vocabularies.write_text(text, encoding="utf-8")
    return {
        ENTITIES: site.write_table(ENTITIES, entities.to_arrow().cast(schema)),
        ITEMS: site.write_table(ITEMS, plan.catalogue.table),
        VOCABULARIES: site.entry(VOCABULARIES, rows=0, sha256=sha256_file(vocabularies)),
    }


def _library_versions() -> dict[str, str]:
    names = ("numpy", "polars", "pyarrow")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version()} | found
