"""One held-out user, before and after each click.

Knows the answers of the endpoint. Later choices of the user were not part of any request.
"""

from collections.abc import Mapping

from metarec_ray.report.page import Markup, element, join, section
from metarec_ray.report.run import Example, Item, Run, Step


def example(run: Run) -> Markup:
    """Return the lists of all steps side by side, with items that moved up and later choices."""
    found = run.summary.example
    if found is None or not found.steps:
        return Markup()
    liked = {item.id for item in found.liked_later}
    before: list[Mapping[str, int] | None] = [None]
    before += [{item.id: i for i, item in enumerate(step.items)} for step in found.steps]
    columns = [
        _column(i, step, previous, liked)
        for i, (step, previous) in enumerate(zip(found.steps, before, strict=False))
    ]
    grid = Markup(f'<div class="steps" tabindex="0">{join(columns)}</div>')
    return section("One new user, click by click", _lead(found), grid, _later(found, liked))


def _lead(found: Example) -> Markup:
    known = ", ".join(f"{name} {_shown(value)}" for name, value in found.fields.items())
    who = join(["User ", element("b", found.user), f" ({known})" if known else ""])
    legend = join(
        [
            "An answer of the live endpoint a column: ",
            element("span", "new", css="move new"),
            " was not in the list before, ",
            element("span", "▲2", css="move up"),
            " moved up two places, ",
            element("span", "★", css="star"),
            " the user really chose later.",
        ]
    )
    return join([element("p", who, " was held out of training. ", legend)])


def _column(i: int, step: Step, before: Mapping[str, int] | None, liked: set[str]) -> Markup:
    clicked = step.clicked
    title = (
        "Before any click" if clicked is None else join(["After ", element("b", _name(clicked))])
    )
    took = "" if step.took_ms is None else f"{step.took_ms:.1f} ms"
    hits = sum(item.id in liked for item in step.items)
    under = ", ".join(part for part in (took, f"{hits} of {len(step.items)} chosen later") if part)
    entries = [_entry(place, item, before, liked) for place, item in enumerate(step.items)]
    head = join(
        [
            element("div", "Start" if clicked is None else f"Click {i}", css="step-number"),
            element("h3", title),
            element("div", under, css="note"),
        ]
    )
    return element("div", head, element("ol", *entries), css="step")


def _entry(place: int, item: Item, before: Mapping[str, int] | None, liked: set[str]) -> Markup:
    move = _move(place, item, before)
    star = element("span", "★", css="star") if item.id in liked else ""
    css = "liked" if item.id in liked else "moved" if move else ""
    return element("li", element("span", _name(item), css="title"), " ", move, star, css=css)


def _move(place: int, item: Item, before: Mapping[str, int] | None) -> Markup:
    if before is None:
        return Markup()
    was = before.get(item.id)
    if was is None:
        return element("span", "new", css="move new")
    return element("span", f"▲{was - place}", css="move up") if was > place else Markup()


def _later(found: Example, liked: set[str]) -> Markup:
    if not liked:
        return Markup()
    names = [element("span", _name(item), css="chip") for item in found.liked_later]
    return element("p", element("b", "Really chosen later: "), join(names, " "), css="later")


def _name(item: Item) -> str:
    return item.title or item.id


def _shown(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
