"""Columns of a log by their role: entity, item, label, time, sequence, domain, context, labels.

Knows settings and columns; does not know which rows are kept (`validate`).
"""

from typing import NamedTuple

import polars as pl

from metarec_ray.data import times
from metarec_ray.data.fields import IdKind
from metarec_ray.data.log.features import encode
from metarec_ray.data.numbers import first, number, one_zero
from metarec_ray.data.settings import Columns, Data
from metarec_ray.errors import DataError

LARGEST = 2**63 - 1
EXACT: dict[pl.DataType, int] = {pl.Float32(): 2**24, pl.Float64(): 2**53}
"""Up to where floats hold every whole number."""


class Ids(NamedTuple):
    """Types of the log's ids: Int64 or String."""

    entity: pl.DataType
    item: pl.DataType

    @property
    def kinds(self) -> tuple[IdKind, IdKind]:
        """How the manifest names them."""
        return _kind(self.entity), _kind(self.item)


def canonical(raw: pl.DataFrame, settings: Data, file: str) -> pl.DataFrame:
    """Return the columns of a chunk by role, and as `reason` what is wrong with the time."""
    columns = settings.roles
    found = [_id(raw, columns.entity, "entity", file), _id(raw, columns.item, "item", file)]
    if columns.event is not None:
        found.append(raw[columns.event].cast(pl.String).alias("event"))
    found += [_label(raw, settings, file), _sequence(raw, columns, file)]
    if columns.time is not None:
        place = f"column {columns.time} of {file}"
        clock = times.Clock(settings.time_unit, settings.time_zone, settings.time_format)
        time, rule = times.read(raw[columns.time], clock, place)
        found += [time.alias("time"), rule.alias("reason")]
    if columns.domain is not None:
        found.append(_id(raw, columns.domain, "domain", file).cast(pl.String))
    for column, feature in settings.event_features.items():
        name = column.partition(".")[2]
        value = encode.canonical(raw[name], feature, f"column {name} of {file}")
        found.append(value.alias(column))
    return pl.DataFrame(found)


def schema(settings: Data, ids: Ids) -> pl.Schema:
    """Return the canonical columns of an event, in order, for ids of these types."""
    clock = {"time": pl.Int64()} if settings.roles.time is not None else {}
    domain = {"domain": pl.String()} if settings.roles.domain is not None else {}
    told = {
        column: encode.CANONICAL[feature.kind]
        for column, feature in settings.event_features.items()
    }
    label = {"label": pl.Float32()}
    sequence = {"sequence": pl.Int64()}
    return pl.Schema({**ids._asdict(), **label, **clock, **sequence, **domain, **told})


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
        return whole_numbers(column, f"{role} ids", f"column {name} of {file}").alias(role)
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return column.cast(pl.String).alias(role)
    raise DataError(
        f"{role} ids must be integers or strings, got {column.dtype} {first(column)} "
        f"(column {name} of {file})"
    )


def whole_numbers(column: pl.Series, what: str, place: str) -> pl.Series:
    """Return the ids of a column of floats, as a column of integers with gaps may be stored.

    Raises:
        DataError: one is no whole number, or beyond what the floats hold exactly.

    """
    column = column.fill_nan(None)
    most = EXACT.get(column.dtype, 2**11)
    broken = column.filter((column != column.round()) | (column.abs() > most))
    if len(broken):
        raise DataError(
            f"{what} must be integers or strings, got {column.dtype} {broken[0]} ({place})"
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
