"""Dates as text: what has one reading is read, what has two is refused."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from metarec_ray.data import date_text
from metarec_ray.errors import DataError

MIDNIGHT = datetime(2020, 1, 6, tzinfo=UTC)


def read(*values: str | None, zone: str = "UTC") -> list[datetime | None]:
    text = pl.Series(values, dtype=pl.String)
    return instants(date_text.with_one_reading(text, zone, "column at of log.csv").stamps)


def by_format(value: str, form: str, zone: str = "UTC") -> datetime | None:
    return instants(date_text.by_format(pl.Series([value]), form, zone).stamps)[0]


def instants(stamps: pl.Series) -> list[datetime | None]:
    return stamps.cast(pl.Datetime("us", "UTC")).to_list()


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-06",
        "2020/01/06",
        " 2020-1-6 ",
        "2020-01-06T00:00",
        "2020-01-06 00:00:00",
        "2020/01/06 0:00:00.000",
        "2020-01-06 00:00:00,000",
        "2020-01-06T00:00:00Z",
        "2020-01-06 00:00:00 Z",
        "2020-01-06 00:00:00 UTC",
        "2020-01-06 00:00:00 GMT",
        "2020-01-06T01:00:00+01:00",
        "2020-01-06T01:00:00+0100",
        "2020-01-06T01:00:00+01",
        "2020-01-05T22:30:00-01:30",
        "Mon, 06 Jan 2020 00:00:00 GMT",
        "Mon, 06 Jan 2020 01:00:00 +0100",
        "Mon Jan 06 00:00:00 2020",
        "Mon Jan  6 00:00:00 UTC 2020",
        "Sun Jan 05 17:00:00 -0700 2020",
    ],
)
def test_a_date_with_one_reading_is_read(text: str) -> None:
    assert read(text) == [MIDNIGHT]
    assert read("2020-01-06T00:00:00Z", None, text, "soon") == [MIDNIGHT, None, MIDNIGHT, None]


def test_a_fraction_is_kept_to_the_microsecond() -> None:
    assert read("2020-01-06 00:00:00.123456789") == [MIDNIGHT.replace(microsecond=123456)]
    assert read("2020-01-06 00:00:00.5 UTC") == [MIDNIGHT.replace(microsecond=500_000)]


def test_a_zone_of_the_text_comes_before_that_of_the_config() -> None:
    found = read("2020-01-06 01:00:00", "2020-01-06 00:00:00 UTC", zone="Europe/Berlin")
    assert found == [MIDNIGHT, MIDNIGHT]


@pytest.mark.parametrize(
    "text", ["2020-02-30", "2020-13-06", "2020-01-06 24:00:00", "12:30", "Mon"]
)
def test_what_is_no_date_is_null(text: str) -> None:
    assert read(text, "2020-01-06") == [None, MIDNIGHT]


@pytest.mark.parametrize(
    ("text", "days", "forms"),
    [
        ("01/06/2020", "2020-06-01 or 2020-01-06", '"%d/%m/%Y" or "%m/%d/%Y"'),
        ("6-1-2020", "2020-01-06 or 2020-06-01", '"%d-%m-%Y" or "%m-%d-%Y"'),
        ("25.06.2020", "2020-06-25", '"%d.%m.%Y"'),
        ("01/06/20 7:15", "2020-06-01 or 2020-01-06", '"%d/%m/%y %H:%M" or "%m/%d/%y %H:%M"'),
        ("11/13/2019 9:05:58 AM", "2019-11-13", '"%m/%d/%Y %I:%M:%S %p"'),
        ("13/11/2019 09:05:58.5Z", "2019-11-13", '"%d/%m/%Y %H:%M:%S%.fZ"'),
        ("13/11/2019, 09:05 +0100", "2019-11-13", '"%d/%m/%Y, %H:%M %z"'),
        ("13/11/2019 at noon", "2019-11-13", '"%d/%m/%Y ..."'),
        ("31/31/2020", "no day", '"%d/%m/%Y" or "%m/%d/%Y"'),
    ],
)
def test_a_date_with_two_readings_is_refused_with_both(text: str, days: str, forms: str) -> None:
    with pytest.raises(DataError) as refused:
        read("2020-01-06", text)
    assert str(refused.value).startswith(
        f"a date must have one reading, got {text!r} (column at of log.csv), which is {days}: "
        f"data.time_format says how dates are written, {forms}; without it 2020-01-06, 2020/01/06 "
    )


def test_the_format_that_all_values_fit_is_named() -> None:
    with pytest.raises(DataError, match=', and all values fit "%d/%m/%Y" only; without'):
        read("01/06/2020", "25/06/2020")
    with pytest.raises(DataError, match='"%m/%d/%Y"; without'):  # both fit
        read("01/06/2020", "02/06/2020")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("06/01/2020 00:00:00", "%d/%m/%Y %H:%M:%S"),
        ("01/06/2020 12:00:00 AM", "%m/%d/%Y %I:%M:%S %p"),
        ("1/6/20 12:00 am", "%m/%d/%y %I:%M %p"),
        ("20200106", "%Y%m%d"),
        ("06.01.2020 01:00 +0100", "%d.%m.%Y %H:%M %z"),
        ("06/Jan/2020:00:00:00 +0000", "%d/%b/%Y:%H:%M:%S %z"),
    ],
)
def test_a_format_is_followed(text: str, form: str) -> None:
    assert date_text.problem(form) is None
    assert by_format(text, form) == MIDNIGHT
    assert by_format("2020", form) is None


def test_a_format_without_a_zone_takes_that_of_the_config_and_one_with_utc_does_not() -> None:
    zone = "Europe/Berlin"
    assert by_format("06/01/2020 01:00", "%d/%m/%Y %H:%M", zone) == MIDNIGHT
    assert by_format("06/01/2020 00:00 UTC", "%d/%m/%Y %H:%M UTC", zone) == MIDNIGHT
    assert by_format("06/01/2020 00:00Z", "%d/%m/%Y %H:%MZ", zone) == MIDNIGHT
    assert by_format("06/01/2020 00:00 +0000", "%d/%m/%Y %H:%M %z", zone) == MIDNIGHT


def test_fractions_are_written_as_python_or_polars_has_them() -> None:
    half = MIDNIGHT.replace(microsecond=500_000)
    for form in ("%d/%m/%Y %H:%M:%S.%f", "%d/%m/%Y %H:%M:%S%.f"):
        assert date_text.problem(form) is None
        assert by_format("06/01/2020 00:00:00.5", form) == half


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("%d/%m", "must have day, month and year"),
        ("%H:%M:%S", "must have day, month and year"),
        ("day", "must have day, month and year"),
        ("", "must have day, month and year"),
        ("%Q", "must have day, month and year"),
        ("%d/%m/%Y %I:%M", "%p beside %I"),
        ("%d/%m/%Y %H:%M %Z", "names of zones say no offset"),
        ("%s", "seconds since 1970 are numbers"),
    ],
)
def test_a_format_that_cannot_say_the_day_is_a_problem(form: str, message: str) -> None:
    assert message in (date_text.problem(form) or "")


def test_other_dates_are_known_by_their_formats() -> None:
    assert date_text.fitting("06/Jan/2020:00:00:00 +0000") == {
        "%d/%b/%Y:%H:%M:%S %z": date(2020, 1, 6)
    }
    assert [*date_text.fitting("Jan 6, 2020 9:05 pm")] == ["%b %d, %Y %I:%M %p"]
    assert date_text.fitting("soon") == {}
