"""What follows what: against a loop over ordered pairs."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage import transitions as module
from metarec_ray.algorithms.second_stage.transitions import association, transitions
from metarec_ray.core.batch import Params
from metarec_ray.core.histories import Histories
from tests.unit.small_histories import histories_of

ITEMS = 9
LISTS = [
    torch.randint(ITEMS, (n,), generator=torch.Generator().manual_seed(n)).tolist()
    for n in (0, 1, 2, 3, 11, 12, 13, 30, 0, 5)
]
Counts = Counter[tuple[int, int]]


def log() -> Histories:
    return histories_of(LISTS, n_items=ITEMS)


def pairs_by_hand(lists: list[list[int]], window: int) -> Counts:
    """How often the second of two different items comes at most `window` events after the first."""
    found = Counts()
    for events in lists:
        for at, first in enumerate(events):
            for second in events[at + 1 : at + 1 + window]:
                found[first, second] += first != second
    return Counts({pair: count for pair, count in found.items() if count})


def counts_of(params: Params, row: int) -> Counts:
    pairs = zip(params["key"].tolist(), params["count"][row].tolist(), strict=True)
    return Counts({divmod(key, params["log_total"].shape[1]): int(c) for key, c in pairs if c})


def share_by_hand(lists: list[list[int]], n_items: int) -> list[float]:
    seconds = [0.1] * n_items
    for (_, second), count in pairs_by_hand(lists, 10).items():
        seconds[second] += count
    return [one / sum(seconds) for one in seconds]


def all_pairs(n: int) -> tuple[Tensor, Tensor]:
    first, second = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return first, second


def test_pairs_are_those_of_a_loop_over_ten_and_over_two_events() -> None:
    found = transitions(log())
    assert bool((found["key"].diff() > 0).all())
    for row, window in enumerate((10, 2)):
        right = pairs_by_hand(LISTS, window)
        assert counts_of(found, row) == right
        totals = [sum(c for (a, _), c in right.items() if a == item) for item in range(ITEMS)]
        assert found["log_total"][row].exp().sub(20).tolist() == pytest.approx(totals, abs=1e-3)
    shares = share_by_hand(LISTS, ITEMS)
    assert found["rarity"].tolist() == pytest.approx([1 / one for one in shares], rel=1e-5)


def test_an_item_does_not_follow_itself_and_what_comes_after_follows_it_twice() -> None:
    found = transitions(histories_of([[2, 2, 0]], n_items=3))
    assert counts_of(found, 0) == {(2, 0): 2}
    assert counts_of(found, 1) == {(2, 0): 2}
    totals = found["log_total"].exp() - 20
    torch.testing.assert_close(totals, torch.tensor([[0.0, 0, 2], [0, 0, 2]]))


def test_no_pair_reaches_from_one_entity_to_the_next() -> None:
    assert transitions(histories_of([[0], [1], [2, 1]], n_items=3))["key"].tolist() == [2 * 3 + 1]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_any_number_of_events_at_a_time_gives_the_same(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = transitions(log())
    monkeypatch.setattr(module, "_CHUNK", chunk)
    parts = transitions(log())
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name


@pytest.mark.parametrize("kept", [1, 3])
def test_of_many_followers_the_most_frequent_are_kept(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = transitions(log())
    monkeypatch.setattr(module, "FOLLOWERS", kept)
    found = transitions(log())
    every, few = pairs_by_hand(LISTS, 10), counts_of(found, 0)
    for first in range(ITEMS):
        own = sorted((c for (a, _), c in every.items() if a == first), reverse=True)
        assert sorted((c for (a, _), c in few.items() if a == first), reverse=True) == own[:kept]
    assert all(every[pair] == count for pair, count in few.items())
    # What is left out still counts as a pair of its first item, and of its second.
    assert torch.equal(found["log_total"], whole["log_total"])
    assert torch.equal(found["rarity"], whole["rarity"])
    assert bool((found["key"].diff() > 0).all())


def test_the_association_is_the_formula_written_out() -> None:
    found = association(transitions(log()), *all_pairs(ITEMS))
    assert found.shape == (2, ITEMS, ITEMS)
    shares = share_by_hand(LISTS, ITEMS)
    for row, window in enumerate((10, 2)):
        counts = pairs_by_hand(LISTS, window)
        for a in range(ITEMS):
            total = sum(counts[a, other] for other in range(ITEMS))
            for b in range(ITEMS):
                told = (counts[a, b] + 20 * shares[b]) / (total + 20)
                right = math.log(told / shares[b])
                assert float(found[row, a, b]) == pytest.approx(right, abs=1e-5)


def test_an_item_that_nothing_followed_tells_nothing() -> None:
    params = transitions(histories_of([[0, 1], [2]], n_items=4))
    found = association(params, torch.tensor([2, 3, 1]), torch.tensor([1, 3, 0]))
    torch.testing.assert_close(found, torch.zeros(2, 3), rtol=0, atol=1e-6)
    # Item 0 was followed, and not by these.
    assert bool((association(params, torch.tensor([0, 0]), torch.tensor([2, 3])) < 0).all())
    assert bool((association(params, torch.tensor([0]), torch.tensor([1])) > 0).all())


@pytest.mark.parametrize("lists", [[], [[], []], [[1], [2]], [[1, 1, 1]]])
def test_a_log_without_pairs_tells_nothing(lists: list[list[int]]) -> None:
    params = transitions(histories_of(lists, n_items=3))
    assert not params["count"].any()
    found = association(params, *all_pairs(3))
    torch.testing.assert_close(found, torch.zeros(2, 3, 3), rtol=0, atol=1e-6)
