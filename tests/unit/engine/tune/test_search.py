"""What a sweep tries, and what stops its trials."""

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule
from ray.tune.search.variant_generator import generate_variants

from metarec_ray.config.sweeping import Range, Sweep
from metarec_ray.engine.tune import search

RATE = {"low": 0.001, "high": 0.1}


def sweep(**keys: Any) -> Sweep:
    return Sweep.model_validate(keys)


def test_a_grid_is_every_combination_once() -> None:
    space = {"train.outer_lr": RATE | {"points": 3}, "model.dim": {"choices": [8, 16]}}
    asked = sweep(search="grid", space=space)
    trials = [config for _, config in generate_variants(search.parameter_space(asked))]
    found = [tuple(config[key] for key in space) for config in trials]
    assert sorted(found) == sorted(product((0.001, 0.01, 0.1), (8, 16)))
    assert asked.planned == len(found) == 6
    assert search.samples(asked) == 1


def test_points_are_evenly_spaced_between_the_ends() -> None:
    space = {"train.weight_decay": {"low": 0, "high": 2, "log": False, "points": 5}}
    grid = search.parameter_space(sweep(search="grid", space=space))
    assert grid == {"train.weight_decay": {"grid_search": [0, 0.5, 1.0, 1.5, 2]}}


def test_a_random_search_draws_between_the_ends() -> None:
    asked = sweep(space={"train.outer_lr": RATE, "model.dim": {"choices": [8]}}, trials=5)
    space: Any = search.parameter_space(asked)
    drawn = [space["train.outer_lr"].sample() for _ in range(200)]
    assert 0.001 <= min(drawn) < 0.01 < max(drawn) <= 0.1
    assert sum(rate < 0.01 for rate in drawn) > 60  # half of them: the logarithm is uniform
    assert (asked.planned, search.samples(asked)) == (5, 5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("asha", ASHAScheduler), ("median", MedianStoppingRule), ("none", FIFOScheduler)],
)
def test_each_scheduler_is_the_one_that_is_named(name: str, kind: type) -> None:
    assert isinstance(search.scheduler(sweep(scheduler=name)), kind)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"search": "grid", "space": {"a.b": RATE}}, "must have points in a grid, got None for a"),
        ({"space": {"a.b": RATE | {"points": 3}}}, "points in a grid only, got 3 for a.b"),
        (
            {"search": "grid", "trials": 9, "space": {"a.b": {"choices": [1]}}},
            "trials are of search random or optuna, a grid has its own, got 9",
        ),
        ({"space": {"a.b": {"choices": [1], "points": 2}}}, "points are of an interval, got 2"),
        ({"space": {"a.b": {"choices": []}}}, "at least 1 item"),
        ({"space": {"a.b": {"choices": [1, 2, 1]}}}, "must be different values"),
        ({"space": {"a.b": {"choices": [1], "low": 1}}}, "either low and high, or choices"),
        (
            {"search": "grid", "space": {name: RATE | {"points": 500} for name in ("a", "b")}},
            "10,000 trials at most, got 250,000",
        ),
        ({"search": "annealing"}, "'random', 'grid' or 'optuna'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        sweep(**keys)


@pytest.mark.parametrize(("low", "high"), [(1e9, 1e9 + 100), (1.0, 1.00001), (1e-3, 1e-1)])
def test_points_of_an_interval_are_different_and_within_it(low: float, high: float) -> None:
    for log in (False, True):
        points = [float(str(one)) for one in Range(low=low, high=high, points=5, log=log).grid()]
        assert points == sorted(set(points))
        assert (points[0], points[-1]) == (low, high)
