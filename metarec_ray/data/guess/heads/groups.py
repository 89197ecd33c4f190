"""Files of a folder by their names: those that differ in numbers only are parts of one table.

Knows names; does not open a file.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

Groups = dict[str, list[str]]
"""Names relative to the folder, by what they have in common."""


def find(folder: Path, suffixes: tuple[str, ...], *, within: bool) -> Groups:
    """Return the files of a folder, `within` its folders too, that are not hidden."""
    found: Groups = {}
    for path in sorted(folder.rglob("*") if within else folder.iterdir()):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "_")) for part in parts)
        if not hidden and path.name.lower().endswith(suffixes) and path.is_file():
            name = "/".join(parts)
            found.setdefault(re.sub(r"=[^/]*", "=", re.sub(r"\d+", "#", name)), []).append(name)
    return found


def pattern(names: Sequence[str], others: Sequence[str]) -> str | None:
    """Return one name, a pattern of several, or `.` if there are no others.

    None if every pattern of these names is one of `others`, too.

    >>> pattern(["part-1.csv", "part-2.csv"], ["items.csv"])
    'part-*.csv'
    >>> pattern(["day=1/a.csv", "day=2/a.csv"], ["items.csv"])
    'day=*/a.csv'
    >>> pattern(["part-1.csv", "part-2.csv"], ["part-1-old.csv"])
    """
    if len(names) == 1:
        return names[0]
    if not others:
        return "."
    parts = zip(*(name.split("/") for name in names), strict=True)
    made = "/".join(_common(set(part)) for part in parts)
    return None if any(_fits(other, made) for other in others) else made


def partitions(name: str) -> dict[str, str]:
    """Return the columns that the names of folders are, `day=1/a.csv`, and their value."""
    return dict(re.findall(r"([^/=]+)=([^/]*)/", name))


def _common(words: set[str]) -> str:
    if len(words) == 1:
        return next(iter(words))
    word = min(words)
    key, equals, _ = word.partition("=")
    return f"{key}=*" if equals else re.sub(r"\d+", "*", word)


def _fits(name: str, made: str) -> bool:
    parts, wanted = name.split("/"), made.split("/")
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))
