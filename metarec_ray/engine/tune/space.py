"""The keys that a sweep searches, and their values.

Knows the settings of a sweep and what Tune draws from; does not know trials.
"""

from typing import Any

from ray import tune

from metarec_ray.config.experiment import Experiment, override
from metarec_ray.config.sweeping import Range
from metarec_ray.errors import ConfigError


def require_searchable(experiment: Experiment) -> None:
    """Raise a ConfigError unless a sweep can train the experiment with every key and bound."""
    if experiment.blend.members:
        raise ConfigError(
            "a sweep is of one learner, got a blend of "
            f"{', '.join(experiment.blend.members)} (blend.members)"
        )
    if experiment.second_stage is not None:
        raise ConfigError(
            "a sweep is of one learner, got a second stage on top of it (second_stage: null "
            "leaves it out)"
        )
    train = experiment.train
    if train.average is not None or train.periods > 1:
        key, value = "periods", train.periods
        if train.average is not None:
            key, value = "average.shards", train.average.shards
        raise ConfigError(f"a sweep's trials train one model at once, got train.{key} {value}")
    _with_each_bound(experiment)


def any_ranks_only(experiment: Experiment) -> bool:
    """Return whether a trial may be of a learner that only ranks: all are judged by rankings then.

    ConfigError as `require_searchable`.
    """
    return any(one.algorithm.ranks_only for one in _with_each_bound(experiment))


def drawn_from(space: dict[str, Range]) -> dict[str, Any]:
    """Return what Tune draws each key from."""
    return {key: _domain(values) for key, values in space.items()}


def _with_each_bound(experiment: Experiment) -> list[Experiment]:
    return [
        override(experiment, {key: value})
        for key, values in experiment.sweep.space.items()
        for value in values.choices or (values.low, values.high)
    ]


def _domain(values: Range) -> Any:
    if values.choices is not None:
        return tune.choice(list(values.choices))
    assert values.low is not None
    assert values.high is not None
    domain = tune.loguniform if values.log else tune.uniform
    return domain(values.low, values.high)
