"""Odd files of strangers: read rightly, or refused in one sentence, never a traceback."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from metarec_ray.data.inspection.check import check
from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Data
from metarec_ray.data.store import pipeline
from metarec_ray.data.store.append import append
from metarec_ray.data.store.manifest import load
from metarec_ray.data.store.planning import Run
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError

RUN = Run(map, map, lambda _: None)
USERS = range(1, 31)


def asking(path: Path, **more: Any) -> Data:
    return Data.model_validate({"path": str(path), "buckets": 2, **more})


def log(folder: Path, name: str, users: list[str], **columns: list[str]) -> None:
    """Write a log in which each user met three items, with further columns by user."""
    heads = ",".join(["user", "item", "time", *columns])
    lines = [heads]
    for number, user in enumerate(users):
        further = [values[number % len(values)] for values in columns.values()]
        for turn in range(3):
            time = str(1_600_000_000 + number * 10 + turn)
            lines.append(",".join([user, str(number % 5 + turn), time, *further]))
    (folder / name).write_text("\n".join(lines) + "\n")


def entities(store: Path) -> set[str]:
    made = TaskStore.open(store).manifest
    return set(pl.read_parquet(made.file(store, "entities.parquet"), glob=False)["id"])


def test_text_ids_of_a_store_stay_as_they_are_written_in_a_day_with_a_gap(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log(folder, "old.csv", [f"{user}.0" for user in USERS], zone=["1.0", "2.0"])
    asked = asking(
        folder,
        columns={"time": "time"},
        context={"zone": {"kind": "categorical"}},
        max_bad_share=0.5,
    )
    pipeline.build(sources.find(asked), tmp_path / "store", RUN)
    (folder / "old.csv").unlink()
    log(folder, "new.csv", ["30.0", "31.0", ""], zone=["1.0", "", "2.0"])
    append(sources.find(asked), tmp_path / "store", RUN)
    assert entities(tmp_path / "store") == {f"{user}.0" for user in range(1, 32)}
    made = load(tmp_path / "store")
    words = json.loads(made.file(tmp_path / "store", "vocabularies.json").read_text())
    assert words["context"]["zone"] == ["1.0", "2.0"]


def test_a_day_in_another_unit_is_not_added(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log(folder, "log.csv", [str(user) for user in USERS])
    seconds = pl.read_csv(folder / "log.csv")
    seconds.with_columns(time=pl.col("time") * 1000).write_csv(folder / "log.csv")
    asked = asking(folder, columns={"time": "time"}, time_unit="ms")
    pipeline.build(sources.find(asked), tmp_path / "store", RUN)
    seconds.write_csv(folder / "log.csv")
    with pytest.raises(DataError, match=r"in the unit of the store: .* data.time_unit: s makes"):
        append(sources.find(asked), tmp_path / "store", RUN)
    assert load(tmp_path / "store").version == 1


@pytest.mark.parametrize("mark", ["99", "99.0", "99.00", "+99"])
@pytest.mark.parametrize("said", ["99", "99.0"])
def test_a_mark_is_one_however_its_number_is_written(tmp_path: Path, mark: str, said: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,item,stars\n1,2,4.0\n1,3,{mark}\n")
    asked = asking(tmp_path, feedback="explicit", columns={"label": "stars"}, null_values=[said])
    assert read_log(asked).events["label"].to_list() == [4.0]


def test_a_mark_among_ids_with_a_gap_is_one_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1.0,2\n-1.0,3\n,3\n")
    found = read_log(asking(tmp_path, null_values=["-1"]))
    assert found.events["entity"].to_list() == [1]


def test_marks_and_kinds_may_be_numbers_in_yaml() -> None:
    asked = Data.model_validate(
        {"null_values": [99, -1, "x"], "columns": {"event": "e"}, "event_weights": {1: 2.0}}
    )
    assert asked.null_values == ("99", "-1", "x")
    assert asked.event_weights == {"1": 2.0}


def test_a_point_among_decimal_commas_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user;item;stars\n1;2;4,5\n1;3;1.234\n1;4;3\n")
    asked = asking(
        tmp_path, feedback="explicit", columns={"label": "stars"}, separator=";", decimal=","
    )
    found = read_log(asked)
    assert found.events["label"].to_list() == [4.5, 3.0]
    assert found.rejected.select("reason", "value").rows() == [
        ("label is not a finite number", "1.234")
    ]


@pytest.mark.parametrize(
    ("dtype", "low", "good"),
    [(pl.Float32, 2**24, False), (pl.Float32, 2**20, True), (pl.Float64, 2**53, False)],
)
def test_floats_that_cannot_tell_ids_apart_are_refused(
    tmp_path: Path, dtype: Any, low: int, good: bool
) -> None:
    users = pl.Series([low + 2, low + 4], dtype=dtype)
    pl.DataFrame({"user": users, "item": [1, 2]}).write_parquet(tmp_path / "log.parquet")
    if good:
        assert read_log(asking(tmp_path)).events["entity"].to_list() == [low + 2, low + 4]
        return
    with pytest.raises(DataError, match="entity ids must be integers or strings, got Float"):
        read_log(asking(tmp_path))


@pytest.mark.parametrize(
    ("row", "user"),
    [
        ("{'user': 1.10, 'item': 1}", "1.10"),
        ("{'user': 12345678901234567890.0, 'item': 1}", "12345678901234567890.0"),
        ("{'user': -5, 'item': 1}", "-5"),
        ("{u'user': u'x', 'item': 1, 'ok': True, 'no': None, 'more': [1, 2]}", "x"),
    ],
)
def test_literals_of_python_keep_their_numbers(tmp_path: Path, row: str, user: str) -> None:
    (tmp_path / "log.json").write_text(row + "\n{'user': 'y', 'item': 2}\n")
    assert read_log(asking(tmp_path)).events["entity"].to_list() == [user, "y"]


@pytest.mark.parametrize(
    "row", ["{'user': 5, 'user': 7, 'item': 1}", "{[1]: 5, 'item': 1}", "{'user': {1, 2}}", "1"]
)
def test_other_literals_are_bad_rows(tmp_path: Path, row: str) -> None:
    (tmp_path / "log.json").write_text("{'user': 1, 'item': 2}\n" + row + "\n")
    found = read_log(asking(tmp_path))
    assert (len(found.events), len(found.rejected)) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        '[{"user": 1, "user": 2, "item": 3}]',
        "[" * 100_000,
        '[{"user": {"$oid": "x"}, "item": 3}]',
        '{"user": "\\ud800", "item": 3}',
        '{"user": {"$oid": "x"}, "item": 3}',
        '{"user": null, "item": 3}\n' * 1001 + '{"user": {"x": 1}, "item": 3}',
    ],
)
def test_json_that_holds_no_log_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.json").write_text(text)
    with pytest.raises(DataError) as told:
        check(sources.find(asking(tmp_path)))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"user": pa.array([b"\xff1", b"\xff2"], pa.binary()).view(pa.string())},
        {"user": pa.array([{"a": 1}, {"a": 2}])},
        {"user": pa.array([[1], [2]])},
    ],
)
def test_parquet_that_holds_no_ids_is_refused_in_a_sentence(
    tmp_path: Path, columns: dict[str, pa.Array]
) -> None:
    pq.write_table(pa.table({**columns, "item": [1, 2]}), tmp_path / "log.parquet")
    with pytest.raises(DataError):
        read_log(asking(tmp_path))


def test_words_that_are_numbers_of_a_dictionary_are_words(tmp_path: Path) -> None:
    words = pa.array(["2020-01-06", "2020-01-07"]).dictionary_encode()
    ids = pa.array(["a", "b"]).dictionary_encode()
    pq.write_table(pa.table({"user": ids, "item": ids, "at": words}), tmp_path / "log.parquet")
    pq.write_table(pa.table({"id": ids, "x": ids}), tmp_path / "items.parquet")
    items = {"path": "items.parquet", "id": "id", "features": {"x": {"kind": "categorical"}}}
    found = read_log(asking(tmp_path, columns={"time": "at"}, items=items))
    assert found.events["time"].to_list() == [1578268800000000, 1578355200000000]


def test_a_table_of_whole_floats_joins_a_log_of_integers(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,1.0\n1,\n1,2.0\n")
    (tmp_path / "items.csv").write_text("id,x\n1.0,a\n2.0,b\n")
    items = {"path": "items.csv", "id": "id", "features": {"x": {"kind": "categorical"}}}
    found = read_log(asking(tmp_path / "log.csv", items=items)).items
    assert found is not None
    assert found["id"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (pl.Series([2**63, 1], dtype=pl.UInt64), "ids must be integers as they are in the log"),
        (pl.Series([1e300, 1.0]), "ids must be integers or strings"),
        (pl.Series([2.0**60, 1.0]), "ids must be integers or strings"),
    ],
)
def test_ids_of_a_table_beyond_those_of_the_log_are_refused(
    tmp_path: Path, ids: pl.Series, said: str
) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,1\n")
    pl.DataFrame({"id": ids}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=said):
        read_log(asking(tmp_path / "log.csv", items={"path": "items.parquet", "id": "id"}))


@pytest.mark.parametrize("name", ["base64", "rot13", "undefined", "hex"])
def test_an_encoding_is_one_of_text(name: str) -> None:
    with pytest.raises(ValidationError, match="an encoding of text must be known"):
        Data(encoding=name)


def test_any_character_separates(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user·item\n1·2\n")
    assert read_log(asking(tmp_path, separator="·")).events["item"].to_list() == [2]


@pytest.mark.parametrize("keys", [{"separator": ";"}, {"quote": "none"}])
def test_keys_of_separated_text_are_not_for_json(tmp_path: Path, keys: dict[str, str]) -> None:
    (tmp_path / "log.jsonl").write_text('{"user": 1, "item": 2}\n')
    with pytest.raises(DataError, match="is of text files, the file is of JSON lines"):
        read_log(asking(tmp_path, **keys))


def test_folders_whose_names_are_no_text_stay_apart(tmp_path: Path) -> None:
    for name in ("user=%FF", "user=%FE"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("item\n1\n")
    assert set(read_log(asking(tmp_path)).events["entity"]) == {"%FF", "%FE"}
    (tmp_path / "user=1" / "user=2").mkdir(parents=True)
    (tmp_path / "user=1" / "user=2" / "a.csv").write_text("item\n1\n")
    with pytest.raises(DataError, match="names 'user' twice"):
        read_log(asking(tmp_path))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["[a,\\n b]", "[c]"], [["a", "b"], ["c"]]),
        (["(no genres listed)", "a|b"], [["(no genres listed)"], ["a", "b"]]),
    ],
)
def test_lists_and_words_in_brackets(
    tmp_path: Path, values: list[str], found: list[list[str]]
) -> None:
    rows = [{"user": 1, "item": n, "x": v.replace("\\n", "\n")} for n, v in enumerate(values)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    context = {"x": {"kind": "multi_categorical", "separator": "|"}}
    assert read_log(asking(tmp_path, context=context)).events["context.x"].to_list() == found


def test_lists_of_numbers_in_json_are_vectors(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"user": 1, "item": 2, "x": [0.5, 1]}\n')
    asked = asking(tmp_path, context={"x": {"kind": "vector"}})
    assert read_log(asked).events["context.x"].to_list() == [[0.5, 1.0]]


def test_true_and_false_are_clicks(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,click\n1,2,true\n1,3,False\n1,4,yes\n")
    found = read_log(asking(tmp_path, feedback="binary", columns={"label": "click"}))
    assert found.events["label"].to_list() == [1.0, 0.0]
    assert found.rejected["value"].to_list() == ["yes"]
