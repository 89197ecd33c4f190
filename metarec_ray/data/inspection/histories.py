"""What the histories of a log are: how many, how long, on which items, and who is held out.

Knows summaries of buckets; does not know rows.
"""

import polars as pl

from metarec_ray.data import times
from metarec_ray.data.settings import DOMAIN, Data
from metarec_ray.data.store import stages
from metarec_ray.data.store.split import split_log
from metarec_ray.data.store.stages import Work
from metarec_ray.errors import DataError

LENGTHS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
"""Upper ends of the histogram of events per entity."""


def histories(work: Work, settings: Data) -> dict[str, object]:
    """Return what all buckets together say about entities and items."""
    summaries = [stages.summary(work, bucket) for bucket in range(settings.buckets)]
    lengths = pl.concat([one.entities for one in summaries])["events"]
    items = pl.concat([one.items for one in summaries])
    found: dict[str, object] = {
        "entities": len(lengths),
        "items": items["item"].n_unique(),
        **_domains(items),
        "events per entity": _lengths(lengths),
    }
    clock = settings.roles.time is not None
    try:
        split = split_log(summaries, settings, has_time=clock)
    except DataError as error:  # what `prepare` would refuse
        return found | {"cold": str(error)}
    parts = split.entities["part"]
    cold: dict[str, object] = {f"{p} entities": int((parts == p).sum()) for p in ("valid", "test")}
    if split.cutoff is not None:
        begun = items.group_by("item").agg(pl.col("first").min())
        cold["cutoff"] = times.written(split.cutoff)
        cold["items first met later"] = int((begun["first"] >= split.cutoff).sum())
    return found | {"cold": cold}


def _domains(items: pl.DataFrame) -> dict[str, object]:
    """Return the number of items in each domain, if the log has domains."""
    if DOMAIN not in items.columns:
        return {}
    counts = items.group_by(DOMAIN).agg(pl.col("item").n_unique()).sort(DOMAIN)
    return {"items of domains": {name or "missing": count for name, count in counts.iter_rows()}}


def _lengths(lengths: pl.Series) -> dict[str, object]:
    """Return median, maximum and histogram of the number of events per entity."""
    if lengths.is_empty():
        return {}
    found: dict[str, object] = {"median": lengths.median(), "max": lengths.max()}
    low = 0
    for high in (*LENGTHS, None):
        end = lengths.max() if high is None else high
        count = int(lengths.is_between(low + 1, end).sum())
        name = (
            f"over {low}" if high is None else f"{low + 1}-{high}" if high > low + 1 else f"{high}"
        )
        if count:
            found[name] = count
        low = high or low
    return found
