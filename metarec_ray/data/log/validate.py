"""Check raw rows: which are kept, which are filtered, which are rejected and why.

Knows columns by their roles; does not know how a file is read or how histories are made.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from metarec_ray.data.files.parts import Part
from metarec_ray.data.log import labels, quarantine, roles, tally, values
from metarec_ray.data.log.features import encode
from metarec_ray.data.log.labels import LabelRules
from metarec_ray.data.log.tally import Tally
from metarec_ray.data.settings import Columns, Data


class Checked(NamedTuple):
    """Some rows: the good ones in canonical columns, the bad ones with reasons, their counts."""

    events: pl.DataFrame
    rejected: pl.DataFrame
    tally: Tally


def check(
    part: Part,
    settings: Data,
    *,
    file: str,
    whole: Collection[str] = (),
    kept: Mapping[str, pl.Expr] = MappingProxyType({}),
    since: int | None = None,
) -> Checked:
    """Return the checked rows of one chunk.

    Args:
        part: has at least the columns that `columns`, `context` and `labels` of the settings name.
        settings: of the log.
        file: name in errors and in the quarantine.
        whole: columns of text in which `1.0` stands for 1.
        kept: by key of the settings, what selects rows; the others are filtered.
        since: microseconds; earlier rows are filtered.

    A row that is filtered is not rejected, whatever is wrong with it.

    Raises:
        DataError: a column has the wrong type.

    """
    raw = values.meant(part.frame, settings, whole=whole, numbers=values.numeric(settings))
    frame = roles.canonical(raw, settings, file)
    frame = frame.with_columns(row=part.rows, position=pl.int_range(len(raw), eager=True))
    filters = {**kept, **_filters(settings, since)}
    wanted, filtered = _wanted(frame, filters)
    judged = wanted.with_columns(_reason(wanted, settings))
    bad = judged.filter(pl.col("reason").is_not_null())
    good = judged.filter(pl.col("reason").is_null())
    events = _finished(good, settings)
    clock = settings.roles.time
    rejected = pl.concat([_rejected(bad, part.frame, settings.roles, file), _broken(part, file)])
    counts = Tally(
        rows=part.read,
        kept=len(events),
        rejected=len(rejected),
        filtered=filtered,
        caught={key: int(frame.select((~one).sum()).item()) for key, one in filters.items()},
        kinds=_kinds(frame),
        marks=tally.marks(events),
        labels=tally.span(tally.unmarked(events["label"])),
        times=None if clock is None else tally.span(events["time"]),
        counted=clock is not None and tally.are_numbers(raw[clock]),
    )
    return Checked(events, rejected, counts)


def _kinds(frame: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows of each kind of event."""
    if "event" not in frame.columns:
        return {}
    counts = frame["event"].drop_nulls().value_counts(name="rows")
    return dict(counts.sort("rows", "event", descending=[True, False]).iter_rows())


def _wanted(
    frame: pl.DataFrame, filters: Mapping[str, pl.Expr]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows that pass all filters, and how many each of these left out."""
    counts: dict[str, int] = {}
    for key, kept in filters.items():
        before = len(frame)
        # Rows without the value stay, to be rejected.
        frame = frame.filter(kept.fill_null(True))
        counts[key] = before - len(frame)
    return frame, counts


def _filters(settings: Data, since: int | None) -> dict[str, pl.Expr]:
    """Return which rows the settings keep, by key."""
    found: dict[str, pl.Expr] = {}
    if settings.roles.event is not None:
        known = pl.Series(list(settings.event_weights))
        found["event_weights"] = pl.col("event").is_in(known.implode())
    if settings.label_min is not None:
        found["label_min"] = labels.is_enough(pl.col("label"), LabelRules.of(settings))
    begin, end = settings.span
    for key, start in (("since", begin), ("--since", since)):
        if start is not None:
            found[key] = pl.col("time") >= start
    if end is not None:
        found["until"] = pl.col("time") < end
    return found


def _reason(frame: pl.DataFrame, settings: Data) -> pl.Expr:
    """Return why a row is rejected, one reason of several, or null."""
    found = pl.col("reason") if "reason" in frame.columns else pl.lit(None, pl.String)
    rules = _label_rules(settings)
    if "event" in frame.columns:
        rules.append((pl.col("event").is_null(), "event is missing"))
    for name in (n for n in ("sequence", "item", "entity") if n in frame.columns):
        rules.append((pl.col(name).is_null(), f"{name} is missing"))
    for column, feature in settings.event_features.items():
        broken = encode.is_not_finite(column, feature)
        name = column.partition(".")[2]
        told = column if name in Columns.model_fields else name  # a role has that name already
        rules.append((broken, f"{told} is not a finite number"))
    for broken, reason in rules:
        found = pl.when(broken.fill_null(False)).then(pl.lit(reason)).otherwise(found)
    return found.alias("reason")


def _label_rules(settings: Data) -> list[tuple[pl.Expr, str]]:
    label = pl.col("label")
    return [
        (labels.is_no_click(label, LabelRules.of(settings)), "label is neither 0 nor 1"),
        (label.is_nan() | label.is_infinite(), "label is not a finite number"),
        (label.is_null(), "label is missing"),
    ]


def _finished(good: pl.DataFrame, settings: Data) -> pl.DataFrame:
    """Return good rows in canonical columns, in order."""
    columns = ["entity", "item", "label"]
    good = good.with_columns(label=labels.learned(pl.col("label"), LabelRules.of(settings)))
    clock = ["time"] if "time" in good.columns else []
    domain = ["domain"] if "domain" in good.columns else []
    return good.select(*columns, *clock, "sequence", *domain, *settings.event_features)


def _rejected(bad: pl.DataFrame, raw: pl.DataFrame, columns: Columns, file: str) -> pl.DataFrame:
    """Return the bad rows as the quarantine lists them, with the raw value at fault."""
    named = {role: name for role, name in columns.model_dump().items() if name is not None}
    shown: list[str] = []
    for position, reason in zip(bad["position"], bad["reason"], strict=True):
        subject = reason.rpartition(" is ")[0]  # the name of a feature may have spaces
        name = named.get(subject, subject)
        name = name if name in raw.columns else name.partition(".")[2]
        value = raw[name][position] if name in raw.columns else None
        shown.append("null" if value is None else str(value))
    return _listed(file, bad["row"], bad["reason"], pl.Series(shown, dtype=pl.String))


def _broken(part: Part, file: str) -> pl.DataFrame:
    """Return the rows that are no rows of the table as the quarantine lists them."""
    broken = part.broken
    return _listed(file, broken["row"], broken["reason"], broken["value"])


def _listed(file: str, rows: pl.Series, reasons: pl.Series, shown: pl.Series) -> pl.DataFrame:
    return pl.DataFrame(
        {"file": [file] * len(rows), "row": rows, "reason": reasons, "value": shown, "rows": 1},
        schema=quarantine.COLUMNS,
    )
