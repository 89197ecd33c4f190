"""Where a log may lie and in what form: the same events from all of them."""

import gzip
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest

from metarec_ray.config.experiment import parse
from metarec_ray.data.files import paths
from metarec_ray.data.log import sources
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.errors import ConfigError, DataError

LOG = pl.DataFrame(
    {"user": [1, 1, 2], "item": [7, 8, 7], "rating": [5.0, 3.0, 4.0], "time": [10, 20, 30]}
)
COLUMNS = Columns(label="rating", time="time")


def asking(path: Path | str, **more: object) -> Data:
    fields = {"path": str(path), "feedback": "explicit", "columns": COLUMNS}
    return Data.model_validate(fields | more)


def write(form: str, path: Path) -> None:
    if form == "csv":
        LOG.write_csv(path)
    elif form == "tsv":
        LOG.write_csv(path, separator="\t")
    elif form == "csv.gz":
        path.write_bytes(gzip.compress(LOG.write_csv().encode()))
    elif form in ("jsonl", "ndjson"):
        LOG.write_ndjson(path)
    else:
        LOG.write_parquet(path)


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "jsonl", "ndjson", "parquet", "pq"])
def test_every_form_at_every_place_gives_the_same_events(
    tmp_path: Path, form: str, remote: bool
) -> None:
    expected = tmp_path / "expected.csv"
    LOG.write_csv(expected)
    path = tmp_path / f"log.{form}"
    write(form, path)
    found = read_log(asking(f"file://{path}" if remote else path))
    assert found.events.equals(read_log(asking(expected)).events)
    assert found.events["time"].to_list() == [10_000_000, 20_000_000, 30_000_000]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_folders_that_name_a_value_are_columns(tmp_path: Path, scheme: str) -> None:
    for day, rows in ((1, LOG[:2]), (2, LOG[2:])):
        folder = tmp_path / f"day={day}" / "shop=a b"
        folder.mkdir(parents=True)
        rows.write_parquet(folder / "part.parquet")
    context = {"day": Feature(kind="numeric"), "shop": Feature(kind="categorical")}
    columns = COLUMNS.model_copy(update={"sequence": "day"})
    found = read_log(asking(f"{scheme}{tmp_path}", context=context, columns=columns)).events
    assert found["context.day"].to_list() == [1.0, 1.0, 2.0]
    assert found["sequence"].to_list() == [1, 1, 2]
    assert found["context.shop"].to_list() == ["a b"] * 3


def test_a_column_of_the_file_wins_over_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "rating=9"
    folder.mkdir()
    LOG.write_csv(folder / "part.csv")
    assert read_log(asking(tmp_path)).events["label"].to_list() == [5.0, 3.0, 4.0]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_pattern_names_files_and_folders(tmp_path: Path, scheme: str) -> None:
    for day in (1, 2, 3):
        (tmp_path / f"day-{day}").mkdir()
        LOG.with_columns(time=pl.col("time") + day).write_csv(tmp_path / f"day-{day}" / "log.csv")
    LOG.write_parquet(tmp_path / "day-1" / "other.parquet")
    log = read_log(asking(f"{scheme}{tmp_path}/day-[12]/*.csv"))
    assert sorted(log.events["time"].unique() // 1_000_000) == [11, 12, 21, 22, 31, 32]
    with pytest.raises(DataError, match=r"files of one format, .*got none \(.*nothing\*"):
        read_log(asking(f"{scheme}{tmp_path}/nothing*"))


def test_side_tables_lie_beside_a_log_at_a_uri(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    pl.DataFrame({"id": [7, 8], "kind": ["a", "b"]}).write_parquet(tmp_path / "items.parquet")
    side = SideTable(path="items.parquet", id="id", features={"kind": Feature(kind="categorical")})
    for path in (f"file://{tmp_path}", f"file://{tmp_path}/log.parquet"):
        items = read_log(asking(path, items=side)).items
        assert items is not None
        assert items["kind"].to_list() == ["a", "b"]


@pytest.mark.parametrize("path", ["http://host/log.csv", "ftp://host/log", "s4://bucket/log"])
def test_other_schemes_are_refused(path: str) -> None:
    with pytest.raises(DataError, match="must be a local path or a URI of file, s3, gs, gcs, abfs"):
        read_log(asking(path))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://buck*/log.csv?region=eu", r"begin after the name of the bucket, got s3://buck\*/"),
        ("s3://?region=eu", r"a URI must name a bucket, got 's3://'"),
        ("s3://bucket/log?regoin=eu", r"s3://bucket/log\?regoin=eu does not: .*'regoin'"),
    ],
)
def test_a_uri_that_names_no_bucket_or_no_option_is_refused(path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_log(asking(path))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", f"file://{tmp_path}/none", f"{tmp_path}/none/*.csv"):
        with pytest.raises(DataError, match=r"data.path must be a file, a folder or one of .*none"):
            read_log(asking(path))


def test_a_remote_log_is_known_by_name_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    LOG.write_csv(path)
    uri = f"file://{path}"
    first = sources.find(asking(uri)).fingerprint
    assert sources.find(asking(uri)).fingerprint == first
    LOG.reverse().write_csv(path)
    assert sources.find(asking(uri)).fingerprint != first
    assert [file.name for file in paths.find(f"{uri}?option=1", (".csv",))] == ["log.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"user": 1, "item"\n',
            "a row must be JSON: .* column 19, got .* in row 0 of .*l",
        ),
        ("", "got 0 bytes"),
    ],
)
def test_broken_json_lines_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_log(asking(tmp_path / "log.jsonl"))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["a b", "a#b", "a%20b", "a?b", "a[1]", "a*b", "é"])
def test_a_name_is_a_name_whatever_it_is_made_of(tmp_path: Path, name: str, form: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = folder / f"{name}.{form}"
    write(form, path)
    local = tmp_path / "axb"  # what `a?b` and `a*b` stand for elsewhere
    local.mkdir()
    write(form, local / f"log.{form}")
    uris = [f"file://{quote(str(one))}" for one in (path, folder)]
    for asked in (path, folder, *uris, f"{uris[1]}/{quote(name[0])}*"):
        assert len(read_log(asking(asked)).events) == 3


def test_a_star_ends_at_its_folder_as_in_a_shell(tmp_path: Path) -> None:
    for place in ("log.csv", "new/log.csv", "new/day/log.csv"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        LOG.write_csv(tmp_path / place)
    for pattern, files in (("*.csv", 1), ("*/*.csv", 1), ("n*", 2), ("**/*.csv", 3)):
        assert len(paths.find(f"{tmp_path}/{pattern}", (".csv",))) == files


def test_only_the_end_of_a_name_says_that_tabs_separate(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "old.tsv.csv")
    assert len(read_log(asking(tmp_path)).events) == 3


def test_a_side_table_is_no_part_of_the_log_however_it_is_called(tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    pl.DataFrame({"id": [7, 8]}).write_csv(tmp_path / "items.csv")
    for log in (f"{tmp_path}/", f"file://{tmp_path}", f"file://{tmp_path}/"):
        for side in ("items.csv", "./items.csv", str(tmp_path / "items.csv")):
            found = read_log(asking(log, items=SideTable(path=side, id="id")))
            assert (found.rows_in, found.items is not None) == (3, True)


def test_a_side_table_lies_beside_a_log_at_a_uri_with_options() -> None:
    assert paths.inside("s3://bucket/log?region=eu", "items.csv") == (
        "s3://bucket/log/items.csv?region=eu"
    )


@pytest.mark.parametrize("end", ["", "/"])
def test_a_file_in_another_folder_is_another_log(tmp_path: Path, end: str) -> None:
    (tmp_path / "day=1").mkdir()
    LOG.write_csv(tmp_path / "day=1" / "log.csv")
    found = []
    for day in (1, 2):
        (tmp_path / "day=1").rename(tmp_path / f"day={day}")  # sizes and times stay
        found.append(sources.find(asking(f"file://{tmp_path}{end}")).fingerprint)
    assert found[0] != found[1]


@pytest.mark.parametrize("day", ["--5", "9" * 20])
def test_a_folder_s_value_that_is_no_64_bit_integer_is_text(tmp_path: Path, day: str) -> None:
    (tmp_path / f"day={day}").mkdir()
    LOG.write_csv(tmp_path / f"day={day}" / "log.csv")
    found = read_log(asking(tmp_path, context={"day": Feature(kind="categorical")}))
    assert found.events["context.day"].to_list() == [day] * 3


def in_files(folder: Path, *texts: str) -> pl.DataFrame:
    """Return the events of CSV files with a numeric and a categorical context column."""
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_text("user,item,rating,time,heat,zip\n" + text)
    context = {"heat": Feature(kind="numeric"), "zip": Feature(kind="categorical")}
    return read_log(asking(folder, context=context)).events


def test_rows_mean_the_same_whichever_file_of_text_they_lie_in(tmp_path: Path) -> None:
    rows = ["1,7,5,10,0.5,01\n", "2,7,4,,,\n", "2,8,4,11,,x\n"]
    whole = in_files(tmp_path / "whole", "".join(rows))
    assert whole["context.zip"].to_list() == ["01", "x"]
    assert whole["entity"].to_list() == [1, 2]
    assert in_files(tmp_path / "many", "", *rows).equals(whole)  # the first: but a header


def test_a_column_of_nulls_fits_every_type_of_ids(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "a.parquet")
    LOG.with_columns(user=pl.lit(None)).write_parquet(tmp_path / "b.parquet")
    log = read_log(asking(tmp_path))
    assert log.events["entity"].to_list() == [1, 1, 2]
    assert log.rejected["reason"].to_list() == ["entity is missing"] * 3


@pytest.mark.parametrize(
    "path",
    [
        "s3://me:secret@bucket/log",
        "s3://me:sec/ret@bucket/log",
        "abfs://a:secret@b/log?x=1",
        "abfs://a@b/log?tenant_id=1&client_secret=secret",
        "abfs://a@b/log?sig=secret",
    ],
)
def test_a_password_in_a_uri_is_refused_and_not_repeated(path: str) -> None:
    for fields in ({"path": path}, {"items": {"path": path, "id": "id"}}):
        with pytest.raises(ConfigError, match="URI must not hold a password") as told:
            parse({"data": fields}, "here")
        assert "secret" not in str(told.value)
        assert "sec/ret" not in str(told.value)


@pytest.mark.parametrize(
    "path", ["s3://b/a:1@x", "abfs://a@b:10000/log?x=1", "a:b@c", "s3://b?s=1"]
)
def test_what_is_no_password_is_taken(path: str) -> None:
    assert parse({"data": {"path": path}}, "here").data.path == path
