"""A table as plain text for one screen.

Knows rows; does not know how they were measured.
"""

from collections.abc import Sequence

from metarec_ray.evaluation.table.leaks import told
from metarec_ray.evaluation.table.rows import CORRECTED, Row, Value

_FOOT = (
    "+  better than the best rival at that k (paired bootstrap over users and seeds, p < .05)",
    "~  indistinguishable from chance (not better than the random floor, by the same test)",
)


OF_LISTS = {"hr@10": "HR", "coverage@10": "cov"}
"""Columns that say what a list holds, and how they are called."""


def render(rows: Sequence[Row]) -> str:
    """Return aligned lines: NDCG@10 by method and k, then other columns at the largest k."""
    if not rows:
        return "no rows"
    ks = sorted({_number(row["k"]) for row in rows})
    by_method: dict[str, dict[float, Row]] = {}
    for row in rows:
        by_method.setdefault(str(row["method"]), {})[_number(row["k"])] = row
    shown = [key for key in OF_LISTS if any(row[key] is not None for row in rows)]
    lines = [_head(ks, shown), *(_line(name, of_k, ks, shown) for name, of_k in by_method.items())]
    cells = [[*line] for line in lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    body = [_aligned(line, widths) for line in cells]
    leak = told(rows[0])
    return "\n".join([_title(rows[0]), *([leak] if leak else []), "", *body, "", *_foot(rows)])


def _title(row: Row) -> str:
    new = "known" if told(row) else "new"
    return (
        f"{row['protocol']}  {row['dataset']} ({row['feedback']})  "
        f"{_scenario(row)}{row['n']} {new} users  "
        f"seed {row['seed']}  NDCG@10 after k events"
    )


def _scenario(row: Row) -> str:
    return f"{row['scenario']}  " if row.get("scenario") else ""


def _head(ks: list[float], shown: list[str]) -> list[str]:
    last = f"{ks[-1]:.0f}"
    names = [f"k={k:.0f}" for k in ks]
    return [
        "method",
        "kind",
        *names,
        f"+-@{last}",
        *(f"{OF_LISTS[key]}@{last}" for key in shown),
        f"gain@{last}",
        "seconds",
    ]


def _line(name: str, of_k: dict[float, Row], ks: list[float], shown: list[str]) -> list[str]:
    last = of_k[ks[-1]]
    interval = last["ci95"]
    assert isinstance(interval, list)
    return [
        name,
        str(last["kind"]),
        *(_score(of_k[k]) for k in ks),
        _decimal((interval[1] - interval[0]) / 2),
        *(_decimal(last[key], 3) for key in shown),
        _signed(last["adaptation_gain"]),
        f"{max(_number(row['seconds']) for row in of_k.values()):.1f}",
    ]


def _score(row: Row) -> str:
    mark = "+" if row["better"] else "~" if row["chance"] else " "
    return _decimal(row["ndcg@10"]) + mark


def _decimal(value: Value, places: int = 4) -> str:
    return f"{_number(value):.{places}f}".removeprefix("0")


def _signed(value: Value) -> str:
    number = _number(value)
    return ("-" if number < 0 else "+") + _decimal(abs(number))


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _aligned(line: list[str], widths: list[int]) -> str:
    texts = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
    return "  ".join(texts + numbers).rstrip()


def _foot(rows: Sequence[Row]) -> list[str]:
    used = (
        [_FOOT[0]]
        if any(row["better"] for row in rows)
        else ["no learner is better than the best rival"]
    )
    if not any(row["kind"] == "learner" for row in rows):
        used = []
    if any(row["chance"] for row in rows):
        used.append(_FOOT[1])
    if used:
        used.append(CORRECTED)
    if all(row["hr@10"] is None for row in rows):
        used.append("HR and cov are left out: a list of 10 holds every candidate, in any order")
    best = {_number(row["k"]): str(row["best_rival"]) for row in rows if row["best_rival"]}
    if best:
        used.append(
            "best rival: " + ", ".join(f"{name} (k={k:.0f})" for k, name in sorted(best.items()))
        )
    return [*used, *_power(rows)]


def _power(rows: Sequence[Row]) -> list[str]:
    """Return how many users it takes to tell the last learner from the best rival, by k."""
    learners = [row for row in rows if row["kind"] == "learner"]
    mine = [row for row in learners if row["method"] == learners[-1]["method"]]
    needed = {_number(row["k"]): row.get("n_for_5_percent") for row in mine}
    shown = [f"{_number(n):,.0f} (k={k:.0f})" for k, n in sorted(needed.items()) if n is not None]
    if not shown:
        return []
    return [
        f"users it takes to see a difference of 5 % between {mine[0]['method']} and the best rival "
        f"at 80 % power: {', '.join(shown)}; {mine[0]['n']} are judged"
    ]
