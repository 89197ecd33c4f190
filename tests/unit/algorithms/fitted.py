"""Every fitted learner of the union, small: what the tests that all of them share run over."""

from typing import get_args

from metarec_ray.algorithms.base import FittedLearner, Learner, StatisticalLearner
from metarec_ray.algorithms.union import Algorithm

_SMALL = {
    "dim": 4,
    "factors": 2,
    "epochs": 2,
    "sweeps": 3,
    "steps": 3,
    "hidden": 8,
    "references": 16,
}


def small(learner: type[FittedLearner]) -> FittedLearner:
    """Return the learner with settings that fit in no time, its parts likewise."""
    settings: dict[str, object] = {}
    for name, field in learner.model_fields.items():
        part = field.annotation
        if name in _SMALL:
            settings[name] = _SMALL[name]
        elif isinstance(part, type) and issubclass(part, FittedLearner):
            settings[name] = small(part)
    return learner.model_validate(settings)


def name(learner: Learner) -> str:
    return type(learner).model_fields["name"].default


FITTED = [small(one) for one in get_args(get_args(Algorithm)[0]) if issubclass(one, FittedLearner)]
STATISTICAL = [one for one in FITTED if isinstance(one, StatisticalLearner)]
