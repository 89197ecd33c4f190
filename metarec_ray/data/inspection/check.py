"""Report what a log contains, before a store is made of it.

Reads the log once, with the stages of `data.store`, in the memory of one chunk or bucket. Writes no
store: the rows are counted and thrown away.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data import times
from metarec_ray.data.inspection.histories import histories
from metarec_ray.data.log import quarantine
from metarec_ray.data.log.sources import Source
from metarec_ray.data.log.tally import Tally, total
from metarec_ray.data.log.validate import Checked
from metarec_ray.data.settings import Data
from metarec_ray.data.store import bucket_rows, stages
from metarec_ray.data.store.pipeline import rejected
from metarec_ray.data.store.planning import Job, Run, group, plan
from metarec_ray.data.store.stages import Done, Work
from metarec_ray.errors import DataError

SHOWN = 10  # bad rows in the report
EXACT = {"float32": 2**24, "float64": 2**53}
"""Up to where each type of floats holds every whole number."""


class Batch(NamedTuple):
    """What is looked at in some rows besides their tally.

    Attributes:
        unordered: events that come after a later one of their entity.
        first: bad rows.
        reasons: bad rows by reason.
        missing: missing values of each column of `context` and `label`.
        span: smallest and largest value of some columns, one row.

    """

    unordered: int
    first: pl.DataFrame
    reasons: dict[str, int]
    missing: dict[str, int]
    span: pl.DataFrame


def check(source: Source, *, say: Callable[[str], None] = lambda _: None) -> dict[str, object]:
    """Return a report of a log and of what `prepare` would make of it; `say` gets progress lines.

    The report's `refused` is the sentence with which `prepare` would refuse the log, absent if it
    would not; `notes` are what is doubtful of it.

    Raises:
        DataError: a file cannot be read, or the log has no rows.

    """
    settings = source.settings
    with tempfile.TemporaryDirectory() as folder:
        job = Job(source, Work(settings, source.ids, Path(folder)), Run(map, map, lambda _: None))
        found, scanned = _read(job, say)
        whole = total(done.tally for done in scanned)
        if not whole.rows:
            raise DataError(f"a log must hold rows, got none ({settings.path})")
        say(f"check: {whole.rows:,} rows read, grouping")
        grouped = group(job, scanned, range(settings.buckets))
        report = {
            **_rows(found, whole, grouped),
            **histories(job.work, settings),
            **_judged(job, scanned, whole),
        }
    spans = pl.concat([batch.span for batch in found])
    return {
        **report,
        "labels": list(_range(spans, "label")),
        "time": [times.written(int(stamp)) for stamp in _range(spans, "time")],
        "ids": _ids(source, spans),
        "features": _features(settings),
        **_missing(found),
    }


def _read(job: Job, say: Callable[[str], None]) -> tuple[list[Batch], list[Done]]:
    """Return what is looked at in the batches of the log, and what scanning each chunk did."""
    found: list[Batch] = []
    scanned: list[Done] = []
    chunks = job.source.chunks
    for number, chunk in enumerate(chunks):
        scanned.append(
            stages.scan(job.work, chunk, number, see=lambda one: found.append(_batch(one)))
        )
        rows = sum(done.rows for done in scanned)
        say(f"check: {number + 1} of {len(chunks)} chunks, {rows:,} rows")
    return found, scanned


def _judged(job: Job, scanned: list[Done], whole: Tally) -> dict[str, object]:
    """Return what is doubtful of the log, and why `prepare` would refuse it."""
    settings = job.source.settings
    found: dict[str, object] = {}
    weighed = {
        kind: f"{rows} rows, {_weight(settings.event_weights.get(kind))}"
        for kind, rows in whole.kinds.items()
    }
    if weighed:
        found["kinds of events"] = weighed
    frames = rejected(job.work, scanned, [])
    try:
        if told := quarantine.bad_share(whole.rejected, whole.rows, frames, settings):
            raise DataError(told)
        planned = plan(job, scanned)
    except DataError as error:
        return found | {"refused": str(error)}
    if planned.joins:
        found["rows in tables"] = {one.side: str(one) for one in planned.joins}
    if planned.notes:
        found["notes"] = list(planned.notes)
    return found


def _weight(weight: float | None) -> str:
    return "no weight: filtered" if weight is None else f"weight {weight:g}"


def _rows(found: list[Batch], whole: Tally, grouped: list[Done]) -> dict[str, object]:
    """Return what happens to the rows."""
    first = pl.concat([batch.first for batch in found]).head(SHOWN)
    return {
        "rows": whole.rows,
        "kept": sum(done.kept for done in grouped),
        "filtered": {key: rows for key, rows in whole.filtered.items() if rows} or 0,
        "duplicates": sum(done.rows - done.kept - done.rejected for done in grouped),
        "quarantined": _reasons(found, grouped),
        "first bad rows": [
            f"row {row['row']} of {row['file']}: {row['reason']}, got {row['value']}"
            for row in first.iter_rows(named=True)
        ],
        "out of order": _share(sum(one.unordered for one in found), whole.kept),
    }


def _batch(checked: Checked) -> Batch:
    events = checked.events
    told = [name for name in events.columns if name.startswith(("context.", "label."))]
    return Batch(
        unordered=_unordered(events),
        first=checked.rejected.head(SHOWN),
        reasons=quarantine.count(checked.rejected),
        missing={name: events[name].null_count() for name in told},
        span=_span(events),
    )


def _missing(found: list[Batch]) -> dict[str, dict[str, int]]:
    """Return the missing values of the context, and of further labels where there are any."""
    whole = {column: sum(one.missing[column] for one in found) for column in found[0].missing}
    context, labels = (
        {name.removeprefix(side): n for name, n in whole.items() if name.startswith(side)}
        for side in ("context.", "label.")
    )
    return {"missing context": context} | ({"missing labels": labels} if labels else {})


def _unordered(events: pl.DataFrame) -> int:
    """Return how many events come after a later one of their entity."""
    if "time" not in events.columns:
        return 0
    before = pl.col("time").cum_max().over("entity")
    return int(events.select((pl.col("time") < before).sum()).item())


def _span(events: pl.DataFrame) -> pl.DataFrame:
    names = [n for n in ("entity", "item", "label", "time") if n in events.columns]
    numbers = [name for name in names if events[name].dtype.is_numeric()]
    ends = [
        getattr(pl.col(name), end)().cast(pl.Float64 if name == "label" else pl.Int64)
        .alias(f"{name} {end}")
        for name in numbers for end in ("min", "max")
    ]  # fmt: skip
    return events.select(ends)


def _range(spans: pl.DataFrame, name: str) -> tuple[float, ...]:
    """Return the smallest and the largest value; () if there is none."""
    if f"{name} min" not in spans.columns or spans[f"{name} min"].null_count() == len(spans):
        return ()
    return spans.select(pl.col(f"{name} min").min(), pl.col(f"{name} max").max()).rows()[0]


def _reasons(found: list[Batch], buckets: list[Done]) -> dict[str, int]:
    """Return rejected rows by reason, the most frequent first."""
    whole = Counter({bucket_rows.TOO_LONG: sum(done.rejected for done in buckets)})
    for batch in found:
        whole.update(batch.reasons)
    return dict(sorted((+whole).items(), key=lambda one: (-one[1], one[0])))


def _ids(source: Source, spans: pl.DataFrame) -> dict[str, str]:
    """Return the types of ids and, for integers, which floats cannot hold them."""
    found = {}
    for name, dtype in source.ids._asdict().items():
        ends = _range(spans, name)
        if dtype == pl.String or not ends:
            found[name] = "text"
            continue
        unsafe = [kind for kind, limit in EXACT.items() if max(map(abs, ends)) > limit]
        beyond = f", beyond what {' and '.join(unsafe)} hold" if unsafe else ""
        found[name] = f"integers from {ends[0]} to {ends[1]}{beyond}"
    return found


def _features(settings: Data) -> dict[str, list[str]]:
    users = settings.sides[0]
    sides = {
        "user": users.features if users else {},
        "item": settings.held_features,
        "context": settings.context,
        **({"label": settings.labels} if settings.labels else {}),
    }
    return {
        side: [f"{name} ({feature.kind})" for name, feature in features.items()]
        for side, features in sides.items()
    }


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}, {part / max(whole, 1):.2%}"
