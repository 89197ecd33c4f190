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
from metarec_ray.data.files.parquet import write_table
from metarec_ray.data.log import quarantine, sessions
from metarec_ray.data.log.quarantine import refuse_bad_share
from metarec_ray.data.log.reading import Log
from metarec_ray.data.log.validate import Ids
from metarec_ray.data.settings import Data
from metarec_ray.data.store import bucket_files, bucket_rows, catalogue
from metarec_ray.data.store.bucket_files import Plan
from metarec_ray.data.store.catalogue import Catalogue, SideTables
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


def build_store(log: Log, settings: Data, path: Path) -> Manifest:
    """Write the store of a checked log to `path`, whole or not at all, and return its manifest.

    What `log.settings` says of roles, tables and features wins over `settings`. A store that is
    there already is replaced.
    """
    asked = effective(settings, log.settings)
    refuse_bad_share(len(log.rejected), log.rows_in, [log.rejected], asked, path)
    bucketed = sessions.cut(bucket_rows.with_bucket(log.events, asked.buckets), asked)
    collapsed = bucket_rows.collapse(bucketed, shuffle=asked.tie_seed)
    by_bucket = collapsed.partition_by("bucket", as_dict=True, include_key=False)
    empty = collapsed.clear().drop("bucket")
    parts = [by_bucket.get((bucket,), empty) for bucket in range(asked.buckets)]
    cut = [bucket_rows.truncate(part, asked.max_events) for part in parts]
    rows = [kept for kept, _ in cut]
    tally = Tally(
        rows_in=log.rows_in,
        filtered=log.filtered,
        collapsed=len(bucketed) - len(collapsed),
        rejected=[log.rejected, *(beyond for _, beyond in cut)],
    )
    summaries = [bucket_rows.summarise(part) for part in rows]
    outline = catalogue.outline(summaries, asked, has_time="time" in log.events.columns)
    looks = [
        bucket_rows.look(part, outline.entities, outline.cutoff, asked.context, outline.cold)
        for part in rows
    ]
    tables = SideTables(log.users, log.items)
    plan, items = catalogue.plan(outline, summaries, looks, settings=asked, tables=tables)
    with building(path, [settings_hash(asked), log.fingerprint]) as site:
        files = {}
        for bucket, part in enumerate(rows):
            name, table = bucket_name(bucket), bucket_files.build(part, plan)
            hashed = write_table(table, site.files / name)
            files[name] = site.entry(name, rows=table.num_rows, sha256=hashed)
        ids = Ids(log.events["entity"].dtype, log.events["item"].dtype)
        origin = Origin(asked, ids, log.fingerprint, tally)
        made = finish(site, files, plan, items, origin=origin)
        publish(site, made, keep=asked.versions)
    return made


class Origin(NamedTuple):
    """Where a store comes from: effective settings, types of ids, the input's hash, its rows."""

    settings: Data
    ids: Ids
    fingerprint: str
    tally: Tally


def settings_hash(settings: Data) -> str:
    """Return the hash of what a store depends on: not of where the log lies, its content counts."""
    return sha256_json(settings.model_dump(mode="json", exclude={"path", "versions"}))


def finish(
    site: Site, files: dict[str, FileEntry], plan: Plan, items: Catalogue, *, origin: Origin
) -> Manifest:
    """Write what is not a bucket and return the manifest of the version."""
    aside = quarantine.write(origin.tally.rejected, site.files / QUARANTINE)
    files = files | _whole_log_files(site, plan, items)
    files[QUARANTINE] = site.entry(QUARANTINE, rows=aside.lines, sha256=aside.sha256)
    counts = Counts(
        rows_in=origin.tally.rows_in,
        kept=int(plan.entities["events"].sum()),
        filtered=origin.tally.filtered,
        collapsed=origin.tally.collapsed,
        quarantined=aside.reasons,
    )
    parts = dict(plan.entities.group_by("part").len().sort("part").iter_rows())
    return Manifest(
        version=site.version,
        feedback=origin.settings.feedback,
        entity=origin.settings.roles.entity,
        ids=origin.ids.kinds,
        counts=counts,
        tasks=len(plan.entities),
        events=counts.kept,
        items=items.table.num_rows,
        parts=parts,
        has_time=plan.has_time,
        cutoff=plan.cutoff,
        buckets=origin.settings.buckets,
        features={
            "user": [e.field for e in plan.users],
            "item": [e.field for e in items.encoders],
            "context": [e.field for e in plan.context],
        },
        files=files,
        settings=origin.settings.model_dump(mode="json"),
        settings_sha256=settings_hash(origin.settings),
        source_fingerprint=origin.fingerprint,
        store_sha256=store_hash(files),
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("numpy", "polars", "pyarrow")},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _whole_log_files(site: Site, plan: Plan, items: Catalogue) -> dict[str, FileEntry]:
    entities = plan.entities.select("task_id", pl.col("entity").cast(pl.String).alias("id"))
    ranks = pa.schema([("task_id", pa.int64()), ("id", pa.string())])
    vocabularies = site.files / VOCABULARIES
    vocabularies.write_text(
        json.dumps(catalogue.vocabularies(plan, items), indent=0, sort_keys=True), encoding="utf-8"
    )
    tables = {
        ENTITIES: entities.to_arrow().cast(ranks),
        ITEMS: items.table,
    }
    hashes = {name: write_table(table, site.files / name) for name, table in tables.items()}
    entries = {
        name: site.entry(name, rows=tables[name].num_rows, sha256=hashed)
        for name, hashed in hashes.items()
    }
    return entries | {
        VOCABULARIES: site.entry(VOCABULARIES, rows=0, sha256=sha256_file(vocabularies))
    }
