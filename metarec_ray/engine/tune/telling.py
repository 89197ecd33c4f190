"""How a sweep is told: a line as each trial ends, a row of its table at the end.

Knows what Tune keeps of a trial; does not know what was trained.
"""

import math
from collections.abc import Callable
from typing import Any

from ray import tune

from metarec_ray.engine.tune.judged import OF_FOLDS, SPREAD, WHY
from metarec_ray.errors import last_line

_listening: list[Callable[[str], None]] = []


def listen(progress: Callable[[str], None]) -> None:
    """Tell the trials of the sweep that is resumed next to `progress`."""
    _listening[:] = [progress]


def row(result: Any, metric: str) -> dict[str, Any]:
    """Return a trial's row of `sweep.json`: values, step, metric (None without one), and why."""
    metrics = result.metrics or {}
    found = metrics.get(metric)
    # A trial that diverged has no result, whatever it reached before: NaN is neither more nor less
    # than a number.
    lost = found is None or result.error is not None or not math.isfinite(found)
    of = {"values": result.config, "step": metrics.get("step"), metric: None if lost else found}
    if not lost:
        return of | {key: metrics[key] for key in (SPREAD, OF_FOLDS) if key in metrics}
    why = metrics.get(WHY) if result.error is None else _told(result.error)
    return of | ({WHY: why} if why else {})


def _told(error: object) -> str:
    return last_line(error, "its process ended")


def _values(trial: Any) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in trial.config.items()
    )


class TrialProgress(tune.Callback):
    """Reports how each trial ended, and which ones failed on the way."""

    def __init__(self, progress: Callable[[str], None], metric: str, trials: int):
        self.progress, self.metric, self.trials, self.ended = progress, metric, trials, 0

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, trial.last_result.get(WHY))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, _told(trial.get_error()))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.progress(
            f"tune: a trial failed and goes on from its last rung  {_values(trial)}  "
            f"({_told(trial.get_error())})"
        )

    def _tell(self, trial: Any, why: str | None) -> None:
        self.ended += 1
        found, spread = (trial.last_result.get(key) for key in (self.metric, SPREAD))
        shown = "no result" if found is None or why else f"{found:.4f}"
        if spread is not None and not why:
            shown += f" +- {spread:.4f}"
        self.progress(
            f"tune: trial {self.ended}/{self.trials}  {self.metric} {shown}  "
            f"after step {trial.last_result.get('step')}  {_values(trial)}"
            f"{f'  ({why})' if why else ''}"
        )

    # Tune pickles the callback with its state; a progress function cannot be pickled, so that of
    # a resumed sweep is the one of this process.
    def __getstate__(self) -> dict[str, Any]:
        return {"metric": self.metric, "trials": self.trials, "ended": self.ended}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.metric, self.trials, self.ended = state["metric"], state["trials"], state["ended"]
        self.progress = _listening[-1] if _listening else lambda line: None
