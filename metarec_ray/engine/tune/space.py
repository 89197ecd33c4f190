"""The keys that a sweep searches, and their values.

Knows the settings of a sweep and what Tune draws from; does not know trials.
"""

from typing import Any

from ray import tune

from metarec_ray.config.experiment import Experiment, override
from metarec_ray.config.running import Range
from metarec_ray.errors import ConfigError


def check(experiment: Experiment) -> bool:
    """Return whether a trial may be of a learner that only ranks: all are judged by rankings then.

    Raises:
        ConfigError: no trial could take a key or a bound.

    """
    if experiment.blend.members:
        raise ConfigError(
            "a sweep is of one learner, got a blend of "
            f"{', '.join(experiment.blend.members)} (blend.members)"
        )
    train = experiment.train
    if train.average is not None or train.periods > 1:
        raise ConfigError(
            "a sweep's trials train one model at once, got train.average or train.periods"
        )
    asked = [
        override(experiment, {key: value})
        for key, values in experiment.sweep.space.items()
        for value in values.choices or (values.low, values.high)
    ]
    return any(one.algorithm.ranks_only for one in asked)


def drawn_from(space: dict[str, Range]) -> dict[str, Any]:
    """Return what Tune draws each key from."""
    return {key: _domain(values) for key, values in space.items()}


def _domain(values: Range) -> Any:
    if values.choices is not None:
        return tune.choice(list(values.choices))
    assert values.low is not None
    assert values.high is not None
    domain = tune.loguniform if values.log else tune.uniform
    return domain(values.low, values.high)
