"""Sampled items: none that an entity has met, as often as the sampling says."""

import numpy as np
import pytest

from metarec_ray.core.histories import Histories
from metarec_ray.data.tasks.negatives import Negatives, Sampling
from metarec_ray.errors import DataError
from tests.unit.small_histories import histories_of

# Item 0 is met by all, item n by fewer; items 8 and 9 by nobody.
HISTORIES = [[0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 5], [0, 1, 6, 7]]
EVERYTHING = np.arange(10)
SAMPLINGS: tuple[Sampling, ...] = ("uniform", "popularity", "in_batch")


def table(histories: list[list[int]]) -> Histories:
    found = histories_of(histories, n_items=len(EVERYTHING))
    return found._replace(task_id=100 + found.task_id)


def draw(sampling: Sampling, count: int, entities: list[int], *rankable: np.ndarray, seed: int = 0):
    made = Negatives(table(HISTORIES), rankable or (EVERYTHING,), sampling)
    ranked = np.arange(len(entities)) % max(1, len(rankable))
    return made.draw(np.array(entities), ranked, count, np.random.default_rng(seed))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_no_negative_is_of_the_entity_s_own_history(sampling: Sampling) -> None:
    entities = [4, 0, 3, 1, 0]
    drawn = draw(sampling, 200, entities)
    assert drawn.shape == (5, 200)
    for row, entity in zip(drawn, entities, strict=True):
        assert not set(row.tolist()) & set(HISTORIES[entity])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_seed_draws_the_same_items(sampling: Sampling) -> None:
    one, again, other = (draw(sampling, 30, [0, 3], seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def shares(drawn: np.ndarray) -> list[float]:
    return (np.bincount(drawn, minlength=10) / drawn.size).tolist()


def test_even_draws_take_every_item_alike() -> None:
    found = shares(draw("uniform", 40_000, [3])[0])
    assert found == pytest.approx([0, *[1 / 8] * 4, 0, *[1 / 8] * 4], abs=0.01)


def test_popular_items_are_drawn_as_often_as_they_are_met() -> None:
    # Beside its own 0 and 5: item 1 is met four times, 2 twice, and 3, 4, 6, 7 once.
    found = shares(draw("popularity", 40_000, [3])[0])
    assert found == pytest.approx([0, 0.4, 0.2, 0.1, 0.1, 0, 0.1, 0.1, 0, 0], abs=0.01)


def test_what_the_lane_met_is_drawn_from_the_lane() -> None:
    # Entities 2 and 3 hold 0, 1, 4 and 0, 5.
    found = draw("in_batch", 3000, [2, 3])
    assert shares(found[0])[5] == 1
    assert shares(found[1]) == pytest.approx([0, 0.5, 0, 0, 0.5, 0, 0, 0, 0, 0], abs=0.05)


def test_each_task_is_drawn_from_what_it_ranks() -> None:
    first, second = draw("uniform", 100, [0, 0], np.array([2, 3, 4]), np.array([7, 9]))
    assert set(first.tolist()) == {3, 4}
    assert set(second.tolist()) == {7, 9}


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_entity_that_met_everything_is_refused(sampling: Sampling) -> None:
    with pytest.raises(DataError, match=r"must leave some item unmet .*task 100 met all 3"):
        draw(sampling, 5, [0], np.array([0, 1, 2]))


def test_no_negatives_are_no_work() -> None:
    assert draw("uniform", 0, [0, 1]).shape == (2, 0)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_task_draws_from_its_own_catalogue(sampling: Sampling) -> None:
    catalogues = (np.array([1, 2, 3, 4]), np.array([0, 5, 6, 7]))
    drawn = draw(sampling, 50, [0, 1, 3, 4], *catalogues)
    for row, which in zip(drawn, (0, 1, 0, 1), strict=True):
        assert set(row.tolist()) <= set(catalogues[which].tolist())
