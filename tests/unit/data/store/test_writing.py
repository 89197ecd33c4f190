import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.writing import build_store
from metarec_ray.errors import DataError
from tests.unit.data.store.small import store
from tests.unit.failing_disk import FAULTS, NOTHING, Killed, failing

CASES = int(os.environ.get("METAREC_CASES", "60"))

# Entities 1..10 begin at 1..10 s: the cutoff is 9 s (0.8 * 9 = 7.2, rounded up to place 8), so 9
# and 10 are test; of the other 8 the one that began last is valid. All meet item 5 at 20 s.
LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "time": time, "hour": hour}
        for user in range(1, 11)
        for item, time, hour in [(user % 3, user, user), (5, 20, 23)]
    ]
)
ITEMS = pl.DataFrame(
    {
        "id": [0, 1, 2, 9],
        "name": ["zero", "one", "two", "nine"],
        "kind": ["a", "b", "a", "late"],
        "weight": [1.0, 3.0, None, 100.0],
    }
)
USERS = pl.DataFrame({"id": [1, 9, 77], "town": ["x", "y", "z"]})


def settings(folder: Path, **more: object) -> Data:
    LOG.write_parquet(folder / "log.parquet")
    ITEMS.write_parquet(folder / "items.parquet")
    USERS.write_parquet(folder / "users.parquet")
    kind, weight = Feature(kind="categorical"), Feature(kind="numeric")
    fields: dict[str, object] = {
        "path": str(folder / "log.parquet"),
        "columns": Columns(time="time"),
        "context": {"hour": kind},
        "users": SideTable(path="users.parquet", id="id", features={"town": kind}),
        "items": SideTable(
            path="items.parquet", id="id", title="name", features={"kind": kind, "weight": weight}
        ),
        "buckets": 3,
    }
    return Data.model_validate(fields | more)


def build(folder: Path, asked: Data, name: str = "store") -> tuple[Path, Manifest]:
    return folder / name, build_store(read_log(asked), asked, folder / name)


def histories(store: Path) -> pl.DataFrame:
    made = load(store)
    names = [name for name in made.files if name.startswith("bucket-")]
    return pl.concat([pl.read_parquet(made.file(store, name)) for name in names]).sort("task_id")


def test_a_store_holds_one_history_an_entity(tmp_path: Path) -> None:
    store, made = build(tmp_path, settings(tmp_path))
    rows = histories(store)
    assert rows["task_id"].to_list() == list(range(10))
    assert rows["part"].to_list() == ["train"] * 7 + ["valid"] + ["test"] * 2
    assert made.cutoff == 9_000_000
    # ids 0, 1, 2, 5, 9 have ranks 0..4: user 1 met item 1, then item 5
    assert rows["item"][0].to_list() == [1, 3]
    assert rows["time"][0].to_list() == [1_000_000, 20_000_000]
    assert made.parts == {"test": 2, "train": 7, "valid": 1}
    assert (made.tasks, made.events, made.items) == (10, 20, 5)


def test_items_that_only_the_table_knows_can_be_ranked(tmp_path: Path) -> None:
    store, _ = build(tmp_path, settings(tmp_path))
    found = pl.read_parquet(store / "v000001" / "items.parquet")
    assert found["id"].to_list() == ["0", "1", "2", "5", "9"]
    assert found["title"].to_list() == ["zero", "one", "two", None, "nine"]


def test_vocabularies_and_ranks_come_from_training_rows_only(tmp_path: Path) -> None:
    store, made = build(tmp_path, settings(tmp_path))
    assert json.loads((store / "v000001" / "vocabularies.json").read_text()) == {
        "user": {"town": ["x"]},  # 9 is a test entity, 77 has no events
        "item": {"kind": ["a", "b"]},  # item 9 has no events
        "context": {"hour": sorted(str(hour) for hour in range(1, 9))},  # 23 is after the cutoff
    }
    weight = next(field for field in made.features["item"] if field.name == "weight")
    assert (weight.knots, weight.ranks) == ((1.0, 3.0), (0.25, 0.75))
    rows = histories(store)
    assert rows["user.town"].to_list() == [1] + [0] * 9
    assert rows["context.hour"][0].to_list() == [1, 0]
    found = pl.read_parquet(store / "v000001" / "items.parquet")
    assert found["kind"].to_list() == [1, 2, 1, 0, 0]
    assert found["weight"].to_list() == [1.0, 3.0, None, None, 100.0]


def test_the_columns_of_a_bucket_have_the_promised_types(tmp_path: Path) -> None:
    store, _ = build(tmp_path, settings(tmp_path))
    found = {
        field.name: str(field.type)
        for field in pq.read_schema(store / "v000001" / "bucket-00002.parquet")
    }
    assert found == {
        "task_id": "int64",
        "part": "string",
        "item": "list<element: int64>",
        "label": "list<element: float>",
        "time": "list<element: int64>",
        "user.town": "int32",
        "context.hour": "list<element: int32>",
    }


def test_other_files_another_order_and_repeated_rows_give_the_same_store(tmp_path: Path) -> None:
    asked = settings(tmp_path)
    _, whole = build(tmp_path, asked, "whole")
    (tmp_path / "parts").mkdir()
    for number, part in enumerate((LOG[::2], LOG[1::2].reverse(), LOG[:5])):
        part.write_parquet(tmp_path / "parts" / f"{number}.parquet")
    for name in ("items", "users"):  # beside the log they are not taken for parts of it
        (tmp_path / f"{name}.parquet").rename(tmp_path / "parts" / f"{name}.parquet")
    pieces = asked.model_copy(update={"path": str(tmp_path / "parts")})
    _, parts = build(tmp_path, pieces, "parts_store")
    assert parts.store_sha256 == whole.store_sha256
    assert parts.counts.collapsed == 5
    assert parts.source_fingerprint != whole.source_fingerprint


def test_more_buckets_than_entities_leave_empty_files(tmp_path: Path) -> None:
    store, made = build(tmp_path, settings(tmp_path, buckets=64))
    assert len(list(store.rglob("bucket-*.parquet"))) == 64
    assert len(histories(store)) == 10
    verify(store, made)


def test_a_log_without_a_clock_has_no_time_column_and_no_cutoff(tmp_path: Path) -> None:
    asked = settings(tmp_path, columns=Columns(), valid_share=0.5)
    store, made = build(tmp_path, asked)
    assert made.cutoff is None
    assert not made.has_time
    assert "time" not in histories(store).columns


def test_lists_and_vectors_of_context_are_kept_an_event_each(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    LOG.with_columns(
        tags=pl.Series([["b", "a"], []] * 10), place=pl.Series([[0.5, 1.0], None] * 10)
    ).write_parquet(path)
    context = {"tags": Feature(kind="multi_categorical"), "place": Feature(kind="vector")}
    asked = Data(path=str(path), columns=Columns(time="time"), context=context)
    store, made = build(tmp_path, asked)
    row = histories(store).row(0, named=True)
    assert row["context.tags"] == [[1, 2], []]
    assert row["context.place"] == [[0.5, 1.0], None]
    assert [(field.name, field.size, field.dim) for field in made.features["context"]] == [
        ("place", 0, 2),
        ("tags", 2, 0),
    ]


def test_a_history_that_is_too_long_is_cut_and_its_rows_are_counted(tmp_path: Path) -> None:
    asked = settings(tmp_path, max_events=1)
    store, made = build(tmp_path, asked)
    assert made.events == 10
    assert made.counts.quarantined == {"history is longer than data.max_events": 10}
    assert len(pl.read_parquet(store / "v000001" / "quarantine.parquet")) == 10


@pytest.mark.parametrize("users", [[1], [1, 2]])
def test_too_few_entities_are_refused(tmp_path: Path, users: list[int]) -> None:
    path = tmp_path / "log.parquet"
    LOG.filter(pl.col("user").is_in(users)).write_parquet(path)
    asked = Data(path=str(path), columns=Columns(time="time"))
    with pytest.raises(DataError, match=rf"entities enough .* got {len(users)}: .* test \("):
        build(tmp_path, asked)
    assert [p.name for p in tmp_path.iterdir()] == ["log.parquet"]


def test_a_log_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    LOG.write_parquet(path)
    asked = Data(path=str(path), columns=Columns(time="time", label="hour"), label_min=99.0)
    with pytest.raises(DataError, match="a log must have events left"):
        build(tmp_path, asked)


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    asked = settings(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"must not replace other files, .*store holds some"):
        build(tmp_path, asked)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["thesis.tex"]


def test_a_store_is_replaced_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    asked = settings(tmp_path)
    build(tmp_path, asked)
    store, made = build(tmp_path, asked.model_copy(update={"buckets": 1, "versions": 1}))
    assert load(store) == made
    assert [path.name for path in store.rglob("bucket-*")] == ["bucket-00000.parquet"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"store", "log.parquet", "items.parquet", "users.parquet"}


def test_items_as_entities_swap_roles_tables_and_features(tmp_path: Path) -> None:
    whole = store(tmp_path, entity="item")
    assert whole.manifest.entity == "item"
    assert [field.name for field in whole.user_space.fields] == ["kind"]
    assert [field.name for field in whole.item_space.fields] == ["town"]
    assert sorted(map(int, whole.items.ids)) == list(range(1, 41))
    table = whole.histories(cut=False)
    five = whole.entity_ids().index("5")
    events = slice(int(table.offsets[five]), int(table.offsets[five + 1]))
    assert [whole.items.ids[i] for i in table.item[events]] == ["5", "6"]
    assert table.label[events].tolist() == [1 + (5 + 5) % 5, 1 + (6 + 5) % 5]


def test_the_settings_of_a_store_of_items_read_the_same_log_again(tmp_path: Path) -> None:
    whole = store(tmp_path, entity="item")
    asked = Data.model_validate(whole.manifest.settings)
    assert build_store(read_log(asked), asked, tmp_path / "again").store_sha256 == (
        whole.manifest.store_sha256
    )


@pytest.mark.parametrize("kind", FAULTS)
def test_a_store_whose_writing_fails_anywhere_is_the_old_one_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    old, new = settings(tmp_path), settings(tmp_path, buckets=2)
    logs = [read_log(asked) for asked in (old, new)]
    base = tmp_path / "base"
    hashes = [build_store(logs[0], old, base).store_sha256]
    shutil.copytree(base, tmp_path / "count")
    with failing(monkeypatch, -1, NOTHING) as disk:
        hashes.append(build_store(logs[1], new, tmp_path / "count").store_sha256)
    for at in range(0, disk.calls, max(1, 16 * disk.calls // CASES)):
        path = tmp_path / f"store-{at}"
        shutil.copytree(base, path)
        with suppress(OSError, DataError, Killed), failing(monkeypatch, at, FAULTS[kind]):
            build_store(logs[1], new, path)
        found = load(path)
        verify(path, found)
        assert found.store_sha256 in hashes
        assert build_store(logs[1], new, path).store_sha256 == hashes[1]
