import torch

from metarec_ray.evaluation.protocols.events import (
    first_meetings,
    item_share,
    padded,
    shuffled_ties,
)


def test_only_events_of_one_entity_and_moment_change_places() -> None:
    # Two entities that share a moment at their border: 0 0 0 1 1 | 1 1 2.
    offsets = torch.tensor([0, 5, 8])
    time = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    seen = set()
    for seed in range(200):
        order = shuffled_ties(offsets, time, torch.Generator().manual_seed(seed))
        assert sorted(order[:3].tolist()) == [0, 1, 2]
        assert sorted(order[3:5].tolist()) == [3, 4]
        assert sorted(order[5:7].tolist()) == [5, 6]
        assert order[7] == 7
        seen.add(tuple(order.tolist()))
    assert len(seen) == 6 * 2 * 2


def test_the_same_seed_draws_the_same_order() -> None:
    offsets, time = torch.tensor([0, 0, 50, 50]), torch.zeros(50, dtype=torch.int64)
    one, same, other = (
        shuffled_ties(offsets, time, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert shuffled_ties(torch.tensor([0, 0]), nothing, torch.Generator()).tolist() == []


def test_a_repeat_is_not_a_meeting_and_a_dropped_event_does_not_count() -> None:
    offsets, item = torch.tensor([0, 4, 6]), torch.tensor([2, 1, 2, 1, 2, 2])
    keep = torch.tensor([False, True, True, True, True, True])
    found = first_meetings(offsets, item, keep, 3)
    assert found.tolist() == [False, True, True, False, True, False]


def test_share_counts_an_entity_once_and_is_never_zero() -> None:
    offsets, item = torch.tensor([0, 3, 4, 4]), torch.tensor([0, 0, 1, 0])
    assert item_share(offsets, item, 3).tolist() == [2 / 2, 1 / 2, 1 / 2]


def test_padding_stands_at_the_end_and_an_empty_set_has_a_masked_slot() -> None:
    rows, mask = padded(torch.tensor([4, 9]), torch.tensor([2, 1]))
    assert rows.tolist() == [[4, 5], [9, 0]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert padded(torch.tensor([4]), torch.tensor([0]))[1].tolist() == [[False]]
