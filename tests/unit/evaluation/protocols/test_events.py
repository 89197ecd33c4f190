import torch

from metarec_ray.evaluation.protocols.events import (
    first_meetings,
    item_share,
    padded,
    shuffled_ties,
)
from tests.unit.small_histories import histories_of


def order(sizes: list[int], time: list[int], seed: int) -> torch.Tensor:
    """The numbers of the events, shuffled; `sizes` says how many an entity has."""
    numbers = torch.arange(sum(sizes)).split(sizes)
    whole = histories_of([own.tolist() for own in numbers], n_items=max(sum(sizes), 1))
    return shuffled_ties(whole, torch.tensor(time), torch.Generator().manual_seed(seed)).item


def test_only_events_of_one_entity_and_moment_change_places() -> None:
    # Two entities that share a moment at their border: 0 0 0 1 1 | 1 1 2.
    seen = set()
    for seed in range(200):
        found = order([5, 3], [0, 0, 0, 1, 1, 1, 1, 2], seed)
        assert sorted(found[:3].tolist()) == [0, 1, 2]
        assert sorted(found[3:5].tolist()) == [3, 4]
        assert sorted(found[5:7].tolist()) == [5, 6]
        assert found[7] == 7
        seen.add(tuple(found.tolist()))
    assert len(seen) == 6 * 2 * 2


def test_the_same_seed_draws_the_same_order() -> None:
    one, same, other = (order([0, 50, 0], [0] * 50, seed) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert order([0], [], 0).tolist() == []


def test_a_repeat_is_not_a_meeting_and_a_dropped_event_does_not_count() -> None:
    keep = torch.tensor([False, True, True, True, True, True])
    found = first_meetings(histories_of([[2, 1, 2, 1], [2, 2]], n_items=3), keep)
    assert found.tolist() == [False, True, True, False, True, False]


def test_share_counts_an_entity_once_and_is_never_zero() -> None:
    share = item_share(histories_of([[0, 0, 1], [0], []], n_items=3))
    assert share.tolist() == [2 / 2, 1 / 2, 1 / 2]


def test_padding_stands_at_the_end_and_an_empty_set_has_a_masked_slot() -> None:
    rows, mask = padded(torch.tensor([4, 9]), torch.tensor([2, 1]))
    assert rows.tolist() == [[4, 5], [9, 0]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert padded(torch.tensor([4]), torch.tensor([0]))[1].tolist() == [[False]]
