"""The results of a run: the verdict, the curves, the regret, every row.

Knows rows. "Better" is written only if the difference to the best rival at that k is positive and
its corrected p is below .05.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

from metarec_ray.figures import charts
from metarec_ray.figures.curves import Curve, Point, Role, k_curves, k_curves_narrow
from metarec_ray.report.page import Markup, chart, element, join, section, table
from metarec_ray.report.run import Row, Run

_LEVEL = 0.05
_SHARED = ("protocol", "dataset", "feedback", "seed")  # mostly the same in every row
_BETTER, _EQUAL, _WORSE, _ALONE = "better", "not distinguishable", "worse", "no rival"
_SENTENCE = {
    _BETTER: "better than the best rival {} (corrected p\xa0<\xa0.05)",
    _EQUAL: "not distinguishable from it {}",
    _WORSE: "worse than it {} (corrected p\xa0<\xa0.05)",
    _ALONE: "without a rival to compare with {}",
}
_FEW = "What a list holds is left out: a list of 10 holds every candidate, in any order."
_ORDER: dict[Role, int] = {"optimum": 0, "floor": 1, "rival": 2, "learner": 3, "main": 4}


def verdict(run: Run) -> Markup:
    """Return one sentence on the learner, and the numbers behind it at each k."""
    rows = _learner_rows(run)
    if not rows:
        return Markup()
    found = [(row, _judge(row)) for row in rows]
    body = [
        (
            f"k = {row.k}",
            _decimal(row.ndcg),
            row.best_rival or "none",
            "" if rival is None else _decimal(rival.ndcg),
            "" if rival is None else f"{row.ndcg - rival.ndcg:+.4f}",
            _p(row.p_corrected),
            "" if row.n_for_5_percent is None else f"{row.n_for_5_percent:,}",
            _badge(word, row),
        )
        for row, word in found
        for rival in [_rival(row, run.rows)]
    ]
    head = (
        "",
        rows[0].method,
        "best rival",
        "its NDCG@10",
        "difference",
        "corrected p",
        "users that a difference of 5\xa0% takes to be seen",
        "so it is",
    )
    lead = element("p", _sentence(found), css="verdict")
    return section("Verdict", lead, table(head, body))


def curves(run: Run) -> Markup:
    """Return NDCG@10 by k of every method, one chart per protocol and data set."""
    groups = groupby(run.rows, key=lambda row: (row.protocol, row.dataset, row.seed))
    drawn = [_curve_charts(run, list(rows)) for _, rows in groups]
    if not drawn:
        return Markup()
    return section("How good the first recommendations are", *drawn)


def regret(run: Run) -> Markup:
    """Return how far the learner is below the optimum, if that is known."""
    optimum, rows = run.summary.optimum, _learner_rows(run)
    shown = [row for row in rows if optimum and row.k in optimum]
    if not optimum or not shown:
        return Markup()
    body = [
        (
            f"k = {row.k}",
            _decimal(optimum[row.k]),
            _decimal(row.ndcg),
            f"{optimum[row.k] - row.ndcg:+.4f}",
            _closed(row, optimum[row.k], run.rows),
        )
        for row in shown
    ]
    heights = {str(row.k): optimum[row.k] - row.ndcg for row in shown}
    head = ("", "optimum", shown[0].method, "regret", "gap closed")
    words = (
        "The generating model of this log is known, so is the best ranking that the same events "
        "allow. Regret is the NDCG@10 that the learner falls short of it; the gap is popularity's."
    )
    drawing = chart(charts.bars(heights, title="Regret (NDCG@10)", x="k"))
    return section(
        "Distance to the optimum",
        element("p", words),
        element("div", drawing, table(head, body), css="pair"),
    )


def full_table(run: Run) -> Markup:
    """Return all fields of all rows."""
    if not run.raw:
        return Markup()
    named = list(dict.fromkeys(name for row in run.raw for name in row))
    fields = [name for name in named if any(row.get(name) is not None for row in run.raw)]
    first = "method" if "method" in fields else fields[0]
    measured = [name for name in fields if name != first and name not in _SHARED]
    ordered = [first, *measured, *(name for name in _SHARED if name in fields)]
    body = [[_cell(row.get(name)) for name in ordered] for row in run.raw]
    few = "hr@10" in named and "hr@10" not in fields
    why = element("p", _FEW) if few else Markup()
    return section("Every row of the table", table(ordered, body, css="tall"), why)


def _learner_rows(run: Run) -> list[Row]:
    """Return the rows of the run's learner; without its name, of the best at the largest k."""
    learners = [row for row in run.rows if row.kind == "learner"]
    if not learners:
        return []
    named = [row for row in learners if row.method == run.summary.learner]
    if not named:
        last = max(row.k for row in learners)
        best = max((row for row in learners if row.k == last), key=lambda row: row.ndcg)
        named = [row for row in learners if row.method == best.method]
    table_of = (named[0].protocol, named[0].dataset, named[0].seed)
    first = [row for row in named if (row.protocol, row.dataset, row.seed) == table_of]
    return sorted(first, key=lambda row: row.k)


def _judge(row: Row) -> str:
    if row.best_rival is None:
        return _ALONE
    if row.p_corrected is None or row.p_corrected >= _LEVEL:
        return _EQUAL
    return _BETTER if row.better else _WORSE


def _sentence(found: Sequence[tuple[Row, str]]) -> Markup:
    parts = []
    for word in (_BETTER, _EQUAL, _WORSE, _ALONE):
        ks = [row.k for row, judged in found if judged == word]
        if ks:
            parts.append(_SENTENCE[word].format(_after(ks)))
    if not any(judged == _BETTER for _, judged in found):
        parts = [
            part.replace("from it", "from the best rival").replace("than it", "than the best rival")
            for part in parts
        ]
    chance = [row.k for row, _ in found if row.chance]
    if chance:
        parts.append(f"indistinguishable from chance {_after(chance)}")
    row = found[0][0]
    start = f"On {row.n:,} new users of {row.dataset or 'the log'}, "
    return join([start, element("b", row.method), f" is {_listed(parts, ', ')}."])


def _after(ks: Sequence[int]) -> str:
    return f"at k\xa0=\xa0{_listed([str(k) for k in ks], ', ')}"


def _listed(parts: Sequence[str], separator: str) -> str:
    return separator.join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def _badge(word: str, row: Row) -> Markup:
    css = {_BETTER: "good", _WORSE: "bad"}.get(word, "plain")
    badge = element("span", word, css=f"badge {css}")
    chance = element("span", "chance", css="badge bad") if row.chance else ""
    return join([badge, chance])


def _rival(row: Row, rows: Sequence[Row]) -> Row | None:
    return _at(rows, row, lambda other: other.method == row.best_rival)


def _at(rows: Sequence[Row], row: Row, wanted: Callable[[Row], bool]) -> Row | None:
    """Return the first wanted row of the same table and k."""
    place = (row.protocol, row.dataset, row.seed, row.k)
    same = (
        other for other in rows if (other.protocol, other.dataset, other.seed, other.k) == place
    )
    return next((other for other in same if wanted(other)), None)


def _closed(row: Row, optimum: float, rows: Sequence[Row]) -> str:
    popularity = _at(rows, row, lambda other: other.method == "popularity")
    if popularity is None or optimum <= popularity.ndcg:
        return ""
    return f"{(row.ndcg - popularity.ndcg) / (optimum - popularity.ndcg):.0%}"


def _curve_charts(run: Run, rows: list[Row]) -> Markup:
    mine = _learner_rows(run)
    main = mine[0].method if mine else None
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    drawn = [_curve(name, of_method, main) for name, of_method in by_method.items()]
    if (
        run.summary.optimum
        and "optimum" not in by_method
        and rows[0].dataset in ("", run.summary.dataset)
    ):
        ks = {row.k for row in rows}
        exact = {k: Point(v, v, v) for k, v in run.summary.optimum.items() if k in ks}
        drawn.append(Curve("optimum", "optimum", exact))
    drawn = sorted((curve for curve in drawn if curve.points), key=lambda one: _ORDER[one.role])
    named = " ".join(part for part in (rows[0].protocol, rows[0].dataset) if part)
    label = f"NDCG@10 by k, {named}"
    note = (
        f"Protocol {named}, seed {rows[0].seed}, {rows[0].n:,} users that training never saw. "
        "Bands and bars are 95 % bootstrap intervals over users; floors are dashed, a known "
        "optimum is dotted."
    )
    return join(
        [
            chart(k_curves(drawn, label), css="wide"),
            chart(k_curves_narrow(drawn, label), css="narrow"),
            element("p", note, css="note"),
        ]
    )


def _curve(name: str, rows: Sequence[Row], main: str | None) -> Curve:
    role: Role = "main" if name == main else rows[0].kind
    return Curve(name, role, {row.k: Point(row.ndcg, *row.ci95) for row in rows})


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(_cell(one) for one in value)
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
    words = {None: "", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _decimal(value: float) -> str:
    return f"{value:.4f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< .001" if value < 0.001 else f"{value:.3f}"
