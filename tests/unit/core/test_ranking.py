import torch

from metarec_ray.core.ranking import top_k


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


def test_none_of_many_is_an_empty_list() -> None:
    assert top_k(torch.zeros(3), torch.arange(3), 0).tolist() == []


def test_it_agrees_with_sorting_everything() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 6, (200,), generator=generator).float()
    by_id = torch.randperm(200, generator=generator)
    expected = sorted(range(200), key=lambda row: (-float(scores[row]), int(by_id[row])))
    for k in (1, 7, 199, 200):
        assert top_k(scores, by_id, k).tolist() == expected[:k]
