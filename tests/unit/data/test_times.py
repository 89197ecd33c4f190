"""Columns of times: which values are rejected, which columns are refused."""

from datetime import UTC, datetime

import polars as pl
import pytest

from metarec_ray.data import times
from metarec_ray.data.settings import Data
from metarec_ray.data.times import Clock
from metarec_ray.errors import DataError

UNREAD = "time is not a date that can be read"
FAR = "time is out of range"


def read(column: pl.Series, clock: Clock = Clock()) -> tuple[list[object], list[object]]:  # noqa: B008
    found, broken = times.read(column, clock, "column at of log.csv")
    return found.to_list(), broken.to_list()


def test_rows_that_do_not_fit_the_format_are_rejected_one_by_one() -> None:
    column = pl.Series(["06/01/2020", "2020-01-06", " ", None, "13/13/2020"])
    noon = int(datetime(2020, 1, 6, tzinfo=UTC).timestamp()) * 10**6
    found, broken = read(column, Clock(format="%d/%m/%Y"))
    assert found == [noon, None, None, None, None]
    assert broken == [None, UNREAD, "time is missing", "time is missing", UNREAD]


def test_a_number_is_a_date_where_the_format_says_so() -> None:
    day = int(datetime(2020, 1, 6, tzinfo=UTC).timestamp()) * 10**6
    for column in (pl.Series([20200106]), pl.Series(["20200106"])):
        assert read(column, Clock(format="%Y%m%d")) == ([day], [None])
        assert read(column) == ([20200106 * 10**6], [None])


@pytest.mark.parametrize(
    ("column", "clock", "message"),
    [
        (["01/06/2020"], Clock(), "must have one reading, got '01/06/2020'"),
        ([1.5], Clock(format="%Y%m%d"), "is of times that are text, got Float64"),
        ([datetime(2020, 1, 6)], Clock(format="%Y%m%d"), "is of times that are text, got Datetime"),
        ([b"2020"], Clock(), "time must be a number, got Binary"),
        ([{"a": 1}], Clock(), "time must be a number, got Struct"),
        ([datetime(2020, 1, 6).time()], Clock(), "time must be a number, got Time"),
    ],
)
def test_a_column_that_holds_no_times_is_refused(
    column: list[object], clock: Clock, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(pl.Series(column), clock)


def test_values_that_are_no_times_are_bad_rows_however_many() -> None:
    assert read(pl.Series(["soon"] * 99)) == ([None] * 99, ["time is not a finite number"] * 99)
    assert read(pl.Series(["soon"]), Clock(format="%d/%m/%Y")) == ([None], [UNREAD])


@pytest.mark.parametrize(("unit", "a_second"), times.PER_SECOND.items())
def test_an_instant_has_a_year_of_four_digits(unit: str, a_second: int) -> None:
    first, last = times.FIRST // 10**6 * a_second, times.LAST // 10**6 * a_second
    inside = pl.Series([first, last] if unit != "ns" else [0, 2**63 - 1])
    found, broken = read(inside, Clock(unit))
    assert broken == [None, None]
    assert all(times.written(int(str(stamp)))[:4].isdigit() for stamp in found)
    if unit != "ns":  # 64 bits of nanoseconds end in 2262
        assert read(pl.Series([first - a_second, last + a_second]), Clock(unit))[1] == [FAR, FAR]


@pytest.mark.parametrize("column", [[1578268800000] * 10, ["1578268800000"] * 10])
def test_a_column_in_another_unit_is_refused_with_the_unit_that_fits(column: list[object]) -> None:
    with pytest.raises(DataError) as refused:
        read(pl.Series(column))
    assert "data.time_unit: ms makes it 2020-01-06T00:00:00+00:00" in str(refused.value)
    assert read(pl.Series(column[:9]))[1] == [FAR] * 9
    with pytest.raises(
        DataError, match=r"got 4\d+ with data.time_unit: s \(column at of log.csv\)$"
    ):
        read(pl.Series([4 * 10**16] * 10))


def test_dates_beyond_the_calendar_are_rejected_or_refused() -> None:
    assert read(pl.Series(["0000-12-31", "9999-12-31"]))[1] == [FAR, None]
    for far in (pl.Series([2**62]).cast(pl.Datetime("ms")), pl.Series([2**30]).cast(pl.Date)):
        with pytest.raises(DataError, match="a time must lie in the years 1 to 9999, got "):
            read(far)


def test_a_format_of_the_config_is_judged_when_it_is_read() -> None:
    assert Data(time_format="%d/%m/%Y").time_format == "%d/%m/%Y"
    with pytest.raises(ValueError, match=r"must have day, month and year, .* got '%d/%m'"):
        Data(time_format="%d/%m")


def test_how_times_are_read_is_told_where_one_is_not() -> None:
    assert 'data.time_format is for others, "%b %d, %Y" fits' in times.advice("Jan 6, 2020", None)
    assert "numbers are read, and 2020-01-06" in times.advice("soon", None)
    assert times.advice("2020-01-06", "%d/%m/%Y") == "data.time_format says '%d/%m/%Y'"
