import torch

from metarec_ray.core.buckets import buckets


def cut(lengths: list[int], overhead: int) -> list[list[int]]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return [part.tolist() for part in buckets(mask, overhead=overhead)]


def cost(lengths: list[int], parts: list[list[int]], overhead: int) -> int:
    return sum(overhead + len(part) * max(lengths[task] for task in part) for part in parts)


def test_tasks_of_one_length_stay_together() -> None:
    assert cut([3, 3, 3], overhead=0) == [[0, 1, 2]]


def test_a_bucket_is_worth_its_overhead_or_is_not_made() -> None:
    # Padding the short ones costs 2 * (10 - 1) = 18 rows.
    assert cut([1, 10, 1], overhead=17) == [[0, 2], [1]]
    assert cut([1, 10, 1], overhead=19) == [[0, 1, 2]]


def test_empty_supports_are_tasks_as_well() -> None:
    assert cut([0, 2, 0], overhead=1) == [[0, 2], [1]]


def test_no_other_cut_of_the_sorted_lengths_costs_less() -> None:
    lengths, overhead = [7, 2, 9, 4, 4, 1, 8], 6
    ascending = sorted(range(len(lengths)), key=lengths.__getitem__)
    every = []
    for bits in range(2 ** (len(lengths) - 1)):
        parts, part = [], [ascending[0]]
        for at, task in enumerate(ascending[1:]):
            if bits >> at & 1:
                parts.append(part)
                part = []
            part.append(task)
        every.append(cost(lengths, [*parts, part], overhead))
    found = cut(lengths, overhead)
    assert sorted(task for part in found for task in part) == list(range(len(lengths)))
    assert cost(lengths, found, overhead) == min(every)
