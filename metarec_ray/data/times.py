"""Times of a log, numbers, dates or text, as microseconds since 1970 in UTC.

Does not know what happened then.
"""

from datetime import UTC, datetime, timedelta
from math import nan
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from metarec_ray.data import date_text
from metarec_ray.data.numbers import number
from metarec_ray.errors import DataError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
MICROSECONDS = 1_000_000
FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
"""The instants that have a date."""
_YEAR = 31_556_952  # seconds
_FAR = "time is out of range"
NO_NUMBER = "time is not a finite number"
UNREAD = "time is not a date that can be read"
MANY = 10
"""Values that are no times refuse a column; fewer may be the bad rows of a small file."""


class Clock(NamedTuple):
    """How a log says when: `unit` of numbers, `zone` of dates without one, `format` of text."""

    unit: str = "s"
    zone: str = "UTC"
    format: str | None = None


def read(column: pl.Series, clock: Clock, place: str) -> tuple[pl.Series, pl.Series]:
    """Return the times of a column in microseconds, and why a value is rejected, or null.

    Text is numbers or dates: if one value is a date, all must be. Of a local time that occurs twice
    the first is meant, one that does not occur is rejected.

    Raises:
        DataError: the column holds no times, or dates with two readings and no format; `place`
            names the column.

    """
    if clock.format is not None:
        return _written_as(column, clock.format, clock.zone, place)
    if isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Date:
        _refuse_far(column, place)
        return _judged(column.is_not_null(), date_text.localised(column, clock.zone))
    if column.dtype == pl.String:
        column = column.set(column.str.strip_chars() == "", None)
        words = column.set(column.cast(pl.Float64, strict=False).is_not_null(), None)
        found = date_text.with_one_reading(words, clock.zone, place)
        if found.stamps.is_not_null().any() or found.skipped.any():
            return _judged(column.is_not_null(), found)
    return _counted(column, clock.unit, place)


def advice(value: str, form: str | None) -> str:
    """Return how times are read, for one that is not: the formats, and those that would fit it."""
    if form is not None:
        return f"data.time_format says {form!r}"
    fit = " or ".join(f'"{one}"' for one in date_text.fitting(value))
    fits = f", {fit} fits" if fit else ""
    return f"numbers are read, and {date_text.READ}; data.time_format is for others{fits}"


def instant(text: str, zone: str) -> int:
    """Return a date or time as microseconds, in `zone` if it names none.

    Raises:
        ValueError: it is neither.

    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(zone))
    return (found - EPOCH) // timedelta(microseconds=1)


def written(instant: int) -> str:
    """Return microseconds as a date and time.

    >>> written(1)
    '1970-01-01T00:00:00.000001+00:00'
    """
    return (EPOCH + timedelta(microseconds=instant)).isoformat()


def _written_as(column: pl.Series, form: str, zone: str, place: str) -> tuple[pl.Series, pl.Series]:
    """Return the times of a column that a format reads."""
    if column.dtype.is_integer() or column.dtype == pl.Null:
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        raise DataError(f"data.time_format is of times that are text, got {column.dtype} ({place})")
    column = column.set(column.str.strip_chars() == "", None)
    found = date_text.by_format(column, form, zone)
    return _judged(column.is_not_null(), found)


def _refuse_far(column: pl.Series, place: str) -> None:
    """Raise a DataError if dates or timestamps have no year of four digits; polars panics there."""
    unit = getattr(column.dtype, "time_unit", "days")
    a_second = PER_SECOND.get(unit, 1 / 86_400)
    count = column.to_physical().cast(pl.Float64)
    far = ~(count / a_second).is_between(FIRST // MICROSECONDS, LAST // MICROSECONDS)
    if far.any():
        value = column.to_physical().filter(far)[0]
        raise DataError(f"a time must lie in the years 1 to 9999, got {value} {unit} ({place})")


def _counted(column: pl.Series, unit: str, place: str) -> tuple[pl.Series, pl.Series]:
    """Return the times of a column of numbers, or of text that is none of dates."""
    if column.dtype == pl.String:
        parsed = column.cast(pl.Float64, strict=False)
        numbers = parsed.zip_with(parsed.is_not_null() | column.is_null(), pl.Series([nan]))
    else:
        numbers = number(column, "time", place)
    broken = _rule(numbers, unit)
    _refuse_unit(numbers.filter(broken == _FAR), len(column) - column.null_count(), unit, place)
    found = _in_microseconds(numbers.set(broken.is_not_null(), None), unit)
    # Floats do not hold nanoseconds exactly, and one bad value in text makes all numbers floats.
    if column.dtype == pl.String:
        whole = column.cast(pl.Int64, strict=False).set(broken.is_not_null(), None)
        found = found.zip_with(whole.is_null(), _in_microseconds(whole, unit))
    return found, broken


def _refuse_unit(far: pl.Series, count: int, unit: str, place: str) -> None:
    """Raise a DataError if all `count` numbers are out of range; names a unit that would fit."""
    if len(far) < max(count, MANY):
        return
    value = far[0]
    fit = [
        f", data.time_unit: {other} makes it {written(int(value * MICROSECONDS // a_second))}"
        for other, a_second in PER_SECOND.items()
        if 1980 <= 1970 + value / a_second / _YEAR < 2100
    ]
    raise DataError(
        f"a time must lie in the years 1 to 9999, got {value} with data.time_unit: {unit} "
        f"({place}){''.join(fit)}"
    )


def _judged(present: pl.Series, found: date_text.Parsed) -> tuple[pl.Series, pl.Series]:
    """Return dates and why one is rejected."""
    stamp = pl.col("stamp")
    rule = (
        pl.when(~pl.col("present"))
        .then(pl.lit("time is missing"))
        .when(pl.col("skipped"))
        .then(pl.lit("time is one that data.time_zone skips"))
        .when(stamp.is_null())
        .then(pl.lit(UNREAD))
        .when(~stamp.is_between(FIRST, LAST))
        .then(pl.lit(_FAR))
    )
    frame = pl.DataFrame({"stamp": found.stamps, "skipped": found.skipped, "present": present})
    broken = frame.select(rule).to_series()
    return found.stamps.set(broken.is_not_null(), None), broken


def _rule(numbers: pl.Series, unit: str) -> pl.Series:
    """Return why a number is rejected, or null."""
    time = pl.col("time").cast(pl.Float64)
    rule = (
        pl.when(time.is_null())
        .then(pl.lit("time is missing"))
        .when(~time.is_finite())
        .then(pl.lit(NO_NUMBER))
        .when(~(time / PER_SECOND[unit]).is_between(FIRST // MICROSECONDS, LAST // MICROSECONDS))
        .then(pl.lit(_FAR))
    )
    return numbers.to_frame("time").select(rule).to_series()


def _in_microseconds(time: pl.Series, unit: str) -> pl.Series:
    a_second = PER_SECOND[unit]
    if not time.dtype.is_integer():
        return (time * (MICROSECONDS / a_second)).round().cast(pl.Int64)
    if a_second > MICROSECONDS:
        return time.cast(pl.Int64) // (a_second // MICROSECONDS)
    return time.cast(pl.Int64) * (MICROSECONDS // a_second)
