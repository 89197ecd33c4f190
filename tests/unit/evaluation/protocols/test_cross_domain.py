import os
from pathlib import Path

import polars as pl
import pytest
import torch

from metarec_ray.config.experiment import load
from metarec_ray.data.id_hashes import HASH_SPAN, stable_hash
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.protocol_settings import CrossDomain
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.cross_domain import CrossDomainTasks, cross_domain_tasks

CONFIG = Path(__file__).parents[4] / "jobs" / "configs" / "amazon-cross-domain.yaml"
DAY = 86_400
# Items 0..9 are a, 10..19 are b. The test user: (item, day, second of the day).
STORY = [
    (10, 1, 0), (0, 1, 5), (1, 2, 0), (11, 2, 1), (12, 3, 0), (2, 3, 0), (13, 4, 0), (3, 4, 9),
    (14, 4, 10), (15, 5, 0), (4, 6, 0), (12, 6, 0),
]  # fmt: skip
TEST, TOO = [u for u in range(1000, 2000) if stable_hash(u) / HASH_SPAN >= 0.8][:2]
OTHERS = [u for u in range(1000) if stable_hash(u) / HASH_SPAN < 0.8][:20]
SMALL = CrossDomain(ks=(0, 1, 2), min_query=2, query_size=3, feature="shop")
ITEMS = pl.DataFrame({"id": range(20), "shop": ["a"] * 10 + ["b"] * 10, "price": [1.0] * 20})


def store(folder: Path, story: list = STORY, too: list | None = None, **more: object) -> TaskStore:
    events = [(TEST, *event) for event in story] + [(TOO, *event) for event in too or []]
    events += [(user, item, 1, item) for user in OTHERS for item in range(19)]
    log = pl.DataFrame(events, schema=["user", "item", "day", "second"], orient="row")
    log.with_columns(time=pl.col("day") * DAY + pl.col("second")).write_parquet(
        folder / "log.parquet"
    )
    ITEMS.write_parquet(folder / "items.parquet")
    features = {"shop": Feature(kind="categorical"), "price": Feature(kind="numeric")}
    fields = {
        "path": str(folder / "log.parquet"),
        "columns": Columns(time="time"),
        "items": SideTable(path="items.parquet", id="id", features=features),
        "split": "hash",
        "valid_share": 0.3,
        "buckets": 2,
    }
    asked = Data.model_validate(fields | more)
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")


def directions(whole: TaskStore) -> dict[str, CrossDomainTasks]:
    found = cross_domain_tasks(whole, SMALL, force=True)
    return {one.direction: one for one in found}


def known(one: CrossDomainTasks, k: int) -> list[int]:
    support = one.supports(k)
    return support.item[0][support.mask[0]].tolist()


def test_query_follows_the_window_and_source_ends_before_its_first_day(tmp_path: Path) -> None:
    found = directions(store(tmp_path))
    assert set(found) == {"a->b", "b->a"}
    # Of b: 10 11 | 12 13 14, then 15 and 12 again; the query begins on day 3.
    one = found["a->b"]
    assert one.query[0][one.mask[0]].tolist() == [12, 13, 14]
    assert known(one, 0) == [0, 1]  # 2 is of day 3 itself
    assert known(one, 1) == [10, 0, 1]
    assert known(one, 2) == [10, 0, 1, 11]
    # Of a: 0 1 | 2 3 4; again from day 3.
    other = found["b->a"]
    assert other.query[0][other.mask[0]].tolist() == [2, 3, 4]
    assert known(other, 2) == [10, 0, 1, 11]
    assert known(other, 0) == [10, 11]


def test_no_support_event_is_as_late_as_the_query(tmp_path: Path) -> None:
    for one in directions(store(tmp_path)).values():
        assert one.supports(2).time.max() < 3 * DAY * 1_000_000
        assert not set(known(one, 2)) & set(one.query[0].tolist())


def test_candidates_are_the_domain_without_the_window_at_every_k(tmp_path: Path) -> None:
    one = directions(store(tmp_path))["a->b"]
    for k in (0, 1, 2):
        assert one.candidates(k)[0].nonzero().squeeze(1).tolist() == list(range(12, 20))
    # 19 is nobody's: it may be recommended, though training never met it.
    assert one.trained.nonzero().squeeze(1).tolist() == list(range(10, 19))
    assert one.gains()[0].nonzero().squeeze(1).tolist() == [12, 13, 14]
    assert (one.share[:19] == 1).all()
    assert one.share[19] > 0


def test_a_method_without_the_source_has_the_same_query(tmp_path: Path) -> None:
    one = directions(store(tmp_path))["a->b"]
    alone = one.without_source()
    assert [known(alone, k) for k in (0, 1, 2)] == [[], [10], [10, 11]]
    assert torch.equal(alone.query, one.query)
    assert torch.equal(alone.candidates(1), one.candidates(1))


def test_training_on_the_target_domain_alone_sees_no_source_event(tmp_path: Path) -> None:
    whole = store(tmp_path)
    one = directions(whole)["a->b"]
    target = whole.restricted(one.inside)
    assert target.histories(("train", "valid")).item.unique().tolist() == list(range(10, 19))
    assert target.trained_items().nonzero().squeeze(1).tolist() == list(range(10, 19))
    # The tasks do not change: what is known of a test entity is not what is learned from.
    again = directions(target)["a->b"]
    assert known(again, 2) == known(one, 2)
    assert torch.equal(again.query, one.query)
    assert len(whole.histories(("train", "valid")).item) == 20 * 19


def test_a_short_query_is_padded_and_a_shorter_one_is_no_task(tmp_path: Path) -> None:
    # Without 14, 15 and 4 each query has two items left; without 3 that of a has one.
    short = [event for event in STORY if event[0] not in (14, 15, 4)]
    one = directions(store(tmp_path, STORY, short))["a->b"]
    assert one.mask.tolist() == [[True, True, True], [True, True, False]]
    assert one.gains().sum(1).tolist() == [3, 2]
    assert one.gains()[1].nonzero().squeeze(1).tolist() == [12, 13]
    with pytest.raises(DataError, match=r">= 4 events in the target domain, got 0 \(b->a"):
        directions(store(tmp_path, [event for event in short if event[0] != 3]))


def test_a_shuffle_inside_days_moves_the_border_of_the_window(tmp_path: Path) -> None:
    # Day 1 holds 10 11 12 13 of b, in one moment: any two of them may come first.
    story = [(item, 1, 0) for item in (10, 11, 12, 13)] + [
        (0, 1, 0),
        (1, 1, 0),
        (2, 2, 0),
        (3, 2, 0),
    ]
    whole, firsts = store(tmp_path, story), set()
    for seed in range(30):
        asked = SMALL.model_copy(update={"shuffle_days": seed})
        one = cross_domain_tasks(whole, asked, force=True)[0]
        assert sorted([*known(one.without_source(), 2), *one.query[0].tolist()]) == [10, 11, 12, 13]
        firsts.add(known(one.without_source(), 1)[0])
    assert firsts == {10, 11, 12, 13}


def test_validation_entities_have_tasks_by_what_train_knows(tmp_path: Path) -> None:
    whole = store(tmp_path)
    found = cross_domain_tasks(whole, SMALL, part="valid", force=True)
    assert torch.equal(found[0].entity, whole.histories(("valid",)).task_id)
    with pytest.raises(DataError, match=r"needs 100 valid entities"):
        cross_domain_tasks(whole, SMALL, part="valid")


def test_few_entities_are_refused_unless_forced(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs 100 test entities .*, got 1 \(a->b"):
        cross_domain_tasks(store(tmp_path), SMALL)


def test_items_without_domains_and_logs_without_a_clock_are_refused(tmp_path: Path) -> None:
    whole = store(tmp_path)
    for feature in ("price", "colour"):
        wrong = SMALL.model_copy(update={"feature": feature})
        with pytest.raises(ConfigError, match=rf"got '{feature}' of price, shop"):
            cross_domain_tasks(whole, wrong, force=True)
    untimed = store(tmp_path, columns=None)
    with pytest.raises(DataError, match=r"two domains .* and a clock, got 2 and no clock"):
        cross_domain_tasks(untimed, SMALL, force=True)


def test_a_query_must_have_room() -> None:
    with pytest.raises(ValueError, match="min_query must be <= query_size = 2, got 3"):
        CrossDomain(query_size=2)


@pytest.mark.skipif("METAREC_DATA" not in os.environ, reason="needs METAREC_DATA")
def test_the_published_shops_have_their_tasks(tmp_path: Path) -> None:
    folder = Path(os.environ["METAREC_DATA"])
    if not (folder / "amazon-food-kitchen").is_dir():
        pytest.skip("needs amazon-food-kitchen in METAREC_DATA")
    experiment = load(CONFIG)
    asked = experiment.evaluate.cross_domain
    build_store(read_log(experiment.data, data_dir=folder), experiment.data, tmp_path / "store")
    whole = TaskStore.open(tmp_path / "store")
    assert whole.manifest.tasks == 7_144
    found = {one.direction: one for one in cross_domain_tasks(whole, asked)}
    assert {name: len(one.entity) for name, one in found.items()} == {
        "food->kitchen": 660,
        "kitchen->food": 629,
    }
    for one in found.values():
        assert one.mask.sum(1).min() >= 3
        assert one.candidates(0).sum(1).unique().tolist() == [int(one.inside.sum()) - 3]
