"""What is doubtful of a whole log: refused where it would make another log, else said."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.config.experiment import parse
from metarec_ray.data.inspection.check import check
from metarec_ray.data.log import sources
from metarec_ray.data.settings import Data
from metarec_ray.data.store import pipeline
from metarec_ray.data.store.planning import Run
from metarec_ray.errors import ConfigError, DataError

RUN = Run(map, map, lambda _: None)
USERS = 40
BEGIN = 1_600_000_000
ROWS = [
    (user, 1 + (user + turn) % 7, 1 + turn, BEGIN + user * 10 + turn)
    for user in range(1, USERS + 1)
    for turn in range(5)
]


def log(folder: Path, rows: Sequence[tuple[object, ...]], **more: object) -> Data:
    """Write a log of users, items, stars and times."""
    text = "user,item,stars,time\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    (folder / "log.csv").write_text(text)
    fields = {
        "path": str(folder / "log.csv"),
        "feedback": "explicit",
        "columns": {"label": "stars", "time": "time"},
        "buckets": 2,
    }
    return Data.model_validate(fields | more)


def refusal(asked: Data, folder: Path) -> str:
    """Return why `check` and `prepare` refuse a log, which they must do with one sentence."""
    said = str(check(sources.find(asked)).get("refused"))
    with pytest.raises(DataError) as told:
        pipeline.build(sources.find(asked), folder / "store", RUN)
    assert str(told.value).startswith(said)
    assert not (folder / "store" / "manifest.json").exists()
    return said


def notes(asked: Data, folder: Path) -> tuple[str, ...]:
    """Return what `check`, `prepare` and the manifest say of a log."""
    told = check(sources.find(asked)).get("notes", [])
    made = pipeline.build(sources.find(asked), folder / "store", RUN)
    assert list(made.notes) == told
    return made.notes


def test_a_plain_log_leaves_no_doubt(tmp_path: Path) -> None:
    asked = log(tmp_path, ROWS)
    assert notes(asked, tmp_path) == ()
    assert "refused" not in check(sources.find(asked))


@pytest.mark.parametrize("mark", ["unknown", "-1", "99", "0", "2147483647", "?", "Anonymous"])
@pytest.mark.parametrize("role", [0, 1])
def test_a_mark_for_missing_is_no_giant(tmp_path: Path, mark: str, role: int) -> None:
    rows: list[tuple[object, ...]] = list(ROWS)
    for number in range(100):
        row: list[object] = [number % USERS + 1, 1 + number % 7, 3, 10_000 + number]
        row[role] = mark
        rows.append(tuple(row))
    if role == 1:  # an item has many rows here; the mark has more
        rows += [(n % USERS + 1, mark, 3, 20_000 + n) for n in range(500)]
        rows += [(n % USERS + 1, 100 + n, 3, 30_000 + n) for n in range(60)]
    said = refusal(log(tmp_path, rows), tmp_path)
    assert f"{mark!r} in column" in said
    assert f'set data.null_values: ["{mark}"]' in said
    for null_values in ([], [mark]):
        asked = log(tmp_path, rows, null_values=null_values, max_bad_share=1.0)
        assert "refused" not in check(sources.find(asked))


def test_a_word_for_nobody_is_said_even_if_it_is_rare(tmp_path: Path) -> None:
    rows = [*ROWS, ("unknown", 3, 3, BEGIN)]
    assert notes(log(tmp_path, rows), tmp_path) == (
        "'unknown' in column 'user' has 1 of 201 rows and may be a mark for missing: set "
        'data.null_values: ["unknown"] if it is one, or data.null_values: [] if nothing is',
    )


@pytest.mark.parametrize("mark", [-1, 99, -999])
def test_a_label_that_no_other_is_near_is_a_mark(tmp_path: Path, mark: int) -> None:
    rows = [*ROWS, *((user, 8, mark, 9_000 + user) for user in range(1, 20))]
    said = refusal(log(tmp_path, rows), tmp_path)
    assert f"{mark} in column 'stars' is that of 19 of 219 rows, the others are 1 to 5" in said
    kept = log(tmp_path, rows, null_values=[])
    assert check(sources.find(kept))["labels"] == [min(mark, 1), max(mark, 5)]


def test_thumbs_up_and_down_are_labels(tmp_path: Path) -> None:
    rows = [(user, item, (-1) ** stars, time) for user, item, stars, time in ROWS]
    assert notes(log(tmp_path, rows), tmp_path) == ()


def test_counts_that_pass_a_mark_are_labels(tmp_path: Path) -> None:
    rows = [
        (user, item, stars * 99 if item == 1 else stars, time) for user, item, stars, time in ROWS
    ]
    assert notes(log(tmp_path, rows), tmp_path) == ()


def test_weights_name_kinds_that_the_log_has(tmp_path: Path) -> None:
    kinds = ["view", "buy", "cart", "buy", "view"]
    rows = [(user, item, kinds[stars - 1], time) for user, item, stars, time in ROWS]
    columns = {"event": "stars", "time": "time"}
    weights = {"view": 1.0, "bought": 3.0}
    asked = log(tmp_path, rows, columns=columns, event_weights=weights)
    said = refusal(asked, tmp_path)
    assert "'bought' is none: it has buy (80), view (80), cart (40)" in said
    asked = log(tmp_path, rows, columns=columns, event_weights={"view": 1.0, "buy": 3.0})
    assert notes(asked, tmp_path) == (
        "40 of 200 rows have no weight (data.event_weights): cart (40)",
    )
    assert check(sources.find(asked))["kinds of events"] == {
        "buy": "80 rows, weight 3",
        "view": "80 rows, weight 1",
        "cart": "40 rows, no weight: filtered",
    }


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"label_min": 1}, "data.label_min must leave out some .* 1.0 leaves out none of 200"),
        ({"label_min": 6}, "data.label_min must leave out some .* 6.0 leaves out all of 200"),
        ({"since": "1970-01-01"}, "data.since must leave out some"),
        ({"until": "1970-01-01"}, "data.until must leave out some .* leaves out all of 200"),
    ],
)
def test_a_filter_leaves_out_some_rows_and_keeps_some(
    tmp_path: Path, keys: dict[str, object], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        pipeline.build(sources.find(log(tmp_path, ROWS, **keys)), tmp_path / "store", RUN)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"time_unit": "ms"}, "columns.time must be named for time_unit"),
        ({"time_zone": "Asia/Tokyo"}, "columns.time must be named for time_zone"),
        ({"label_min": 3}, "columns.label must be named for label_min"),
        ({"context": {"x": {"kind": "numeric", "separator": "|"}}}, "a separator is of lists"),
        ({"header": False}, "names must name the columns of a file without a header"),
        ({"names": ["a"]}, "names must name the columns of a file without a header"),
        ({"encoding": "utf-9"}, "an encoding of text must be known"),
        ({"separator": '"'}, "a separator must be characters other than quotes"),
    ],
)
def test_a_key_that_cannot_act_is_refused(keys: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse({"data": {"columns": {"entity": "user"}, **keys}}, "here")


def side(folder: Path, name: str, ids: list[object]) -> dict[str, object]:
    pl.DataFrame({"id": [str(one) for one in ids], "x": "a"}).write_csv(folder / name)
    return {"path": name, "id": "id", "features": {"x": {"kind": "categorical"}}}


def test_a_table_that_joins_nothing_is_refused_with_examples(tmp_path: Path) -> None:
    items = side(tmp_path, "items.csv", [100, 101])
    said = refusal(log(tmp_path, ROWS, items=items), tmp_path)
    assert said == (
        "a side table must have rows for ids of the log, 0 of 7 items of the log have a row in "
        "items.csv: the log has 1, the table 100 (data.items.id)"
    )


def test_a_table_that_joins_little_is_said(tmp_path: Path) -> None:
    asked = log(tmp_path, ROWS, items=side(tmp_path, "items.csv", [1, 2, 900]))
    assert notes(asked, tmp_path) == (
        "few ids join (data.items): 2 of 7 items of the log have a row in items.csv; the log has "
        "3, the table 900",
    )
    assert check(sources.find(asked))["rows in tables"] == {
        "items": "2 of 7 items of the log have a row in items.csv"
    }


@pytest.mark.parametrize(
    ("ids", "values", "said"),
    [
        ([1, 2, "unknown"], ["1", "2", "3"], "got 'unknown' in row 2 of items.csv"),
        ([1, 2, "03"], ["1", "2", "3"], "got '03' in row 2 of items.csv"),
        ([1, 2, 3], ["1", "Unknown", "3"], "got 'Unknown' in row 1 of items.csv"),
        ([1, 2, 2], ["1", "2", "3"], "ids must be unique, got '2' 2 times"),
    ],
)
def test_check_opens_the_tables_and_names_the_bad_value(
    tmp_path: Path, ids: list[object], values: list[str], said: str
) -> None:
    table = {"id": [str(one) for one in ids], "price": values}
    pl.DataFrame(table).write_csv(tmp_path / "items.csv")
    items = {"path": "items.csv", "id": "id", "features": {"price": {"kind": "numeric"}}}
    assert said in refusal(log(tmp_path, ROWS, items=items), tmp_path)


def test_the_share_of_bad_rows_is_that_of_the_log(tmp_path: Path) -> None:
    log(tmp_path, ROWS)
    (tmp_path / "more").mkdir()
    (tmp_path / "log.csv").rename(tmp_path / "more" / "a.csv")
    (tmp_path / "more" / "b.csv").write_text("user,item,stars,time\n7,8,x,91566999\n")
    asked = log(tmp_path, ROWS).model_copy(update={"path": str(tmp_path / "more")})
    found = check(sources.find(asked))
    assert found["quarantined"] == {"label is not a finite number": 1}
    assert "refused" not in found
    said = refusal(asked.model_copy(update={"max_bad_share": 0.001}), tmp_path)
    assert "got 1 of 201: label is not a finite number, got x in row 0 of b.csv" in said


def test_times_that_cannot_be_read_are_told_with_the_format_that_would(tmp_path: Path) -> None:
    rows = [(user, item, stars, "06-Jan-2020") for user, item, stars, _ in ROWS]
    said = refusal(log(tmp_path, rows), tmp_path)
    assert "got 200 of 200: time is not a finite number, got 06-Jan-2020 in row 0" in said
    assert '"%d-%b-%Y" fits' in said


def test_times_in_another_unit_are_said_with_the_unit_that_fits(tmp_path: Path) -> None:
    told = notes(log(tmp_path, ROWS, time_unit="ms"), tmp_path)
    assert len(told) == 1
    assert "from 1970-01-19T12:26:40.010000+00:00 to" in told[0]
    assert "data.time_unit: s makes them 2020-09-13T12:26:50+00:00" in told[0]


def test_times_beyond_all_years_are_refused_with_the_unit_that_fits(tmp_path: Path) -> None:
    rows = [(user, item, stars, time * 1000) for user, item, stars, time in ROWS]
    with pytest.raises(DataError, match=r"the years 1 to 9999, .*time_unit: ms makes it 2020"):
        check(sources.find(log(tmp_path, rows)))
    assert notes(log(tmp_path, rows, time_unit="ms"), tmp_path) == ()


def test_files_in_two_units_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for name, factor in (("a.csv", 1000), ("b.csv", 1)):
        rows = [(user, item, stars, time * factor) for user, item, stars, time in ROWS]
        asked = log(folder, rows, time_unit="ms")
        (folder / "log.csv").rename(folder / name)
    said = refusal(asked.model_copy(update={"path": str(folder)}), tmp_path)
    assert "those of a.csv fit data.time_unit: ms and those of b.csv s" in said
