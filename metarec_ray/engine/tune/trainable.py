"""What Ray Tune is given to try: a trial of the sweep, or with `sweep.vectorised` a group of them.

Knows both kinds; does not know how either is trained (`trial`, `group`).
"""

import json
from collections.abc import Callable
from typing import Any

from ray import tune

from metarec_ray.config.experiment import Experiment
from metarec_ray.engine.tune import groups, search
from metarec_ray.engine.tune.group import run_group
from metarec_ray.engine.tune.telling import TrialProgress, row
from metarec_ray.engine.tune.trial import run_trial
from metarec_ray.storage.places import located


def tried(
    experiment: Experiment, metric: str, progress: Callable[[str], None]
) -> tuple[dict[str, object], TrialProgress]:
    """Return what Tune takes the values of its trials from, and who tells how they end."""
    settings = experiment.sweep
    if not settings.vectorised:
        return search.parameter_space(settings), TrialProgress(progress, metric, settings.planned)
    asked = groups.asked(experiment)
    numbers = list(range(len(asked)))
    return {groups.GROUP: tune.grid_search(numbers)}, groups.GroupProgress(progress, metric, asked)


def fits(experiment: Experiment) -> int:
    """Return how many trials Tune runs: those of the sweep, or groups of them."""
    settings = experiment.sweep
    return len(groups.asked(experiment)) if settings.vectorised else settings.planned


def rows(experiment: Experiment, grid: tune.ResultGrid, metric: str) -> list[dict[str, Any]]:
    """Return the row of every trial for `sweep.json`."""
    if experiment.sweep.vectorised:
        return groups.rows([one for one in grid], metric, experiment)
    return [row(result, metric) for result in grid]


def trainable(experiment: Experiment, *, ranks: bool) -> Callable[[dict[str, Any]], None]:
    """Return what Tune calls with values: it trains a trial, or all of a group."""
    tree = json.loads(experiment.model_dump_json())
    store = located(experiment.store).to_read()
    asked = groups.asked(experiment) if experiment.sweep.vectorised else []

    def trial(values: dict[str, Any]) -> None:
        run_trial(tree, store.here(), values, ranks=ranks)

    def group(values: dict[str, Any]) -> None:
        run_group(tree, store.here(), asked[values[groups.GROUP]], ranks=ranks)

    trained = group if experiment.sweep.vectorised else trial
    return tune.with_resources(trained, {"cpu": experiment.sweep.cpus_per_trial})
