"""The keys that a sweep searches: whether trials can take them.

Knows the settings of a sweep; does not know what is drawn from them, or trials.
"""

from metarec_ray.config.experiment import Experiment, override
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


def _with_each_bound(experiment: Experiment) -> list[Experiment]:
    return [
        override(experiment, {key: value})
        for key, values in experiment.sweep.space.items()
        for value in values.choices or (values.low, values.high)
    ]
