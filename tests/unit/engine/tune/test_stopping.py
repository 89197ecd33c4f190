"""Who stops at a rung, of trials that are there together."""

import pytest

from metarec_ray.engine.tune.stopping import stopped


def test_the_worse_half_stops_at_rungs_that_are_powers_of_two() -> None:
    values = {0: [0.1], 1: [0.4], 2: [0.2], 3: [0.3], 7: [0.05]}
    assert stopped("asha", values, rungs=4, maximise=True) == {0, 7}
    assert stopped("asha", values, rungs=4, maximise=False) == {1, 3}
    assert stopped("none", values, rungs=4, maximise=True) == set()
    third = {number: [0.0, 0.0, *found] for number, found in values.items()}
    assert stopped("asha", third, rungs=4, maximise=True) == set()


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_nobody_stops_early_at_the_end_or_alone(scheduler: str) -> None:
    assert stopped(scheduler, {0: [0.1], 1: [0.2]}, rungs=1, maximise=True) == set()  # type: ignore[arg-type]
    assert stopped(scheduler, {3: [0.1]}, rungs=4, maximise=True) == set()  # type: ignore[arg-type]
    assert stopped(scheduler, {}, rungs=4, maximise=True) == set()  # type: ignore[arg-type]


def test_the_median_rule_compares_the_best_value_with_the_means_of_at_least_three_others() -> None:
    # Of trials 0 and 1 the best is 0.3; the means of the others are 0.2, 0.4 and 0.6.
    values = {0: [0.3, 0.1], 1: [0.1, 0.3], 2: [0.4, 0.4], 3: [0.5, 0.7]}
    assert stopped("median", values, rungs=4, maximise=True) == {0, 1}
    del values[3]
    assert stopped("median", values, rungs=4, maximise=True) == set()
