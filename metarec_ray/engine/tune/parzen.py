"""Ray's search by optuna: how many trials beside each other, and what a lost one tells it.

Knows Tune's calls of a searcher; does not know a space, or what a trial trains.
"""

import math
from typing import Any

from ray.tune.search.optuna import OptunaSearch

from metarec_ray.evaluation.validation import Objective

_DRAWN = 10
"""Trials that are drawn at random for the others to learn from; half of fewer."""


class ParzenSearch(OptunaSearch):
    """A tree-structured Parzen estimator [Bergstra et al., 2011, NeurIPS].

    Unlike under Tune's own limit of trials beside each other, a resumed search learns from the
    trials that were running.
    """

    def __init__(self, objective: Objective, *, trials: int, beside: int, seed: int):
        """Search `trials` values, at most `beside` of them at a time."""
        # Missing unless the extra is installed.
        import optuna  # pyright: ignore[reportMissingImports]

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        drawn = min(_DRAWN, max(1, trials // 2))
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=drawn)
        super().__init__(metric=objective.metric, mode=objective.mode, sampler=sampler)
        self.beside, self.running = beside, set[str]()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the values of the next trial; None until one of those beside it ends."""
        if len(self.running) >= self.beside:
            return None
        values = super().suggest(trial_id)
        if values is not None:
            self.running.add(trial_id)
        return values

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Learn the value at a rung; that of a trial that failed and runs again is known."""
        if trial_id in self.running:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn the value of a trial; of one without a finite value, that the others are better."""
        if trial_id not in self.running:
            return
        self.running.remove(trial_id)
        if result and not math.isfinite(result.get(self.metric, math.nan)):
            result = None
        super().on_trial_complete(trial_id, result, error)
