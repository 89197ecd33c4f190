"""Which files of a folder are the log, and which lie beside it.

Knows names and heads of local files; does not know side tables (`sides`).
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.guess import roles, words
from metarec_ray.data.guess.heads import table
from metarec_ray.data.guess.heads.table import Table
from metarec_ray.errors import DataError

MOST = 24  # kinds of files that are looked into
_LOGS = words.of(
    "events event ratings rating interactions interaction clicks log logs transactions behaviors "
    "behavior reviews train plays checkins actions views history listens"
)
_OTHERS = words.of(
    "tag tags genome friend friends social link links edges network submission test sample map "
    "properties tree readme"
)


class Found(NamedTuple):
    """The log of a folder.

    Attributes:
        path: as `data.path`: a file, or a pattern for files of one kind.
        table: the head of its first file.
        files: how many there are.
        beside: heads of the other files.
        rivals: paths that may be the log as well, and what speaks for them.
        unread: names of files that are no tables, and why.

    """

    path: str
    table: Table
    files: int
    beside: tuple[Table, ...]
    rivals: tuple[tuple[str, str], ...]
    unread: dict[str, str]


def find(path: Path, given: str, now: datetime) -> Found:
    """Return the log of a file or folder; `given` is the path as it was written.

    Raises:
        DataError: there is no table, or no file has columns of users and of items.

    """
    folder = path if path.is_dir() else path.parent
    groups = _groups(folder, within=path.is_dir())
    own = None if path.is_dir() else path
    unread: dict[str, str] = {}
    tables: list[Table] = [] if own is None else [table.look(own)]
    for first in [files[0] for files in groups.values() if own not in files][:MOST]:
        try:
            tables.append(table.look(first))
        except DataError as error:
            unread[first.name] = str(error)
    if own is not None:
        return Found(given, tables[0], 1, tuple(tables[1:]), (), unread)
    if not tables:
        why = "; ".join(unread.values()) or f"one of {', '.join(table.SUFFIXES)}"
        raise DataError(f"a folder must hold a table, {given} holds none: {why}")
    return _chosen(tables, groups, folder, given, unread, now)


def _chosen(
    tables: Sequence[Table],
    groups: dict[str, list[Path]],
    folder: Path,
    given: str,
    unread: dict[str, str],
    now: datetime,
) -> Found:
    scored = [(_score(one, now), one) for one in tables]
    able = sorted(((s, t) for s, t in scored if s > 0), key=lambda one: -one[0])
    if not able:
        raise DataError(
            "a log must have a column of users and one of items, no file of "
            f"{given} has both: {', '.join(one.path.name for one in tables)}"
        )
    best = able[0][1]
    files = next(files for files in groups.values() if best.path in files)
    rivals = tuple(
        (f"{given.rstrip('/')}/{one.path.relative_to(folder)}", f"about {one.estimate:,} rows")
        for score, one in able[1:]
        if score > 20
    )
    beside = tuple(one for one in tables if one is not best)
    name = _pattern(files, folder, groups)
    whole = given if name == "." else f"{given.rstrip('/')}/{name}"
    return Found(whole, best, len(files), beside, rivals, unread)


def keys(tables: Sequence[Table]) -> set[str]:
    """Return the names of columns in which no value comes twice: ids of tables beside a log."""
    return {
        name
        for one in tables
        if one.named and len(one.rows) > 1
        for name in one.rows.columns
        if _is_unique(one.rows[name])
    }


def _is_unique(column: pl.Series) -> bool:
    plain = not column.dtype.is_nested() and not column.dtype.is_float()
    return plain and not column.null_count() and column.n_unique() == len(column)


def _groups(folder: Path, *, within: bool) -> dict[str, list[Path]]:
    """Return the files of a folder by name; names that differ in numbers only are one group."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*") if within else folder.iterdir()):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "_")) for part in parts)
        if not hidden and path.name.lower().endswith(table.SUFFIXES) and path.is_file():
            key = re.sub(r"=[^/]*", "=", re.sub(r"\d+", "#", "/".join(parts)))
            found.setdefault(key, []).append(path)
    return found


def _score(one: Table, now: datetime) -> float:
    """Return how much a table looks like a log; <= 0 if it has not both users and items."""
    found = roles.find(one, now)
    if not found.are_found:
        return 0.0
    parts = set(words.tokens(one.path.name.partition(".")[0]))
    columns = {word for name in one.rows.columns for word in words.tokens(name)}
    said = 8 * bool(_LOGS & parts) - 15 * bool(_OTHERS & (parts | columns))
    table_of_ids = 15 * (words.side(one.path.name) is not None)
    events = 5 * (found.name("label") is not None or found.name("event") is not None)
    clock = 5 * (found.name("time") is not None)
    size = math.log10(max(one.estimate, 1))
    return 20 + said - table_of_ids + events + clock + size


def _pattern(files: Sequence[Path], folder: Path, groups: dict[str, list[Path]]) -> str:
    """Return the name of one file, a pattern of several, or `.` if there are no others."""
    if len(files) == 1:
        return str(files[0].relative_to(folder))
    if len(groups) == 1:
        return "."
    names = [str(one.relative_to(folder)) for one in files]
    start = re.split(r"\d", names[0])[0]
    return f"{start}*{''.join(Path(names[0]).suffixes)}"
