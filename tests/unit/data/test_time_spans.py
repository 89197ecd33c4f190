"""Times that no log has, and the setting that mends them."""

from datetime import UTC, datetime, timedelta

import pytest

from metarec_ray.data.time_spans import Span, implausible, mixed
from metarec_ray.data.times import EPOCH, PER_SECOND


def at(*day: int) -> int:
    return (datetime(*day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)  # type: ignore[misc]


NOW = at(2026, 5, 1)
SPAN = (at(2020, 1, 6), at(2020, 5, 30))


def read_as(span: Span, meant: str, unit: str) -> Span:
    """Return the instants if numbers of the unit `meant` are read as `unit`."""
    return tuple(one * PER_SECOND[meant] // PER_SECOND[unit] for one in span)  # type: ignore[return-value]


@pytest.mark.parametrize("unit", [*PER_SECOND, None])
@pytest.mark.parametrize("span", [SPAN, (at(1980, 1, 1), at(2027, 5, 1))])
def test_times_from_1980_to_a_year_from_now_are_plausible(span: Span, unit: str | None) -> None:
    assert implausible(span, unit, NOW) is None


@pytest.mark.parametrize(("meant", "unit"), [("s", "ms"), ("ms", "us"), ("s", "us"), ("us", "ns")])
def test_the_unit_that_was_meant_is_named(meant: str, unit: str) -> None:
    found = implausible(read_as(SPAN, meant, unit), unit, NOW) or ""
    assert found.startswith(
        "times should lie between 1980 and a year from now, these are from 1970"
    )
    wanted = f"data.time_unit: {meant} makes them 2020-01-06T00:00:00+00:00 to 2020-05-30"
    assert wanted in found


def test_days_as_numbers_are_known_by_their_digits() -> None:
    days = (20200106 * 10**6, 20200530 * 10**6)
    assert 'data.time_format: "%Y%m%d" reads such' in (implausible(days, "s", NOW) or "")
    assert "%Y" not in (implausible((20201332 * 10**6, 20201340 * 10**6), "s", NOW) or "")


@pytest.mark.parametrize("span", [(0, SPAN[1]), (SPAN[0], at(2099, 1, 1)), (at(1960, 1, 1),) * 2])
def test_what_no_unit_mends_can_be_left_out(span: Span) -> None:
    for unit in ("s", None):
        assert "data.since and data.until leave out" in (implausible(span, unit, NOW) or "")


def test_files_in_different_units_are_told_apart() -> None:
    spans = {"b.csv": SPAN, "a.csv": read_as(SPAN, "s", "ms"), "c.csv": SPAN}
    assert mixed(spans, "ms", NOW) == (
        "a log must have its times in one unit, those of a.csv fit data.time_unit: s and those of "
        "b.csv ms"
    )
    assert mixed(spans, None, NOW) is None
    assert mixed({"a.csv": SPAN, "b.csv": SPAN}, "s", NOW) is None
    assert mixed({"a.csv": read_as(SPAN, "s", "ms")}, "ms", NOW) is None
    assert mixed({"a.csv": SPAN, "old.csv": (at(1960, 1, 1), 0)}, "s", NOW) is None
    assert mixed({}, "s", NOW) is None
