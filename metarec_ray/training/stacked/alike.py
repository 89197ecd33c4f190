"""Which runs can be trained together: they differ in rates, and their learner can be mapped.

Knows experiments; does not know how they are trained.
"""

from collections.abc import Sequence
from typing import Any, get_args

from metarec_ray.algorithms.base import Learner, MetaLearner
from metarec_ray.algorithms.gradient.maml import GradientLearner
from metarec_ray.algorithms.union import Algorithm, name_of
from metarec_ray.config.experiment import Experiment, tree_of
from metarec_ray.errors import ConfigError

OUTER = ("train.outer_lr", "train.weight_decay", "train.max_gradient_norm", "model.init_scale")
"""Keys beside the learner's own that runs of a stack may differ in: they change no shape, no task
and nothing that is counted over the log."""


def is_rate(key: str, value: object) -> bool:
    """Return whether runs of a stack may differ in a key that has such a value.

    The outer loop's rates, and every number of the learner that is not a whole one.
    """
    return key in OUTER or (key.startswith("algorithm.") and isinstance(value, float))


def require_stackable(experiment: Experiment) -> None:
    """Raise a ConfigError unless runs of the experiment's learner can be trained together."""
    learner = experiment.algorithm
    if not isinstance(learner, MetaLearner) or not learner.mapped:
        raise ConfigError(
            f"runs that are trained together are of {', '.join(_stackable())}, got {learner.name} "
            "(sweep.vectorised)"
        )
    hidden, encoder = experiment.model.hidden, experiment.model.encoder
    if isinstance(learner, GradientLearner) and hidden and learner.layers != 1:
        raise ConfigError(
            f"runs that are trained together adapt the last layer alone, {learner.name} with "
            f"model.hidden {list(hidden)} more: anil and bayesian_head do not (sweep.vectorised)"
        )
    if encoder.adapts:
        raise ConfigError(
            f"runs that are trained together adapt no encoder, got {encoder.name} with "
            "model.encoder.adapts (sweep.vectorised)"
        )


def require_alike(experiments: Sequence[Experiment]) -> None:
    """Raise a ConfigError unless the experiments differ in rates alone, and can be stacked."""
    require_stackable(experiments[0])
    first, *others = [flat(tree_of(experiment)) for experiment in experiments]
    for other in others:
        for key, value in other.items():
            same = key in first and first[key] == value
            if not same and not (is_rate(key, value) and is_rate(key, first.get(key))):
                raise ConfigError(
                    f"runs that are trained together differ in rates alone, got {first.get(key)} "
                    f"and {value} for {key}"
                )


def learner_rates(learners: Sequence[Learner]) -> dict[str, list[float]]:
    """Return of each hyper-parameter that learners of one kind differ in the value of each."""
    found = {
        name: [getattr(one, name) for one in learners] for name in type(learners[0]).model_fields
    }
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested mapping by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        own = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        found |= own
    return found


def _stackable() -> list[str]:
    union = get_args(get_args(Algorithm)[0])
    return [name_of(one) for one in union if issubclass(one, MetaLearner) and one.mapped]
