"""Times of a log, numbers, dates or text, as microseconds since 1970 in UTC.

Does not know what happened then.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from metarec_ray.data.numbers import number

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
MICROSECONDS = 1_000_000
_ZONED = r"\d:\d\d.*(Z|[+-]\d\d:?\d\d)$"


def read(column: pl.Series, unit: str, zone: str, place: str) -> tuple[pl.Series, pl.Series]:
    """Return the times of a column in microseconds, and why a value is rejected, or null.

    Args:
        column: numbers, dates, or text of one of the two: if one value is a date, all must be.
        unit: of numbers.
        zone: of dates without one. Of a local time that occurs twice the first is meant, one that
            does not occur is rejected.
        place: names the column in an error.

    """
    stamps = _stamps_of(column, zone)
    if stamps is not None:
        broken = stamps.to_frame("time").select(
            pl.when(pl.col("time").is_null()).then(pl.lit("time is missing or cannot be read"))
        )
        return stamps, broken.to_series()
    numbers = number(column, "time", place)
    broken = _rule(numbers, unit)
    found = _in_microseconds(numbers.set(broken.is_not_null(), None), unit)
    # Floats do not hold nanoseconds exactly, and one bad value in text makes all numbers floats.
    if column.dtype == pl.String:
        whole = column.cast(pl.Int64, strict=False).set(broken.is_not_null(), None)
        found = found.zip_with(whole.is_null(), _in_microseconds(whole, unit))
    return found, broken


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
    """Return microseconds as a date and time; as a number outside the years 1 to 9999.

    >>> written(0), written(2**62)
    ('1970-01-01T00:00:00+00:00', '4611686018427387904 us')
    """
    try:
        return (EPOCH + timedelta(microseconds=instant)).isoformat()
    except OverflowError:
        return f"{instant} us"


def _stamps_of(column: pl.Series, zone: str) -> pl.Series | None:
    """Return dates and times as microseconds; None if the column has numbers."""
    if isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Date:
        return _stamps(column, zone)
    if column.dtype != pl.String:
        return None
    stamps = _dates(column, zone)
    return stamps if stamps.null_count() < len(stamps) else None


def _rule(numbers: pl.Series, unit: str) -> pl.Series:
    """Return why a number is rejected, or null."""
    time = pl.col("time").cast(pl.Float64)
    limit = 2**62 * PER_SECOND[unit] / MICROSECONDS
    rule = (
        pl.when(time.is_null())
        .then(pl.lit("time is missing"))
        .when(~time.is_finite())
        .then(pl.lit("time is not a finite number"))
        .when(time.abs() > limit)
        .then(pl.lit("time is out of range"))
    )
    return numbers.to_frame("time").select(rule).to_series()


def _in_microseconds(time: pl.Series, unit: str) -> pl.Series:
    a_second = PER_SECOND[unit]
    if not time.dtype.is_integer():
        return (time * (MICROSECONDS / a_second)).round().cast(pl.Int64)
    if a_second > MICROSECONDS:
        return time.cast(pl.Int64) // (a_second // MICROSECONDS)
    return time.cast(pl.Int64) * (MICROSECONDS // a_second)


def _stamps(column: pl.Series, zone: str) -> pl.Series:
    """Return dates and times as microseconds."""
    named = getattr(column.dtype, "time_zone", None)
    stamps = column.cast(pl.Datetime("us", named))
    if named is None:
        stamps = stamps.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return stamps.cast(pl.Int64)


def _dates(column: pl.Series, zone: str) -> pl.Series:
    """Return text as microseconds, null where it is no date or time."""
    words = column.set(column.cast(pl.Float64, strict=False).is_not_null(), None)
    # polars decides by the first value whether all name a zone.
    zoned = words.str.contains(_ZONED).fill_null(False)
    named, plain = (_parsed(words.set(~which, None), zone) for which in (zoned, ~zoned))
    return named.zip_with(zoned, plain)


def _parsed(text: pl.Series, zone: str) -> pl.Series:
    try:
        return _stamps(text.str.to_datetime(time_unit="us", strict=False), zone)
    except pl.exceptions.ComputeError:  # no format fits
        return pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
