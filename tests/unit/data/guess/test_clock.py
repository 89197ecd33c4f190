"""Which columns are times, and how these are written."""

from datetime import UTC, datetime

import polars as pl
import pytest

from metarec_ray.data.guess import clock, columns
from metarec_ray.data.guess.clock import Clock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 1_577_836_800  # 2020-01-01


def found(values: list[object]) -> Clock | None:
    (column,) = columns.look(pl.DataFrame({"at": values}, strict=False))
    return clock.find(column, NOW)


@pytest.mark.parametrize(("unit", "many"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", [int, float, str])
def test_the_unit_puts_numbers_between_1990_and_now(unit: str, many: int, kind: type) -> None:
    one = found([kind((SECONDS + 60 * row) * many) for row in range(50)])
    assert one is not None
    assert one.unit == unit
    assert one.why == "2020-01-01 to 2020-01-01"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2020-01-06", None),
        ("2020-01-06 00:00:00 UTC", None),
        ("2014-04-07T10:51:09.277Z", None),
        ("2014-04-07T10:51:09+02:00", None),
        ("Sun Jul 30 07:44:10 -0700 2017", "%a %b %d %H:%M:%S %z %Y"),
        ("11/31/2019 9:05:58 AM", None),
        ("11/30/2019 9:05:58 AM", "%m/%d/%Y %I:%M:%S %p"),
        ("30/11/2019 19:05", "%d/%m/%Y %H:%M"),
        ("09 1, 2016", "%m %d, %Y"),
        ("24.12.2021", "%d.%m.%Y"),
        ("20200705", "%Y%m%d"),
        ("Feb 20, 2007", "%b %d, %Y"),
    ],
)
def test_dates_say_their_format_where_they_need_one(text: str, form: str | None) -> None:
    one = found([text] * 5)
    if text.startswith("11/31"):  # no day
        assert one is None
        return
    assert one is not None
    assert (one.unit, one.format) == (None, form)


def test_day_and_month_are_left_open_where_both_fit() -> None:
    one = found(["2/3/2021", "5/4/2021", "1/12/2021", "4/1/2021"])
    assert one is not None
    assert {one.format, *one.rivals} == {"%d/%m/%Y", "%m/%d/%Y"}


def test_a_format_with_a_fraction_is_no_other_reading_of_dates_without_one() -> None:
    clock = found([f"{day:02d}/06/2020 00:00:00" for day in (12, 1, 7)])
    assert clock is not None
    assert {clock.format, *clock.rivals} == {"%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"}


def test_the_order_of_the_file_tells_day_from_month() -> None:
    one = found([f"{month}/{day}/2021" for month in range(1, 12) for day in (2, 10)])
    assert one is not None
    assert (one.format, one.rivals) == ("%m/%d/%Y", ())


@pytest.mark.parametrize(
    "values", [[1, 2, 3], ["a", "b"], ["band 1", "band 2"], [0.5, 4.5], [True], [151_603_712] * 3]
)
def test_other_columns_are_no_times(values: list[object]) -> None:
    assert found(values) is None
