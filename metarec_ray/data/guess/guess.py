"""Guess the `data` section of a log from the head of its files; each value with its reason.

Knows local files; does not know the rest of an experiment, nor how it is written down (`report`).
"""

import math
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from metarec_ray.data.datasets import by_name
from metarec_ray.data.files import paths
from metarec_ray.data.guess import files, known, naming, roles, sides, words
from metarec_ray.data.guess.files import Found
from metarec_ray.data.guess.finding import FILL, Finding, Tree, leaves
from metarec_ray.data.guess.roles import Roles
from metarec_ray.errors import DataError

BUCKET_ROWS, BUCKETS, MOST_BUCKETS = 1_000_000, 8, 4096
NAMED = 5  # files without a use
_NAMES = ("synthetic", *by_name.NAMES)


class Guess(NamedTuple):
    """What a log looks like.

    Attributes:
        data: the `data` section as a tree of findings.
        head: what was read.
        unused: columns and files that the section does not use, and why.

    """

    data: Tree
    head: str
    unused: dict[str, str]

    @property
    def open(self) -> list[str]:
        """Keys that must be filled in by hand."""
        return [f"data.{key}" for key, one in leaves(self.data) if one.value is FILL]


def is_known(given: str) -> bool:
    """Return whether the columns of a path need no guess: a data set, a known layout, a URI."""
    named = given in _NAMES or paths.is_remote(given)
    return named or known.find(Path(given).expanduser()) is not None


def settled(given: str, *, now: datetime) -> Guess:
    """Return what a log looks like; a DataError as in `guess`, or if a key must be filled in."""
    found = guess(given, now=now)
    if found.open:
        whys = {f"data.{key}": one.why for key, one in leaves(found.data)}
        missing = "; ".join(f"{key} must be {whys[key]}" for key in found.open)
        raise DataError(
            f"the columns of a log must be known: {missing} ({given}); `metarec init {given}` "
            "writes a configuration to fill in"
        )
    return found


def guess(given: str, *, now: datetime) -> Guess:
    """Return what the log at a path, a file or a folder, looks like.

    Raises:
        DataError: there is nothing, or nothing that looks like a log.

    """
    if given in _NAMES:
        raise DataError(f"a data set that is known by its name needs no guess, got {given}")
    if paths.is_remote(given):
        raise DataError(f"a log whose columns are guessed must be a local path, got {given}")
    path = Path(given).expanduser()
    if not path.exists():
        raise DataError(
            f"a log must be a file, a folder or one of {', '.join(_NAMES)}, got {given!r}"
        )
    layout = known.find(path)
    if layout is not None:
        return Guess(known.section(layout, given), "names of files", {})
    try:
        found = files.find(path, given, now)
    except DataError:
        layout = known.find(path.parent)
        if layout is None or path.is_dir():
            raise
        return Guess(known.section(layout, str(path.parent)), "names of files", {})
    return _of(found, now)


def _of(found: Found, now: datetime) -> Guess:
    table = found.table
    meant = roles.find(table, now, files.ids_beside(found.beside))
    unused = meant.unused | dict.fromkeys(table.nested, "nested")
    tree: Tree = {"path": Finding(found.path, _counted(found), found.rivals), **table.settings}
    columns = meant.columns
    if not table.named:
        tree["names"], columns = naming.name(table.rows.columns, columns)
    settings = dict(meant.settings)
    tree |= {key: settings.pop(key) for key in ("feedback", "label_min") if key in settings}
    tree["columns"] = columns
    tree |= settings
    tables, others = _sides(found, meant)
    tree |= tables
    if table.estimate > BUCKETS * BUCKET_ROWS:
        count = min(MOST_BUCKETS, math.ceil(table.estimate * found.files / BUCKET_ROWS))
        tree["buckets"] = Finding(count, "about a million rows each")
    return Guess(tree, _read(found), unused | others)


def _sides(found: Found, meant: Roles) -> tuple[Tree, dict[str, str]]:
    """Return the sections of side tables, and why columns and files are left out."""
    tree: Tree = {}
    unused: dict[str, str] = {}
    taken: list[Path] = []
    several = paths.folder(found.path) if found.files > 1 else paths.parent(found.path)
    folder = Path(several).expanduser()
    for side, role in words.SIDES.items():
        name = meant.name(role)
        if name is None:
            continue
        beside = [one for one in found.beside if one.path not in taken]
        for match in sides.find(side, found.table.rows[name], found.table.named, beside):
            file = match.table.path.name
            made, left = sides.section(match, folder)
            said = match.refused or _useless(side, made, tree)
            if said is not None:
                unused[file] = said
                continue
            taken.append(match.table.path)
            tree[side] = made
            unused |= {f"{file}: {column}": why for column, why in left.items()}
    known = {*(one.name for one in taken), *unused}
    rest = [n for n in (*(one.path.name for one in found.beside), *found.unread) if n not in known]
    return tree, unused | _others(rest)


def _useless(side: str, made: Tree, tree: Tree) -> str | None:
    if side in tree:
        return f"another table of {side}"
    return None if {"title", "features"} & set(made) else f"says nothing about {side}"


def _others(names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return {"other files": f"{', '.join(names[:NAMED])}{more}: no tables of users or items"}


def _counted(found: Found) -> str:
    table = found.table
    about = "" if table.whole else "about "
    several = f", the first of {found.files} files" if found.files > 1 else ""
    return f"{about}{table.estimate:,} rows{several}"


def _read(found: Found) -> str:
    table = found.table
    part = "all" if table.whole else "the first"
    broken = f", {table.broken} more have another number of fields" if table.broken else ""
    return f"{part} {len(table.rows):,} rows of {table.path.name}{broken}"
