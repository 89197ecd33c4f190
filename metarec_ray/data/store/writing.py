"""Write the files of a task store besides the buckets, and its manifest.

Does not know what a row of a bucket is (`bucket_files`). `build_store` makes a whole store of a log
in memory.
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

from metarec_ray.atomic import sync
from metarec_ray.data.files.hashes import sha256_file, sha256_json
from metarec_ray.data.log import quarantine, sessions
from metarec_ray.data.log.quarantine import refuse_bad_share
from metarec_ray.data.log.reading import Log
from metarec_ray.data.log.roles import Ids
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
from metarec_ray.data.store.versions import Staging, building, publish


class RowCounts(NamedTuple):
    """What happened to the rows of a log; `rejected` has those to quarantine, frame by frame."""

    rows_in: int
    filtered: int
    collapsed: int
    rejected: Iterable[pl.DataFrame]


def effective(settings: Data, log: Data) -> Data:
    """Return `settings` with the roles, tables and features of the settings `log`."""
    read = ("columns", "label_min", "time_unit", "users", "items", "context", "labels")
    return settings.model_copy(update={name: getattr(log, name) for name in read})


class Origin(NamedTuple):
    """What a store is made of: effective settings, types of ids, hash and rows of the input.

    `notes` are sentences on what is doubtful of it.
    """

    settings: Data
    ids: Ids
    fingerprint: str
    rows: RowCounts
    notes: tuple[str, ...] = ()


def settings_hash(settings: Data) -> str:
    """Return the hash of the settings that a store depends on: without the paths of its files.

    What lies there is in the fingerprint.
    """
    tree = settings.model_dump(mode="json", exclude={"path", "versions"})
    for name in ("users", "items", "only", "without"):
        tree[name] = tree[name] and {**tree[name], "path": ""}
    if not tree["labels"]:  # as before there were any
        del tree["labels"]
    return sha256_json(tree)


def build_store(log: Log, settings: Data, path: Path) -> Manifest:
    """Publish the store of a checked log at `path` and return its manifest.

    Roles, tables and features are those of `log.settings`. Does in memory what `pipeline.build`
    does unit by unit; the files are the same.

    Raises:
        DataError: the log cannot make a store; the present version stays.

    """
    asked = effective(settings, log.settings)
    refuse_bad_share(len(log.rejected), log.rows_in, [log.rejected], asked, path)
    rows, counts = _grouped(log, asked)
    summaries = [bucket_rows.summarise(part) for part in rows]
    split = split_log(summaries, asked, has_time="time" in log.events.columns)
    training = [summarise_training(part, split, asked.event_features) for part in rows]
    tables = SideTables(log.users, log.items)
    plan = plan_store(WholeLog(split, summaries, training, tables), asked)
    with building(path, [settings_hash(asked), log.fingerprint]) as staging:
        names = [bucket_name(bucket) for bucket in range(asked.buckets)]
        files = {
            name: staging.write_table(name, bucket_table(part, plan.buckets))
            for name, part in zip(names, rows, strict=True)
        }
        ids = Ids(log.events["entity"].dtype, log.events["item"].dtype)
        made = finish(staging, files, plan, origin=Origin(asked, ids, log.fingerprint, counts))
        publish(staging, made, keep=asked.versions)
    return made


def finish(
    staging: Staging, buckets: dict[str, FileEntry], plan: StorePlan, *, origin: Origin
) -> Manifest:
    """Write all files but `buckets` and the manifest; return the manifest of the version."""
    rejected = quarantine.write(origin.rows.rejected, staging.files / QUARANTINE)
    files = buckets | _whole_log_files(staging, plan)
    files[QUARANTINE] = staging.entry(QUARANTINE, rows=rejected.lines, sha256=rejected.sha256)
    entities, settings = plan.buckets.entities, origin.settings
    counts = Counts(
        rows_in=origin.rows.rows_in,
        kept=int(entities["events"].sum()),
        filtered=origin.rows.filtered,
        collapsed=origin.rows.collapsed,
        quarantined=rejected.reasons,
    )
    return Manifest(
        version=staging.version,
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
        notes=origin.notes,
        store_sha256=store_hash(files),
        versions=_library_versions(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _grouped(log: Log, settings: Data) -> tuple[list[pl.DataFrame], RowCounts]:
    """Return the rows of each bucket, sorted and deduplicated, and the counts of all rows."""
    rows = sessions.cut(bucket_rows.with_bucket(log.events, settings.buckets), settings)
    unique = bucket_rows.deduplicate(rows, shuffle=settings.tie_seed)
    by_bucket = unique.partition_by("bucket", as_dict=True, include_key=False)
    empty = unique.clear().drop("bucket")
    parts = [by_bucket.get((bucket,), empty) for bucket in range(settings.buckets)]
    cut = [bucket_rows.truncate(part, settings.max_events) for part in parts]
    counts = RowCounts(
        rows_in=log.rows_in,
        filtered=log.filtered,
        collapsed=len(rows) - len(unique),
        rejected=[log.rejected, *(too_long for _, too_long in cut)],
    )
    return [kept for kept, _ in cut], counts


def _whole_log_files(staging: Staging, plan: StorePlan) -> dict[str, FileEntry]:
    """Write entities, items and vocabularies."""
    entities = plan.buckets.entities
    entities = entities.select("task_id", pl.col("entity").cast(pl.String).alias("id"))
    schema = pa.schema([("task_id", pa.int64()), ("id", pa.string())])
    vocabularies = staging.files / VOCABULARIES
    text = json.dumps(plan.vocabularies(), indent=0, sort_keys=True)
    vocabularies.write_text(text, encoding="utf-8")
    sync(vocabularies)
    return {
        ENTITIES: staging.write_table(ENTITIES, entities.to_arrow().cast(schema)),
        ITEMS: staging.write_table(ITEMS, plan.catalogue.table),
        VOCABULARIES: staging.entry(VOCABULARIES, rows=0, sha256=sha256_file(vocabularies)),
    }


def _library_versions() -> dict[str, str]:
    names = ("numpy", "polars", "pyarrow")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version()} | found
