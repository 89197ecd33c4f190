"""Histories cut by silence: where, under which names, and what a later event may not change."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metarec_ray.config.experiment import parse
from metarec_ray.data.log import sessions
from metarec_ray.data.settings import Data
from metarec_ray.errors import ConfigError

US = 1_000_000
GAP = Data(session_gap=30)
REPRODUCIBLE = settings(derandomize=True, deadline=None, database=None, max_examples=40)


def rows(*events: tuple[int, int], known: list[str | None] | None = None) -> pl.DataFrame:
    """Return events of (entity, second), with the sessions they have."""
    frame = pl.DataFrame(events, schema={"entity": pl.Int64, "time": pl.Int64}, orient="row")
    frame = frame.with_columns(pl.col("time") * US)
    if known is None:
        return frame
    return frame.with_columns(session=pl.Series(known, dtype=pl.String))


def cut(frame: pl.DataFrame) -> list[tuple[int, str]]:
    found = sessions.cut(frame, GAP)
    return [(time // US, name) for time, name in found.select("time", "entity").rows()]


def test_a_session_ends_where_silence_is_longer_than_the_gap() -> None:
    assert cut(rows((1, 0), (1, 30), (1, 60), (1, 91), (2, 92))) == [
        (0, "1@0"),
        (30, "1@0"),
        (60, "1@0"),
        (91, f"1@{91 * US}"),
        (92, f"2@{92 * US}"),
    ]


def test_a_gap_is_a_time_that_a_clock_can_hold() -> None:
    longest = sessions.cut(rows((1, 0), (1, 10**12), (2, 10**12)), Data(session_gap=1e12))
    assert longest["entity"].n_unique() == 2
    with pytest.raises(
        ConfigError, match=r"data.session_gap must be <= 1e\+12, got 1e\+300 \(here"
    ):
        parse({"data": {"session_gap": 1e300}}, "here")


def test_without_a_gap_rows_are_as_they_were() -> None:
    frame = rows((1, 0), (1, 99))
    assert sessions.cut(frame, Data()) is frame
    assert sessions.cut(rows(), GAP).is_empty()


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (25, "a"),  # between two that are near: it joins the one before
        (50, "b"),  # the same instant
        (-10, "a"),  # before all
        (99, "b"),  # after the last, within the gap of the new one at 70
        (200, f"1@{200 * US}"),
    ],
)
def test_what_was_cut_stays_cut(new: int, expected: str) -> None:
    frame = rows((1, 0), (1, 50), (1, 70), (1, new), known=["a", "b", None, None])
    found = dict(reversed(cut(frame)))
    assert found[new] == expected
    assert (found[0], found[50], found[70]) == ("a", "b", "b")


EVENTS = st.lists(st.tuples(st.integers(1, 3), st.integers(-90, 300)), max_size=30)


@REPRODUCIBLE
@given(first=EVENTS, later=EVENTS)
def test_adding_events_moves_no_old_one_and_splits_no_instant(
    first: list[tuple[int, int]], later: list[tuple[int, int]]
) -> None:
    old = sessions.cut(rows(*first), GAP)
    both = pl.concat([sessions.with_session(old, pl.Int64()), rows(*later)], how="diagonal")
    found = sessions.cut(both, GAP)
    assert len(found) == len(first) + len(later)
    owned = found.with_columns(whose=sessions.entity_of(pl.col("entity"), pl.Int64()))
    assert sorted(owned.select("whose", "time").rows()) == sorted(
        (who, at * US) for who, at in first + later
    )
    before, after = (set(frame.select("entity", "time").rows()) for frame in (old, found))
    assert before <= after
    instants = owned.select("whose", "time", "entity").unique()
    assert not instants.select("whose", "time").is_duplicated().any()


def test_whose_a_session_is_can_have_any_name() -> None:
    for name in ("a@5", "@", "Zoë@-1", "x@y"):
        frame = pl.DataFrame({"entity": [name], "time": [-5 * US]})
        found = sessions.cut(frame, GAP)
        assert found["entity"].to_list() == [f"{name}@{-5 * US}"]
        assert found.select(sessions.entity_of(pl.col("entity"), pl.String())).item() == name
