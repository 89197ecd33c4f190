"""Rows of a bench, arranged for a page: by scenario, method and k.

Knows the keys of rows; does not know how they were measured, or markup.
"""

from collections.abc import Mapping, Sequence

from metarec_ray.evaluation.table.rows import CORRECTED

Row = Mapping[str, object]
RANKING = (
    "ndcg@10",
    "hr@10",
    "recall@50",
    "mrr@10",
    "mrr",
    "coverage@10",
    "novelty",
    "diversity@10",
)
RATING = ("rmse", "mae", "ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10", "spearman", "calibration_slope")
COSTS = ("adaptation_gain", "adapted", "adapt_ms", "seconds", "cpu_seconds")


LEGEND = {
    "+": "better than the best rival of its column (corrected p < .05)",
    "*": "better than the best simple rival (corrected p < .05)",
    "^": "better than its best control (corrected p < .05)",
    "~": "indistinguishable from chance (not better than a floor, corrected p >= .05)",
}
CERTAINTY = f"Intervals and p values: paired bootstrap over entities and seeds; {CORRECTED}."
OLDER = "p_bonferroni"
"""Key of rows of tables from when each kind of comparison had a correction of its own."""
OLDER_LEGEND = {
    "+": "better than the best rival of its column (Holm over every learner and column, p < .05)",
    "*": "better than the best simple rival (Bonferroni over k = 3, 5, 10)",
    "^": "better than its best control (p < .05)",
    "~": "indistinguishable from chance",
}
OLDER_CERTAINTY = "Intervals and p values: paired bootstrap over entities, seeds averaged first."


def legend(rows: Sequence[Row]) -> dict[str, str]:
    """Return the meaning of the marks in these rows."""
    used, words = "".join(map(mark, rows)), OLDER_LEGEND if _older(rows) else LEGEND
    return {name: meaning for name, meaning in words.items() if name in used}


def certainty(rows: Sequence[Row]) -> str:
    """Return how the intervals and p values of these rows were made."""
    return OLDER_CERTAINTY if _older(rows) else CERTAINTY


def target(rows: Sequence[Row]) -> str:
    """Return the metric that methods are compared by."""
    return "rmse" if "rmse" in rows[0] else "ndcg@10"


def conditions(rows: Sequence[Row]) -> dict[str | None, list[int | None]]:
    """Return the k of each scenario, in the order of the rows."""
    found: dict[str | None, dict[int | None, None]] = {}
    for row in rows:
        scenario, k = row.get("scenario"), row.get("k")
        assert scenario is None or isinstance(scenario, str)
        assert k is None or isinstance(k, int)
        found.setdefault(scenario, {})[k] = None
    return {scenario: list(ks) for scenario, ks in found.items()}


def by_method(rows: Sequence[Row], scenario: str | None) -> dict[str, dict[int | None, Row]]:
    """Return method -> k -> row of one scenario, in the order of the rows."""
    found: dict[str, dict[int | None, Row]] = {}
    for row in rows:
        if row.get("scenario") == scenario:
            k = row.get("k")
            assert k is None or isinstance(k, int)
            found.setdefault(str(row["method"]), {})[k] = row
    return found


def mark(row: Row) -> str:
    """Return the marks of a row's value, characters of `LEGEND`."""
    marks = {
        "+": row.get("better"),
        "*": row.get("better_than_simple"),
        "^": row.get("better_than_control"),
        "~": row.get("chance"),
    }
    return "".join(name for name, holds in marks.items() if holds)


def shown(value: object, places: int = 4) -> str:
    """Return a number as text; an empty one for None."""
    if value is None:
        return ""
    return f"{value:.{places}f}" if isinstance(value, float) else str(value)


def half_width(row: Row) -> float:
    """Return half of a row's interval."""
    low, high = interval(row)
    return (high - low) / 2


def interval(row: Row) -> tuple[float, float]:
    """Return the ends of a row's interval."""
    found = row["ci95"]
    assert isinstance(found, list)
    return float(found[0]), float(found[1])


def details(rows: Sequence[Row]) -> list[str]:
    """Return the other metrics that some row has."""
    names = (*(RANKING if target(rows) == "ndcg@10" else RATING), *COSTS)
    return [name for name in names if any(row.get(name) is not None for row in rows)]


def places(name: str) -> int:
    """Return the number of decimals of a metric."""
    return {"adapted": 0, "seconds": 1, "cpu_seconds": 1, "adapt_ms": 1}.get(name, 4)


def _older(rows: Sequence[Row]) -> bool:
    return any(OLDER in row for row in rows)
