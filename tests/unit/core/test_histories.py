"""Histories against the lists they are made of."""

import torch
from torch import Tensor

from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.core.histories import Histories
from tests.unit.small_histories import histories_of

ITEMS = [[4, 0, 4], [], [2], [0, 1]]


def one_column(n: int) -> Features:
    """Entity or event n has the number n."""
    return Features(
        torch.zeros(n, 0, dtype=torch.int64), torch.zeros(n, 0), torch.arange(n).float()[:, None]
    )


def whole() -> Histories:
    users = SideInformation(one_column(4), (FieldSpan("number", False, 0, 1),), 1)
    return histories_of(ITEMS, n_items=6, time=range(6), cutoff=9)._replace(
        task_id=torch.tensor([3, 5, 6, 8]), context=one_column(6), users=users
    )


def numbers(of: Features) -> list[float]:
    return of.dense[:, 0].tolist()


def lists(histories: Histories, values: Tensor) -> list[list[int]]:
    return [part.tolist() for part in values.split(histories.lengths().tolist())]


def test_every_event_has_an_entity_and_a_position_in_its_history():
    histories = whole()
    assert (histories.n_entities, histories.n_items) == (4, 6)
    assert histories.lengths().tolist() == [3, 0, 1, 2]
    assert histories.entity().tolist() == [0, 0, 0, 2, 3, 3]
    assert histories.position().tolist() == [0, 1, 2, 0, 0, 1]
    assert histories.met_items().tolist() == [True, True, True, False, True, False]


def test_taking_entities_brings_their_events_and_features_along():
    taken = whole().take(torch.tensor([3, 1, 0]))
    assert taken.task_id.tolist() == [8, 5, 3]
    assert lists(taken, taken.item) == [[0, 1], [], [4, 0, 4]]
    assert lists(taken, taken.time) == [[4, 5], [], [0, 1, 2]]
    assert numbers(taken.context) == [4, 5, 0, 1, 2]
    assert numbers(taken.users.features) == [3, 1, 0]
    assert (taken.n_items, taken.cutoff) == (6, 9)
    assert whole().take(torch.tensor([], dtype=torch.int64)).offsets.tolist() == [0]


def test_keeping_events_keeps_the_entities():
    histories = whole()
    kept = histories.keep(histories.item != 4)
    assert kept.task_id.tolist() == histories.task_id.tolist()
    assert lists(kept, kept.item) == [[0], [], [2], [0, 1]]
    assert lists(kept, kept.time) == [[1], [], [3], [4, 5]]
    assert numbers(kept.context) == [1, 3, 4, 5]
    assert numbers(kept.users.features) == [0, 1, 2, 3]


def test_another_order_moves_all_that_is_known_of_an_event():
    moved = whole().reorder(torch.tensor([2, 0, 1, 3, 5, 4]))
    assert lists(moved, moved.item) == [[4, 4, 0], [], [2], [1, 0]]
    assert moved.time.tolist() == numbers(moved.context) == [2, 0, 1, 3, 5, 4]


def test_without_features_the_sizes_stay():
    bare = whole().without_features()
    assert (bare.n_entities, bare.n_items, bare.item.tolist()) == (4, 6, [4, 0, 4, 2, 0, 1])
    assert bare.users.matrix().shape == (4, 0)
    assert bare.items.matrix().shape == (6, 0)
    assert bare.take(torch.tensor([2])).context.dense.shape == (1, 0)
