"""Heads of files as tables."""

import json
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.guess.heads import table
from metarec_ray.errors import DataError

OBJECTS = [{"user": f"u{n}", "n": n, "tags": ["a", "b"], "more": {"x": n}} for n in range(4)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.jsonl", "".join(json.dumps(one) + "\n" for one in OBJECTS)),
        ("log.json", json.dumps(OBJECTS, indent=1)),
        ("log.json", json.dumps(OBJECTS)),
        ("log.json", "".join(f"{one!r}\n" for one in OBJECTS)),
    ],
)
def test_json_is_lines_an_array_or_literals_of_python(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = table.look(tmp_path / name)
    assert found.rows.columns == ["user", "n", "tags"]
    assert found.rows["n"].to_list() == [0, 1, 2, 3]
    assert (found.nested, found.whole, found.estimate) == (("more",), True, 4)


def test_a_parquet_file_says_its_types_and_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["a"] * 3, "at": [1, 2, 3], "more": [{"x": 1}] * 3})
    frame.write_parquet(tmp_path / "log.parquet")
    found = table.look(tmp_path / "log.parquet")
    assert (found.rows.schema["at"], found.nested) == (pl.Int64, ("more",))
    assert (found.estimate, found.settings) == (3, {})


def test_only_what_is_not_the_default_is_a_setting(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\na,1\nb,2\n")
    assert table.look(tmp_path / "log.csv").settings == {}
    (tmp_path / "log.tsv").write_text("user\titem\na\t1\nb\t2\n")
    assert table.look(tmp_path / "log.tsv").settings == {}
    (tmp_path / "log.dat").write_text("a::1\nb::2\na::2\n")
    found = table.look(tmp_path / "log.dat")
    assert set(found.settings) == {"separator", "header"}
    assert found.rows.columns == ["column_1", "column_2"]


def test_rows_of_another_length_are_counted(tmp_path: Path) -> None:
    lines = ["user,item", *(f"u{n},{n}" for n in range(40)), "u1,2,3"]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    found = table.look(tmp_path / "log.csv")
    assert (len(found.rows), found.broken) == (40, 1)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("log.json", "{u'user': a}\n", "must hold objects"),
        ("log.jsonl", "[1, 2]\n", "a int stands where an object should"),
        ("log.jsonl", "user,item\n", "must hold objects"),
        ("log.csv", "user\na\n", "must have one number of fields"),
        ("log.xlsx", "x", "an input file must be one of .parquet"),
        ("log.parquet", "x", "must be readable"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        table.look(tmp_path / name)
