"""Every ranker: it finds what was planted, keeps what the first stage knows, and repeats itself."""

import pytest
import torch

from metarec_ray.algorithms.second_stage.rankers.base import Ranker
from metarec_ray.algorithms.second_stage.rankers.boosted_trees import BoostedTrees
from metarec_ray.algorithms.second_stage.rankers.listwise import concatenated, ndcg_of
from metarec_ray.algorithms.second_stage.rankers.networks import Networks
from tests.unit.algorithms.second_stage.rankers.lists import (
    fitted,
    installed,
    planted,
    quality,
    scores,
)

EVERY = [
    Networks(epochs=8, learning_rate=0.01, weight_decay=0.1, dropout=0.1),
    BoostedTrees(trees=40, learning_rate=0.3, min_items=20, penalty=1.0, inputs_share=0.5),
]


@pytest.fixture(params=EVERY, ids=lambda ranker: ranker.name)
def ranker(request: pytest.FixtureRequest) -> Ranker:
    return installed(request.param)


def test_a_planted_feature_is_found_on_lists_that_were_not_seen(ranker: Ranker) -> None:
    train, unseen = planted(600, 1), planted(200, 2)
    before = float(ndcg_of(unseen.inputs.score, unseen, depth=10).mean())
    assert before < 0.55
    assert quality(ranker, fitted(ranker, train), unseen, train) > 0.85


def test_what_only_the_first_stage_knows_is_kept(ranker: Ranker) -> None:
    train, unseen = (
        one._replace(inputs=one.inputs._replace(features=torch.zeros_like(one.inputs.features)))
        for one in (planted(600, 3), planted(200, 4))
    )
    before = float(ndcg_of(unseen.inputs.score, unseen, depth=10).mean())
    found = quality(ranker, fitted(ranker, train), unseen, train)
    assert found == pytest.approx(before, abs=1e-6)


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(ranker: Ranker) -> None:
    train = planted(150, 5)
    one = fitted(ranker, train, seed=3)
    torch.rand(7)
    state = torch.get_rng_state()
    two = fitted(ranker, train, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    other = fitted(ranker, train, seed=4)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
        assert not value.requires_grad
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_lists_without_a_relevant_item_teach_nothing(ranker: Ranker) -> None:
    train, empty = planted(130, 6), planted(70, 7)
    empty = empty._replace(relevant=torch.zeros_like(empty.relevant))
    scale = {"mean": torch.zeros(3), "std": torch.ones(3)}
    fits = [
        ranker.fit(shortlists, scale, sizes=2, seed=0)
        for shortlists in (train, concatenated([train, empty]))
    ]
    for name, value in fits[0].items():
        assert torch.equal(value, fits[1][name]), name


def test_nothing_to_learn_from_leaves_the_first_stage(ranker: Ranker) -> None:
    asked, empty = planted(5, 8), planted(5, 8)
    empty = empty._replace(relevant=torch.zeros_like(empty.relevant))
    for shortlists in (empty, empty.at(torch.arange(0))):
        found = scores(ranker, fitted(ranker, shortlists), asked, asked)
        assert torch.equal(found[asked.inputs.real], asked.inputs.score[asked.inputs.real])


def test_one_list_is_enough_to_learn_from(ranker: Ranker) -> None:
    found = fitted(ranker, planted(1, 10))
    assert not any(value.isnan().any() for value in found.values())


def test_a_task_without_weight_teaches_nothing(ranker: Ranker) -> None:
    # Half of the lists say the opposite, and have no weight.
    train, unseen = planted(600, 11), planted(200, 12)
    opposite = train.at(torch.arange(300))
    features = -opposite.inputs.features
    opposite = opposite._replace(
        inputs=opposite.inputs._replace(features=features), weight=torch.zeros(300)
    )
    both = concatenated([opposite, train.at(torch.arange(300, 600))])
    assert quality(ranker, fitted(ranker, both), unseen, both) > 0.8


def test_fits_side_by_side_are_a_loop_over_them(ranker: Ranker) -> None:
    train, asked = planted(150, 13), planted(20, 14)
    fits = [fitted(ranker, train, seed=seed) for seed in range(3)]
    together = {name: torch.cat([one[name] for one in fits]) for name in fits[0]}
    found = ranker.scores(together, torch.zeros(20, 20, 6), asked.inputs)
    assert found.shape == (3, 20, 20)
    for row, one in enumerate(fits):
        alone = ranker.scores(one, torch.zeros(20, 20, 6), asked.inputs)[0]
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-4)
