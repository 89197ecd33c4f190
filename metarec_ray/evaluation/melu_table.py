"""The table of the protocol `melu`: a row a method and scenario, and the same as text.

Knows predictions and the ratings they are held against; does not know what predicted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core import metrics
from metarec_ray.evaluation.melu import SCENARIOS, MeluSplit, MeluTasks, Predictor, Scenario
from metarec_ray.evaluation.statistics import bootstrap, holm
from metarec_ray.evaluation.table import Row, Value

LOWEST, HIGHEST = 1.0, 5.0  # of a rating; predictions are clipped to it
DEPTHS = (1, 3, 5)
HEAD = ("method", "kind", "RMSE", "+-", "MAE", *(f"NDCG@{k}" for k in DEPTHS), "seconds")
FOOT = (
    "+  lower RMSE than the best rival (paired bootstrap over users, Holm-corrected p < .05)\n"
    "a constant has the NDCG of chance: ties are broken at random"
)


class _Measured(NamedTuple):
    """A row of one scenario and the mean squared error of each task [T]."""

    row: Row
    squared: Tensor


def evaluate_melu(
    split: MeluSplit, predictors: Sequence[Predictor], *, seed: int, resamples: int = 2000
) -> list[Row]:
    """Return the rows in the order of `predictors`, then of scenarios.

    `p_vs_best_rival` is the two-sided p of the paired difference in squared error to the rival with
    the lowest RMSE (None in its own row, and without a rival); `better` is decided after Holm's
    correction over every learner and scenario.

    Args:
        split: the partition.
        predictors: what stands in the table.
        seed: the partition's; breaks ties and draws the bootstrap.
        resamples: of the bootstrap.

    """
    by_scenario: list[list[Row]] = []
    for scenario in SCENARIOS:
        tasks = split.tasks[scenario]
        measured = [_measure(predictor, tasks, scenario, seed) for predictor in predictors]
        by_scenario.append(_compared(measured, seed, resamples))
    rows = [rows[i] for i in range(len(predictors)) for rows in by_scenario]
    judged = [
        row for row in rows if row["kind"] == "learner" and row["p_vs_best_rival"] is not None
    ]
    for row, p in zip(judged, holm([_number(r["p_vs_best_rival"]) for r in judged]), strict=True):
        row["p_corrected"] = p
        row["better"] = bool(row["better"]) and p < 0.05
    return [row if row["p_corrected"] is not None else row | {"better": False} for row in rows]


def render(rows: Sequence[Row]) -> str:
    """Return aligned lines, a block a scenario."""
    lines: list[tuple[str, ...]] = []
    for scenario in SCENARIOS:
        of_scenario = [row for row in rows if row["scenario"] == scenario]
        if of_scenario:
            lines += [(), (f"{scenario}: {of_scenario[0]['n']} tasks",), HEAD]
            lines += [_line(row) for row in of_scenario]
    widths = [max(len(line[i]) for line in lines if len(line) > 1) for i in range(len(HEAD))]
    first = rows[0]
    title = (
        f"{first['protocol']}  {first['dataset']} ({first['feedback']})  "
        f"partition seed {first['seed']}  10 query ratings a task"
    )
    return "\n".join([title, *(_aligned(line, widths) for line in lines), "", FOOT])


def _measure(predictor: Predictor, tasks: MeluTasks, scenario: Scenario, seed: int) -> _Measured:
    predicted = predictor.predict(tasks).clamp(LOWEST, HIGHEST)
    ranked = metrics.rank(
        predicted,
        metrics.graded(tasks.query_label),
        depth=max(DEPTHS),
        generator=torch.Generator().manual_seed(seed),
    )
    # Every task has the same number of query rows: all of them are one sample.
    flat, label = predicted.reshape(1, -1), tasks.query_label.reshape(1, -1)
    every = torch.ones_like(flat, dtype=torch.bool)
    row: Row = {
        "protocol": "melu",
        "dataset": "ml-1m",
        "feedback": "explicit",
        "seed": seed,
        "method": predictor.name,
        "kind": predictor.kind,
        "scenario": scenario,
        "n": len(tasks.user),
        "rmse": metrics.rmse(flat, label, every).item(),
        "mae": metrics.mae(flat, label, every).item(),
        **{f"ndcg@{k}": metrics.ndcg(ranked, k).mean().item() for k in DEPTHS},
        "seconds": predictor.fit_seconds,
    }
    return _Measured(row, (predicted - tasks.query_label).square().mean(1))


def _compared(measured: list[_Measured], seed: int, resamples: int) -> list[Row]:
    """Return the rows of one scenario with the RMSE's interval and p against the best rival."""
    drawn = bootstrap(
        torch.stack([one.squared for one in measured]), resamples=resamples, seed=seed
    )
    rmses = [_number(one.row["rmse"]) for one in measured]
    rivals = [i for i, one in enumerate(measured) if one.row["kind"] == "rival"]
    best = min(rivals, key=rmses.__getitem__, default=None)
    rows: list[Row] = []
    for i, one in enumerate(measured):
        other = None if best == i else best
        rows.append(
            one.row
            | {
                # A root keeps order, so the ends of the mean's interval are those of the RMSE's.
                "ci95": [end**0.5 for end in drawn.interval(i)],
                "best_rival": None if best is None else measured[best].row["method"],
                "p_vs_best_rival": None if other is None else drawn.p_value(i, other),
                "p_corrected": None,
                "better": other is not None and rmses[i] < rmses[other],
            }
        )
    return rows


def _line(row: Row) -> tuple[str, ...]:
    interval = row["ci95"]
    assert isinstance(interval, list)
    half = (interval[1] - interval[0]) / 2
    return (
        str(row["method"]),
        str(row["kind"]),
        _decimal(row["rmse"]) + ("+" if row["better"] else " "),
        _decimal(half),
        _decimal(row["mae"]),
        *(_decimal(row[f"ndcg@{k}"]) for k in DEPTHS),
        f"{_number(row['seconds']):.1f}",
    )


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    if len(line) < len(widths):
        return "".join(line)
    names = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
    return "  ".join(names + numbers).rstrip()


def _decimal(value: Value) -> str:
    return f"{_number(value):.4f}"


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
