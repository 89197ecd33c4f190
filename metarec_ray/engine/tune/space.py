"""The keys that a sweep searches: whether trials can take them.

Knows the settings of a sweep; does not know what is drawn from them, or trials.
"""

from metarec_ray.config.compare import HOW
from metarec_ray.config.experiment import Experiment, override
from metarec_ray.config.sweeping import Range
from metarec_ray.errors import ConfigError

SECTIONS = ("algorithm", "model", "train")
"""What trials may differ in: all are trained on one store and judged by one measure."""
SAME = HOW | {"train.steps", "train.periods", "train.average", "train.parts", "train.without"}
"""Keys of these that change no trial, or that a sweep sets itself."""


def require_searchable(experiment: Experiment) -> None:
    """Raise a ConfigError unless a sweep can train the experiment with every key and bound."""
    for key in experiment.sweep.space:
        section = key.partition(".")[0]
        if section not in SECTIONS or any(key == one or key.startswith(f"{one}.") for one in SAME):
            raise ConfigError(
                f"a sweep searches keys of {', '.join(SECTIONS)} that change what a trial learns, "
                f"got {key} (sweep.space)"
            )
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
        for value in _tried(values)
    ]


def _tried(values: Range) -> tuple[object, ...]:
    """Return the choices, or the ends of an interval and what lies between: no whole number."""
    if values.choices is not None:
        return values.choices
    low, high = values.interval()
    return low, low + 0.381966 * (high - low), high
