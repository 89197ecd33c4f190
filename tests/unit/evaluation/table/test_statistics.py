import pytest
import torch

from metarec_ray.errors import DataError
from metarec_ray.evaluation.table.statistics import (
    bonferroni,
    bootstrap,
    entities_needed,
    holm,
)


def normal(shift: float, seed: int, n: int = 400) -> torch.Tensor:
    return shift + torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = normal(5, 0)
    interval = bootstrap(values.unsqueeze(0), resamples=4000, seed=0).interval(0)
    half = 1.96 * values.std().item() / 400**0.5
    assert interval.low == pytest.approx(values.mean().item() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean().item() + half, abs=0.1 * half)


def test_a_paired_difference_is_seen_where_an_unpaired_one_would_drown():
    # Users differ by a standard deviation of 1, the methods by .05 with noise .1:
    # t = .05 / (.1 / 20) = 10.
    users = normal(0, 1)
    better = users + 0.05 + 0.1 * normal(0, 2)
    resampled = bootstrap(torch.stack([users, better]), resamples=1000, seed=0)
    assert resampled.p_value(0, 1) == pytest.approx(2 / 1001)


def test_the_p_value_agrees_with_the_normal_approximation():
    # A difference of two standard errors: p = .0455 on both sides of the normal distribution.
    difference = normal(0, 3)
    difference = (difference - difference.mean()) / difference.std() + 2 / 400**0.5
    resampled = bootstrap(torch.stack([torch.zeros(400), difference]), resamples=20_000, seed=0)
    assert resampled.p_value(0, 1) == pytest.approx(0.0455, abs=0.008)


def test_equal_methods_have_a_p_of_one():
    values = normal(0, 4)
    assert bootstrap(torch.stack([values, values]), resamples=1000, seed=0).p_value(0, 1) == 1


def test_the_same_seed_draws_the_same_resamples():
    values = normal(0, 5).unsqueeze(0)
    first = bootstrap(values, resamples=1500, seed=7).means
    assert torch.equal(first, bootstrap(values, resamples=1500, seed=7).means)
    assert not torch.equal(first, bootstrap(values, resamples=1500, seed=8).means)


def test_corrections_reproduce_arithmetic_written_out():
    p = [0.01, 0.04, 0.03]
    assert bonferroni(p) == pytest.approx([3 * 0.01, 3 * 0.04, 3 * 0.03])
    # Ascending: 3 x .01, then max(.03, 2 x .03), then max(.06, 1 x .04).
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06])
    assert bonferroni([0.6, 0.9]) == [1, 1]
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_a_weight_counts_an_entity_as_often_as_copies_of_it_would_in_a_mean():
    values = torch.tensor([[0.0, 1.0]])
    drawn = bootstrap(values, resamples=4000, seed=0, weight=torch.tensor([1.0, 3.0])).means
    # Both entities once, one of them twice: means 3/4, 0 and 1.
    assert sorted(set(drawn[0].tolist())) == [0, 0.75, 1]
    assert drawn.mean().item() == pytest.approx((2 * 0.75 + 0 + 1) / 4, abs=0.02)


def test_a_bootstrap_of_nobody_is_refused():
    with pytest.raises(DataError, match="at least 1 entity, got 0"):
        bootstrap(torch.zeros(2, 0), resamples=1000, seed=0)


def test_as_many_entities_as_are_needed_see_the_effect_four_times_in_five():
    differences = normal(0, 6, n=100_000)
    # (1.95996 + 0.84162)^2 = 7.8489, over the squared effect, .25^2, in standard deviations.
    needed = entities_needed(differences / differences.std(), 0.25)
    assert needed == 126
    draws = 0.25 + torch.randn(20_000, needed, generator=torch.Generator().manual_seed(7))
    z = draws.mean(1) / draws.std(1) * needed**0.5
    assert (z.abs() > 1.95996).double().mean().item() == pytest.approx(0.8, abs=0.01)


def test_nothing_needs_entities_where_nothing_differs():
    assert entities_needed(torch.zeros(9), 0.1) is None
    assert entities_needed(normal(0, 8), 0.0) is None
    assert entities_needed(torch.ones(1), 0.1) is None
