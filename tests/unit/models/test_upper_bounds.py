import torch

from metarec_ray.models.upper_bounds import UpperBounds, exactly, weighted_sum


def test_a_value_that_reaches_a_score_is_rounded_towards_doubt() -> None:
    bounds = UpperBounds(torch.zeros(2, 1), torch.tensor([0.1, -3.0], dtype=torch.float64))
    value = bounds.reaching(torch.tensor([1.0, 2.0])).double()
    wanted = torch.tensor([1.0 - 0.1, 2.0 + 3.0], dtype=torch.float64)
    assert bool((value < wanted).all())
    torch.testing.assert_close(value, wanted, rtol=1e-5, atol=0)


def test_nothing_reaches_what_is_not_a_number() -> None:
    bounds = exactly(torch.ones(1, 3))
    assert not bool((bounds.value >= bounds.reaching(torch.tensor([torch.nan]))).any())


def test_bounds_of_scores_are_a_copy_of_them() -> None:
    scores = torch.ones(1, 3)
    exactly(scores).value.zero_()
    assert scores.tolist() == [[1.0, 1.0, 1.0]]


def test_no_weighted_sum_is_above_the_sum_of_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(3, 500, generator=generator) * scale for scale in (1e-3, 1.0, 1e4)]
    slack = [torch.rand(3, 500, generator=generator) * 1e-4 for _ in scores]
    shift = torch.tensor([0.0, 5.0, -1e3], dtype=torch.float64)
    parts = [
        UpperBounds(score + more - shift.float().unsqueeze(1), shift + 2e-3)
        for score, more in zip(scores, slack, strict=True)
    ]
    weights = torch.rand(3, 3, generator=generator)
    total = weighted_sum(parts, weights)
    summed = torch.einsum("tm,mti->ti", weights, torch.stack(scores))
    most = total.value.double() + total.shift.unsqueeze(1)
    assert bool((summed <= most).all())
    torch.testing.assert_close(summed.double(), most, rtol=0, atol=0.1)
