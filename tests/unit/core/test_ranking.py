import math

import pytest
import torch

from metarec_ray.core.ranking import BLOCK, in_order, shortlist, top_k


def test_the_highest_scores_come_first() -> None:
    scores = torch.tensor([0.1, 0.9, -3.0, 0.5])
    assert top_k(scores, torch.arange(4), 3).tolist() == [1, 3, 0]


def test_ties_are_in_the_order_of_their_ids_not_of_their_rows() -> None:
    scores, by_id = torch.tensor([1.0, 2.0, 1.0, 1.0]), torch.tensor([3, 0, 2, 1])
    assert top_k(scores, by_id, 4).tolist() == [1, 3, 2, 0]


def test_ties_at_the_edge_are_decided_by_id_too() -> None:
    by_id = torch.tensor([4, 3, 2, 1, 0])
    assert top_k(torch.zeros(5), by_id, 2).tolist() == [4, 3]


def test_minus_infinity_is_chosen_last() -> None:
    scores = torch.tensor([-torch.inf, 0.0, -torch.inf])
    assert top_k(scores, torch.arange(3), 1).tolist() == [1]
    assert top_k(scores, torch.arange(3), 3).tolist() == [1, 0, 2]


def test_what_is_not_a_number_is_chosen_last_and_infinity_first() -> None:
    scores = torch.tensor([math.nan, 1.0, math.inf, -math.inf, math.nan])
    assert top_k(scores, torch.arange(5), 2).tolist() == [2, 1]
    assert top_k(scores, torch.tensor([4, 3, 2, 1, 0]), 5).tolist() == [2, 1, 4, 3, 0]


def test_none_of_many_is_an_empty_list() -> None:
    assert top_k(torch.zeros(3), torch.arange(3), 0).tolist() == []


def test_it_agrees_with_sorting_everything() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 6, (200,), generator=generator).float()
    by_id = torch.randperm(200, generator=generator)
    expected = sorted(range(200), key=lambda row: (-float(scores[row]), int(by_id[row])))
    for k in (1, 7, 199, 200):
        assert top_k(scores, by_id, k).tolist() == expected[:k]
    assert in_order(scores, by_id).tolist() == expected


def test_the_rows_of_a_table_are_ordered_each() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0], [0.0, math.nan, -1.0]])
    by_id = torch.tensor([[0, 2, 1], [0, 1, 2]])
    assert in_order(scores, by_id).tolist() == [[2, 1, 0], [0, 2, 1]]


@pytest.mark.parametrize("count", [BLOCK * 40, BLOCK * 40 + 7, 50])
@pytest.mark.parametrize("size", [1, 20, 50])
def test_a_shortlist_holds_the_highest_scores_of_each_row(count: int, size: int) -> None:
    scores = torch.randn(3, count, generator=torch.Generator().manual_seed(count))
    scores[1, -5:] += 9  # what does not fill a block counts too
    scores[2] = -torch.inf
    scores[2, :3] = torch.arange(3.0)
    values, places = shortlist(scores, size)
    assert torch.equal(scores.gather(1, places), values)
    expected = scores.sort(1, descending=True).values[:, :size]
    assert torch.equal(values.sort(1, descending=True).values, expected)
    assert all(len(set(row)) == size for row in places.tolist())


def test_many_equal_scores_are_a_shortlist_of_any_of_them() -> None:
    _, places = shortlist(torch.zeros(1, BLOCK * 9), 5)
    assert len(set(places[0].tolist())) == 5
