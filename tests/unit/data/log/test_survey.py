"""Ids of text are never changed: which columns are integers is decided over the whole log."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.errors import DataError


def items(folder: Path, *texts: str, form: str = "csv", **more: object) -> list[object]:
    """Return the ids of items that are read from files with one item a row."""
    for number, text in enumerate(texts):
        values = text.split(",")
        path = folder / f"{number}.{form}"
        if form == "jsonl":
            path.write_text("".join(f'{{"user": 1, "item": {value}}}\n' for value in values))
        else:
            path.write_text("user,item\n" + "".join(f"1,{value}\n" for value in values))
    asked = Data.model_validate({"path": str(folder), **more})
    return read_log(asked).events["item"].to_list()


@pytest.mark.parametrize(
    "written",
    [
        "01,1,001", "+1,1", "1.0,1", "1.0,2.0", " 1,1", "1e3,1", "-0,0", "007,7",
        f"{2**63},1", f"{2**64 - 1},1", "123456789012345678901234567890,1",
    ],
)  # fmt: skip
def test_an_id_that_its_number_would_not_print_makes_the_column_text(
    tmp_path: Path, written: str
) -> None:
    assert items(tmp_path, written) == written.split(",")


@pytest.mark.parametrize("written", ["1,2", "-5,0", f"{2**63 - 1},{-(2**63)}", f"{2**53 + 1},1"])
def test_integers_are_integers(tmp_path: Path, written: str) -> None:
    assert items(tmp_path, written) == [int(one) for one in written.split(",")]


def test_one_file_decides_for_all(tmp_path: Path) -> None:
    assert items(tmp_path, "1,2", "3,04") == ["1", "2", "3", "04"]


def test_floats_beside_a_gap_are_the_integers_that_they_stand_for(tmp_path: Path) -> None:
    assert items(tmp_path, "1.0,,3.0", "4") == [1, 3, 4]
    source = sources.find(Data(path=str(tmp_path)))
    assert source.notes == (
        "numbers as 1.0 in column 'item' are read as 1: a column of numbers with gaps has them",
    )


def test_numbers_of_json_are_ids_as_they_are_written(tmp_path: Path) -> None:
    for number, (written, ids) in enumerate(
        [('"01", 1', ["01", "1"]), ("1.0, 2", ["1.0", "2"]), (f"{2**64}, 1", [str(2**64), "1"])]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert items(folder, written, form="jsonl") == ids


@pytest.mark.parametrize("values", [[1.0, None, 3.0], [1.0, 2.0, 3.0]])
def test_whole_floats_of_parquet_are_integers(tmp_path: Path, values: list[float | None]) -> None:
    frame = pl.DataFrame({"user": [1, 1, 1], "item": values})
    frame.write_parquet(tmp_path / "log.parquet")
    found = read_log(Data(path=str(tmp_path)))
    assert found.events["item"].to_list() == [int(one) for one in values if one is not None]
    assert found.rejected["reason"].to_list() == ["item is missing"] * values.count(None)


def test_unsigned_ids_of_64_bits_are_kept(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 1], "item": pl.Series([2**64 - 1, 5], dtype=pl.UInt64)})
    frame.write_parquet(tmp_path / "log.parquet")
    assert read_log(Data(path=str(tmp_path))).events["item"].to_list() == [str(2**64 - 1), "5"]
    small = frame.with_columns(item=pl.Series([7, 5], dtype=pl.UInt64))
    small.write_parquet(tmp_path / "log.parquet")
    assert read_log(Data(path=str(tmp_path))).events["item"].to_list() == [7, 5]


def test_categories_and_kinds_of_events_are_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,kind,zone\n1,2,01,1.0\n1,3,1,\n1,4,01,2.0\n")
    asked = Data(
        path=str(tmp_path),
        columns=Columns(event="kind"),
        event_weights={"01": 2.0, "1": 1.0},
        feedback="explicit",
        context={"zone": Feature(kind="categorical")},
    )
    found = read_log(asked).events
    assert found["label"].to_list() == [2.0, 1.0, 2.0]
    assert found["context.zone"].to_list() == ["1", None, "2"]


def test_names_in_folders_are_decoded(tmp_path: Path) -> None:
    for name in ("shop=S%C3%A3o%20Paulo%2FBR", "shop=__HIVE_DEFAULT_PARTITION__", "shop=01"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("user,item\n1,2\n")
    asked = Data(path=str(tmp_path), context={"shop": Feature(kind="categorical")})
    found = read_log(asked).events["context.shop"]
    assert set(found) == {"01", "São Paulo/BR", None}


def test_ids_in_folders_keep_their_zeros(tmp_path: Path) -> None:
    for name in ("item=01", "item=1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("user\n1\n2\n")
    assert sorted(read_log(Data(path=str(tmp_path))).events["item"]) == ["01", "01", "1", "1"]


def test_a_key_that_says_how_text_is_written_is_not_for_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [2]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"data.separator is of text files, the file is of Parquet"):
        read_log(Data(path=str(tmp_path), separator=";"))


@pytest.mark.parametrize("form", ["csv", "tsv", "txt", "dat", "csv.gz", "txt.gz"])
def test_text_without_a_header_has_the_names_that_are_given(tmp_path: Path, form: str) -> None:
    tab = form.startswith(("tsv", "txt", "dat"))
    text = "1,7,5\n2,8,4\n".replace(",", "\t" if tab else ",").encode()
    (tmp_path / f"log.{form}").write_bytes(gzip.compress(text) if form.endswith("gz") else text)
    asked = {"header": False, "names": ["user", "item", "stars"], "columns": {"label": "stars"}}
    found = read_log(Data.model_validate({"path": str(tmp_path), "feedback": "explicit", **asked}))
    assert found.events.select("entity", "item", "label").rows() == [(1, 7, 5.0), (2, 8, 4.0)]


@pytest.mark.parametrize(
    ("text", "keys", "row"),
    [
        ("user;item;stars\n1;7;4,5\n", {"separator": ";", "decimal": ","}, (1, 7, 4.5)),
        ("user::item::stars\n1::7::4.5\n", {"separator": "::"}, (1, 7, 4.5)),
        ("user,item,stars\n'a,b',7,4.5\n", {"quote": "'"}, ("a,b", 7, 4.5)),
        ('user,item,stars\n"a",7,4.5\n', {"quote": "none"}, ('"a"', 7, 4.5)),
    ],
)
def test_separators_quotes_and_decimals_are_keys(
    tmp_path: Path, text: str, keys: dict[str, object], row: tuple[object, ...]
) -> None:
    (tmp_path / "log.csv").write_text(text)
    asked = {"path": str(tmp_path), "feedback": "explicit", "columns": {"label": "stars"}}
    found = read_log(Data.model_validate(asked | keys)).events
    assert found.select("entity", "item", "label").row(0) == row


@pytest.mark.parametrize(
    ("null_values", "ids"), [(None, ["x"]), ([], ["NA", "x", "-1"]), (["-1"], ["NA", "x"])]
)
def test_marks_for_missing_are_no_ids(
    tmp_path: Path, null_values: list[str] | None, ids: list[str]
) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,NA\n1,x\n1,-1\n1,\n")
    found = read_log(Data.model_validate({"path": str(tmp_path), "null_values": null_values}))
    assert found.events["item"].to_list() == (ids if null_values is not None else ["x", "-1"])


def test_a_numeric_mark_holds_for_numbers_of_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 1], "item": [2, -1], "stars": [99.0, 4.0]})
    frame.write_parquet(tmp_path / "log.parquet")
    asked = Data(
        path=str(tmp_path),
        feedback="explicit",
        columns=Columns(label="stars"),
        null_values=("-1", "99"),
    )
    assert read_log(asked).rejected.select("reason", "value").rows() == [
        ("label is missing", "99.0"),
        ("item is missing", "-1"),
    ]


def test_rows_with_other_numbers_of_fields_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,2\n\n1,3,4\n5\n1,6\n")
    found = read_log(Data(path=str(tmp_path)))
    assert (found.rows_in, found.events["item"].to_list()) == (4, [2, 6])
    assert found.rejected.select("row", "reason", "value").rows() == [
        (1, "row has 3 fields of 2", "1,3,4"),
        (2, "row has 1 fields of 2", "5"),
    ]


def test_lines_that_are_no_objects_are_bad_rows(tmp_path: Path) -> None:
    lines = ['{"user": 1, "item": "a"}', "[1]", '{"user": 1,', '{"user": 1, "user": 2}', ""]
    lines += ["{'user': 3, 'item': u'b'}", json.dumps({"user": 4, "item": "c", "at": {"x": 1}})]
    (tmp_path / "log.json").write_text("\n".join(lines))
    found = read_log(Data(path=str(tmp_path)))
    assert found.events.select("entity", "item").rows() == [(1, "a"), (3, "b"), (4, "c")]
    assert found.rejected["row"].to_list() == [1, 2, 3]
    assert "'user' twice" in found.rejected["reason"][2]


def test_an_array_of_objects_is_a_file(tmp_path: Path) -> None:
    rows = [{"user": "01", "item": 2, "tags": ["x", "y"]}, {"user": "1", "item": 2}]
    (tmp_path / "log.json").write_text(json.dumps(rows, indent=1))
    asked = Data(path=str(tmp_path), context={"tags": Feature(kind="multi_categorical")})
    found = read_log(asked).events
    assert found["entity"].to_list() == ["01", "1"]
    assert found["context.tags"].to_list() == [["x", "y"], None]


def test_notes_beside_a_log_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,2\n")
    (tmp_path / "README.txt").write_text("a note\n")
    assert read_log(Data(path=str(tmp_path))).rows_in == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("rows", ["", "1,é\n", "1,é"])
def test_a_header_may_be_all_that_a_file_in_another_encoding_has(
    tmp_path: Path, encoding: str, rows: str
) -> None:
    (tmp_path / "log.csv").write_bytes(f"user,item\n{rows}".encode(encoding))
    asked = Data(path=str(tmp_path), encoding=encoding)
    if not rows:
        with pytest.raises(DataError, match="a log must hold rows, got none"):
            read_log(asked)
        return
    assert read_log(asked).events["item"].to_list() == ["é"]


def test_a_field_without_end_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item," + "x" * 200_000 + "\n1,2,3\n")
    with pytest.raises(DataError, match=r"a CSV file must be whole and readable, .* is not: field"):
        read_log(Data(path=str(tmp_path)))
