"""What is tried next, and which trials stop early.

Knows Tune's searchers and schedulers; does not know what a trial trains.
"""

from importlib.util import find_spec

import ray
from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator

from metarec_ray.config.sweeping import Range, Sweep
from metarec_ray.engine.tune.parzen import ParzenSearch
from metarec_ray.errors import MachineError
from metarec_ray.evaluation.validation import Objective


def require_installed(sweep: Sweep) -> None:
    """Raise a MachineError if the search needs a package that is not installed."""
    if sweep.search == "optuna" and find_spec("optuna") is None:
        raise MachineError(
            "sweep.search optuna needs the package optuna, which is not installed: "
            "pip install 'metarec_ray[optuna]'"
        )


def parameter_space(sweep: Sweep) -> dict[str, object]:
    """Return what Tune takes the value of each key from."""
    of = _every_value if sweep.search == "grid" else _domain
    return {key: of(values) for key, values in sweep.space.items()}


def samples(sweep: Sweep) -> int:
    """Return how often Tune goes through the space: a grid once."""
    return 1 if sweep.search == "grid" else sweep.trials


def searcher(sweep: Sweep, seed: int, objective: Objective) -> BasicVariantGenerator | ParzenSearch:
    """Return what draws the values, from the seed; needs a Ray session.

    `optuna` learns from the trials that have ended: with one trial at a time it tries the same
    values for the same seed.
    """
    beside = sweep.max_concurrent or max(1, int(ray.cluster_resources().get("CPU", 1)))
    if sweep.search == "optuna":
        return ParzenSearch(objective, trials=sweep.trials, beside=beside, seed=seed)
    return BasicVariantGenerator(max_concurrent=beside, random_state=seed)


def scheduler(sweep: Sweep) -> TrialScheduler:
    """Return what stops trials at their rungs.

    `asha` stops the worse half at each rung [Li et al., 2018, arXiv:1810.05934]; `median` one whose
    best value is below the median of the means of the others so far [Golovin et al., 2017, Vizier].
    """
    if sweep.scheduler == "none" or sweep.vectorised:  # groups stop their trials themselves
        return FIFOScheduler()
    if sweep.scheduler == "median":
        return MedianStoppingRule(time_attr="training_iteration", grace_period=1)
    return ASHAScheduler(
        time_attr="training_iteration", max_t=sweep.rungs, grace_period=1, reduction_factor=2
    )


def _every_value(values: Range) -> object:
    return tune.grid_search(list(values.grid()))


def _domain(values: Range) -> object:
    if values.choices is not None:
        return tune.choice(list(values.choices))
    low, high = values.interval()
    return (tune.loguniform if values.log else tune.uniform)(low, high)
