import math

import pytest
import torch

from metarec_ray.errors import DataError
from metarec_ray.evaluation.table.statistics import (
    Bootstrap,
    Sample,
    bootstrap,
    entities_needed,
    holm,
)


def normal(shift: float, seed: int, n: int = 400) -> torch.Tensor:
    return shift + torch.randn(n, generator=torch.Generator().manual_seed(seed))


def drawn(*values: torch.Tensor, resamples: int, seed: int = 0) -> Bootstrap:
    return bootstrap([Sample.of(one) for one in values], resamples=resamples, seed=seed)


def fits(values: torch.Tensor) -> Sample:
    """Values [S, E] of seeds 0, 1, ..."""
    return Sample(values, torch.ones_like(values), tuple(range(len(values))))


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = normal(5, 0)
    interval = drawn(values, resamples=4000).interval(0)
    half = 1.96 * values.std().item() / 400**0.5
    assert interval.low == pytest.approx(values.mean().item() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean().item() + half, abs=0.1 * half)


def test_a_paired_difference_is_seen_where_an_unpaired_one_would_drown():
    # Users differ by a standard deviation of 1, the methods by .05 with noise .1:
    # t = .05 / (.1 / 20) = 10.
    users = normal(0, 1)
    better = users + 0.05 + 0.1 * normal(0, 2)
    assert drawn(users, better, resamples=1000).p_value(0, 1) == pytest.approx(2 / 1001)


def test_the_p_value_agrees_with_the_normal_approximation():
    # A difference of two standard errors: p = .0455 on both sides of the normal distribution.
    difference = normal(0, 3)
    difference = (difference - difference.mean()) / difference.std() + 2 / 400**0.5
    resampled = drawn(torch.zeros(400), difference, resamples=20_000)
    assert resampled.p_value(0, 1) == pytest.approx(0.0455, abs=0.008)


def test_equal_methods_have_a_p_of_one():
    values = normal(0, 4)
    assert drawn(values, values, resamples=1000).p_value(0, 1) == 1


def test_the_same_seed_draws_the_same_resamples():
    values = normal(0, 5)
    first = drawn(values, resamples=1500, seed=7).means
    assert torch.equal(first, drawn(values, resamples=1500, seed=7).means)
    assert not torch.equal(first, drawn(values, resamples=1500, seed=8).means)


@pytest.mark.parametrize("seeds", [(5, 5), (1, 4)])
def test_methods_equal_in_expectation_are_seldom_called_different(seeds: tuple[int, int]):
    # Every fit of a method is off by its own draw of .3; users are shared and cancel.
    told, blind, simulated = 0, 0, 80
    for draw in range(simulated):
        generator = torch.Generator().manual_seed(1000 + draw)
        user = torch.randn(60, generator=generator)
        both = []
        for count in seeds:
            off = 0.3 * torch.randn(count, 1, generator=generator) * (count > 1)
            both.append(user + off + 0.3 * torch.randn(count, 60, generator=generator))
        one, other = map(fits, both)
        told += bootstrap([one, other], resamples=200, seed=draw).p_value(0, 1) < 0.05
        averaged = drawn(*(values.mean(0) for values in both), resamples=200, seed=draw)
        blind += averaged.p_value(0, 1) < 0.05
    chance = (0.05 * 0.95 / simulated) ** 0.5
    assert told / simulated <= 0.05 + 2 * chance
    assert blind / simulated > 0.3  # seeds averaged before the bootstrap


def test_over_seeds_alone_p_is_that_of_students_test():
    from scipy import stats  # a second to import, in each worker if it stood above

    # Entities are all alike, so that only seeds differ.
    off = torch.tensor([[0.3], [0.1], [0.25], [-0.1], [0.15]])
    one, other = fits(off.expand(5, 50)), Sample.of(torch.zeros(50))
    resampled = bootstrap([one, other], resamples=20_000, seed=0)
    mean, error = off.mean().item(), off.std().item() / 5**0.5
    p = 2 * stats.t.sf(mean / error, 4)
    assert resampled.p_value(0, 1) == pytest.approx(p, abs=0.006)
    half = stats.t.ppf(0.975, 4) * error
    assert resampled.interval(0) == pytest.approx((mean - half, mean + half), abs=0.01)


def test_methods_are_paired_by_the_seeds_they_share():
    # A seed shuffles the tasks of both: what it does to the level says nothing of the difference.
    shuffled = torch.tensor([[0.0], [1.0], [-1.0], [0.5]]) + normal(0, 9, n=100)
    other = shuffled + 0.1 + 0.01 * torch.randn(4, 100, generator=torch.Generator().manual_seed(1))
    resampled = bootstrap([fits(shuffled), fits(other)], resamples=1000, seed=0)
    assert resampled.p_value(0, 1) < 0.01
    strangers = fits(other)._replace(seeds=(4, 5, 6, 7))
    assert bootstrap([fits(shuffled), strangers], resamples=1000, seed=0).p_value(0, 1) > 0.5


def test_mean_interval_and_p_are_of_the_entities_with_a_value():
    values, other = normal(5, 0), normal(4.9, 1)
    values[::2] = torch.nan
    kept = drawn(values[1::2], other[1::2], resamples=2000)
    gaps = drawn(values, other, resamples=2000)
    assert gaps.samples[0].mean() == pytest.approx(values[1::2].mean().item())
    # Half as many, so wider by the root of two, around the same mean.
    assert gaps.interval(0) == pytest.approx(kept.interval(0), abs=0.03)
    assert gaps.p_value(0, 1) == gaps.p_value(1, 0) == kept.p_value(0, 1)
    weighted = Sample.of(torch.tensor([1.0, 4.0, math.nan]), torch.tensor([3.0, 1.0, 9.0]))
    assert weighted.mean() == pytest.approx((3 * 1 + 4) / 4)
    assert math.isnan(Sample.of(torch.tensor([math.nan])).mean())


def test_the_correction_reproduces_arithmetic_written_out():
    # Ascending: 3 x .01, then max(.03, 2 x .03), then max(.06, 1 x .04).
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_a_weight_counts_an_entity_as_often_as_copies_of_it_would_in_a_mean():
    sample = Sample.of(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
    means = bootstrap([sample], resamples=4000, seed=0).means
    # Both entities once, one of them twice: means 3/4, 0 and 1.
    assert sorted(set(means[0].tolist())) == [0, 0.75, 1]
    assert means.mean().item() == pytest.approx((2 * 0.75 + 0 + 1) / 4, abs=0.02)


def test_a_bootstrap_of_nobody_is_refused():
    with pytest.raises(DataError, match="at least 1 entity, got 0"):
        drawn(torch.zeros(0), resamples=1000)


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
