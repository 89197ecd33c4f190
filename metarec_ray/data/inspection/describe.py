"""Report what a store contains, and that no history leaks the future.

Reads bucket by bucket. Knows the files of a store; does not know how tasks are cut.
"""

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from metarec_ray.data import times
from metarec_ray.data.settings import HELD_LAST
from metarec_ray.data.store.manifest import Manifest, bucket_name, load, verify
from metarec_ray.data.store.versions import versions


def describe(store: Path, version: int | None = None) -> dict[str, object]:
    """Return a report of a version of a store, by default of the present one.

    Raises:
        DataError: a file is missing or damaged.

    """
    made = load(store, version)
    verify(store, made)
    sums = pl.concat([_bucket(store, made, number) for number in range(made.buckets)]).sum()
    counts = {name: int(sums[name].item()) for name in sums.columns}
    return {
        "version": made.version,
        "versions": versions(store),
        "feedback": made.feedback,
        "entity": made.entity,
        "entities": made.tasks,
        "events": made.events,
        "items": made.items,
        "parts": made.parts,
        "cutoff": None if made.cutoff is None else times.written(made.cutoff),
        "rows": made.counts.model_dump(),
        "features": {
            side: [f"{field.name} ({field.kind})" for field in fields]
            for side, fields in made.features.items()
        },
        "no query before its support": _proof(made, counts) | _held_last(made),
        "store_sha256": made.store_sha256,
        "created_at": made.created_at,
    }


def _proof(made: Manifest, counts: dict[str, int]) -> dict[str, str]:
    """Return the counts that show that every query is later than its support."""
    if not made.has_time:
        return {"no clock": "histories are in the order of the sequence, nothing is cut in time"}
    found = {
        # In a history the query follows the support.
        "histories in order of time": f"{counts['ordered']} of {made.tasks}",
        "events that share their instant with the one before": str(counts["tied"]),
    }
    if made.cutoff is not None:
        test = made.parts.get("test", 0)
        found["test histories that begin at or after the cutoff"] = f"{counts['late']} of {test}"
        found["events of others at or after it, which nothing learns from"] = str(counts["after"])
    return found


def _held_last(made: Manifest) -> dict[str, str]:
    if made.settings.get("split") != "last":
        return {}
    return {"last events of every history, which nothing learns from": str(HELD_LAST)}


def _bucket(store: Path, made: Manifest, number: int) -> pl.DataFrame:
    """Return the counts of one bucket, a row."""
    path = made.file(store, bucket_name(number))
    columns = ["part", "time"] if made.has_time else ["part"]
    rows = pl.DataFrame(pq.read_table(path, columns=columns))
    if not made.has_time:
        return pl.DataFrame({"entities": [len(rows)]})
    cutoff = 2**63 - 1 if made.cutoff is None else made.cutoff
    steps, test = pl.col("time").list.diff(null_behavior="drop"), pl.col("part") == "test"
    late = pl.col("time").list.eval(pl.element() >= cutoff).list.sum()
    return rows.select(
        ordered=(steps.list.eval(pl.element() < 0).list.sum() == 0).sum(),
        tied=steps.list.eval(pl.element() == 0).list.sum().sum(),
        late=(test & (pl.col("time").list.min() >= cutoff)).sum(),
        after=pl.when(test).then(0).otherwise(late).sum(),
    ).cast(pl.Int64)
