import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from metarec_ray.config.experiment import parse
from metarec_ray.core.histories import Histories
from metarec_ray.data.log.reading import read_log
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.data.store.writing import build_store
from metarec_ray.data.tasks.cuts import Cut
from metarec_ray.data.tasks.domains import DAY, Domains, DomainWindows, asked_items, learned_from
from metarec_ray.data.tasks.lanes import LaneSampler
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.training.fit import fit
from tests.unit.small_histories import histories_of

# Items 0..9 are food, 10..19 kitchen. One entity: (item, day), then one that has too little food.
STORY = [(0, 1), (10, 1), (11, 2), (1, 2), (12, 3), (2, 4), (3, 4), (13, 4), (4, 5), (14, 6)]
TOO = [(10, 1), (11, 2), (12, 3), (13, 4), (0, 5)]
FOOD = torch.arange(20) < 10
INSIDE = {"food": FOOD, "kitchen": ~FOOD}


def table() -> Histories:
    events = STORY + TOO
    items = [[item for item, _ in history] for history in (STORY, TOO)]
    found = histories_of(items, n_items=20, time=[day * DAY + 5 for _, day in events])
    return found._replace(task_id=torch.tensor([7, 8]))


def cut(which: float, *, source: bool = True, start: float = 1.0, at: float = 0.0, k: int = 2):
    """Return the items of the support and of the query of the first entity, and its domain."""
    domains = Domains(weights={"food": 1.0, "kitchen": 3.0}, source=source)
    windows = DomainWindows(table(), INSIDE, domains, window=2, query_size=2)
    draws = np.array([[0.5, at, 0.0, which]])
    support, query, domain, _ = windows.cut(
        np.array([0]), draws, start_share=start, ks=np.array([k])
    )
    item = table().item
    return item[support[0]].tolist(), item[query[0]].tolist(), int(domain[0])


def test_a_support_is_the_source_before_the_query_s_day_and_k_of_the_window() -> None:
    # Food 0 1 | 2 3: the query begins on day 4; kitchen 13 is of that day and not known yet.
    assert cut(0.2, k=2) == ([0, 10, 11, 1, 12], [2, 3], 0)
    assert cut(0.2, k=1) == ([0, 10, 11, 12], [2, 3], 0)
    assert cut(0.2, k=0) == ([10, 11, 12], [2, 3], 0)
    assert cut(0.2, k=2, source=False) == ([0, 1], [2, 3], 0)
    # Kitchen 10 11 | 12 13: the query begins on day 3, food 0 and 1 are of days before.
    assert cut(0.9, k=1) == ([0, 10, 1], [12, 13], 1)


def test_a_later_window_forgets_the_target_events_before_it() -> None:
    # Food 0 | 1 2 | 3 4: the query begins on day 4.
    assert cut(0.2, start=0.0, at=0.99) == ([10, 11, 1, 12, 2], [3, 4], 0)


def test_a_window_begins_a_history_where_it_starts_at_the_domain_s_first_event() -> None:
    domains = Domains(weights={"food": 1.0, "kitchen": 3.0})
    windows = DomainWindows(table(), INSIDE, domains, window=2, query_size=2)
    # Food 0 1 2 3 4 leaves room for a window that begins at 0 or at 1; kitchen is as long.
    draws = np.array([[0.5, at, 0.0, which] for which in (0.2, 0.9) for at in (0.0, 0.99)])
    entities, ks = np.zeros(4, np.int64), np.array([2])
    assert windows.cut(entities, draws, start_share=0.0, ks=ks)[3].tolist() == [1, 0, 1, 0]
    assert windows.cut(entities, draws, start_share=1.0, ks=ks)[3].all()


def test_lanes_of_domains_say_which_windows_begin_a_history() -> None:
    sampler = LaneSampler(
        table(),
        torch.ones(20, dtype=torch.bool),
        Cut(ks=(2,), window=2, query_size=2, negatives=2, start_share=0.0),
        reference=torch.tensor([0]),
        domains=(Domains(weights={"food": 1.0}, source=False), {"food": FOOD}),
    )
    tasks = sampler.lane(0, 0, 0, lanes=1, lane_tasks=40).tasks
    first = sampler.lane(0, 0, 0, lanes=1, lane_tasks=40).items[tasks.support.item[:, 0]]
    assert set(first.tolist()) == {0, 1}
    assert torch.equal(tasks.begins, first == 0)


@pytest.mark.parametrize(("which", "domain"), [(0.0, 0), (0.249, 0), (0.25, 1), (0.999, 1)])
def test_a_domain_is_drawn_by_its_weight(which: float, domain: int) -> None:
    assert cut(which)[2] == domain


def test_an_entity_is_asked_only_where_it_has_enough_events() -> None:
    domains = Domains(weights={"food": 1.0, "kitchen": 0.0})
    windows = DomainWindows(table(), {"food": FOOD}, domains, window=2, query_size=2)
    assert windows.eligible().tolist() == [0]
    both = Domains(weights={"food": 1e6, "kitchen": 1e-6})
    windows = DomainWindows(table(), INSIDE, both, window=2, query_size=2)
    assert windows.eligible().tolist() == [0, 1]
    drawn = windows.cut(np.array([1]), np.zeros((1, 4)), start_share=1.0, ks=np.array([0]))
    assert drawn[2].tolist() == [1]


def test_negatives_lie_in_the_domain_of_the_query() -> None:
    sampler = LaneSampler(
        table(),
        torch.ones(20, dtype=torch.bool),
        Cut(ks=(0, 2), window=2, query_size=2, negatives=4),
        reference=torch.tensor([0]),
        domains=(Domains(weights={"food": 1.0, "kitchen": 1.0}), INSIDE),
    )
    domains = set()
    for step in range(8):
        lane = sampler.lane(0, step, 0, lanes=1, lane_tasks=4)
        for query, mask, negatives in zip(
            lane.tasks.query.item, lane.tasks.query.mask, lane.tasks.negatives, strict=True
        ):
            kind = FOOD[lane.items[query[mask]]]
            assert kind.all() or not kind.any()
            assert (FOOD[lane.items[negatives]] == kind[0]).all()
            domains.add(bool(kind[0]))
    assert domains == {True, False}


def test_source_events_need_a_clock_and_weights_a_positive_one() -> None:
    untimed = table()._replace(time=torch.zeros(15, dtype=torch.int64))
    domains = Domains(weights={"food": 1.0})
    with pytest.raises(DataError, match=r"need a clock, the log has no time role"):
        DomainWindows(untimed, {"food": FOOD}, domains, window=2, query_size=2)
    with pytest.raises(ValidationError, match=r"a weight of domains must be > 0, got {'food': 0"):
        Domains(weights={"food": 0.0})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """Forty users who met 9 of items 0..9, food, and of 10..19, kitchen, in turn, two a day."""
    folder = tmp_path_factory.mktemp("shops")
    order = [item for pair in zip(range(10), range(10, 20), strict=True) for item in pair]
    events = [
        (user, item, 43_200 * at)
        for user in range(40)
        for at, item in enumerate(order)
        if item % 10 != user % 10
    ]
    log = pl.DataFrame(events, schema=["user", "item", "time"], orient="row")
    log.write_parquet(folder / "log.parquet")
    table = pl.DataFrame({"id": range(20), "shop": ["food"] * 10 + ["kitchen"] * 10})
    table.write_parquet(folder / "items.parquet")
    asked = Data(
        path=str(folder / "log.parquet"),
        columns=Columns(time="time"),
        items=SideTable(
            path="items.parquet", id="id", features={"shop": Feature(kind="categorical")}
        ),
        split="hash",
        valid_share=0.3,
        buckets=1,
    )
    build_store(read_log(asked), asked, folder / "store")
    return TaskStore.open(folder / "store")


def test_training_on_the_target_alone_meets_no_other_item(store: TaskStore) -> None:
    alone = Domains(feature="shop", weights={"food": 1.0}, source=False)
    assert learned_from(store, alone).histories(("train",)).item.max() == 9
    joint = Domains(feature="shop", weights={"food": 1.0, "kitchen": 0.3})
    assert learned_from(store, joint) is store
    tasks = {"ks": [0, 1], "window": 1, "query_size": 2, "negatives": 2}
    train = {"steps": 1, "num_workers": 1, "lanes": 1, "lane_tasks": 4, "tasks": tasks}
    for algorithm in ("ease", "prototype"):
        tree = {"algorithm": {"name": algorithm}, "model": {"dim": 3}}
        asked = parse(tree | {"train": train | {"domains": alone.model_dump()}}, "test")
        found = fit(asked, store).model["buffer.trained"]
        assert found.nonzero().flatten().tolist() == list(range(10))
        asked = parse(tree | {"train": train | {"domains": joint.model_dump()}}, "test")
        if algorithm == "ease":
            with pytest.raises(ConfigError, match=r"train.domains steers an outer loop, ease is"):
                fit(asked, store)
        else:
            assert fit(asked, store).model["buffer.trained"].all()


def test_domains_that_the_items_do_not_have_are_refused(store: TaskStore) -> None:
    with pytest.raises(ConfigError, match=r"categorical feature of the items, got 'kind' of shop"):
        asked_items(store, Domains(feature="kind", weights={"food": 1.0}))
    with pytest.raises(ConfigError, match=r"values of shop, got 'books' of food, kitchen"):
        asked_items(store, Domains(feature="shop", weights={"books": 1.0}))


def test_several_domains_rank_sampled_items() -> None:
    domains = {"weights": {"food": 1.0}}
    with pytest.raises(ConfigError, match=r"tasks.negatives must be > 0 with several domains"):
        parse({"train": {"domains": domains}}, "test")
    parse({"train": {"domains": domains | {"source": False}}}, "test")
