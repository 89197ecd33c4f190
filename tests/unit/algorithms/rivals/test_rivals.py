import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.base import Params, StatisticalLearner
from metarec_ray.algorithms.problem import no_problem
from metarec_ray.algorithms.rivals.biases import UserItemBias
from metarec_ray.algorithms.rivals.counts import Constant, Popularity, Random, RecencyPopularity
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.algorithms.sums import positives
from metarec_ray.core.batch import Encoded
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError
from tests.unit.algorithms.fitted import STATISTICAL, name
from tests.unit.algorithms.plain_events import catalogue_of, index_only
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


def support(*events: tuple[int, float], padding: int = 0) -> Encoded:
    item = torch.tensor([item for item, _ in events] + [0] * padding, dtype=torch.int64)
    label = torch.tensor([label for _, label in events] + [0.0] * padding)
    return index_only(item, label, torch.arange(len(item)) < len(events))


def scores(learner: StatisticalLearner, meta: Params, given: Encoded, n_items: int) -> Tensor:
    fast = learner.adapt(PROBLEM, meta, given)
    return learner.score(PROBLEM, meta, fast, catalogue_of(n_items))


def ratings(seed: int = 0, users: int = 60, items: int = 12) -> Histories:
    generator = torch.Generator().manual_seed(seed)
    taste = torch.randn(users, 2, generator=generator)
    content = torch.randn(items, 2, generator=generator)
    noise = 0.3 * torch.randn(users, items, generator=generator)
    label = 3 + 0.5 * content[:, :1].T + taste @ content.T + noise
    met = torch.rand(users, items, generator=generator) < 0.6
    return histories(
        *[
            [(i, label[u, i].item()) for i in met[u].nonzero().flatten().tolist()]
            for u in range(users)
        ],
        n_items=items,
    )


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


@pytest.mark.parametrize(
    "learner", [Popularity(), RecencyPopularity(), ItemKNN(), Ease()], ids=lambda one: one.name
)
def test_shares_are_those_of_the_counts_beside_a_tenth_spread_over_the_catalogue(
    learner: StatisticalLearner,
):
    share = learner.log_share(torch.tensor([[3000.0, 1000.0, 0.0]])).exp()
    assert (share - 0.1 / 3).tolist() == [pytest.approx([3 / 4, 1 / 4, 0], abs=1e-6)]


def test_a_score_below_zero_is_no_share_whatever_its_size():
    # EASE gives what goes against the support a score < 0.
    share = Ease().log_share(torch.tensor([0.03, 0.01, -0.5, 0.0])).exp()
    expected = [3 / 4 + 0.1 / 4, 1 / 4 + 0.1 / 4, 0.1 / 4, 0.1 / 4]
    assert share.tolist() == pytest.approx(expected)


def test_positives_are_the_newest_event_of_each_item_that_is_liked():
    given = support((3, 5.0), (1, 1.0), (3, 5.0), (3, 1.0), (0, 4.0), (2, 2.0), padding=2)
    found = positives(given, 4.0)
    assert found.tolist() == [False, False, True, False, True, False, False, False]
    taken = positives(given, None)
    assert taken.tolist() == [False, True, False, True, True, True, False, False]
    assert positives(support(), None).tolist() == []


def test_item_knn_reproduces_a_shrunk_cosine():
    # Items 0 and 1: two entities met both, 0 has three and 1 has two.
    data = clicks([0, 1], [0, 1], [0, 2], n_items=4)
    learner = ItemKNN(shrink=20)
    found = scores(learner, learner.fit(data), support((0, 1.0)), 4)
    expected = [0, 2 / (3 * 2) ** 0.5 * 2 / 22, 1 / (3 * 1) ** 0.5 * 1 / 21, 0]
    assert found.tolist() == pytest.approx(expected)


def test_item_knn_keeps_only_the_nearest_when_asked():
    data = clicks([0, 1], [0, 1], [0, 2], n_items=4)
    learner = ItemKNN(neighbours=1)
    found = scores(learner, learner.fit(data), support((0, 1.0)), 4)
    assert (found > 0).tolist() == [False, True, False, False]


def test_ease_equals_the_constrained_least_squares_solution():
    # Column j of B is the ridge regression of item j on all other items: no item explains itself.
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 5, generator=generator) < 0.4).float()
    data = clicks(*[row.nonzero().flatten().tolist() for row in x], n_items=5)
    similarity = Ease(penalty=2.0).fit(data)["similarity"]
    for j in range(5):
        others = [i for i in range(5) if i != j]
        a = x[:, others].T @ x[:, others] + 2.0 * torch.eye(4)
        expected = torch.linalg.solve(a, x[:, others].T @ x[:, j])
        assert torch.allclose(similarity[others, j], expected, atol=1e-5)
        assert similarity[j, j] == 0


@pytest.mark.parametrize("learner", [ItemKNN(), Ease(penalty=2.0)], ids=lambda one: one.name)
def test_without_evidence_neighbours_rank_by_popularity(learner: StatisticalLearner):
    meta = learner.fit(clicks([0, 1], [0], n_items=3))
    assert scores(learner, meta, support(), 3).tolist() == [2, 1, 0]
    assert scores(learner, meta, support(padding=2), 3).tolist() == [2, 1, 0]


@pytest.mark.parametrize("learner", [ItemKNN(max_items=3), Ease(max_items=3)])
def test_a_catalogue_that_would_not_fit_is_refused(learner: StatisticalLearner):
    with pytest.raises(DataError, match="takes at most 3 items, got a catalogue of 4"):
        learner.fit(clicks([0], n_items=4))


def test_a_disliked_item_is_no_evidence():
    data = histories([(0, 5.0), (1, 5.0)], [(1, 5.0), (2, 5.0)], n_items=3)
    learner = ItemKNN(positive_min=4)
    meta = learner.fit(data)
    given = scores(learner, meta, support((0, 5.0), (2, 1.0)), 3)
    assert torch.equal(given, scores(learner, meta, support((0, 5.0)), 3))


def test_user_item_bias_solves_its_two_normal_equations():
    data = ratings()
    learner = UserItemBias(item_shrink=3, user_shrink=4)
    meta = learner.fit(data)
    mean = data.label.mean()
    dense = torch.zeros(60, 12).index_put_((_entity(data), data.item), data.label - mean)
    met = torch.zeros(60, 12).index_put_((_entity(data), data.item), torch.ones(len(data.item)))
    # One solve of the whole ridge problem: item and user biases together.
    a = torch.zeros(72, 72)
    a[:12, :12], a[12:, 12:] = torch.diag(met.sum(0) + 3), torch.diag(met.sum(1) + 4)
    a[:12, 12:], a[12:, :12] = met.T, met
    exact = torch.linalg.solve(a, torch.cat([dense.sum(0), dense.sum(1)]))
    assert torch.allclose(meta["item"], exact[:12], atol=0.02)
    user = learner.adapt(PROBLEM, meta, support((0, 5.0), (1, 4.0)))["user"]
    left = (5 - mean - meta["item"][0]) + (4 - mean - meta["item"][1])
    assert user.item() == pytest.approx(left.item() / (2 + 4), abs=1e-5)


@pytest.mark.parametrize("learner", STATISTICAL, ids=name)
def test_statistics_of_shards_add_up_to_those_of_the_whole(
    learner: StatisticalLearner, monkeypatch: pytest.MonkeyPatch
):
    one = learner.fit(ratings())
    monkeypatch.setattr(type(learner), "shard", 25)
    several = learner.fit(ratings())
    assert one.keys() == several.keys()
    for key in one:
        assert torch.allclose(one[key].double(), several[key].double(), atol=2e-3), key


def _entity(data: Histories) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(data.offsets) - 1), data.offsets.diff())
