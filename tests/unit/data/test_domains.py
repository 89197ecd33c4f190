import numpy as np
import pytest
import torch
from pydantic import ValidationError

from metarec_ray.core.batch import Features
from metarec_ray.data.domains import DAY, Domains, DomainWindows
from metarec_ray.data.lanes import Cut, LaneSampler
from metarec_ray.data.task_store import HistoryTable
from metarec_ray.errors import DataError

# Items 0..9 are food, 10..19 kitchen. One entity: (item, day), then one that has too little food.
STORY = [(0, 1), (10, 1), (11, 2), (1, 2), (12, 3), (2, 4), (3, 4), (13, 4), (4, 5), (14, 6)]
TOO = [(10, 1), (11, 2), (12, 3), (13, 4), (0, 5)]
FOOD = torch.arange(20) < 10
INSIDE = {"food": FOOD, "kitchen": ~FOOD}


def nothing(n: int) -> Features:
    return Features(torch.zeros(n, 0, dtype=torch.int64), torch.zeros(n, 0), torch.zeros(n, 0))


def table() -> HistoryTable:
    events = STORY + TOO
    return HistoryTable(
        task_id=torch.tensor([7, 8]),
        offsets=torch.tensor([0, len(STORY), len(events)]),
        item=torch.tensor([item for item, _ in events]),
        label=torch.ones(len(events)),
        time=torch.tensor([day * DAY + 5 for _, day in events]),
        context=nothing(len(events)),
        user=nothing(2),
    )


def cut(which: float, *, source: bool = True, start: float = 1.0, at: float = 0.0, k: int = 2):
    """Return the items of the support and of the query of the first entity, and its domain."""
    domains = Domains(weights={"food": 1.0, "kitchen": 3.0}, source=source)
    windows = DomainWindows(table(), INSIDE, domains, window=2, query_size=2)
    draws = np.array([[0.5, at, 0.0, which]])
    support, query, domain = windows.cut(np.array([0]), draws, start_share=start, ks=np.array([k]))
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
        nothing(20),
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
