"""What a log holds, in numbers a person reads before anything is trained on it.

Knows a checked log; does not know how it was read.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from metarec_ray.data.logs import Log

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def describe(log: Log) -> dict[str, object]:
    """Return counts, times, labels and features; what would be quarantined, by reason."""
    events = log.events
    lengths = events["entity"].value_counts()["count"]
    return {
        "rows": log.rows_in,
        "events": len(events),
        "filtered": log.filtered,
        "quarantined": _reasons(log.rejected),
        "entities": len(lengths),
        "items": events["item"].n_unique(),
        "events per entity": _spread(lengths),
        "labels": _spread(events["label"]),
        "time": _times(events),
        "features": _features(log),
    }


def _reasons(rejected: pl.DataFrame) -> dict[str, int]:
    counts = rejected["reason"].value_counts(sort=True)
    return dict(zip(counts["reason"], counts["count"], strict=True))


def _spread(values: pl.Series) -> dict[str, float | None]:
    """Return minimum, median and maximum; None for no values."""
    found = {"min": values.min(), "median": values.median(), "max": values.max()}
    return {name: None if one is None else float(str(one)) for name, one in found.items()}


def _times(events: pl.DataFrame) -> list[str]:
    """Return the first and the last instant; nothing for a log without a clock."""
    if "time" not in events.columns or events.is_empty():
        return []
    ends = (events["time"].min(), events["time"].max())
    return [(EPOCH + timedelta(microseconds=int(str(end)))).isoformat() for end in ends]


def _features(log: Log) -> dict[str, list[str]]:
    users, items = log.settings.sides
    sides = {
        "user": users.features if users else {},
        "item": items.features if items else {},
        "context": log.settings.context,
    }
    return {
        side: [f"{name} ({feature.kind})" for name, feature in features.items()]
        for side, features in sides.items()
    }
