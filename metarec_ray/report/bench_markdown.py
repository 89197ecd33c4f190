"""The table of a bench as Markdown, for a repository.

Knows rows; does not know how they were measured.
"""

from collections.abc import Sequence

from metarec_ray.evaluation.table.leaks import told
from metarec_ray.report.bench_rows import (
    Row,
    by_method,
    certainty,
    conditions,
    details,
    half_width,
    legend,
    mark,
    places,
    shown,
    target,
)


def markdown(rows: Sequence[Row]) -> str:
    """Return a page: a table per scenario of the target metric by k, details, provenance."""
    first = rows[0]
    title = f"# {first['protocol']}, {first['dataset']} ({first['feedback']})"
    leak = [f"**{told(first)}**"] if told(first) else []
    parts = [title, *leak, _lead(rows), *_overviews(rows), *_details(rows), _commands(rows)]
    return "\n\n".join(parts) + "\n"


def _lead(rows: Sequence[Row]) -> str:
    marks = "".join(f" `{name}` {words}." for name, words in legend(rows).items())
    return (
        f"{certainty(rows)}{marks} Store `{str(rows[0].get('store_sha256', ''))[:12]}`, source "
        f"`{str(rows[0].get('source_fingerprint', ''))[:12]}`."
    )


def _overviews(rows: Sequence[Row]) -> list[str]:
    name, found = target(rows), []
    for scenario, ks in conditions(rows).items():
        head = ["method", "kind", "seeds", *("" if k is None else f"k = {k}" for k in ks)]
        head[3:] = [name] if ks == [None] else head[3:]
        lines = [
            [
                method,
                str(one["kind"]),
                str(len(_list(one.get("seeds")))),
                *map(_cell, of_k.values()),
            ]
            for method, of_k in by_method(rows, scenario).items()
            for one in [next(iter(of_k.values()))]
        ]
        where = name if scenario is None else f"{name}, {scenario}"
        n = next(row["n"] for row in rows if row.get("scenario") == scenario)
        found.append(f"## {where} ({n} entities)\n\n" + _table(head, lines))
    return found


def _cell(row: Row) -> str:
    return f"{shown(row[target([row])])}{mark(row)} +- {half_width(row):.4f}"


def _details(rows: Sequence[Row]) -> list[str]:
    used, found = details(rows), []
    for scenario, ks in conditions(rows).items():
        last = ks[-1]
        lines = [
            [method, *(shown(of_k[last].get(name), places(name)) for name in used)]
            for method, of_k in by_method(rows, scenario).items()
            if last in of_k
        ]
        where = ", ".join(
            part for part in (scenario, None if last is None else f"k = {last}") if part
        )
        found.append(
            f"## Details{', ' if where else ''}{where}\n\n" + _table(["method", *used], lines)
        )
    return found


def _commands(rows: Sequence[Row]) -> str:
    commands = {str(row["method"]): str(row.get("command", "")) for row in rows}
    over = sorted({str(row["method"]) for row in rows if row.get("over_budget")})
    lines = [f"| {method} | `{command}` |" for method, command in commands.items()]
    note = f"\n\nOver the CPU budget: {', '.join(over)}." if over else ""
    return "## Commands\n\n| method | command |\n|---|---|\n" + "\n".join(lines) + note


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|" + "|".join("---" if i < 2 else "---:" for i in range(len(head))) + "|"
    body = ["| " + " | ".join(line) + " |" for line in [head]]
    return "\n".join([*body, rule, *("| " + " | ".join(line) + " |" for line in lines)])


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
