"""Tables of users and of items that lie beside a log.

Knows heads of files and the ids of the log's head; does not read whole tables.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.guess import columns, features, words
from metarec_ray.data.guess.columns import Column
from metarec_ray.data.guess.finding import ABSENT, Finding, Tree
from metarec_ray.data.guess.heads.table import Table

RESERVED = ("id", "item", "title", "cold")  # columns of a store's own
_SHARED = 0.2  # least share of the log's ids that a whole table must hold
_COUNTS = words.of("rating ratings count counts reviews review votes views likes score")


class Match(NamedTuple):
    """A table that may be a side: its id column, how well it fits, or why it does not."""

    table: Table
    id: Column
    score: float
    why: str
    refused: str | None


def find(side: str, ids: pl.Series, named: bool, tables: Sequence[Table]) -> list[Match]:
    """Return the tables that hold a row for each of these ids, the best first, then refused ones.

    Args:
        side: `users` or `items`.
        ids: of the log's head; its name is that of the log's column.
        named: whether the log names its columns.
        tables: beside the log.

    """
    known = ids.drop_nulls().cast(pl.String).unique()
    found = [one for table in tables if (one := _match(side, ids.name, known, named, table))]
    return sorted(found, key=lambda one: (one.refused is not None, -one.score))


def section(match: Match, folder: Path) -> tuple[Tree, dict[str, str]]:
    """Return the section of a side table, and why its other columns are left out.

    Its path is relative to the `folder` of the log, if it lies below it.
    """
    table = match.table
    seen = columns.look(table.rows)
    title = _title(seen, match.id, table)
    names = {c.name: c.name for c in seen}
    beside = table.path.is_relative_to(folder)
    path = table.path.relative_to(folder) if beside else table.path
    settings: Tree = {"path": Finding(str(path), match.why), **table.settings}
    if not table.named:
        names |= {match.id.name: "id"} | ({title.name: "title"} if title else {})
        settings["names"] = Finding([names[c.name] for c in seen], "the file has no names")
    settings["id"] = Finding(names[match.id.name], f"{match.id.distinct:,} rows, no two alike")
    if title is not None:
        settings["title"] = Finding(names[title.name], "shown in answers")
    made, unused = _features(
        [c for c in seen if c.name != match.id.name and c is not title], table.rows, names
    )
    unused |= {one: "nested" for one in table.nested}
    return settings | ({"features": made} if made else {}), unused


def _match(side: str, name: str, known: pl.Series, named: bool, table: Table) -> Match | None:
    seen = columns.look(table.rows)
    own = words.side(table.path.name) == side
    for one in seen:
        fit = _fit(side, name, named, own, table, one)
        if not fit:
            continue
        shared = columns.mean(known.is_in(_text(one).unique().implode()))
        if shared == 0 or (table.whole and shared < _SHARED):
            continue
        why = f"{shared:.0%} of the log's {side} read so far are in it"
        refused = _refused(side, one, table)
        score = 5 * own + fit + shared + len(seen) / 100
        return Match(table, one, score, why, refused)
    return None


def _refused(side: str, one: Column, table: Table) -> str | None:
    """Return why a table that holds ids of the log cannot be read as a side table."""
    if one.distinct < len(one.values):
        return f"several rows for one {one.name}, so no table of {side}"
    if one.missing:
        return f"rows without {one.name}, so no table of {side}"
    if table.escapes:
        return 'quotes inside of its fields are written \\" and must be doubled'
    return None


def _fit(side: str, name: str, named: bool, own: bool, table: Table, one: Column) -> int:
    """Return how well a column's name fits the ids of the log, 0 for not at all."""
    if one.kind not in ("integer", "text") or one.distinct < 2:
        return 0
    if table.named and named and words.tokens(one.name) == words.tokens(name):
        return 3
    if not table.named:
        return int(own and one.position == 1)
    role = words.SIDES[side]
    alike = words.fit(one.name, role) == 3 or words.tokens(one.name) == ["id"]
    return 2 if own and alike and one.position <= 3 else 0


def _text(one: Column) -> pl.Series:
    return one.values.cast(pl.String)


def _title(seen: Sequence[Column], own: Column, table: Table) -> Column | None:
    able = [c for c in seen if c.name != own.name and c.kind == "text"]
    able = [c for c in able if c.distinct > len(c.values) / 2]
    if table.named:
        able = [c for c in able if words.fit(c.name, "title") > 1]
        return max(able, key=lambda c: (words.fit(c.name, "title"), -c.position), default=None)
    return able[0] if able and able[0].position <= 3 else None


def _features(
    seen: Sequence[Column], rows: pl.DataFrame, names: dict[str, str]
) -> tuple[Tree, dict[str, str]]:
    made: Tree = {}
    unused: dict[str, str] = {}
    kept: list[str] = []
    for one in seen:
        found = features.kind(one)
        name = names[one.name]
        twin = next((other for other in kept if _are_one(rows, other, one)), None)
        if name in RESERVED:
            unused[name] = "a store has a column of this name"
        elif one.is_numeric and _COUNTS & set(words.tokens(name)):
            made[name] = Finding(
                ABSENT, "", ((found.setting, "sums up what users did, later too"),)
            ) if found.setting else Finding(ABSENT)  # fmt: skip
        elif found.setting is None:
            unused[name] = found.why
        elif twin is not None:
            unused[name] = f"the same as {names[twin]}"
        else:
            made[name] = Finding(found.setting, found.why)
            kept.append(one.name)
    return made, unused


def _are_one(rows: pl.DataFrame, name: str, one: Column) -> bool:
    """Return whether two columns are one to one: a code and its name."""
    if one.kind not in ("integer", "text") or rows[name].dtype.is_nested():
        return False
    pairs = rows.select(name, one.name).drop_nulls()
    both = pairs.n_unique()
    return both == pairs[name].n_unique() == pairs[one.name].n_unique() and both > 2
