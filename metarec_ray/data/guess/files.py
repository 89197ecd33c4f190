"""Which files of a folder are the log, and which lie beside it.

Knows names and heads of local files; does not know side tables (`sides`).
"""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.guess import roles, words
from metarec_ray.data.guess.heads import groups, table
from metarec_ray.data.guess.heads.table import Table
from metarec_ray.data.guess.ids import Beside
from metarec_ray.errors import DataError

MOST = 24  # kinds of files that are looked into
_MAYBE = 20.0  # score of a table that may be the log
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
    named = groups.find(folder, table.SUFFIXES, within=path.is_dir())
    unread: dict[str, str] = {}
    tables: dict[str, Table] = {}
    if not path.is_dir():
        tables[path.name] = table.look(path)
    for names in list(named.values())[:MOST]:
        try:
            if path.name not in names:
                tables[names[0]] = _whole(folder, names[0])
        except DataError as error:
            unread[names[0]] = str(error)
    if not path.is_dir():
        first, *others = tables.values()
        return Found(given, first, 1, tuple(others), (), unread)
    if not tables:
        why = "; ".join(unread.values()) or f"it needs one of {', '.join(table.SUFFIXES)}"
        raise DataError(f"a folder must hold a table, {given} holds none: {why}")
    return _chosen(tables, list(named.values()), given.rstrip("/"), now)._replace(unread=unread)


def _whole(folder: Path, name: str) -> Table:
    """Return the head of a file, with the columns that the names of its folders are."""
    found = table.look(folder / name)
    own = {key: v for key, v in groups.partitions(name).items() if key not in found.rows.columns}
    return found._replace(rows=found.rows.with_columns(**{k: pl.lit(v) for k, v in own.items()}))


def _chosen(
    tables: dict[str, Table], named: Sequence[Sequence[str]], given: str, now: datetime
) -> Found:
    scores = {name: score for name, one in tables.items() if (score := _score(one, now)) > 0}
    if not scores:
        raise DataError(
            "a log must have a column of users and one of items, no file of "
            f"{given} has both: {', '.join(tables)}"
        )
    best, *others = sorted(scores, key=lambda name: -scores[name])
    names = next(one for one in named if best in one)
    rivals = [
        (f"{given}/{name}", f"about {tables[name].estimate:,} rows")
        for name in others
        if scores[name] > _MAYBE
    ]
    made = groups.pattern(names, [name for one in named if one is not names for name in one])
    if made is None:
        rivals += [(f"{given}/{name}", "a file of the same columns") for name in names[1:]]
    path = given if made == "." else f"{given}/{made or best}"
    beside = tuple(one for name, one in tables.items() if name != best)
    return Found(path, tables[best], len(names) if made else 1, beside, tuple(rivals), {})


def ids_beside(tables: Sequence[Table]) -> Beside:
    """Return what tables beside a log say of its ids."""
    keys: set[str] = set()
    values: dict[str, set[str]] = {"users": set(), "items": set()}
    for one in tables:
        unique = [name for name in one.rows.columns if _is_unique(one.rows[name])]
        keys |= set(unique) if one.named and len(one.rows) > 1 else set()
        side = words.side(one.path.name)
        if side is not None and unique:
            values[side] |= set(one.rows[unique[0]].cast(pl.String))
    return Beside(frozenset(keys), *(frozenset(values[side]) for side in ("users", "items")))


def _is_unique(column: pl.Series) -> bool:
    plain = not column.dtype.is_nested() and not column.dtype.is_float()
    return plain and not column.null_count() and column.n_unique() == len(column)


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
    return _MAYBE + said - table_of_ids + events + clock + size
