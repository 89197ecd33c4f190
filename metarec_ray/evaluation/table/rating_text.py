"""A table of ratings as plain text: one block per scenario or size of the support.

Knows rows; does not know how they were measured.
"""

from collections.abc import Sequence

from metarec_ray.evaluation.table.rows import CORRECTED, Row, Value

DEPTHS = (1, 3, 5)
HEAD = ("method", "kind", "RMSE", "+-", "MAE", *(f"NDCG@{k}" for k in DEPTHS), "seconds")
FOOT = (
    "+  lower RMSE than the best rival (paired bootstrap over tasks and seeds, p < .05)\n"
    f"{CORRECTED}\n"
    "a constant has the NDCG of chance: ties are broken at random"
)


def render(rows: Sequence[Row]) -> str:
    """Return aligned lines, one block per condition."""
    if not rows:
        return "no rows"
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        blocks.setdefault(_condition(row), []).append(row)
    lines: list[tuple[str, ...]] = []
    for condition, block in blocks.items():
        lines += [(), (f"{condition}: {block[0]['n']} tasks",), HEAD, *map(_line, block)]
    widths = [max(len(line[i]) for line in lines if len(line) > 1) for i in range(len(HEAD))]
    first = rows[0]
    title = f"{first['protocol']}  {first['dataset']} ({first['feedback']})  seed {first['seed']}"
    return "\n".join([title, *(_aligned(line, widths) for line in lines), "", FOOT])


def _condition(row: Row) -> str:
    return str(row["scenario"]) if "scenario" in row else f"k={row['k']}"


def _line(row: Row) -> tuple[str, ...]:
    interval = row["ci95"]
    assert isinstance(interval, list)
    return (
        str(row["method"]),
        str(row["kind"]),
        _decimal(row["rmse"]) + ("+" if row["better"] else " "),
        _decimal((interval[1] - interval[0]) / 2),
        _decimal(row["mae"]),
        *(_decimal(row[f"ndcg@{k}"]) for k in DEPTHS),
        _decimal(row["seconds"], 1),
    )


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    if len(line) < len(widths):
        return "".join(line)
    names = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
    return "  ".join(names + numbers).rstrip()


def _decimal(value: Value, places: int = 4) -> str:
    """Return a number as text; a dash if it is undefined."""
    if value is None:
        return "-"
    assert isinstance(value, int | float)
    return f"{value:.{places}f}"
