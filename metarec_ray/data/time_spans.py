"""Whether the times of a log are plausible: between 1980 and a year from now, in one unit.

Knows smallest and largest instants; does not read a log, nor a clock.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from metarec_ray.data import times

BEGIN = (datetime(1980, 1, 1, tzinfo=UTC) - times.EPOCH) // timedelta(microseconds=1)
YEAR = timedelta(days=366) // timedelta(microseconds=1)
_AS_NUMBERS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}
Span = tuple[int, int]
"""The smallest and the largest instant, in microseconds since 1970."""


def implausible(span: Span, unit: str | None, now: int) -> str | None:
    """Return a sentence if times lie outside 1980 to a year from now, None if they do not.

    Args:
        span: of the log.
        unit: of its numbers, `data.time_unit`; None if it has dates.
        now: microseconds since 1970.

    """
    if _fits(span, now):
        return None
    begin, end = (times.written(one) for one in span)
    fit = [] if unit is None else [one for one in _units(span, unit, now) if one != unit]
    if fit:
        moved = (times.written(one) for one in _moved(span, unit or "", fit[0]))
        advice = f"data.time_unit: {fit[0]} makes them {' to '.join(moved)}"
    elif unit is not None and (form := _digits(span, unit)) is not None:
        advice = f'data.time_format: "{form}" reads such numbers as days'
    else:
        advice = "data.since and data.until leave out those that are not meant"
    return (
        f"times should lie between 1980 and a year from now, these are from {begin} to {end}: "
        f"{advice}"
    )


def mixed(spans: Mapping[str, Span], unit: str | None, now: int) -> str | None:
    """Return a sentence if files of one log have times in different units, None if they do not.

    Args:
        spans: of each file, by its name.
        unit: of their numbers, `data.time_unit`; None if they have dates.
        now: microseconds since 1970.

    """
    if unit is None:
        return None
    fit = {name: found for name in sorted(spans) if (found := _units(spans[name], unit, now))}
    for name, found in fit.items():
        first = next(iter(fit))
        if not set(found) & set(fit[first]):
            return (
                f"a log must have its times in one unit, those of {first} fit data.time_unit: "
                f"{fit[first][0]} and those of {name} {found[0]}"
            )
    return None


def _fits(span: Span, now: int) -> bool:
    return span[0] >= BEGIN and span[1] <= now + YEAR


def _units(span: Span, unit: str, now: int) -> list[str]:
    """Return the units that place a span between 1980 and a year from now, at most one."""
    return [other for other in times.PER_SECOND if _fits(_moved(span, unit, other), now)]


def _moved(span: Span, unit: str, other: str) -> Span:
    """Return the instants that the same numbers are in another unit."""
    up, down = times.PER_SECOND[unit], times.PER_SECOND[other]
    return span[0] * up // down, span[1] * up // down


def _digits(span: Span, unit: str) -> str | None:
    """Return the format of numbers as 20200106, None if they are no days."""
    whole = [str(one * times.PER_SECOND[unit] // times.MICROSECONDS) for one in span]
    form = _AS_NUMBERS.get(len(whole[0]))
    try:
        days = [datetime.strptime(one, form or "").replace(tzinfo=UTC) for one in whole]
    except ValueError:
        return None
    return form if all(1980 <= day.year <= 2100 for day in days) else None
