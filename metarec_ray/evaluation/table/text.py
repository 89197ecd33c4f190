"""The rows of any protocol as plain text.

Knows which table is for which rows; does not know how they were measured.
"""

from collections.abc import Sequence

from metarec_ray.evaluation.table import ranking_text, rating_text
from metarec_ray.evaluation.table.rows import Row


def render(rows: Sequence[Row]) -> str:
    """Return aligned lines: one table of ratings, or one table of rankings per scenario."""
    if not rows:
        return "no rows"
    if "rmse" in rows[0]:
        return rating_text.render(rows)
    scenarios = dict.fromkeys(row.get("scenario") for row in rows)
    tables = ([row for row in rows if row.get("scenario") == name] for name in scenarios)
    return "\n\n".join(map(ranking_text.render, tables))
