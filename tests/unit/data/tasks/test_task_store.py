from itertools import chain
from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.manifest import load
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import DataError

# Entities 1..10 begin at 1..10 s: the cutoff is 9 s; 8 is valid, 9 and 10 are test. All meet item 5
# at 20 s. Ids 0, 1, 2, 5, 9 have ranks 0..4.
LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "time": time, "stars": stars, "hour": hour}
        for user in range(1, 11)
        for item, time, stars, hour in [(user % 3, user, 4.5, user), (5, 20, 1.0, 23)]
    ]
)
ITEMS = pl.DataFrame(
    {"id": [0, 1, 2, 9], "name": ["zero", "one", "two", "nine"], "kind": ["a", "b", "a", "late"]}
)


def build(folder: Path, *, clock: bool = True, buckets: int = 3) -> Path:
    # Without a clock parts go by hash: enough entities for each of them.
    log = LOG if clock else pl.concat([LOG.with_columns(pl.col("user") + n) for n in range(40)])
    log.write_parquet(folder / "log.parquet")
    ITEMS.write_parquet(folder / "items.parquet")
    kind = Feature(kind="categorical")
    settings = Data(
        path=str(folder / "log.parquet"),
        feedback="explicit",
        columns=Columns(label="stars", time="time" if clock else None),
        context={"hour": kind},
        items=SideTable(path="items.parquet", id="id", title="name", features={"kind": kind}),
        buckets=buckets,
    )
    store = folder / f"store-{buckets}-{clock}"
    build_store(read_log(settings), settings, store)
    return store


def test_histories_are_in_the_order_of_task_ids_whatever_the_buckets(tmp_path: Path) -> None:
    one, many = (
        TaskStore.open(build(tmp_path, buckets=buckets)).histories(cut=False) for buckets in (1, 7)
    )
    assert one.task_id.tolist() == list(range(10))
    for a, b in zip(one[:5], many[:5], strict=True):
        assert torch.equal(a, b)
    assert one.item[:2].tolist() == [1, 3]
    assert one.time[:2].tolist() == [1_000_000, 20_000_000]
    assert one.label[:2].tolist() == [4.5, 1.0]


def test_no_event_at_or_after_the_cutoff_is_in_a_history(tmp_path: Path) -> None:
    store = TaskStore.open(build(tmp_path))
    train = store.histories(("train",))
    assert train.lengths().tolist() == [1] * 7
    assert train.time.tolist() == [second * 1_000_000 for second in range(1, 8)]
    assert train.item.tolist() == [user % 3 for user in range(1, 8)]
    # 9 begins at the cutoff itself: nothing of it may be learned.
    assert store.histories(("test",)).lengths().tolist() == [0, 0]
    assert store.histories(("test",), cut=False).lengths().tolist() == [2, 2]


def test_the_cut_holds_on_the_synthetic_log_too(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)
    cutoff = store.manifest.cutoff
    assert cutoff is not None
    whole, cut = store.histories(cut=False), store.histories()
    assert len(cut.item) < len(whole.item) == store.manifest.events
    assert int(cut.time.max()) < cutoff
    assert len(cut.context.tokens) == len(cut.item) == int(cut.offsets[-1])
    assert len(cut.users.features.tokens) == len(cut.lengths()) == store.manifest.tasks


def test_events_are_in_the_order_of_time(synthetic_store: Path) -> None:
    table = TaskStore.open(synthetic_store).histories(cut=False)
    within = torch.ones(len(table.item) - 1, dtype=torch.bool)
    within[table.offsets[1:-1] - 1] = False
    assert bool((table.time.diff()[within] >= 0).all())


def test_parts_share_no_entity_and_make_up_the_whole(synthetic_store: Path) -> None:
    store = TaskStore.open(synthetic_store)
    parts = [store.histories((part,)).task_id.tolist() for part in ("train", "valid", "test")]
    assert sorted(chain.from_iterable(parts)) == list(range(store.manifest.tasks))
    assert [len(part) for part in parts] == [
        store.manifest.parts[part] for part in ("train", "valid", "test")
    ]
    assert store.histories(()).lengths().tolist() == []


def test_context_belongs_to_its_event(tmp_path: Path) -> None:
    store = TaskStore.open(build(tmp_path))
    hours = ["", *store.vocabularies["context"]["hour"]]
    train = store.histories(("train",))
    row = train.context.tokens.flatten() - store.context_space.first_row["hour"]
    assert [hours[index] for index in row.tolist()] == [str(user) for user in range(1, 8)]


def test_items_are_rows_of_the_catalogue_with_titles_and_features(tmp_path: Path) -> None:
    store = TaskStore.open(build(tmp_path))
    assert store.items.ids == ["0", "1", "2", "5", "9"]
    assert store.items.titles == ["zero", "one", "two", None, "nine"]
    kinds = ["", *store.vocabularies["item"]["kind"]]
    row = store.items.features.tokens.flatten() - store.item_space.first_row["kind"]
    # Item 5 is not in the table, and the kind of item 9 is seen by no training entity.
    assert [kinds[index] for index in row.tolist()] == ["a", "b", "a", "", ""]
    assert store.entity_ids() == [str(user) for user in range(1, 11)]


def test_only_items_met_before_the_cutoff_are_trained(tmp_path: Path) -> None:
    store = TaskStore.open(build(tmp_path))
    assert store.trained_items().tolist() == [True, True, True, False, False]


def test_without_a_clock_nothing_is_cut(tmp_path: Path) -> None:
    store = TaskStore.open(build(tmp_path, clock=False))
    assert len(store.histories().item) == store.manifest.events
    assert not store.histories().time.any()


@pytest.mark.parametrize("name", ["bucket-00001.parquet", "items.parquet", "vocabularies.json"])
def test_an_altered_store_is_refused_with_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    store = build(tmp_path)
    path = load(store).file(store, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    # A bucket is looked at when it is read, the rest on opening.
    with pytest.raises(DataError, match=f"sha256 of {name} must be"):
        TaskStore.open(store).histories(("train",))
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        TaskStore.open(store)


def test_a_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a task store must hold manifest\.json"):
        TaskStore.open(tmp_path)
