"""Dates and times written as text: one reading, or none without a format.

`01/06/2020` is two dates, so it is read only by a format of the config, however its neighbours
look. Does not know columns of numbers, nor what a time is for.
"""

import re
import warnings
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from metarec_ray.errors import DataError

READ = (
    "2020-01-06, 2020/01/06 12:30, 2020-01-06T12:30:00.5+01:00, 2020-01-06 12:30:00 UTC, "
    "Mon, 06 Jan 2020 12:30:00 GMT or Mon Jan 06 12:30:00 2020"
)
"""Dates that have one reading, by example."""
_YEAR_FIRST = (
    r"^(\d{4})[-/.](\d\d?)[-/.](\d\d?)"
    r"(?:(?:T| +)(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?"
    r" *(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?$"
)
_PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "zone")
_MONTH_NAMED = (
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a, %d %b %Y %H:%M:%S UTC",
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S UTC %Y",
)
"""RFC 2822, and what `date` and C's ctime write."""
_DAYS = ("%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y", "%a %b %d %Y", "%a, %b %d, %Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S %z")
_LONG = (
    *(day + clock for day in _DAYS for clock in _CLOCKS),
    "%d/%b/%Y:%H:%M:%S %z",
    "%Y%m%dT%H%M%SZ",
)
"""What else is met: day and month by name, the logs of web servers."""
_DAY_FIRST = r"^\s*\d\d?[-/. ]\d\d?[-/. ](\d{4}|\d\d)(\D|$)"
_YEAR_LAST = re.compile(
    r"(?P<a>\d\d?)(?P<sep>[-/. ])(?P<b>\d\d?)(?P=sep)(?P<year>\d{4}|\d\d)(?P<rest>\D.*)?"
)
_CLOCK = re.compile(
    r"(?P<gap>T|,? +)\d\d?:\d\d(?P<second>:\d\d)?(?P<fraction>\.\d+)?(?P<noon> ?[AaPp][Mm])?"
    r"(?P<zone> ?(Z|UTC|GMT|[+-]\d\d:?\d\d))?"
)
_DIRECTIVE = re.compile(r"%[-_0#:.]*\w")
_UTC = re.compile(r"\b(UTC|GMT|Z)\b")
_SAMPLE = datetime(2021, 11, 23, 13, 14, 15)  # the day is no month, the hour none of the morning


class Parsed(NamedTuple):
    """Microseconds since 1970 in UTC, null where text is no date; and which are `skipped`.

    A local time is skipped where summer time begins.
    """

    stamps: pl.Series
    skipped: pl.Series


def with_one_reading(text: pl.Series, zone: str, place: str) -> Parsed:
    """Return dates whose year comes first or whose month has a name; `zone` is of those with none.

    Raises:
        DataError: some value is a date with another order, whose day and month may be swapped;
            `place` names the column.

    """
    _refuse_two_readings(text, place)
    found = _year_first(text, zone)
    for form in _MONTH_NAMED:
        left = text.set(found.stamps.is_not_null() | found.skipped, None)
        if left.null_count() == len(left):
            break
        more = by_format(left, form, zone)
        stamps = found.stamps.zip_with(found.stamps.is_not_null(), more.stamps)
        found = Parsed(stamps, found.skipped | more.skipped)
    return found


def by_format(text: pl.Series, form: str, zone: str) -> Parsed:
    """Return dates that are written as `form` says; `zone` is of those that name none."""
    parsed = _strptime(text.str.strip_chars(), form)
    return localised(parsed, "UTC" if _UTC.search(_DIRECTIVE.sub(" ", form)) else zone)


def localised(times: pl.Series, zone: str) -> Parsed:
    """Return dates and times as microseconds; of a local time that is twice the first is meant."""
    named = getattr(times.dtype, "time_zone", None)
    stamps = times.cast(pl.Datetime("us", named))
    if named is None:
        stamps = stamps.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return Parsed(stamps.cast(pl.Int64), stamps.is_null() & times.is_not_null())


def problem(form: str) -> str | None:
    """Return why a format cannot be used, None if it can."""
    form = chrono(form)
    if re.search(r"%[-_0]*Z", form):
        return "names of zones say no offset, write UTC, or %z for offsets"
    if re.search(r"%[-_0]*[sf]", form):
        return "seconds since 1970 are numbers (data.time_unit) and fractions are %.f"
    try:
        written = pl.Series([_SAMPLE]).dt.replace_time_zone("UTC").dt.strftime(form)
        found = _strptime(written, form)[0]
    except pl.exceptions.ComputeError:
        found = None
    if found is None or found.date() != _SAMPLE.date():
        return "a format must have day, month and year, and %p beside %I, as %d/%m/%Y %H:%M:%S"
    return None


def chrono(form: str) -> str:
    """Return a format of Python's strptime as polars reads it: `.%f` is `%.f` there."""
    return form.replace(".%f", "%.f")


def fitting(value: str) -> dict[str, date]:
    """Return the formats that fit a date which is not read without one, and the day it then is.

    What follows the day is `...` in a format if it is unknown.

    >>> fitting("25.06.2020 9:30 pm")
    {'%d.%m.%Y %I:%M %p': datetime.date(2020, 6, 25)}
    """
    shape = _YEAR_LAST.fullmatch(value.strip())
    if shape is None:
        found = {form: _date(value, form) for form in _LONG}
    else:
        year = "%Y" if len(shape["year"]) == 4 else "%y"
        days = [shape["sep"].join((*order, year)) for order in (("%d", "%m"), ("%m", "%d"))]
        clock = _clock(shape["rest"])
        day = shape["sep"].join(shape.group("a", "b", "year"))
        found = {form + clock: _date(day, form) for form in days}
    return {form: day for form, day in found.items() if day is not None}


def _year_first(text: pl.Series, zone: str) -> Parsed:
    parts = text.str.strip_chars().str.extract_groups(_YEAR_FIRST).struct.rename_fields(_PARTS)
    frame = parts.struct.unnest()
    clock = [pl.col(name).fill_null("00") for name in ("hour", "minute", "second")]
    day, time = (
        pl.concat_str("year", "month", "day", separator="-"),
        pl.concat_str(*clock, separator=":"),
    )
    whole = pl.concat_str(day, pl.lit(" "), time, pl.lit("."), pl.col("fraction").fill_null("0"))
    plain = _strptime(frame.select(whole.alias("time")).to_series(), "%Y-%m-%d %H:%M:%S%.f")
    local = localised(plain.set(frame["zone"].is_not_null(), None), zone)
    utc = localised(plain, "UTC").stamps - frame.select(_offset()).to_series()
    return local._replace(stamps=local.stamps.zip_with(frame["zone"].is_null(), utc))


def _offset() -> pl.Expr:
    """Return the offset of the zone in microseconds, 0 for its names."""
    digits = pl.col("zone").str.replace_all("[^0-9]", "")
    hours, minutes = (
        digits.str.slice(at, 2).cast(pl.Int64, strict=False).fill_null(0) for at in (0, 2)
    )
    sign = pl.when(pl.col("zone").str.starts_with("-")).then(-1).otherwise(1)
    return sign * (hours * 60 + minutes) * 60_000_000


def _strptime(text: pl.Series, form: str) -> pl.Series:
    with warnings.catch_warnings():  # of what looks like Python's %f
        warnings.simplefilter("ignore")
        return text.str.to_datetime(chrono(form), time_unit="us", strict=False)


def _refuse_two_readings(text: pl.Series, place: str) -> None:
    found = text.filter(text.str.contains(_DAY_FIRST).fill_null(False))
    if found.is_empty():
        return
    readings = fitting(found[0])
    fit = [form for form in readings if _strptime(found, form).null_count() == 0]
    decided = f', and all values fit "{fit[0]}" only' if len(fit) == 1 < len(readings) else ""
    days = " or ".join(dict.fromkeys(map(str, readings.values()))) or "no day"
    forms = " or ".join(f'"{form}"' for form in readings) or '"%d/%m/%Y" or "%m/%d/%Y"'
    raise DataError(
        f"a date must have one reading, got {found[0]!r} ({place}), which is {days}: "
        f"data.time_format says how dates are written, {forms}{decided}; without it {READ} are read"
    )


def _clock(rest: str | None) -> str:
    """Return the format of what follows a date, `...` if it is none that is known."""
    if rest is None:
        return ""
    shape = _CLOCK.fullmatch(rest)
    if shape is None:
        return " ..."
    zone = shape["zone"] or ""
    zone = zone if zone.strip() in ("", "Z", "UTC", "GMT") else zone[: -len(zone.lstrip())] + "%z"
    noon = shape["noon"] or ""
    return "".join((
        shape["gap"],
        "%I:%M" if noon else "%H:%M",
        ":%S" if shape["second"] else "",
        "%.f" if shape["fraction"] else "",
        noon[:-2] + "%p" if noon else "",
        zone,
    ))  # fmt: skip


def _date(value: str, form: str) -> date | None:
    """Return the day that a value is by a format, None if it does not fit."""
    found = _strptime(pl.Series([value.strip()]), form)[0]
    return None if found is None else found.date()
