"""Times of a log: numbers in a unit, dates, and text, brought to microseconds since 1970, UTC.

Knows a column; does not know what happened then.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from metarec_ray.data.numbers import number

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
MICROSECONDS = 1_000_000
_ZONED = r"\d:\d\d.*(Z|[+-]\d\d:?\d\d)$"


def read(column: pl.Series, zone: str, place: str) -> list[pl.Series]:
    """Return the raw time: `stamp`, microseconds, or `time`, numbers still in the config's unit.

    What a clock shows twice is the first time, what it never shows is none. Text holds dates or
    numbers: where one value is a date, numbers are none. Whole numbers in text are `whole` as well:
    beside one that is broken nanoseconds are more than floats hold.
    """
    if isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Date:
        return [_stamps(column, zone).alias("stamp")]
    if column.dtype != pl.String:
        return [number(column, "time", place).alias("time")]
    stamps = _dates(column, zone)
    if stamps.null_count() < len(stamps):
        return [stamps.alias("stamp")]
    whole = column.cast(pl.Int64, strict=False)
    return [number(column, "time", place).alias("time"), whole.alias("whole")]


def rules(frame: pl.DataFrame, unit: str) -> list[tuple[pl.Expr, str]]:
    """Return what may be wrong with a row's time, and how that is called."""
    if "stamp" in frame.columns:
        return [(pl.col("stamp").is_null(), "time is missing or cannot be read")]
    if "time" not in frame.columns:
        return []
    time = pl.col("time").cast(pl.Float64)
    limit = 2**62 * PER_SECOND[unit] / MICROSECONDS
    return [
        (time.abs() > limit, "time is out of range"),
        (time.is_nan() | time.is_infinite(), "time is not a finite number"),
        (pl.col("time").is_null(), "time is missing"),
    ]


def microseconds(frame: pl.DataFrame, unit: str) -> pl.Series:
    """Return what `read` has read, and `rules` have judged, as whole numbers of microseconds."""
    if "stamp" in frame.columns:
        return frame["stamp"]
    found = _in_microseconds(frame["time"], unit)
    if "whole" not in frame.columns:
        return found
    return found.zip_with(frame["whole"].is_null(), _in_microseconds(frame["whole"], unit))


def _in_microseconds(time: pl.Series, unit: str) -> pl.Series:
    a_second = PER_SECOND[unit]
    if not time.dtype.is_integer():
        return (time * (MICROSECONDS / a_second)).round().cast(pl.Int64)
    if a_second > MICROSECONDS:
        return time.cast(pl.Int64) // (a_second // MICROSECONDS)
    return time.cast(pl.Int64) * (MICROSECONDS // a_second)


def written(instant: int) -> str:
    """Return microseconds as a date and time, or as they are beyond the years that have one.

    >>> written(0), written(2**62)
    ('1970-01-01T00:00:00+00:00', '4611686018427387904 us')
    """
    try:
        return (EPOCH + timedelta(microseconds=instant)).isoformat()
    except OverflowError:
        return f"{instant} us"


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
    # polars judges by the first value whether all name a zone.
    zoned = words.str.contains(_ZONED).fill_null(False)
    named, plain = (_parsed(words.set(~which, None), zone) for which in (zoned, ~zoned))
    return named.zip_with(zoned, plain)


def _parsed(text: pl.Series, zone: str) -> pl.Series:
    try:
        return _stamps(text.str.to_datetime(time_unit="us", strict=False), zone)
    except pl.exceptions.ComputeError:  # no format fits
        return pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
