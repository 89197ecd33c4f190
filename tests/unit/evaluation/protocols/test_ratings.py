from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.data.log.reading import read_log
from metarec_ray.data.protocol_settings import RatingCut
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.ratings import RatingTasks, rule_tasks

# User u rates, all at u s, the items that were met by then: 0..8 at 0 s, 9, 10, 11 at 2, 3, 4 s.
# So users 8 and 9 are test (0.8 * 9 = 7.2, rounded up), and of 12 items the quarter of 9, 10, 11
# is cold (0.75 * 11 = 8.25, rounded up to the place of item 9).
FIRST = [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 4]
LOG = pl.DataFrame(
    [
        {"user": user, "item": item, "stars": 1.0 + (3 * user + item) % 5, "time": user}
        for user in range(10)
        for item in range(12)
        if user >= FIRST[item]
    ]
)
USERS = pl.DataFrame({"id": range(10), "town": ["x", "y"] * 5})
SMALL = RatingCut(query_size=1, min_ratings=3, max_ratings=9)


def store(folder: Path, log: pl.DataFrame = LOG, **more: object) -> TaskStore:
    log.write_parquet(folder / "log.parquet")
    USERS.write_parquet(folder / "users.parquet")
    town = {"town": Feature(kind="categorical")}
    fields = {
        "path": str(folder / "log.parquet"),
        "feedback": "explicit",
        "columns": Columns(label="stars", time="time"),
        "users": SideTable(path="users.parquet", id="id", features=town),
        "buckets": 2,
        "cold_items": 0.25,
    }
    asked = Data.model_validate(fields | more)
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")


def tasks(whole: TaskStore, seed: int = 0, **more: object) -> dict[str, RatingTasks]:
    cut = SMALL.model_copy(update=more)
    return {one.scenario: one for one in rule_tasks(whole, cut, seed=seed, force=True)}


def rated(one: RatingTasks, task: int) -> tuple[list[int], list[int]]:
    support, query = one.support, one.query[task][one.mask[task]]
    return support.item[task][support.mask[task]].tolist(), query.tolist()


def test_scenarios_cross_test_entities_with_cold_items(tmp_path: Path) -> None:
    whole = store(tmp_path)
    assert whole.items.cold.nonzero().squeeze(1).tolist() == [9, 10, 11]
    found = tasks(whole)
    assert {name: one.entity for name, one in found.items()} == {
        "user_cold": ["8", "9"],
        "item_cold": ["4", "5", "6", "7"],
        "item_cold_history": ["4", "5", "6", "7"],
        "both_cold": ["8", "9"],
    }
    for name, items in (("user_cold", range(9)), ("item_cold", range(9, 12))):
        for task in range(len(found[name].entity)):
            support, query = rated(found[name], task)
            assert sorted(support + query) == list(items)
            assert len(query) == 1


def test_labels_and_features_are_those_of_the_log(tmp_path: Path) -> None:
    whole = store(tmp_path)
    one = tasks(whole)["user_cold"]
    for task, user in enumerate((8, 9)):
        items, asked = rated(one, task)
        labels = one.support.label[task][one.support.mask[task]]
        assert labels.tolist() == [1 + (3 * user + item) % 5 for item in items]
        assert one.label[task].tolist() == [1 + (3 * user + item) % 5 for item in asked]
        assert one.support.time[task].max() == user * 1_000_000
    towns = whole.histories(("test",)).users.features
    assert torch.equal(one.support.user.tokens, towns.tokens)


def test_history_is_what_training_may_know_and_stands_before_the_support(tmp_path: Path) -> None:
    whole = store(tmp_path)
    plain, told = tasks(whole)["item_cold"], tasks(whole)["item_cold_history"]
    for task in range(4):
        support, query = rated(plain, task)
        known, same = rated(told, task)
        assert known == [*range(9), *support]  # cold ratings are in no history
        assert same == query
    assert told.support.label[0][:9].tolist() == [1 + (3 * 4 + item) % 5 for item in range(9)]


def test_a_smaller_support_is_a_prefix_and_the_query_the_same(tmp_path: Path) -> None:
    one = tasks(store(tmp_path))["user_cold"]
    for k in (1, 3):
        assert one.supports(k).item.tolist() == one.support.item[:, :k].tolist()
        assert one.supports(k).mask.all()
    nothing = one.supports(0)
    assert nothing.item.shape == (2, 1)
    assert not nothing.mask.any()
    assert one.supports() is one.support


def test_seeds_draw_other_queries_of_the_same_ratings(tmp_path: Path) -> None:
    whole = store(tmp_path)
    draws = {tuple(tasks(whole, seed)["user_cold"].query.flatten().tolist()) for seed in range(9)}
    assert len(draws) > 4
    assert torch.equal(tasks(whole, 3)["item_cold"].query, tasks(whole, 3)["item_cold"].query)


def test_an_entity_with_too_few_or_too_many_ratings_has_no_task(tmp_path: Path) -> None:
    whole = store(tmp_path)
    assert "user_cold" not in tasks(whole, max_ratings=8)
    assert set(tasks(whole, min_ratings=4)) == {"user_cold"}


def test_a_repeated_rating_is_not_asked_about(tmp_path: Path) -> None:
    again = LOG.filter(pl.col("user") == 8).with_columns(pl.col("time") + 100)
    one = tasks(store(tmp_path, pl.concat([LOG, again])))["user_cold"]
    support, query = rated(one, 0)
    assert sorted(support + query) == list(range(9))


def test_few_tasks_are_refused_unless_forced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match=r"need 100 entities in some scenario with 3 to 9 ratings"):
        rule_tasks(store(tmp_path), SMALL, seed=0)
    assert "user_cold is left out: it needs 100 tasks, got 2" in caplog.text


def test_a_store_of_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.entity must be user here, got item"):
        rule_tasks(store(tmp_path, entity="item", users=None), SMALL, seed=0)


def test_a_query_that_leaves_no_support_is_refused() -> None:
    with pytest.raises(ValueError, match=r"query_size < min_ratings <= max_ratings .* 10, 10, 100"):
        RatingCut(min_ratings=10)
