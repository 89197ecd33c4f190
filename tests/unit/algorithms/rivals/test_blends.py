import pytest
import torch

from metarec_ray.algorithms.base import FittedLearner, Fitting
from metarec_ray.algorithms.rivals.blends import (
    EasePopularity,
    ItemKNNPopularity,
    _best_weight,
    _tasks,
)
from metarec_ray.algorithms.rivals.counts import Popularity
from metarec_ray.algorithms.rivals.neighbours import Ease, ItemKNN
from metarec_ray.core.histories import Histories
from metarec_ray.errors import DataError
from tests.unit.algorithms.rivals.small import clicks, liked, scores, tastes

each = pytest.mark.parametrize(
    ("blend", "rival"),
    [
        (EasePopularity(penalty=2.0, half_life_days=None), Ease(penalty=2.0)),
        (ItemKNNPopularity(shrink=3.0, half_life_days=None), ItemKNN(shrink=3.0)),
    ],
    ids=["ease", "item_knn"],
)


def long_tastes() -> Histories:
    return tastes(users=60, items=60, length=24, clock=True)


@each
def test_a_blend_adds_weighted_popularity_to_the_rival(blend: FittedLearner, rival: FittedLearner):
    data = long_tastes()
    meta = blend.fit(data)
    popularity = Popularity().fit(data)["count"] / Popularity().fit(data)["count"].max()
    evidence = scores(rival, rival.fit(data), liked(4, 6, 9, 1))
    # Four positives take the weight of three.
    expected = evidence + meta["weight"][1] * popularity
    assert torch.allclose(scores(blend, meta, liked(4, 6, 9, 1, padding=2)), expected, atol=1e-5)


@each
def test_without_evidence_a_blend_is_popularity(blend: FittedLearner, rival: FittedLearner):
    data = clicks([0, 1], [0], n_items=3)
    meta = blend.fit(data)
    assert scores(blend, meta, liked()).tolist() == [1, 0.5, 0]
    assert scores(blend, meta, liked(padding=2)).tolist() == [1, 0.5, 0]


def test_users_that_keep_to_their_half_leave_popularity_no_weight():
    # Every item is about as popular as any other; all there is to know is the half.
    meta = ItemKNNPopularity(shrink=20.0, held_out=0.5, half_life_days=None).fit(long_tastes())
    assert meta["weight"].max() < 1


def test_users_without_tastes_give_popularity_all_the_weight():
    generator = torch.Generator().manual_seed(0)
    appeal = torch.linspace(3, 0, 60)
    noise = -torch.log(-torch.log(torch.rand(80, 60, generator=generator)))
    lists = (appeal + noise).argsort(1, descending=True)[:, :24].tolist()
    meta = ItemKNNPopularity(shrink=20.0, held_out=0.5, half_life_days=None).fit(
        clicks(*lists, n_items=60)
    )
    assert meta["weight"][0] >= 1


def test_without_users_long_enough_to_judge_by_all_weights_are_one():
    lines: list[str] = []
    meta = EasePopularity().fit(tastes(), Fitting(progress=lines.append))
    assert meta["weight"].tolist() == [1, 1, 1, 1]
    assert "(0 judges)" in lines[-1]


@pytest.mark.parametrize(
    "data",
    [
        clicks(*[list(range(20))] * 20, n_items=20),
        clicks(*[[0, 1, 2, 3, 4] * 6] * 20, n_items=40),
    ],
    ids=["everybody met everything", "nothing follows but repeats"],
)
@each
def test_without_anything_to_find_or_to_miss_all_weights_are_one(
    blend: FittedLearner, rival: FittedLearner, data: Histories
):
    assert blend.fit(data)["weight"].tolist() == [1, 1, 1, 1]


def test_a_repeat_in_a_judges_window_is_no_more_evidence():
    # Judges met item 0 ten times, or once and nine items that nobody else met: the same evidence.
    others = [[0, 12 + user % 4] for user in range(30)]
    after = [12, 13, 14, 15, *range(30, 36)]
    once = clicks(*others, *[[0, *range(1, 10), *after]] * 2, n_items=40)
    again = clicks(*others, *[[0] * 10 + after] * 2, n_items=40)
    found = []
    for data in (once, again):
        tables = {
            "similarity": ItemKNN(shrink=1.0).fit(clicks(*others, n_items=40))["similarity"],
            "popularity": Popularity().fit(clicks(*others, n_items=40))["count"] / 30,
        }
        tasks = _tasks(data.take(torch.tensor([30, 31])), None)
        found.append([_best_weight(tables, tasks, size) for size in (1, 3, 10)])
    assert found[0] == found[1]


@each
def test_a_catalogue_that_would_not_fit_is_refused(blend: FittedLearner, rival: FittedLearner):
    small = blend.model_copy(update={"max_items": 3})
    with pytest.raises(DataError, match="takes at most 3 items, got a catalogue of 4"):
        small.fit(clicks([0], n_items=4))
