"""Check raw rows: which are kept, which are filtered, which are rejected and why.

Knows columns by their roles; does not know how a file is read or how histories are made.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from metarec_ray.data import times
from metarec_ray.data.fields import IdKind
from metarec_ray.data.files.parts import Part
from metarec_ray.data.log import encode, quarantine, values
from metarec_ray.data.numbers import first, number, one_zero
from metarec_ray.data.settings import Columns, Data
from metarec_ray.errors import DataError

LARGEST = 2**63 - 1
EXACT = 2**53
"""Up to where floats hold every whole number."""


class Ids(NamedTuple):
    """Types of the log's ids: Int64 or String."""

    entity: pl.DataType
    item: pl.DataType

    @property
    def kinds(self) -> tuple[IdKind, IdKind]:
        """How the manifest names them."""
        return _kind(self.entity), _kind(self.item)


class Checked(NamedTuple):
    """What became of some rows.

    Attributes:
        events: good rows in canonical columns.
        rejected: bad rows with reasons.
        filtered: number of rows that each setting leaves out, by its key; the first of several.
        caught: number of rows that each setting would leave out alone.
        kinds: number of rows of each kind of event, filtered ones included.

    """

    events: pl.DataFrame
    rejected: pl.DataFrame
    filtered: dict[str, int]
    caught: dict[str, int]
    kinds: dict[str, int]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.events) + len(self.rejected) + sum(self.filtered.values())


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
        part: has at least the columns that `settings.columns` and `settings.context` name.
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
    frame = _canonical(raw, settings, file)
    frame = frame.with_columns(row=part.rows, position=pl.int_range(len(raw), eager=True))
    filters = {**kept, **_filters(settings, since)}
    wanted, filtered = _wanted(frame, filters)
    judged = wanted.with_columns(_reason(wanted, settings))
    bad = judged.filter(pl.col("reason").is_not_null())
    good = judged.filter(pl.col("reason").is_null())
    return Checked(
        _finished(good, settings),
        pl.concat([_rejected(bad, part.frame, settings.roles, file), _broken(part, file)]),
        filtered,
        {key: int(frame.select((~one).sum()).item()) for key, one in filters.items()},
        _kinds(frame),
    )


def _kinds(frame: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows of each kind of event."""
    if "event" not in frame.columns:
        return {}
    counts = frame["event"].drop_nulls().value_counts(name="rows")
    return dict(counts.sort("rows", "event", descending=[True, False]).iter_rows())


def _canonical(raw: pl.DataFrame, settings: Data, file: str) -> pl.DataFrame:
    """Return the columns of a chunk by role, and as `reason` what is wrong with the time."""
    columns = settings.roles
    found = [_id(raw, columns.entity, "entity", file), _id(raw, columns.item, "item", file)]
    if columns.event is not None:
        found.append(raw[columns.event].cast(pl.String).alias("event"))
    found += [_label(raw, settings, file), _sequence(raw, columns, file)]
    if columns.time is not None:
        place = f"column {columns.time} of {file}"
        time, rule = times.read(raw[columns.time], settings.time_unit, settings.time_zone, place)
        found += [time.alias("time"), rule.alias("reason")]
    if columns.domain is not None:
        found.append(_id(raw, columns.domain, "domain", file).cast(pl.String))
    for name, feature in sorted(settings.context.items()):
        value = encode.canonical(raw[name], feature, f"column {name} of {file}")
        found.append(value.alias(f"context.{name}"))
    return pl.DataFrame(found)


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
        found["label_min"] = pl.col("label") >= settings.label_min
    begin, end = settings.span
    for key, start in (("since", begin), ("--since", since)):
        if start is not None:
            found[key] = pl.col("time") >= start
    if end is not None:
        found["until"] = pl.col("time") < end
    return found


def schema(settings: Data, ids: Ids) -> pl.Schema:
    """Return the canonical columns of an event, in order, for ids of these types."""
    clock = {"time": pl.Int64()} if settings.roles.time is not None else {}
    domain = {"domain": pl.String()} if settings.roles.domain is not None else {}
    context = {
        f"context.{name}": encode.CANONICAL[feature.kind]
        for name, feature in sorted(settings.context.items())
    }
    label = {"label": pl.Float32()}
    sequence = {"sequence": pl.Int64()}
    return pl.Schema({**ids._asdict(), **label, **clock, **sequence, **domain, **context})


def _kind(dtype: pl.DataType) -> IdKind:
    return "integer" if dtype.is_integer() else "text"


def _id(raw: pl.DataFrame, name: str, role: str, file: str) -> pl.Series:
    column = raw[name]
    if column.dtype == pl.Null:
        return column.cast(pl.String).alias(role)
    if column.dtype == pl.UInt64 and (column > LARGEST).any():
        return column.cast(pl.String).alias(role)
    if column.dtype.is_integer():
        return column.cast(pl.Int64).alias(role)
    if column.dtype.is_float():
        return _whole_numbers(column, role, f"column {name} of {file}").alias(role)
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return column.cast(pl.String).alias(role)
    raise DataError(
        f"{role} ids must be integers or strings, got {column.dtype} {first(column)} "
        f"(column {name} of {file})"
    )


def _whole_numbers(column: pl.Series, role: str, place: str) -> pl.Series:
    """Return the ids of a column of floats, as a column of integers with gaps may be stored."""
    column = column.fill_nan(None)
    broken = column.filter((column != column.round()) | (column.abs() > EXACT))
    if len(broken):
        raise DataError(
            f"{role} ids must be integers or strings, got {column.dtype} {broken[0]} ({place})"
        )
    return column.cast(pl.Int64)


def _label(raw: pl.DataFrame, settings: Data, file: str) -> pl.Series:
    name, event = settings.roles.label, settings.roles.event
    if event is not None:
        kinds, weights = list(settings.event_weights), list(settings.event_weights.values())
        found = raw[event].cast(pl.String)
        return found.replace_strict(kinds, weights, default=None, return_dtype=pl.Float32).alias(
            "label"
        )
    if name is None:
        return pl.repeat(1.0, len(raw), dtype=pl.Float32, eager=True).alias("label")
    numbers = number(raw[name], "label", f"column {name} of {file}")
    return one_zero(numbers.cast(pl.Float32)).alias("label")


def _sequence(raw: pl.DataFrame, columns: Columns, file: str) -> pl.Series:
    if columns.sequence is None:
        return pl.repeat(0, len(raw), dtype=pl.Int64, eager=True).alias("sequence")
    column = raw[columns.sequence]
    if column.dtype == pl.String:
        return column.cast(pl.Int64, strict=False).alias("sequence")
    if not (column.dtype.is_integer() or column.dtype == pl.Null):
        raise DataError(
            f"sequence must be integers, got {column.dtype} {first(column)} "
            f"(column {columns.sequence} of {file})"
        )
    return column.cast(pl.Int64, strict=False).alias("sequence")


def _reason(frame: pl.DataFrame, settings: Data) -> pl.Expr:
    """Return why a row is rejected, one reason of several, or null."""
    found = pl.col("reason") if "reason" in frame.columns else pl.lit(None, pl.String)
    rules = _label_rules(settings)
    if "event" in frame.columns:
        rules.append((pl.col("event").is_null(), "event is missing"))
    for name in (n for n in ("sequence", "item", "entity") if n in frame.columns):
        rules.append((pl.col(name).is_null(), f"{name} is missing"))
    for name, feature in settings.context.items():
        broken = encode.is_not_finite(f"context.{name}", feature)
        rules.append((broken, f"{name} is not finite"))
    for broken, reason in rules:
        found = pl.when(broken.fill_null(False)).then(pl.lit(reason)).otherwise(found)
    return found.alias("reason")


def _label_rules(settings: Data) -> list[tuple[pl.Expr, str]]:
    label = pl.col("label")
    rules = [(label.is_nan() | label.is_infinite(), "label is not a finite number")]
    if settings.feedback == "binary":
        rules.insert(0, (~label.is_in([0.0, 1.0]), "label is neither 0 nor 1"))
    return [*rules, (label.is_null(), "label is missing")]


def _finished(good: pl.DataFrame, settings: Data) -> pl.DataFrame:
    """Return good rows in canonical columns, in order."""
    columns = ["entity", "item", "label"]
    if settings.feedback == "implicit":
        good = good.with_columns(label=pl.lit(1.0, pl.Float32))
    clock = ["time"] if "time" in good.columns else []
    domain = ["domain"] if "domain" in good.columns else []
    context = [f"context.{name}" for name in sorted(settings.context)]
    return good.select(*columns, *clock, "sequence", *domain, *context)


def _rejected(bad: pl.DataFrame, raw: pl.DataFrame, columns: Columns, file: str) -> pl.DataFrame:
    """Return the bad rows as the quarantine lists them, with the raw value at fault."""
    named = {role: name for role, name in columns.model_dump().items() if name is not None}
    shown: list[str] = []
    for position, reason in zip(bad["position"], bad["reason"], strict=True):
        subject = reason.rpartition(" is ")[0]  # the name of a feature may have spaces
        name = named.get(subject, subject)
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
