import math

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.problem import no_problem
from metarec_ray.algorithms.rivals.sequence_neighbours import SequenceNeighbours
from metarec_ray.core.batch import Encoded
from metarec_ray.core.histories import Histories
from tests.unit.algorithms.rivals.small import DAY, clicks, histories, liked, support
from tests.unit.small_histories import histories_of

Events = list[tuple[int, float, int]]  # item, label, time


def scores(learner: SequenceNeighbours, data: Histories, given: Encoded) -> Tensor:
    return learner.adapt(no_problem("implicit"), learner.fit(data), given)["scores"]


def begins(given: Encoded, day: float) -> Encoded:
    return given._replace(time=torch.full_like(given.time, int(day * DAY)))


def positives_in_order(events: Events, least: float) -> list[int]:
    return list(dict.fromkeys(item for item, label, _ in events if label >= least))


def voted(learner: SequenceNeighbours, log: list[Events], given: Events, n_items: int) -> Tensor:
    """Return the scores without ties, by loops over users and items."""
    least = learner.positive_min or 0.0
    users = [(events[0][2], positives_in_order(events, least)) for events in log if events]
    users = [(began, met) for began, met in users if met]
    newest = max(began for began, _ in users)
    first = min(given[0][2] or newest, newest)
    newest_first = positives_in_order([event for event in reversed(given)], least)
    weighed = []
    for began, met in users:
        overlap = sum(
            learner.decay**age * math.log(1 + len(log) / sum(item in m for _, m in users))
            for age, item in enumerate(newest_first)
            if item in met
        )
        recent = math.exp(-abs(began - first) / DAY / learner.recency_days)
        recent = learner.recency_floor + (1 - learner.recency_floor) * recent
        weighed.append((overlap * recent / (1 + learner.length_penalty * len(met)) ** 0.5, met))
    weighed.sort(key=lambda pair: -pair[0])
    near = [pair for pair in weighed[: learner.neighbours] if pair[0] > 0]
    found = torch.zeros(n_items)
    for weight, met in near:
        last = met.index(next(item for item in newest_first if item in met))
        for distance, item in enumerate(met[last + 1 : last + 1 + learner.horizon], 1):
            vote = weight**2 / sum(w**2 for w, _ in near)
            found[item] += vote * math.exp(-distance / learner.distance_scale)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_loops_over_users_and_items(seed: int):
    drawn, n_items, log = torch.Generator().manual_seed(seed), 12, []
    starts = torch.randint(1, 200 * DAY, (30,), generator=drawn).tolist()  # in no order
    for start in starts:
        n = int(torch.randint(0, 25, (1,), generator=drawn))
        items = torch.randint(n_items, (n,), generator=drawn).tolist()
        label = torch.randint(1, 6, (n,), generator=drawn).tolist()
        log.append(
            [(i, float(y), start + at) for at, (i, y) in enumerate(zip(items, label, strict=True))]
        )
    data = histories_of(
        [[item for item, _, _ in events] for events in log],
        n_items=n_items,
        label=[label for events in log for _, label, _ in events],
        time=[time for events in log for _, _, time in events],
        cutoff=200 * DAY,
    )
    learner = SequenceNeighbours(positive_min=3, neighbours=7, horizon=5, distance_scale=4.0)
    for day in (0, 60, 500):
        given: Events = [(3, 5.0, day * DAY), (5, 1.0, 0), (7, 4.0, 0), (3, 3.0, 0), (9, 5.0, 0)]
        asked = begins(support(*[(item, label) for item, label, _ in given], padding=2), day)
        expected = voted(learner, log, given, n_items)
        assert torch.allclose(scores(learner, data, asked), expected, atol=5e-6)


def test_votes_go_to_what_was_met_after_the_newest_shared_item():
    # Item 1 is the newest of the support: what the one user met after item 0 alone gets no vote.
    learner = SequenceNeighbours(distance_scale=2.0)
    found = scores(learner, clicks([0, 4, 1, 2, 3], n_items=5), liked(0, 1))
    assert found.tolist() == pytest.approx([0, 0, math.exp(-0.5), math.exp(-1), 0], abs=1e-5)


def test_the_order_of_the_support_matters():
    data = clicks([0, 2], [1, 3], n_items=4)
    learner = SequenceNeighbours(decay=0.5)
    assert scores(learner, data, liked(0, 1)).argmax() == 3
    assert scores(learner, data, liked(1, 0)).argmax() == 2


def test_the_order_of_a_neighbour_matters():
    learner = SequenceNeighbours()
    found = scores(learner, clicks([2, 0, 1], n_items=3), liked(0))
    assert found[1] > 0.9 > 1e-5 > found[2]  # item 2 came before


def test_users_who_began_at_the_same_time_are_nearer():
    data = clicks([0, 1], [0, 2], n_items=3, clock=True)  # they begin on days 0 and 1
    learner = SequenceNeighbours(recency_days=0.5)
    early, late = begins(liked(0), 1e-6), begins(liked(0), 1)
    assert scores(learner, data, early).argmax() == 1
    assert scores(learner, data, late).argmax() == 2
    share = 0.3 + 0.7 * math.exp(-1 / 0.5)
    found = scores(learner, data, late)
    assert float(found[1] / found[2]) == pytest.approx(share**2, abs=1e-4)


@pytest.mark.parametrize("day", [0, 1, 10_000], ids=["no time", "the newest's day", "much later"])
def test_a_support_of_today_is_as_near_to_the_newest_users_as_can_be(day: int):
    data = clicks([0, 1], [0, 2], n_items=3, clock=True)
    learner = SequenceNeighbours(recency_days=0.5)
    expected = scores(learner, data, begins(liked(0), 1))
    assert torch.equal(scores(learner, data, begins(liked(0), day)), expected)


@pytest.mark.parametrize("day", [-5, 0, 7])
def test_without_a_clock_all_users_are_equally_recent(day: int):
    learner = SequenceNeighbours(recency_days=0.5)
    found = scores(learner, clicks([0, 1], [0, 2], n_items=3), begins(liked(0), day))
    assert found[1] == found[2] > 0


def test_an_item_met_again_counts_where_it_was_first_met():
    learner = SequenceNeighbours()
    once = scores(learner, clicks([0, 1, 2], [3], n_items=4), liked(0))
    again = scores(learner, clicks([0, 0, 1, 0, 2, 1, 0], [3, 3], n_items=4), liked(0))
    assert torch.equal(once, again)


def test_without_evidence_the_ranking_is_popularity():
    data = clicks([0, 1, 2], [1, 2], [2], n_items=4)
    for given in (liked(), liked(padding=2), liked(3)):
        found = scores(SequenceNeighbours(), data, given)
        assert found.argsort(descending=True).tolist() == [2, 1, 0, 3]


def test_what_no_neighbour_met_is_ordered_by_popularity():
    data = clicks([0, 1], [2, 3], [3], n_items=5)
    found = scores(SequenceNeighbours(), data, liked(0))
    assert found.argsort(descending=True).tolist()[0] == 1
    assert found[3] > found[2] > found[4] == 0


def test_a_disliked_item_is_neither_shared_nor_voted_for():
    data = histories([(0, 5.0), (1, 1.0), (2, 5.0)], [(0, 1.0), (3, 5.0)], n_items=4)
    learner = SequenceNeighbours(positive_min=4)
    found = scores(learner, data, support((0, 5.0), (3, 1.0)))
    assert torch.equal(found, scores(learner, data, support((0, 5.0))))
    assert found[2] > 0.9
    assert found[[1, 3]].max() < 1e-5


def test_only_the_newest_items_of_a_support_are_compared():
    data = clicks([0, 2], [1, 3], n_items=4)
    found = scores(SequenceNeighbours(last_items=1, decay=1.0), data, liked(0, 1))
    assert torch.equal(found, scores(SequenceNeighbours(), data, liked(1)))


@pytest.mark.parametrize("limit", ["users_per_item", "max_users"])
def test_the_newest_users_are_kept_where_there_are_too_many(limit: str):
    data = clicks([0, 1], [0, 2], [0, 3], n_items=4, clock=True)
    learner = SequenceNeighbours.model_validate({limit: 2})
    found = scores(learner, data, liked(0))
    assert found[3] > found[2] > 0.1
    assert found[1] < 1e-5
