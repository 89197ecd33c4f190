"""Whether a column is a time, and how it is written: the unit of numbers, the format of text.

Knows values of one column; `now` is the caller's.
"""

from datetime import UTC, date, datetime
from itertools import product
from typing import NamedTuple

import polars as pl

from metarec_ray.data import times
from metarec_ray.data.guess.columns import Column, mean

BEGIN = date(1990, 1, 1)
_SORTED = 20  # fewer dates may be in order by chance
_ENOUGH = 0.98  # share of the values that must be times
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?)?\s*(Z|UTC|[+-]\d\d:?\d\d)?$"
_MAYBE = r"\d.*\d"
_ZONED = r"\d:\d\d.*(Z|UTC|[+-]\d\d:?\d\d)$"
_DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d %B %Y",
    "%B %d, %Y", "%m %d, %Y", "%Y-%m-%d",
)  # fmt: skip
_TIMES = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", "T%H:%M:%S", " %H:%M:%S%.f")
_WHOLE = (
    "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z",
    "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip
FORMATS = (*_WHOLE, *(day + time for day, time in product(_DATES, _TIMES)))


class Clock(NamedTuple):
    """How the times of a column are written.

    Attributes:
        unit: of numbers; None for dates.
        format: of dates that need one; None for others.
        rivals: other formats that fit as well.
        why: the column is a time.
        how: the unit or the format is known.

    """

    unit: str | None
    format: str | None
    rivals: tuple[str, ...]
    why: str
    how: str = ""


def find(column: Column, now: datetime) -> Clock | None:
    """Return how the times of a column are written; None if they are no times."""
    if column.kind == "time":
        return Clock(None, None, (), "dates of the file")
    if column.is_numeric:
        return _days(column) or _numbers(column, now)
    if column.kind == "text":
        return _dates(column)
    return None


def _numbers(column: Column, now: datetime) -> Clock | None:
    low, high = (float(column.values.quantile(share) or 0.0) for share in (1 - _ENOUGH, _ENOUGH))
    begin = datetime.combine(BEGIN, datetime.min.time(), tzinfo=UTC).timestamp()
    end = now.timestamp() + 366 * 86_400
    for unit, per_second in times.PER_SECOND.items():
        if begin <= low / per_second and high / per_second <= end:
            first, last, one = (
                datetime.fromtimestamp(moment / per_second, tz=UTC).date()
                for moment in (low, high, column.values[0])
            )
            how = f"{column.values[0]} is of {one} then"
            return Clock(unit, None, (), f"{first} to {last}", how)
    return None


def _days(column: Column) -> Clock | None:
    """Return the clock of integers like 20200705."""
    low, high = column.range
    if column.kind != "integer" or not _are_days(low, high):
        return None
    days = column.values.cast(pl.String).str.to_date("%Y%m%d", strict=False)
    if mean(days.is_not_null()) < _ENOUGH:
        return None
    return Clock(None, "%Y%m%d", (), f"days like {column.values[0]}", "fits every day")


def _dates(column: Column) -> Clock | None:
    text = column.values.str.strip_chars()
    if len(text[0]) > 40 or not text.head(20).str.contains(_MAYBE).all():
        return None
    if mean(text.str.contains(_ISO)) >= _ENOUGH:
        zoned = text.str.contains(_ZONED).all()
        why = f"dates like {text[0]}" + ("" if zoned else ", without a zone: read as UTC")
        return Clock(None, None, (), why)
    fitting = [one for one in FORMATS if _fits(text.head(20), one)]
    fitting = [one for one in fitting if _fits(text, one)]
    # A format with a fraction fits what has none, too.
    fitting = [one for one in fitting if one.removesuffix("%.f") not in set(fitting) - {one}]
    if not fitting:
        return None
    ordered = [one for one in fitting if _stamps(text, one).drop_nulls().is_sorted()]
    if len(ordered) == 1 and len(fitting) > 1 and len(text) >= _SORTED:
        how = "the only one in whose order the file is"
        return Clock(None, ordered[0], (), f"dates like {text[0]}", how)
    how = "day and month may be the other way round" if len(fitting) > 1 else "fits every date"
    return Clock(None, fitting[0], tuple(fitting[1:]), f"dates like {text[0]}", how)


def counter(column: Column) -> Clock | None:
    """Return the clock of numbers that are no dates in any unit, but may be an order in time."""
    low, high = column.range
    if low < 0 or _are_days(low, high) or column.distinct < 3:
        return None
    return Clock(
        "s", None, (), f"by its name, {low:g} to {high:g}", "no date in any unit, an order"
    )


def _are_days(low: float, high: float) -> bool:
    return low >= 19_900_101 and high <= 21_001_231


def _fits(text: pl.Series, form: str) -> bool:
    years = _stamps(text, form).dt.year()
    return mean(years.is_between(1970, 2100).fill_null(False)) >= _ENOUGH


def _stamps(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, strict=False, time_unit="us")
