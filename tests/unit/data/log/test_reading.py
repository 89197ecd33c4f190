"""Logs as files: what is read from them, and the one sentence when they are broken."""

from pathlib import Path

import polars as pl
import pytest

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.errors import DataError

LOG = pl.DataFrame(
    {"user": [1, 1, 2], "item": [7, 8, 7], "rating": [5.0, 3.0, 4.0], "time": [10, 20, 30]}
)
RATED = Columns(label="rating", time="time")


def rated(path: Path, **more: object) -> Data:
    return Data.model_validate(
        {"path": str(path), "feedback": "explicit", "columns": RATED, **more}
    )


def test_parquet_and_csv_give_the_same_log(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    LOG.write_csv(tmp_path / "log.csv")
    one, other = (read_log(rated(tmp_path / f"log.{kind}")) for kind in ("parquet", "csv"))
    assert one.events.equals(other.events)
    assert one.events["time"].to_list() == [10_000_000, 20_000_000, 30_000_000]


def test_files_below_a_folder_are_one_log_and_hidden_ones_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    LOG[:2].write_parquet(tmp_path / "day=1" / "a.parquet")
    LOG[2:].write_parquet(tmp_path / "b.parquet")
    (tmp_path / "_SUCCESS.parquet").touch()
    assert read_log(rated(tmp_path)).events.equals(read_log(rated(tmp_path)).events)
    assert len(read_log(rated(tmp_path)).events) == len(LOG)


def test_csv_ids_are_strings_everywhere_when_one_file_has_strings(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "a.csv")
    LOG.with_columns(user=pl.lit("x1")).write_csv(tmp_path / "b.csv")
    assert read_log(rated(tmp_path)).events["entity"].to_list() == ["1", "1", "2", "x1", "x1", "x1"]


def test_large_ids_are_not_rounded(tmp_path: Path) -> None:
    big = 2**53 + 1  # a float would make it 2**53
    LOG.with_columns(item=pl.lit(big)).write_csv(tmp_path / "log.csv")
    assert read_log(rated(tmp_path / "log.csv")).events["item"].to_list() == [big] * 3


def test_the_plain_column_names_need_no_config(tmp_path: Path) -> None:
    LOG.select("user", "item").write_csv(tmp_path / "log.csv")
    events = read_log(Data(path=str(tmp_path / "log.csv"))).events
    assert events.columns == ["entity", "item", "label", "sequence"]


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        LOG.write_csv(tmp_path / name / "log.csv")
    here, there = (read_log(rated(tmp_path / n)).fingerprint for n in ("here", "there"))
    assert here == there
    LOG.reverse().write_csv(tmp_path / "there" / "log.csv")
    assert read_log(rated(tmp_path / "there")).fingerprint != here


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / ("log.csv" if "csv" in kind else "log.parquet")
    if kind == "truncated parquet":
        LOG.write_parquet(path)
        path.write_bytes(path.read_bytes()[:-20])
    elif kind.startswith("empty"):
        path.touch()
    elif kind == "headers only csv":
        path.write_text("user,item,rating,time\n")
    elif kind == "missing column parquet":
        LOG.rename({"rating": "stars"}).write_parquet(path)
    elif kind == "float ids parquet":
        LOG.with_columns(user=pl.col("user") + 0.5).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated parquet", r"a Parquet file must be whole and readable, .*log.parquet is not"),
        ("empty parquet", r"an input file must hold rows, got 0 bytes \(.*log.parquet\)"),
        ("empty csv", r"an input file must hold rows, got 0 bytes \(.*log.csv\)"),
        ("headers only csv", r"a log must hold rows, got none \(.*log.csv\)"),
        ("missing csv", r"data.path must be a file, a folder or one of synthetic, ml-1m"),
        (
            "missing column parquet",
            r"column 'rating' must exist, the columns of log.parquet are user, item, stars, time",
        ),
        ("float ids parquet", r"entity ids must be integers or strings, got Float64 1.5"),
    ],
)
def test_a_broken_log_is_refused_in_one_sentence(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_log(rated(broken(tmp_path, kind)))
    assert "\n" not in str(caught.value)


def test_a_folder_holds_files_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"files of one format, Parquet, CSV, JSON lines, got none"):
        read_log(rated(tmp_path))
    LOG.write_csv(tmp_path / "a.csv")
    LOG.write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"got CSV and Parquet"):
        read_log(rated(tmp_path))


def test_parquet_ids_are_of_one_type_in_all_files(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "a.parquet")
    LOG.cast({"item": pl.Float64}).write_parquet(tmp_path / "b.parquet")  # as with a gap
    assert read_log(rated(tmp_path)).events["item"].to_list() == [7, 8, 7, 7, 8, 7]
    LOG.cast({"item": pl.String}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"'item' is Int64 in a.parquet and String in b.parquet"):
        read_log(rated(tmp_path))


def test_feedback_with_labels_needs_a_label_column(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"data.columns.label must be named for binary feedback"):
        read_log(Data(path=str(tmp_path / "log.csv"), feedback="binary"))


def test_too_many_bad_rows_stop_before_anything_is_written_but_their_list(tmp_path: Path) -> None:
    LOG.with_columns(rating=pl.Series([5.0, float("nan"), 4.0])).write_csv(tmp_path / "log.csv")
    settings = rated(tmp_path / "log.csv")
    message = (
        r"at most 1.00% of rows may be bad \(data.max_bad_share\), got 1 of 3: "
        r"label is missing, got NaN in row 1 of log.csv \(all in .*s.quarantine.parquet"
    )
    with pytest.raises(DataError, match=message):
        build_store(read_log(settings), settings, tmp_path / "out[1]" / "s")
    assert [path.name for path in (tmp_path / "out[1]").iterdir()] == ["s.quarantine.parquet"]
    listed = pl.read_parquet(tmp_path / "out[1]" / "s.quarantine.parquet", glob=False)
    assert listed.rows() == [("log.csv", 1, "label is missing", "NaN", 1)]


def items(tmp_path: Path, table: pl.DataFrame, **features: Feature) -> Data:
    LOG.write_csv(tmp_path / "log.csv")
    table.write_parquet(tmp_path / "items.parquet")
    side = SideTable(path="items.parquet", id="id", features=features)
    return rated(tmp_path / "log.csv", items=side)


def test_a_side_table_lies_beside_its_log(tmp_path: Path) -> None:
    table = pl.DataFrame({"id": [7, 8], "genre": ["a", "b"]})
    found = read_log(items(tmp_path, table, genre=Feature(kind="categorical"))).items
    assert found is not None
    assert found.rows() == [(7, None, "a"), (8, None, "b")]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_ids_of_a_side_table_are_text_where_those_of_the_log_are(tmp_path: Path, kind: str) -> None:
    LOG.with_columns(user=pl.Series(["01", "x", "1"])).write_csv(tmp_path / "log.csv")
    users = {
        "csv": "id,town\n01,oslo\n1,rome\n",
        "jsonl": '{"id": "01", "town": "oslo"}\n{"id": 1, "town": "rome"}\n',
    }
    (tmp_path / f"users.{kind}").write_text(users[kind])
    town = {"town": Feature(kind="categorical")}
    side = SideTable(path=f"users.{kind}", id="id", features=town)
    found = read_log(rated(tmp_path / "log.csv", users=side)).users
    assert found is not None
    assert found.rows() == [("01", None, "oslo"), ("1", None, "rome")]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([7, 7], r"ids must be unique, got 7 2 times \(data.items.id\)"),
        (
            [7, None],
            r"every row must have an id, row 1 of items.parquet has none \(data",
        ),
        (
            ["a", "b"],
            r"ids must be integers as they are in the log, got 'a' in row 0 of",
        ),
        ([7.5, 8.0], r"ids must be integers or strings, got Float64 7.5 \(data.items.id\)"),
    ],
)
def test_ids_of_a_side_table_are_unique_and_of_the_logs_type(
    tmp_path: Path, ids: list[object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_log(items(tmp_path, pl.DataFrame({"id": ids})))


@pytest.mark.parametrize(
    ("kind", "values"), [("numeric", [1.0, float("inf")]), ("vector", [[1.0], [float("nan")]])]
)
def test_features_of_a_side_table_are_finite(
    tmp_path: Path, kind: str, values: list[object]
) -> None:
    table = pl.DataFrame({"id": [7, 8], "size": values})
    asked = items(tmp_path, table, size=Feature.model_validate({"kind": kind}))
    with pytest.raises(
        DataError, match=rf"a {kind} feature must be finite, got .* in row 1 of items"
    ):
        read_log(asked)


def test_a_side_table_that_is_missing_is_named(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"an input file must exist, none is at nowhere.csv"):
        read_log(rated(tmp_path / "log.csv", users=SideTable(path="nowhere.csv", id="id")))


def test_a_feature_that_is_not_in_its_table_is_named(tmp_path: Path) -> None:
    settings = items(tmp_path, pl.DataFrame({"id": [7]}), colour=Feature(kind="categorical"))
    with pytest.raises(DataError, match=r"column 'colour' must exist, .*items.parquet are id"):
        read_log(settings)


def test_a_vector_of_another_length_than_training_met_is_placed(tmp_path: Path) -> None:
    users = pl.int_range(20, eager=True)
    place = pl.when(pl.col("user") == 19).then(pl.lit([1.0])).otherwise(pl.lit([1.0, 2.0]))
    log = pl.DataFrame({"user": users, "item": users, "time": users}).with_columns(place=place)
    log.write_parquet(tmp_path / "log.parquet")
    log.select(pl.col("item").alias("id"), "place").write_parquet(tmp_path / "side.parquet")
    side = {"path": "side.parquet", "id": "id", "features": {"place": {"kind": "vector"}}}
    cases = {
        "data.context.place": {"context": side["features"]},
        "data.users.features.place": {"users": side},
        "data.items.features.place": {"items": side},
    }
    for told, more in cases.items():
        asked = Data.model_validate(
            {"path": str(tmp_path / "log.parquet"), "columns": {"time": "time"}, **more}
        )
        with pytest.raises(DataError, match=rf"got 1 beside 2 of training \({told}\)"):
            build_store(read_log(asked), asked, tmp_path / "store")
