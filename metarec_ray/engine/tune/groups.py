"""The groups of a vectorised sweep: trials that differ in rates alone, trained as one stack.

Knows values of trials; does not know how a group is trained (`group`). A group is what Tune calls a
trial: it reports its own trials, and they stand in the sweep's table as if each had been alone.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.search.variant_generator import generate_variants

from metarec_ray.config.experiment import Experiment, override
from metarec_ray.config.sweeping import Sweep
from metarec_ray.engine.tune.group import ENDED, trials_of
from metarec_ray.engine.tune.judged import OF_FOLDS, SPREAD, WHY
from metarec_ray.engine.tune.search import parameter_space, samples
from metarec_ray.engine.tune.telling import TrialProgress
from metarec_ray.errors import ConfigError, last_line
from metarec_ray.training.stacked.alike import is_rate, require_stackable

GROUP = "group"
"""Key of what Tune tries: the number of a group."""
LARGEST = 32
"""Trials of a group: memory is that of all their parameters, and more gain nothing."""
Values = dict[str, Any]


def require_vectorisable(experiment: Experiment) -> None:
    """Raise a ConfigError unless the trials of the sweep fall into groups that can be stacked."""
    settings = experiment.sweep
    if settings.search == "optuna":
        raise ConfigError(
            "a vectorised sweep trains its trials together, search optuna learns from those that "
            "have ended, got sweep.search optuna (sweep.vectorised)"
        )
    for key, values in settings.space.items():
        drawn = values.choices is None and values.points is None
        if drawn and not is_rate(key, values.interval()[0]):
            raise ConfigError(
                f"a vectorised sweep draws rates alone from an interval, got {key}, which needs "
                "choices (sweep.vectorised)"
            )
    for group in asked(experiment):
        require_stackable(override(experiment, group[0]))


def trial_values(sweep: Sweep, seed: int) -> list[Values]:
    """Return the values of every trial, those that Tune would draw with the same seed."""
    rng, spec = np.random.default_rng(seed), {"config": parameter_space(sweep)}
    return [
        drawn["config"]
        for _ in range(samples(sweep))
        for _, drawn in generate_variants(spec, random_state=rng)
    ]


def groups(sweep: Sweep, trials: Sequence[Values]) -> list[list[Values]]:
    """Return the trials in groups that agree in all but rates, in the order of their first ones."""
    found: dict[str, list[Values]] = {}
    for values in trials:
        fixed = {k: v for k, v in values.items() if not _varies(sweep, k)}
        found.setdefault(json.dumps(fixed, sort_keys=True), []).append(values)
    return [
        group[first : first + LARGEST]
        for group in found.values()
        for first in range(0, len(group), LARGEST)
    ]


def asked(experiment: Experiment) -> list[list[Values]]:
    """Return the values of every trial of each group of the sweep."""
    return groups(experiment.sweep, trial_values(experiment.sweep, experiment.run.seed))


def rows(results: Iterable[Any], metric: str, experiment: Experiment) -> list[Values]:
    """Return the rows of `sweep.json`, as `telling.row` does, in the order of the trials."""
    found, of_group = [], asked(experiment)
    trials = trial_values(experiment.sweep, experiment.run.seed)
    for result in results:
        reported = trials_of(result.metrics) or [
            {"values": values, "step": None} for values in of_group[result.config[GROUP]]
        ]
        why = None if result.error is None else _told(result.error)
        found += [_row(one, metric, why if not one.get(ENDED) else None) for one in reported]
    place = {json.dumps(values): number for number, values in enumerate(trials)}
    return sorted(found, key=lambda row: place[json.dumps(row["values"])])


def _row(report: Values, metric: str, why: str | None) -> Values:
    why = why or report.get(WHY)
    of = {"values": report["values"], "step": report.get("step")}
    if why or report.get(metric) is None:
        return of | {metric: None} | ({WHY: why} if why else {})
    beside = {key: report[key] for key in (SPREAD, OF_FOLDS) if key in report}
    return of | {metric: report[metric]} | beside


def _varies(sweep: Sweep, key: str) -> bool:
    """Return whether trials of a group may differ in a key: all of its values are rates."""
    values = sweep.space[key]
    every = values.interval() if values.choices is None else values.choices
    return all(is_rate(key, value) for value in every)


def _told(error: object) -> str:
    return last_line(error, "its process ended")


class GroupProgress(TrialProgress):
    """Tells how each trial of each group ended."""

    def __init__(
        self, progress: Callable[[str], None], metric: str, asked: Sequence[Sequence[Values]]
    ):
        super().__init__(progress, metric, sum(map(len, asked)))
        self.asked = asked

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: Values, **info: Any
    ) -> None:
        for report in trials_of(result):
            if report.get(ENDED) == result["rung"]:
                self._of(report, report.get(WHY))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Say nothing: every trial of the group is told."""

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        reported = trials_of(trial.last_result) or [
            {"values": values} for values in self.asked[trial.config[GROUP]]
        ]
        for report in reported:
            if not report.get(ENDED):
                self._of(report, _told(trial.get_error()))

    def _of(self, report: Values, why: str | None) -> None:
        self._tell(SimpleNamespace(config=report["values"], last_result=report), why)

    def __getstate__(self) -> Values:
        return super().__getstate__() | {"asked": self.asked}

    def __setstate__(self, state: Values) -> None:
        super().__setstate__(state)
        self.asked = state["asked"]
