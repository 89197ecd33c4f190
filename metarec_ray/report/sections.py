"""Sections on the run itself: the headline, the data, the stages, versions and commands.

Knows counts and names; does not judge results.
"""

from datetime import UTC, datetime, timedelta

from metarec_ray.report.page import Markup, element, join, section, table
from metarec_ray.report.run import Counts, Run

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def head(run: Run) -> Markup:
    """Return the title and the main facts of the run."""
    found = run.summary
    facts = [
        found.dataset,
        found.feedback and f"{found.feedback} feedback",
        found.learner,
        "" if found.seed is None else f"seed {found.seed}",
        "" if found.seconds is None else _duration(found.seconds),
        found.created_at,
    ]
    chips = [element("span", fact, css="chip") for fact in facts if fact]
    line = element("p", join(chips, " ")) if chips else ""
    return element("header", element("h1", f"metarec: {run.name}"), line)


def data(run: Run) -> Markup:
    """Return what happened to the rows of the log, the size of the store, and what is doubtful."""
    found = run.data
    if found is None:
        return Markup()
    rows = table(("the log", "rows", "share"), _log_rows(found))
    store = table(("the task store", ""), _store_rows(found))
    notes = [element("p", note) for note in found.notes]
    return section("Data", element("div", rows, store, css="pair"), *notes)


def stages(run: Run) -> Markup:
    """Return the time of each stage."""
    spent = run.summary.stages
    total = sum(spent.values())
    if total <= 0:
        return Markup()
    rows = [
        (name, _duration(seconds), f"{seconds / total:.0%}", _bar(seconds / max(spent.values())))
        for name, seconds in spent.items()
    ]
    head = ("stage", "time", "share", Markup('<span class="hidden">bar</span>'))
    return section("Where the time went", table(head, rows, css="stages"))


def provenance(run: Run) -> Markup:
    """Return what a repetition needs: commands, versions, hashes."""
    found = run.summary
    kept = {"checkpoint": found.checkpoint, "sha256 of the parameters": found.parameters_sha256}
    rows = [*found.versions.items(), *((name, value) for name, value in kept.items() if value)]
    if not rows and not found.commands:
        return Markup()
    parts = []
    if found.commands:
        parts.append(element("pre", "\n".join(found.commands)))
    if rows:
        parts.append(table(("what", "which"), rows, css="versions"))
    return section("Do it again", *parts)


def _log_rows(found: Counts) -> list[tuple[object, ...]]:
    kinds = [
        ("kept", found.kept),
        ("filtered (label below the limit)", found.filtered),
        ("collapsed (said twice)", found.collapsed),
        *((f"quarantined: {reason}", n) for reason, n in sorted(found.quarantined.items())),
    ]
    rows = [(name, f"{n:,}", f"{n / max(found.rows_in, 1):.2%}") for name, n in kinds]
    return [*rows, (element("b", "all"), f"{found.rows_in:,}", "")]


def _store_rows(found: Counts) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        ("tasks (one history each)", f"{found.tasks:,}"),
        *((f"of these {name}", f"{n:,}") for name, n in found.parts.items()),
        ("events", f"{found.events:,}"),
        ("items", f"{found.items:,}"),
    ]
    if found.cutoff is not None:
        rows.append(("cut in time (UTC)", _moment(found.cutoff)))
    return rows


def _moment(microseconds: int) -> str:
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return f"{microseconds} microseconds"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f} min {rest:.0f} s" if minutes else f"{seconds:.1f} s"


def _bar(share: float) -> Markup:
    return Markup(f'<div class="bar" style="width:{100 * share:.1f}%"></div>')
