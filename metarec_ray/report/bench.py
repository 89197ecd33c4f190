"""The HTML page of a bench and the same as Markdown, written beside the results.

Knows rows; a value is called better only if its row says so.
"""

from collections.abc import Sequence
from pathlib import Path

from metarec_ray.atomic import replace_text
from metarec_ray.evaluation.table.leaks import told
from metarec_ray.figures.curves import Curve, Point, Role, k_curves, k_curves_narrow
from metarec_ray.figures.dots import dots
from metarec_ray.report.bench_markdown import markdown
from metarec_ray.report.bench_rows import (
    Row,
    by_method,
    certainty,
    conditions,
    details,
    half_width,
    interval,
    legend,
    mark,
    places,
    shown,
    target,
)
from metarec_ray.report.page import Markup, chart, element, join, page, section, table

PAGE, MARKDOWN = "index.html", "results.md"
_MOST = 4  # learners, and rivals, in a chart of the best
_ROLES: tuple[Role, ...] = ("floor", "rival", "learner", "main")
Methods = dict[str, dict[int | None, Row]]


def write_bench(folder: Path, rows: Sequence[Row]) -> None:
    """Write `index.html` and `results.md` into the folder; MachineError without matplotlib."""
    replace_text(folder / MARKDOWN, markdown(rows))
    replace_text(folder / PAGE, bench_page(rows))


def bench_page(rows: Sequence[Row]) -> str:
    """Return the page: a chart and a table per scenario, details, provenance of the rows."""
    first = rows[0]
    title = f"{first['protocol']}, {first['dataset']}"
    parts = [_head(rows, title)]
    for scenario, ks in conditions(rows).items():
        methods = by_method(rows, scenario)
        parts.append(_scenario(rows, scenario, ks, methods))
        parts.append(_details(rows, scenario, ks[-1], methods))
    return page(f"metarec bench: {title}", [*parts, _provenance(rows)])


def _head(rows: Sequence[Row], title: str) -> Markup:
    first = rows[0]
    methods = len(dict.fromkeys(row["method"] for row in rows))
    better = dict.fromkeys(str(row["method"]) for row in rows if row.get("better"))
    verdict = (
        f"{', '.join(better)}: better than the best rival somewhere (corrected p\xa0<\xa0.05)."
        if better
        else "No learner is better than the best rival."
    )
    lead = (
        f"{methods} methods, {first['feedback']} feedback. {certainty(rows)} Hyper-parameters were "
        "chosen on validation entities."
    )
    leak = element("p", told(first), css="verdict") if told(first) else Markup()
    head = element("h1", f"Bench: {title}")
    return join([head, leak, element("p", verdict, css="verdict"), element("p", lead)])


def _scenario(
    rows: Sequence[Row], scenario: str | None, ks: list[int | None], methods: Methods
) -> Markup:
    metric = target(rows)
    curves = _curves(metric, methods)
    name = metric.upper()
    label = ", ".join(part for part in (name, scenario) if part)
    if ks == [None]:
        dotted = [(curve, curve.points[0]) for curve in _ordered(curves, metric)]
        drawing = chart(dots(dotted, label, metric=name))
    else:
        shown_curves = _few(curves, metric)
        drawing = join(
            [
                chart(k_curves(shown_curves, label, metric=name), css="wide"),
                chart(k_curves_narrow(shown_curves, label, metric=name), css="narrow"),
            ]
        )
    n = next(row["n"] for row in rows if row.get("scenario") == scenario)
    note = f"{n} tasks. Bands and bars are 95 % bootstrap intervals; floors are dashed. " + (
        "The chart shows the best methods at the largest k, the table all."
        if ks[0] is not None
        else ""
    )
    head = ["method", "kind", *(metric if k is None else f"k = {k}" for k in ks)]
    body = [
        [method, str(next(iter(of_k.values()))["kind"])]
        + [_cell(of_k[k], metric) if k in of_k else "" for k in ks]
        for method, of_k in methods.items()
    ]
    return section(
        label, drawing, element("p", note, css="note"), table(head, body, css="tall"), _legend(rows)
    )


def _curves(metric: str, methods: Methods) -> list[Curve]:
    """Return one curve per method; controls are in the tables only."""
    roles: dict[str, Role] = {
        name: role for name, of_k in methods.items() if (role := _role(of_k)) is not None
    }
    learners = [name for name, role in roles.items() if role == "learner"]
    best = max(learners, key=lambda name: _level(methods[name], metric), default=None)
    return [
        Curve(
            name,
            "main" if name == best else role,
            {
                k or 0: Point(_number(row[metric]), *interval(row))
                for k, row in methods[name].items()
            },
        )
        for name, role in roles.items()
    ]


def _few(curves: list[Curve], metric: str) -> list[Curve]:
    """Return the best curves of each role, floors first, as many as a chart can show."""
    ordered = _ordered(curves, metric)
    kept = {id(c) for role in _ROLES for c in [c for c in ordered if c.role == role][:_MOST]}
    return sorted((c for c in curves if id(c) in kept), key=lambda c: _ROLES.index(c.role))


def _ordered(curves: list[Curve], metric: str) -> list[Curve]:
    sign = 1 if metric == "rmse" else -1
    return sorted(curves, key=lambda curve: sign * curve.points[max(curve.points)].value)


def _role(of_k: dict[int | None, Row]) -> Role | None:
    kind = next(iter(of_k.values()))["kind"]
    return next((role for role in _ROLES if role == kind), None)


def _level(of_k: dict[int | None, Row], metric: str) -> float:
    """Return how good a method is at its largest k, more is better."""
    value = _number(list(of_k.values())[-1][metric])
    return -value if metric == "rmse" else value


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _cell(row: Row, metric: str) -> Markup:
    found = mark(row)
    css = "good" if "+" in found else "plain"
    badge = element("span", found, css=f"badge {css}") if found else Markup()
    width = element("span", f" ±{half_width(row):.3f} ", css="plain")
    return join([shown(row[metric]), width, badge])


def _legend(rows: Sequence[Row]) -> Markup:
    words = "; ".join(f"{name} {meaning}" for name, meaning in legend(rows).items())
    return element("p", words, css="note")


def _details(
    rows: Sequence[Row], scenario: str | None, last: int | None, methods: Methods
) -> Markup:
    names = details(rows)
    body = [
        [method, *(shown(of_k[last].get(name), places(name)) for name in names)]
        for method, of_k in methods.items()
        if last in of_k
    ]
    where = ", ".join(part for part in (scenario, None if last is None else f"k = {last}") if part)
    gaps = _gaps(last, methods, target(rows))
    return section(
        f"Details{', ' * bool(where)}{where}", table(["method", *names], body, css="tall"), gaps
    )


def _gaps(last: int | None, methods: Methods, metric: str) -> Markup:
    """Return the means of groups, if the rows have any."""
    found = {name: of_k[last].get("groups") for name, of_k in methods.items() if last in of_k}
    columns = dict.fromkeys(g for of in found.values() if isinstance(of, dict) for g in of)
    if not columns:
        return Markup()
    body = [
        [name, *(shown(of.get(group)) for group in columns)]
        for name, of in found.items()
        if isinstance(of, dict)
    ]
    return join(
        [
            element("h3", f"Means of groups ({metric})"),
            table(["method", *columns], body, css="tall"),
        ]
    )


def _provenance(rows: Sequence[Row]) -> Markup:
    body = []
    for row in {str(row["method"]): row for row in rows}.values():
        spent = shown(row.get("cpu_seconds"), 1) + (" over" if row.get("over_budget") else "")
        tried = f"{row.get('tried', 0)} of {row.get('asked', 0)}"
        seeds = ", ".join(map(str, _list(row.get("seeds"))))
        config = str(row.get("config_sha256", ""))[:12]
        body.append([row["method"], seeds, spent, tried, config, row.get("command", "")])
    first = rows[0]
    words = join(
        [
            join([name, " ", element("span", first.get(key, ""), css="chip"), " "])
            for name, key in (("Store", "store_sha256"), ("source", "source_fingerprint"))
        ]
    )
    head = ["method", "seeds", "CPU s a seed", "tuned over", "config", "command"]
    return section(
        "Where it comes from", element("p", words, css="note"), table(head, body, css="tall")
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
