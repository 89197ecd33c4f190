"""Preparing on Ray gives the bytes of the one-process writer, once, whole or not at all."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from metarec_ray.cli.app import main
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable, Synthetic
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.stages import Done
from metarec_ray.data.store.writing import build_store
from metarec_ray.engine.prepare.driver import prepare, read
from metarec_ray.errors import DataError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(180)]


def log(users: int = 60) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users), 10)
    return pl.DataFrame(
        {
            "user": [f"u{number}" for number in user],
            "item": rng.integers(0, 40, len(user)),
            "rating": rng.integers(1, 6, len(user)).astype(float),
            "time": user * 100 + rng.integers(0, 500, len(user)),
            "hour": rng.integers(0, 24, len(user)),
            "heat": rng.normal(size=len(user)),
        }
    )


def settings(path: Path, **more: object) -> Data:
    fields = {
        "path": str(path),
        "columns": Columns(label="rating", time="time"),
        "label_min": 2.0,
        "context": {"hour": Feature(kind="categorical"), "heat": Feature(kind="numeric")},
        "buckets": 4,
    }
    return Data.model_validate(fields | more)


def run(asked: Data, store: Path) -> tuple[Manifest, list[str]]:
    said: list[str] = []
    made = prepare(asked, store, data_dir=None, progress=said.append)
    verify(store, made)
    assert load(store) == made
    return made, said


def test_ray_writes_the_bytes_of_one_process_however_the_log_is_cut(tmp_path: Path) -> None:
    rows = log().with_row_index("number")
    rows = rows.with_columns(rating=pl.when(pl.col("number") != 7).then("rating"))
    rows = rows.drop("number")
    whole = tmp_path / "whole.parquet"
    rows.write_parquet(whole)
    items = pl.DataFrame({"id": range(45), "colour": [f"c{i % 3}" for i in range(45)]})
    items.write_parquet(tmp_path / "items.parquet")
    side = SideTable(
        path=str(tmp_path / "items.parquet"),
        id="id",
        features={"colour": Feature(kind="categorical")},
    )
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    for number in range(3):
        part = pl.concat([rows[number::3].reverse(), rows[:4]])  # some rows come again
        part.write_parquet(pieces / f"{number}.parquet", row_group_size=50)

    asked = settings(pieces, items=side, max_bad_share=0.05)
    by_ray, _ = run(asked, tmp_path / "by_ray")
    alone = build_store(read_log(asked), asked, tmp_path / "alone")
    assert by_ray.store_sha256 == alone.store_sha256
    assert by_ray.files == alone.files  # the quarantine too
    assert by_ray.counts == alone.counts
    assert by_ray.features == alone.features
    one_file = asked.model_copy(update={"path": str(whole)})
    once = build_store(read_log(one_file), one_file, tmp_path / "once")
    assert by_ray.store_sha256 == once.store_sha256
    assert by_ray.counts.quarantined == {"label is missing": 1}


def test_a_second_run_does_nothing_and_a_changed_input_or_setting_is_noticed(
    tmp_path: Path,
) -> None:
    path, store = tmp_path / "log.csv", tmp_path / "store"
    log().write_csv(path)
    first, said = run(settings(path), store)
    assert any("wrote 4 of 4 buckets" in line and "rows/s" in line for line in said)
    again, said = run(settings(path), store)
    assert again == first  # created_at included
    assert said == [f"prepare: {store} is up to date, {first.tasks} tasks"]
    changed, _ = run(settings(path, buckets=2), store)
    assert changed.buckets == 2
    written = sorted(path.name for path in (store / "v000002").glob("bucket-*"))
    assert written == ["bucket-00000.parquet", "bucket-00001.parquet"]
    log(users=61).write_csv(path)
    more, _ = run(settings(path, buckets=2), store)
    assert more.tasks == first.tasks + 1


def test_a_damaged_store_is_built_again(tmp_path: Path) -> None:
    asked = Data(buckets=2, synthetic=Synthetic(users=60, items=30, mean_events=10.0))
    first, _ = run(asked, tmp_path / "store")
    (tmp_path / "store" / "v000001" / "bucket-00001.parquet").write_bytes(b"torn")
    again, said = run(asked, tmp_path / "store")
    assert again.store_sha256 == first.store_sha256
    assert "up to date" not in " ".join(said)


def test_a_log_that_is_refused_leaves_the_old_store_as_it_was(tmp_path: Path) -> None:
    folder, store = tmp_path / "log", tmp_path / "store"
    folder.mkdir()
    log().write_parquet(folder / "a.parquet")
    first, _ = run(settings(folder), store)

    damaged = folder / "b.parquet"
    log().write_parquet(damaged)
    content = bytearray(damaged.read_bytes())
    content[100:200] = bytes(100)  # the footer is whole, the first page is not
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"a Parquet file must be whole and readable, .*b.parquet"):
        run(settings(folder), store)

    log().with_columns(heat=pl.lit("warm")).write_parquet(damaged)
    with pytest.raises(DataError, match=r"'heat' is Float64 in a.parquet and String in b.parquet"):
        run(settings(folder), store)

    log().with_columns(rating=pl.lit(float("nan"))).write_parquet(damaged)
    with pytest.raises(DataError, match=r"at most 1.00% of rows may be bad .* row 0 of b.parquet"):
        run(settings(folder), store)
    verify(store, load(store))
    assert load(store) == first
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", "store", "store.quarantine.parquet"]
    assert pl.read_parquet(tmp_path / "store.quarantine.parquet")["file"].unique().to_list() == [
        "b.parquet"
    ]


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    log().head(0).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"a log must hold rows, got none \(.*log.parquet\)"):
        run(settings(tmp_path / "log.parquet"), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_side_file_leaves_out_the_same_rows_on_ray_and_in_one_process(tmp_path: Path) -> None:
    rows = log().with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    rows.write_parquet(tmp_path / "log.parquet", row_group_size=50)
    kinds = rows.select("number", warm=pl.col("item") < 30)
    kinds.write_parquet(tmp_path / "kinds.parquet")
    columns = Columns(label="rating", time="time", sequence="number")
    only = {"path": "kinds.parquet", "column": "warm", "value": "true"}
    asked = settings(tmp_path / "log.parquet", columns=columns, only=only)
    by_ray, _ = run(asked, tmp_path / "by_ray")
    alone = build_store(read_log(asked), asked, tmp_path / "alone")
    assert (by_ray.store_sha256, by_ray.counts) == (alone.store_sha256, alone.counts)
    small = (pl.col("item") >= 30) | (pl.col("rating") < 2.0)
    assert by_ray.counts.filtered == len(rows.filter(small))
    kinds.with_columns(warm=pl.col("number") > 0).write_parquet(tmp_path / "kinds.parquet")
    again, _ = run(asked, tmp_path / "by_ray")
    assert again.store_sha256 != alone.store_sha256


def test_append_adds_a_file_and_prepare_then_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log().write_parquet(folder / "old.parquet")
    asked = settings(folder)
    config = tmp_path / "run.yaml"
    tree = {"run": {"dir": str(tmp_path / "run")}, "data": asked.model_dump(mode="json")}
    config.write_text(yaml.safe_dump(tree))
    first, _ = run(asked, tmp_path / "run" / "store")
    late = log(users=65).with_columns(time=pl.col("time") + 100_000)
    late.write_parquet(folder / "new.parquet")
    assert main(["data", "append", str(config), "--since", "1970-01-02", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["version"], shown["tasks"]) == (2, 65)
    _, said = run(asked, tmp_path / "run" / "store")
    assert said == [f"prepare: {tmp_path / 'run' / 'store'} is up to date, 65 tasks"]
    assert main(["data", "prune", str(tmp_path / "run" / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": [1], "kept": [2]}
    assert main(["data", "describe", str(tmp_path / "run" / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["versions"] == [2]
    assert first.tasks == 60


def dirt(count: int) -> pl.DataFrame:
    """Return rows of which one in a hundred is of each `kind`: nine are bad, one is filtered."""
    rng = np.random.default_rng(0)
    number = np.arange(count)
    kind = number % 100
    clean = pl.DataFrame(
        {
            "user": pl.Series(rng.integers(0, 5000, count)).cast(pl.String),
            "item": number,  # no two rows are duplicates by chance
            "rating": rng.integers(3, 6, count).astype(float),
            "time": rng.integers(0, 10**9, count),
            "heat": rng.normal(size=count),
            "kind": kind,
        }
    )

    def at(place: int, name: str, value: Any) -> pl.Expr:
        return pl.when(pl.col("kind") == place).then(value).otherwise(pl.col(name)).alias(name)

    return (
        clean.with_columns(at(1, "user", None), at(3, "item", None), at(4, "rating", None))
        .with_columns(at(2, "user", pl.lit("")), at(5, "rating", float("nan")))
        .with_columns(at(6, "rating", float("inf")), at(7, "time", None))
        .with_columns(at(8, "time", 2**62), at(9, "heat", float("inf")), at(10, "rating", 1.0))
    )


def test_a_million_rows_with_dirt_of_every_kind_are_accounted_for_exactly(tmp_path: Path) -> None:
    count, folder = 1_000_000, tmp_path / "log"
    folder.mkdir()
    dirty = dirt(count)
    dirty[: count // 2].write_parquet(folder / "0.parquet", row_group_size=100_000)
    again = dirty.filter(pl.col("kind") == 11)
    pl.concat([dirty[count // 2 :], again]).write_parquet(folder / "1.parquet")
    asked = settings(folder, max_bad_share=0.1, context={"heat": Feature(kind="numeric")})
    made, _ = run(asked, tmp_path / "store")
    each = count // 100
    assert made.counts.model_dump() == {
        "rows_in": count + each,
        "kept": 90 * each,
        "filtered": each,
        "collapsed": each,
        "quarantined": {
            "entity is missing": 2 * each,
            "heat is not a finite number": each,
            "item is missing": each,
            "label is missing": each,
            "label is not a finite number": 2 * each,
            "time is missing": each,
            "time is out of range": each,
        },
    }
    listed = pl.read_parquet(made.file(tmp_path / "store", "quarantine.parquet"))
    assert len(listed) == 9 * each
    first = listed.filter(pl.col("reason") == "time is out of range").row(0, named=True)
    assert (first["file"], first["row"], first["value"]) == ("0.parquet", 8, str(2**62))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rating": pl.lit("five")}, r"'rating' is Float64 in a.parquet and String in b.parquet"),
        ({"time": pl.lit("2024-01-01").str.to_date()}, r"'time' is Int64 in a.parquet and Date"),
        ({"hour": pl.lit([1])}, r"'hour' is Int64 in a.parquet and List"),
    ],
)
def test_files_that_drift_apart_are_named_before_anything_is_read(
    tmp_path: Path, change: dict[str, pl.Expr], message: str
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log().write_parquet(folder / "a.parquet")
    log().with_columns(**change).write_parquet(folder / "b.parquet")
    with pytest.raises(DataError, match=message):
        run(settings(folder), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_disk_that_is_full_where_a_chunk_is_read_is_an_error_of_the_disk() -> None:
    def full(unit: int) -> Done:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device") as told:
        list(read(full, [0]))
    assert told.value.errno == errno.ENOSPC
