import pytest
from torch import Tensor

from metarec_ray.algorithms.base import StatisticalLearner
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.core.batch import Encoded, Params
from metarec_ray.core.histories import Histories
from tests.unit.algorithms.plain_events import catalogue_of
from tests.unit.algorithms.rivals.small import support
from tests.unit.small_histories import histories_of

DAY = 86_400_000_000
PROBLEM = no_problem("explicit")


def histories(
    *events: list[tuple[int, float]], n_items: int, start: list[int] | None = None
) -> Histories:
    """One list of (item, label) an entity; entity e begins on day start[e], an event a day."""
    flat = [event for history in events for event in history]
    days = [
        first + step
        for first, history in zip(start or [0] * len(events), events, strict=True)
        for step in range(len(history))
    ]
    return histories_of(
        [[item for item, _ in history] for history in events],
        n_items=n_items,
        label=[label for _, label in flat],
        time=[day * DAY for day in days],
        cutoff=None if start is None else 100 * DAY,
    )


def clicks(*items: list[int], n_items: int, start: list[int] | None = None) -> Histories:
    events = [[(item, 1.0) for item in history] for history in items]
    return histories(*events, n_items=n_items, start=start)


def scores(learner: StatisticalLearner, meta: Params, given: Encoded, n_items: int) -> Tensor:
    fast = learner.adapt(PROBLEM, meta, given)
    return learner.score(PROBLEM, meta, fast, catalogue_of(n_items))


def test_random_and_constant_score_every_item_alike():
    data = histories([(0, 1.0), (1, 4.0)], [(0, 4.0)], n_items=3)
    assert scores(Random(), {}, support((0, 5.0)), 3).tolist() == [0, 0, 0]
    constant = scores(Constant(), Constant().fit(data), support((0, 5.0)), 3)
    assert constant.tolist() == [(1 + 4 + 4) / 3] * 3


def test_popularity_counts_entities_and_not_repeats():
    data = clicks([0, 1, 1, 1], [0], [2, 0], n_items=4)
    meta = Popularity().fit(data)
    assert scores(Popularity(), meta, support(), 4).tolist() == [3, 1, 1, 0]


def test_popularity_of_ratings_counts_the_positive_ones():
    data = histories([(0, 5.0), (1, 2.0)], [(1, 4.0)], [(0, 4.0)], n_items=2)
    assert Popularity(positive_min=4).fit(data)["count"].tolist() == [2, 1]


def test_recency_popularity_halves_an_entity_with_each_half_life():
    # Ten days before the cutoff against thirty; positions 1 and 2 count, position 0 nearly nothing.
    learner = RecencyPopularity(half_life_days=10, first_position=1, last_position=3)
    data = clicks([0, 1, 2], [0, 3], n_items=5, start=[90, 70])
    count = learner.fit(data)["count"]
    assert count[1:].tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 8, 0])
    assert count[0].item() == pytest.approx(0.001 * (1 / 2 + 1 / 8))


def test_recency_popularity_without_a_clock_counts_everybody_alike():
    learner = RecencyPopularity(first_position=0)
    assert learner.fit(clicks([0, 1], [0], n_items=3))["count"].tolist() == [2, 1, 0]


@pytest.mark.parametrize("first", [25, 30])
def test_recency_popularity_refuses_positions_that_end_before_they_begin(first: int):
    with pytest.raises(ValueError, match=f"first_position must be < last_position 25, got {first}"):
        RecencyPopularity(first_position=first)
