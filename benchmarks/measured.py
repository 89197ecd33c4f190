"""Write what the tables measured of each learner into docs/algorithms.md.

    python benchmarks/measured.py

Reads benchmarks/results/tables/*.json, which bench_tables.py makes, and replaces the paragraph
`Measured:` of every section.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from machine import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "algorithms.md"
SECTION = re.compile(r"^(##+) ([^\n]+)$(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
PARAGRAPH = re.compile(r"^Measured:.*?(?=\n\n|\n?\Z)", re.MULTILINE | re.DOTALL)
ROWS = {  # of sections that are no algorithm
    "Blends": "blend",
    "Joint domains": "prototype_joint",
    "Averaged models": "prototype_averaged",
    "Periods": "prototype_periods",
}
SHOWN = {
    "ml-1m-strict": "MovieLens-1M `strict`, NDCG@10",
    "ml-1m-melu": "MovieLens-1M `melu` (B), RMSE",
    "ml-1m-item-kshot": "MovieLens-1M `item_kshot`, RMSE",
    "ml-1m-leave-last-out": "MovieLens-1M `leave_last_out` (leaks time), NDCG@10",
    "amazon-cross-domain": "Amazon `cross_domain`, NDCG@10",
}
Row = dict[str, Any]


def main() -> int:
    """Rewrite the page; 1 if a learner stands in no table."""
    tables = {name: _rows(name) for name in SHOWN}
    missing: list[str] = []

    def section(found: re.Match[str]) -> str:
        level, title, text = found.groups()
        name = ROWS.get(title, title.strip("`"))
        lines = [line for table in SHOWN if (line := sentence(table, tables[table], name))]
        if not lines and PARAGRAPH.search(text):
            missing.append(name)
        # A replacement that is a function is taken as it is: backslashes mean nothing.
        text = PARAGRAPH.sub(lambda _: "Measured: " + "\n".join(lines or ["nowhere yet."]), text)
        return f"{level} {title}{text}"

    PAGE.write_text(SECTION.sub(section, PAGE.read_text("utf-8")), "utf-8")
    for name in missing:
        print(f"{name} stands in no table", file=sys.stderr)
    return int(bool(missing))


def sentence(table: str, rows: list[Row], name: str) -> str:
    """Return one line on a learner in a table, "" where it does not stand there."""
    own = [row for row in rows if row["method"] == name]
    if not own:
        return ""
    values: dict[str, list[str]] = {}
    ks: dict[str, None] = {}
    for row in own:
        if "k" in row:
            ks[str(row["k"])] = None
        values.setdefault(str(row.get("scenario", "")), []).append(shown(row))
    sizes = f" at k = {'/'.join(ks)}" if ks else ""
    parts = (f"{where} {' / '.join(of)}".strip() for where, of in values.items())
    place = f"[table](../benchmarks/results/tables/{table}.md)"
    return f"{SHOWN[table]}{sizes}: {', '.join(parts)} ({place})."


def shown(row: Row) -> str:
    """Return the metric that decides, as the tables show it."""
    if "rmse" in row:
        return f"{row['rmse']:.3f}"
    return f"{row['ndcg@10']:.4f}".removeprefix("0")


def _rows(table: str) -> list[Row]:
    path = RESULTS / "tables" / f"{table}.json"
    return json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []


if __name__ == "__main__":
    sys.exit(main())
