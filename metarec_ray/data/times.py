"""Times of a log: numbers in a unit, dates, and text, brought to microseconds since 1970, UTC.

Knows a column; does not know what happened then.
"""

import polars as pl

from metarec_ray.data.numbers import number

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
MICROSECONDS = 1_000_000


def read(column: pl.Series, zone: str, place: str) -> pl.Series:
    """Return the raw time as microseconds or as a number still in the config's unit.

    What a clock shows twice is the first time, what it never shows is none.
    """
    if column.dtype == pl.String and not _numbers(column):
        column = _dates(column)
    if isinstance(column.dtype, pl.Datetime) or column.dtype == pl.Date:
        named = getattr(column.dtype, "time_zone", None)
        stamps = column.cast(pl.Datetime("us", named))
        if named is None:
            stamps = stamps.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return stamps.cast(pl.Int64).alias("stamp")
    return number(column, "time", place).alias("time")


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


def microseconds(time: pl.Series, unit: str) -> pl.Series:
    """Return whole numbers of microseconds."""
    a_second = PER_SECOND[unit]
    if not time.dtype.is_integer():
        return (time * (MICROSECONDS / a_second)).round().cast(pl.Int64)
    if a_second > MICROSECONDS:
        return time.cast(pl.Int64) // (a_second // MICROSECONDS)
    return time.cast(pl.Int64) * (MICROSECONDS // a_second)


def _dates(column: pl.Series) -> pl.Series:
    """Return text as dates and times, or as it is where nothing is one."""
    try:
        parsed = column.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.ComputeError:  # no format fits
        return column
    return parsed if parsed.null_count() < len(parsed) else column


def _numbers(column: pl.Series) -> bool:
    return column.cast(pl.Float64, strict=False).null_count() < len(column)
