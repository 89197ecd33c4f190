"""What is guessed of small logs; other readings are told, what cannot be told is asked for."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from metarec_ray.data.guess.finding import ABSENT, FILL, Finding, leaves, plain
from metarec_ray.data.guess.guess import Guess, guess, settled
from metarec_ray.errors import DataError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 1_577_836_800


def write(path: Path, head: str, cells: Sequence[object], *, rows: int = 300) -> Path:
    """Write rows of 20 users and 30 items; a cell is a value, or a list to draw from."""
    random = Random(3)
    lines = [head] if head else []
    for row in range(rows):
        drawn = [
            f"u{random.randrange(20)}", f"i{random.randrange(30)}",
            *(random.choice(one) if isinstance(one, list) else one for one in cells),
        ]  # fmt: skip
        lines.append(",".join(str(SECONDS + 61 * row if one == "NOW" else one) for one in drawn))
    path.write_text("\n".join(lines) + "\n")
    return path


def of(path: Path) -> Guess:
    return guess(str(path), now=NOW)


def at(found: Guess, key: str) -> Finding:
    return dict(leaves(found.data))[key]


@pytest.mark.parametrize(
    ("head", "cells", "feedback", "roles"),
    [
        ("userId,itemId,rating", [[1, 2, 3, 4]], "explicit", {"label": "rating"}),
        ("user,item,score", [[0.5, 1.5, 5.0]], "explicit", {"label": "score"}),
        ("visitorid,sku,clicked", [[0, 1]], "binary", {"label": "clicked"}),
        ("user,item,plays", [[1, 40, 700]], "implicit", {}),
        ("user,item,clicked", [1], "implicit", {}),
        ("user,item,action", [["view", "buy"]], "implicit", {"event": "action"}),
        ("user,item,row,is_read", [7, [0, 1]], "implicit", {"sequence": "row"}),
    ],
)
def test_what_an_event_says_makes_the_feedback(
    tmp_path: Path, head: str, cells: list[object], feedback: str, roles: dict[str, str]
) -> None:
    found = plain(of(write(tmp_path / "log.csv", head, cells)).data)
    names = head.split(",")
    assert found["feedback"] == feedback
    assert found["columns"] == {"entity": names[0], "item": names[1], **roles}


def test_kinds_of_events_get_the_usual_weights_and_unknown_ones_are_listed(tmp_path: Path) -> None:
    kinds = ["view", "add_to_cart", "Purchase", "remove_from_cart", "zoom"]
    found = of(write(tmp_path / "log.csv", "user,item,event", [kinds]))
    assert plain(found.data)["event_weights"] == {"view": 1.0, "add_to_cart": 3.0, "Purchase": 5.0}
    for kind in ("zoom", "remove_from_cart"):
        one = at(found, f"event_weights.{kind}")
        assert one.value is ABSENT
        assert "left out without a weight" in one.others[0][1]


def test_events_that_nobody_knows_are_not_weighed(tmp_path: Path) -> None:
    found = of(write(tmp_path / "log.csv", "user,item,event", [["x", "y"]]))
    assert "event_weights" not in {key for key, value in plain(found.data).items() if value}
    assert at(found, "columns.event").others[0][0] == "event"


@pytest.mark.parametrize(
    ("values", "least"), [([0, 0, 0, 3, 4], 3.0), ([0, 1, 2], None), ([1, 2, 5], None)]
)
def test_zeros_among_ratings_are_taken_for_none(
    tmp_path: Path, values: list[int], least: float | None
) -> None:
    found = of(write(tmp_path / "log.csv", "user,item,rating", [values]))
    assert plain(found.data).get("label_min") == least
    if least is not None:
        assert at(found, "label_min").others == ((None, "if 0 is the worst rating"),)


def test_a_strength_is_no_rating_but_may_be_the_label(tmp_path: Path) -> None:
    found = of(write(tmp_path / "log.csv", "user,item,playcount", [[1, 2, 90]]))
    assert at(found, "columns.label").value is ABSENT
    assert at(found, "columns.label").others[0][0] == "playcount"


def test_what_an_item_always_has_is_no_context(tmp_path: Path) -> None:
    """It would tell the item that is asked for."""
    path = write(tmp_path / "log.csv", "user,item,device,hour_bin", [["ios", "web"], [1, 2, 3]])
    lines = path.read_text().splitlines()
    genre = [f"{line},g{line.split(',')[1][-1]}" for line in lines[1:]]
    path.write_text("\n".join([f"{lines[0]},genre", *genre]) + "\n")
    found = of(path)
    assert plain(found.data)["context"] == {
        "device": {"kind": "categorical"},
        "hour_bin": {"kind": "categorical"},
    }
    assert found.unused["genre"] == "the same in all rows of an item: a feature of it, 10 words"


def test_an_unknown_column_is_context_only_as_a_comment(tmp_path: Path) -> None:
    found = of(write(tmp_path / "log.csv", "user,item,xyz", [["a", "b"]]))
    one = at(found, "context.xyz")
    assert (one.value, one.others[0][0]) == (ABSENT, {"kind": "categorical"})


def test_the_shop_of_an_item_is_its_domain(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,shop", ["x"])
    pairs = [line.split(",")[:2] for line in path.read_text().splitlines()[1:]]
    rows = [f"{u},{i},shop{int(i[1:]) % 3}" for u, i in pairs]
    path.write_text("\n".join(["user,item,shop", *rows]) + "\n")
    assert plain(of(path).data)["columns"] == {"entity": "user", "item": "item", "domain": "shop"}


def test_columns_without_names_are_named_by_content_and_the_exchange_is_told(
    tmp_path: Path,
) -> None:
    found = of(write(tmp_path / "log.csv", "", [[1, 2, 3, 4, 5], "NOW"]))
    made = plain(found.data)
    assert (made["header"], made["names"]) == (False, ["user", "item", "rating", "time"])
    assert made["columns"] == {
        "entity": "user", "item": "item", "label": "rating", "time": "time",
    }  # fmt: skip
    others = [other for other, _ in at(found, "names").others]
    assert others == [["item", "user", "rating", "time"]]


def test_a_table_beside_a_log_without_names_tells_items_from_users(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.csv", "", [[1, 2, 3, 4, 5], "NOW"])
    fields = [line.split(",") for line in path.read_text().splitlines()]
    lines = [",".join([item, user, *rest]) for user, item, *rest in fields]
    path.write_text("\n".join(lines) + "\n")
    assert plain(of(path).data)["names"] == ["user", "item", "rating", "time"]
    (tmp_path / "products.csv").write_text("".join(f"i{n},Song {n}\n" for n in range(40)))
    found = of(path)
    assert plain(found.data)["names"] == ["item", "user", "rating", "time"]
    assert at(found, "names").others == ()


def test_two_columns_of_unknown_names_are_taken_in_order_and_the_exchange_is_told(
    tmp_path: Path,
) -> None:
    found = of(write(tmp_path / "log.csv", "abc,xyz", []))
    assert plain(found.data)["columns"] == {"entity": "abc", "item": "xyz"}
    assert at(found, "columns.entity").others == (("xyz", "if it is the user"),)


def test_what_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    found = of(write(tmp_path / "log.csv", "abc,xyz,qrs", [[f"q{n}" for n in range(9)]]))
    assert at(found, "columns.entity") == Finding(FILL, "one of abc, xyz, qrs")
    assert found.open == ["data.columns.entity", "data.columns.item"]
    with pytest.raises(DataError, match=r"data\.columns\.entity must be one of abc, xyz, qrs"):
        settled(str(tmp_path / "log.csv"), now=NOW)


def test_a_counter_called_time_is_read_for_its_order(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item,time", [[3, 90, 400]])
    assert plain(of(path).data)["time_unit"] == "s"
    assert at(of(path), "time_unit").why == "no date in any unit, an order"


def test_times_that_are_missing_raise_the_share_of_bad_rows(tmp_path: Path) -> None:
    found = of(write(tmp_path / "log.csv", "user,item,time", [["NOW"] * 9 + [""]]))
    share = plain(found.data)["max_bad_share"]
    assert isinstance(share, float)
    assert 0.1 < share < 0.4


def test_another_time_is_told_with_its_format(tmp_path: Path) -> None:
    found = of(write(tmp_path / "log.csv", "user,item,timestamp,day", ["NOW", "24.12.2021"]))
    assert at(found, "columns.time").others == (("day", 'with time_format: "%d.%m.%Y"'),)


def test_files_that_differ_in_a_number_are_one_log(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path / f"part-{part}.csv", "user,item,time", ["NOW"])
    found = of(tmp_path)
    assert plain(found.data)["path"] == str(tmp_path)
    (tmp_path / "items.csv").write_text(
        "item,name,tags\n"
        + "".join(f"i{n},Song {n},{'a|b' if n % 2 else 'b'}\n" for n in range(30))
    )
    made = plain(of(tmp_path).data)
    assert made["path"] == f"{tmp_path}/part-*.csv"
    assert made["items"] == {
        "path": "items.csv",
        "id": "item",
        "title": "name",
        "features": {"tags": {"kind": "multi_categorical", "separator": "|"}},
    }


def test_tables_of_several_rows_an_id_and_of_other_things_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "events.csv", "user,item,time", ["NOW"])
    prices = "".join(f"i{n % 30},{n}\n" for n in range(90))
    (tmp_path / "item_prices.csv").write_text("item,price\n" + prices)
    (tmp_path / "towns.csv").write_text("town,people\n" + "".join(f"t{n},{n}\n" for n in range(9)))
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    found = of(tmp_path)
    assert plain(found.data)["path"] == f"{tmp_path}/events.csv"
    assert "items" not in found.data
    assert found.unused == {
        "item_prices.csv": "several rows for one item, so no table of items",
        "other files": "towns.csv, notes.txt: no tables of users or items",
    }


def test_a_second_log_of_a_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path / "clicks.csv", "user,item,time", ["NOW"], rows=400)
    write(tmp_path / "orders.csv", "user,item,time", ["NOW"], rows=200)
    found = of(tmp_path)
    assert at(found, "path").value == f"{tmp_path}/clicks.csv"
    assert at(found, "path").others == ((f"{tmp_path}/orders.csv", "about 200 rows"),)


def test_what_sums_up_the_future_is_a_feature_only_as_a_comment(tmp_path: Path) -> None:
    write(tmp_path / "events.csv", "user,item,time", ["NOW"])
    rows = "".join(f"i{n},{n % 4},{3 + n / 40}\n" for n in range(30))
    (tmp_path / "items.csv").write_text("item,colour,rating_count\n" + rows)
    found = of(tmp_path)
    assert at(found, "items.features.rating_count").value is ABSENT
    assert plain(found.data)["items"] == {
        "path": "items.csv", "id": "item", "features": {"colour": {"kind": "categorical"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nowhere", "a log must be a file, a folder or one of synthetic"),
        ("s3://bucket/log", "must be a local path"),
        ("ml-1m", "a data set that is known by its name needs no guess, got ml-1m"),
    ],
)
def test_a_path_that_cannot_be_looked_at_is_refused(path: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        guess(path, now=NOW)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder must hold a table"):
        of(tmp_path)
    (tmp_path / "towns.csv").write_text("town,people\n" + "".join(f"t{n},{n}\n" for n in range(9)))
    with pytest.raises(DataError, match="must have a column of users and one of items, no file"):
        of(tmp_path)


def test_days_in_the_names_of_folders_are_a_column(tmp_path: Path) -> None:
    for day in ("2024-05-01", "2024-05-02"):
        folder = tmp_path / "log" / f"day={day}"
        folder.mkdir(parents=True)
        write(folder / "part-0.csv", "user,item", [])
    (tmp_path / "log" / "side").mkdir()
    songs = "".join(f"i{n},Song {n}\n" for n in range(30))
    (tmp_path / "log" / "side" / "items.csv").write_text("item,name\n" + songs)
    made = plain(of(tmp_path / "log").data)
    assert made["path"] == f"{tmp_path}/log/day=*/part-0.csv"
    assert made["columns"] == {"entity": "user", "item": "item", "time": "day"}
    assert made["items"] == {"path": "side/items.csv", "id": "item", "title": "name"}


def test_a_folder_called_like_movielens_with_other_columns_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", "user,film,stars", [[1, 2, 3]])
    (tmp_path / "movies.csv").write_text("film,name\ni1,Heat\ni2,Alien\n")
    made = plain(of(tmp_path).data)
    assert made["path"] == f"{tmp_path}/ratings.csv"
    assert made["columns"] == {"entity": "user", "item": "film", "label": "stars"}


def test_a_number_of_the_row_is_no_context(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,item", [])
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f",{head}", *(f"{n},{line}" for n, line in enumerate(lines))]))
    found = of(path)
    assert list(found.unused.values()) == ["numbers the rows"]
    assert plain(found.data)["columns"] == {"entity": "user", "item": "item"}


def test_a_word_among_numbers_is_missing(tmp_path: Path) -> None:
    made = plain(of(write(tmp_path / "log.csv", "user,item,rating", [[1, 2, 3, 4, "?"]])).data)
    assert made["feedback"] == "explicit"
    values = made["null_values"]
    assert isinstance(values, list)
    assert {"NA", "?"} < set(values)


def test_rows_without_a_rating_raise_the_share_of_bad_rows(tmp_path: Path) -> None:
    stars: list[object] = [1, 2, 3, 4, ""]
    found = of(write(tmp_path / "log.csv", "user,item,rating", [stars]))
    assert at(found, "max_bad_share").why.startswith("rows without a value are left out: rating in")
