"""Sections on training: curves of the metrics, and the sweep.

Knows the lines of `metrics.jsonl` and the trials of a sweep.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from metarec_ray.figures import charts
from metarec_ray.report.page import Markup, chart, element, join, section, table
from metarec_ray.report.run import Run, Sweep

_TITLES = {"query_loss": "Query loss", "tasks_per_s": "Tasks a second"}
_ASIDE = ("step", "steps", "outer_lr")
_BEST = 10


class Trial(NamedTuple):
    """One finished trial."""

    values: Mapping[str, object]
    step: object
    metric: float


def curves(run: Run) -> Markup:
    """Return the loss, the metric and the speed by step."""
    names = list(dict.fromkeys(name for line in run.metrics for name in line if name not in _ASIDE))
    series = {name: list(_series(run, name)) for name in names}
    drawn = [
        chart(charts.line(points, title=_title(name), x="step"))
        for name, points in series.items()
        if points
    ]
    if not drawn:
        return Markup()
    words = (
        "Means over the meta-batches since the line before; a query set is what follows the "
        "events a task adapts on."
    )
    return section("Learning", element("p", words), element("div", *drawn, css="charts"))


def sweep(run: Run) -> Markup:
    """Return the metric by each searched key, and the best trials."""
    found = run.sweep
    trials = _trials(found) if found else []
    if not found or not trials:
        return Markup()
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))
    drawn = [chart(_scatter(trials, key, found.metric)) for key in keys]
    failed = len(found.trials) - len(trials)
    best = "largest" if found.mode == "max" else "smallest"
    words = (
        f"{len(found.trials)} trials, judged by the {best} {_title(found.metric)}; the star is the "
        f"best{f'; {failed} gave no value' if failed else ''}."
    )
    body = [
        (
            str(i + 1),
            *(_value(trial.values.get(key)) for key in keys),
            trial.step,
            f"{trial.metric:.4f}",
        )
        for i, trial in enumerate(trials[:_BEST])
    ]
    return section(
        "Sweep",
        element("p", words),
        element("div", *drawn, css="charts"),
        table(("", *keys, "step", found.metric), body),
        _lost(found, keys),
    )


def _lost(found: Sweep, keys: Sequence[str]) -> Markup:
    """Return the trials without a value that say why, nothing if there is none."""
    rows = []
    for trial in found.trials:
        values, why = trial.get("values"), trial.get("why")
        if isinstance(values, dict) and isinstance(why, str):
            rows.append((*(_value(values.get(key)) for key in keys), trial.get("step"), why))
    if not rows:
        return Markup()
    return join([element("p", "Without a value:"), table((*keys, "step", "why"), rows)])


def _series(run: Run, name: str) -> Iterator[tuple[float, float]]:
    for line in run.metrics:
        step, value = _number(line.get("step")), _number(line.get(name))
        if step is not None and value is not None:
            yield step, value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _title(name: str) -> str:
    return _TITLES.get(
        name, name.replace("query_", "Query ").replace("ndcg", "NDCG").replace("_", " ")
    )


def _trials(found: Sweep) -> list[Trial]:
    """Return the trials with a value, best first."""
    trials = []
    for trial in found.trials:
        values, metric = trial.get("values"), _number(trial.get(found.metric))
        if isinstance(values, dict) and metric is not None:
            trials.append(Trial(values, trial.get("step"), metric))
    return sorted(trials, key=lambda trial: trial.metric, reverse=found.mode == "max")


def _scatter(trials: list[Trial], key: str, metric: str) -> str:
    shown = [(trial.values[key], trial.metric) for trial in trials if key in trial.values]
    return charts.scatter(shown, 0, title=key, metric=metric)


def _value(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else value
