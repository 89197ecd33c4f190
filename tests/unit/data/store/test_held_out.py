"""What a store holds out: entities by time or hash or none, cold items; and items as entities."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.id_hashes import HASH_SPAN, stable_hash
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError

# User u begins at u s; item i is first met at i s: user u meets items u - 1 and u at u s.
LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "stars": float(1 + (user + item) % 5), "time": user}
        for user in range(1, 41)
        for item in (user - 1, user)
    ]
)
ITEMS = pl.DataFrame({"id": range(41), "kind": [f"kind {i // 20}" for i in range(41)]})
USERS = pl.DataFrame({"id": range(1, 41), "town": ["x", "y"] * 20})


def store(folder: Path, *, clock: bool = True, **more: Any) -> TaskStore:
    for name, frame in (("log", LOG), ("items", ITEMS), ("users", USERS)):
        frame.write_parquet(folder / f"{name}.parquet")
    kind = Feature(kind="categorical")
    fields = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "columns": Columns(label="stars", time="time" if clock else None),
        "items": SideTable(path="items.parquet", id="id", features={"kind": kind}),
        "users": SideTable(path="users.parquet", id="id", features={"town": kind}),
        "buckets": 2,
    }
    asked = Data.model_validate(fields | more)
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")


def test_a_quantile_of_one_leaves_no_test_entities_and_cuts_nothing(tmp_path: Path) -> None:
    for clock in (True, False):
        whole = store(tmp_path, clock=clock, cutoff_quantile=1.0)
        assert set(whole.manifest.parts) == {"train", "valid"}
        assert (whole.manifest.has_time, whole.manifest.cutoff) == (clock, None)
        assert len(whole.histories().item) == len(LOG)
    with pytest.raises(DataError, match=r"enough for train, valid and test, got 40"):
        store(tmp_path, cutoff_quantile=0.001)


def test_a_split_by_hash_keeps_the_clock_and_all_events(tmp_path: Path) -> None:
    whole = store(tmp_path, split="hash", cutoff_quantile=0.7)
    test = whole.histories(("test",)).task_id.tolist()
    expected = [u for u in range(1, 41) if stable_hash(u) / HASH_SPAN >= 0.7]
    assert [int(whole.entity_ids()[task]) for task in test] == expected
    assert whole.manifest.cutoff is None
    assert whole.histories().time.max() == 40 * 1_000_000


def test_cold_items_are_the_last_to_be_met_and_nothing_learns_from_them(tmp_path: Path) -> None:
    # First times 0..40 (item 0 at 1 s): place 0.75 * 40 = 30 of the sorted ones is that of item 30.
    whole = store(tmp_path, cold_items=0.25, cutoff_quantile=1.0)
    cold = [int(raw) for raw, c in zip(whole.items.ids, whole.items.cold, strict=True) if c]
    assert cold == list(range(30, 41))
    assert not whole.trained_items()[whole.items.cold].any()
    assert len(whole.histories(cut=False).item) - len(whole.histories().item) == 1 + 2 * 10
    # Item 40 alone is of kind 2: its value is unknown to a vocabulary of training.
    assert whole.vocabularies["item"]["kind"] == ["kind 0", "kind 1"]


def test_without_a_clock_a_hash_of_the_id_says_which_items_are_cold(tmp_path: Path) -> None:
    whole = store(tmp_path, clock=False, cold_items=0.25)
    cold = {int(raw) for raw, c in zip(whole.items.ids, whole.items.cold, strict=True) if c}
    assert cold == {i for i in range(41) if stable_hash(i) / HASH_SPAN >= 0.75}


def test_context_of_events_on_cold_items_is_not_in_the_vocabulary(tmp_path: Path) -> None:
    whole = store(
        tmp_path,
        cold_items=0.25,
        cutoff_quantile=1.0,
        context={"stars": Feature(kind="numeric"), "item": Feature(kind="categorical")},
    )
    assert set(whole.vocabularies["context"]["item"]) == {str(i) for i in range(30)}


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
