import os
from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.config.experiment import load
from metarec_ray.data.log.reading import Log, read_log
from metarec_ray.data.protocol_settings import ItemKshot
from metarec_ray.data.settings import Columns, Data, Feature, Rows, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.item_kshot import kshot_tasks
from metarec_ray.evaluation.protocols.ratings import RatingTasks

CONFIG = Path(__file__).parents[4] / "jobs" / "configs" / "ml-1m-item-kshot.yaml"
# 30 users rate items 0..19; items 0..15 are warm, and user 29 rates cold items only.
COLD = range(16, 20)
LOG = pl.DataFrame(
    [
        {"row": 30 * item + user, "user": user, "item": item, "stars": 1.0 + (user * item) % 5}
        for item in range(20)
        for user in range(30)
        if user < 29 or item in COLD
    ]
)
SIDE = LOG.select(
    "row", kind=pl.col("item").is_in(COLD).replace_strict({True: "new", False: "old"})
)
ITEMS = pl.DataFrame({"id": range(20), "genre": ["a", "b"] * 10})
NEW = Rows(path="side.parquet", column="kind", value="new")
OLD = NEW.model_copy(update={"value": "old"})
SMALL = ItemKshot(ks=(0, 1, 3), query_size=20, min_ratings=10, rows=NEW)


def settings(folder: Path, **more: object) -> Data:
    for name, frame in (("log", LOG), ("side", SIDE), ("items", ITEMS)):
        frame.write_parquet(folder / f"{name}.parquet")
    genre = {"genre": Feature(kind="categorical")}
    fields = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "entity": "item",
        "columns": Columns(label="stars", sequence="row"),
        "items": SideTable(path="items.parquet", id="id", features=genre),
        "cutoff_quantile": 1.0,
        "valid_share": 0.3,
        "only": OLD,
        "buckets": 2,
    }
    return Data.model_validate(fields | more)


def opened(folder: Path, **more: object) -> tuple[TaskStore, Log]:
    asked = settings(folder, **more)
    build_store(read_log(asked), asked, folder / "store")
    new = asked.model_copy(update={"only": NEW, "without": None})
    return TaskStore.open(folder / "store"), read_log(new)


def tasks(folder: Path, seed: int = 0) -> tuple[TaskStore, RatingTasks]:
    store, log = opened(folder)
    return store, kshot_tasks(
        store, SMALL, seed=seed, events=log.events, items=log.users, force=True
    )


def test_supports_are_nested_and_the_query_is_the_same_at_every_k(tmp_path: Path) -> None:
    store, found = tasks(tmp_path)
    assert found.entity == ["16", "17", "18", "19"]
    one, three = found.supports(1), found.supports(3)
    assert torch.equal(one.item[:, 0], three.item[:, 0])
    for task in range(4):
        asked = found.query[task][found.mask[task]]
        assert len(asked) == 20
        assert not set(asked.tolist()) & set(three.item[task].tolist())
        users = {store.items.ids[row] for row in [*asked.tolist(), *three.item[task].tolist()]}
        assert len(users) == 23


def test_only_users_that_training_knows_rate(tmp_path: Path) -> None:
    store, found = tasks(tmp_path)
    assert "29" not in store.items.ids
    for task, item in enumerate(COLD):
        rows = found.query[task].tolist()
        labels = [1.0 + (int(store.items.ids[row]) * item) % 5 for row in rows]
        assert found.label[task].tolist() == labels


def test_a_new_item_has_its_content(tmp_path: Path) -> None:
    store, found = tasks(tmp_path)
    first = store.user_space.first_row["genre"] + 1
    # The vocabulary is a, b; items 16 and 18 are a, 17 and 19 b.
    assert found.support.user.tokens.flatten().tolist() == [first, first + 1, first, first + 1]


def test_seeds_draw_other_first_raters(tmp_path: Path) -> None:
    store, log = opened(tmp_path)
    drawn = {
        tuple(
            kshot_tasks(store, SMALL, seed=seed, events=log.events, items=log.users, force=True)
            .supports(1)
            .item.flatten()
            .tolist()
        )
        for seed in range(5)
    }
    assert len(drawn) == 5


def test_without_rows_the_test_entities_of_the_store_are_the_new_items(tmp_path: Path) -> None:
    store, _ = opened(tmp_path, cutoff_quantile=0.6, only=None)
    asked = SMALL.model_copy(update={"rows": None})
    found = kshot_tasks(store, asked, seed=0, force=True)
    ids, test = store.entity_ids(), store.histories(("test",)).task_id.tolist()
    assert found.entity == [ids[task] for task in test]
    assert torch.equal(found.support.user.tokens, store.histories(("test",)).users.features.tokens)


def test_a_new_item_that_training_met_is_refused(tmp_path: Path) -> None:
    store, log = opened(tmp_path, only=None)
    with pytest.raises(DataError, match=r"must not be in training, 4 of 4 are: '16'"):
        kshot_tasks(store, SMALL, seed=0, events=log.events, items=log.users, force=True)


def test_a_store_of_users_and_too_few_items_are_refused(tmp_path: Path) -> None:
    store, log = opened(tmp_path)
    with pytest.raises(DataError, match=r"needs 100 new items with >= 10 ratings .* got 4"):
        kshot_tasks(store, SMALL, seed=0, events=log.events, items=log.users)
    users, _ = opened(tmp_path, entity="user", items=None, only=None)
    with pytest.raises(ConfigError, match=r"data\.entity must be item here, got user"):
        kshot_tasks(users, SMALL, seed=0)


def test_an_item_with_nothing_left_to_ask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_ratings must be > max\(ks\) = 10, got 10"):
        ItemKshot(min_ratings=10)


@pytest.mark.skipif("METAREC_DATA" not in os.environ, reason="needs METAREC_DATA")
def test_the_new_films_have_their_tasks_and_query_rows(tmp_path: Path) -> None:
    folder = Path(os.environ["METAREC_DATA"])
    if not (folder / "melu_protocol").is_dir():
        pytest.skip("needs melu_protocol in METAREC_DATA")
    experiment = load(CONFIG)
    data, asked = experiment.data, experiment.evaluate.item_kshot
    build_store(read_log(data, data_dir=folder), data, tmp_path / "store")
    store = TaskStore.open(tmp_path / "store")
    log = read_log(data.model_copy(update={"only": asked.rows, "without": None}), data_dir=folder)
    found = kshot_tasks(store, asked, seed=0, events=log.events, items=log.users)
    assert (len(found.entity), int(found.mask.sum())) == (576, 44_066)
    # The mean of training misses these rows by 1.2417: the arithmetic of a constant.
    mean = store.histories().label.mean()
    error = (found.label - mean)[found.mask].square().mean().sqrt()
    assert error.item() == pytest.approx(1.2417, abs=1e-4)
