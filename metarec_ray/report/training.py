"""Sections on training: curves of the metrics, and the sweep.

Knows the lines of `metrics.jsonl` and the trials of a sweep.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from metarec_ray.figures import charts, trials
from metarec_ray.report.page import Markup, chart, element, join, section, table
from metarec_ray.report.run import Run, Sweep

_TITLES = {"query_loss": "Query loss", "tasks_per_s": "Tasks a second"}
_ASIDE = ("step", "steps", "outer_lr")
_BEST = 10
_OUTER, _INNER = "train.outer_lr", "algorithm.inner_lr"


class Trial(NamedTuple):
    """One finished trial."""

    values: Mapping[str, object]
    step: object
    metric: float
    spread: float | None = None


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
    """Return the metric by each searched key, by all of them and by both rates; the best trials."""
    found = run.sweep
    ended = _trials(found) if found else []
    if not found or not ended:
        return Markup()
    keys = list(dict.fromkeys(key for trial in ended for key in trial.values))
    drawn = [chart(_scatter(ended, key, found.metric)) for key in keys]
    failed = len(found.trials) - len(ended)
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
            _with_spread(trial),
        )
        for i, trial in enumerate(ended[:_BEST])
    ]
    if any(trial.spread is not None for trial in ended):
        words += " Behind ± the standard deviation over folds."
    return section(
        "Sweep",
        element("p", words),
        *_together(ended, keys, found.metric),
        element("div", *drawn, css="charts"),
        table(("", *keys, "step", found.metric), body),
        _lost(found, keys),
    )


def _together(ended: list[Trial], keys: list[str], metric: str) -> list[Markup]:
    """Return the trials over all keys, if there are several, and over both rates, if searched."""
    whole = [trial for trial in ended if all(key in trial.values for key in keys)]
    if len(keys) < 2 or not whole:
        return []
    lines = trials.parallel(
        [({key: trial.values[key] for key in keys}, trial.metric) for trial in whole],
        metric=metric,
        label="Trials by all keys",
    )
    drawn = [chart(lines, css="wide")]
    rates = [(*_rates(trial), trial.metric) for trial in whole]
    points = [(outer, inner, value) for outer, inner, value in rates if outer > 0 and inner > 0]
    if points:
        label = "Trials by inner and outer rate"
        plane = trials.plane(points, x=_OUTER, y=_INNER, metric=metric, label=label)
        drawn.append(element("div", chart(plane), css="charts"))
    return drawn


def _rates(trial: Trial) -> tuple[float, float]:
    """Return the outer and the inner rate of a trial, 0 where it has none."""
    outer, inner = (_number(trial.values.get(key)) or 0.0 for key in (_OUTER, _INNER))
    return outer, inner


def _with_spread(trial: Trial) -> str:
    spread = "" if trial.spread is None else f" ± {trial.spread:.4f}"
    return f"{trial.metric:.4f}{spread}"


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
    ended = []
    for trial in found.trials:
        values, metric = trial.get("values"), _number(trial.get(found.metric))
        if isinstance(values, dict) and metric is not None:
            spread = _number(trial.get("spread"))
            ended.append(Trial(values, trial.get("step"), metric, spread))
    return sorted(ended, key=lambda trial: trial.metric, reverse=found.mode == "max")


def _scatter(ended: list[Trial], key: str, metric: str) -> str:
    shown = [(trial.values[key], trial.metric) for trial in ended if key in trial.values]
    return charts.scatter(shown, 0, title=key, metric=metric)


def _value(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else value
