"""A guess as YAML with its reasons as comments, and as lines for a terminal.

Knows findings; does not know what was read.
"""

from collections.abc import Iterator

import yaml

from metarec_ray.data.guess.finding import ABSENT, FILL, Finding, Tree, leaves, plain
from metarec_ray.data.guess.guess import Guess

_AT = 44  # column of the comments
_SHOWN = 60  # characters of a value on a terminal


def experiment(found: Guess, *, source: str, folder: str) -> str:
    """Return an experiment with the guessed `data` section; `folder` is that of its run."""
    lines = [
        f"# Guessed by `metarec init {source}` from {found.head}.",
        "# A line that is a comment is another reading of the one above it.",
        "run:",
        f"  dir: {_text(folder)}",
        "data:",
        *_lines(found.data, "  "),
    ]
    if found.unused:
        lines += ["", "# Not used:", *(f"#   {name}: {why}" for name, why in found.unused.items())]
    return "\n".join(lines) + "\n"


def shown(found: Guess, written: str) -> str:
    """Return what was guessed and what was not, for a person; `written` is the file."""
    every = list(leaves(found.data))
    settled = [(key, one) for key, one in every if one.value not in (ABSENT, FILL)]
    parts = [f"read: {found.head}", "", "guessed, of `data`"]
    parts += _table([(key, _short(one.value), one.why) for key, one in settled])
    readings = [(key, *other) for key, one in every for other in one.others]
    if readings:
        parts += ["", "or, a comment in the file"]
        parts += _table([(key, _short(value), when) for key, value, when in readings])
    if found.open:
        parts += ["", "to fill in, it cannot be told from the file"]
        parts += _table([(k, "", one.why) for k, one in every if one.value is FILL])
    if found.unused:
        parts += ["", "not used"]
        parts += _table([(name, why, "") for name, why in found.unused.items()])
    after = "fill in the keys above, then" if found.open else "next:"
    return "\n".join([*parts, "", f"written: {written}", f"{after} metarec data check {written}"])


def line(found: Guess) -> str:
    """Return the main findings on one line.

    >>> columns = {"entity": Finding("user_id"), "time": Finding("at")}
    >>> line(Guess({"feedback": Finding("implicit"), "columns": columns}, "", {}))
    'implicit feedback, entity user_id, time at'
    """
    made = plain(found.data)
    roles = made.get("columns")
    assert isinstance(roles, dict)
    said = ", ".join(f"{role} {name}" for role, name in roles.items())
    return f"{made['feedback']} feedback, {said}"


def _lines(tree: Tree, indent: str) -> Iterator[str]:
    for key, branch in tree.items():
        name = _text(key)
        if isinstance(branch, Finding):
            yield from _line(name, branch, indent)
        elif plain(branch) or any(one.value is FILL for _, one in leaves(branch)):
            yield f"{indent}{name}:"
            yield from _lines(branch, indent + "  ")
        else:  # all of it is a comment
            yield f"{indent}# {name}:"
            for name, one in leaves(branch):
                for value, when in one.others:
                    yield _noted(f"{indent}#   {_text(name)}: {_text(value)}", when)


def _line(name: str, one: Finding, indent: str) -> Iterator[str]:
    if one.value is FILL:
        yield _noted(f"{indent}{name}:", f"FILL IN: {one.why}")
    elif one.value is not ABSENT:
        yield _noted(f"{indent}{name}: {_text(one.value)}", one.why)
    for value, when in one.others:
        yield _noted(f"{indent}# {name}: {_text(value)}", when)


def _noted(line: str, note: str) -> str:
    said = " ".join(note.split())
    return f"{line:<{_AT}}  # {said}" if said else line


def _text(value: object) -> str:
    """Return a value as YAML on one line."""
    written = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return written.removesuffix("...\n").strip()


def _short(value: object) -> str:
    text = _text(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    """Return rows as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [
        f"  {one:<{widths[0]}}  {two:<{widths[1]}}  {three}".rstrip() for one, two, three in rows
    ]
