"""Which columns are the user and the item.

Knows the columns of a log's head, by name and by content; does not know its labels.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from metarec_ray.data.guess import words
from metarec_ray.data.guess.clock import Clock
from metarec_ray.data.guess.columns import Column, longest, mean
from metarec_ray.data.guess.finding import FILL, Finding

_ATTRIBUTES = words.of(
    "category cat type name price brand title age gender sex country city state zip size color "
    "colour language lang duration length count year genre genres description text summary image "
    "url date time at rating score lat lon latitude longitude status active group level"
)
_FEW_GAPS = 0.01
_CLEAR = 0.5  # of `Beside.order`, from which it decides


class Beside(NamedTuple):
    """What tables beside a log say of its ids.

    Attributes:
        keys: names of columns in which no value comes twice.
        users: such values of tables that are called after users.
        items: likewise.

    """

    keys: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()

    def order(self, first: Column, second: Column) -> float:
        """Return how much more these columns are users and items than the other way round."""
        return (
            _within(first, self.users) + _within(second, self.items)
            - _within(second, self.users) - _within(first, self.items)
        )  # fmt: skip


class Ids(NamedTuple):
    """The columns of user and item: names as findings, None where none was found."""

    entity: Finding
    item: Finding


def named(columns: Sequence[Column], clocks: Mapping[str, Clock], beside: Beside) -> Ids:
    """Return user and item of a file that names its columns."""
    able = [column for column in columns if _is_id(column)]
    found: dict[str, list[Column]] = {}
    for role in ("entity", "item"):
        scored = [(_score(column, role, beside.keys), -column.position, column) for column in able]
        found[role] = [one for score, _, one in sorted(scored, reverse=True) if score > 0]
    # A column is one of the two only: of what fits both the better.
    taken = found["entity"][:1]
    found["item"] = [one for one in found["item"] if one not in taken]
    rest = [c for c in able if c not in (*taken, *found["item"][:1]) and _could_be_id(c, clocks)]
    if found["entity"] and found["item"]:
        return Ids(_by_name(found["entity"], "item"), _by_name(found["item"], "entity"))
    if not found["entity"] and not found["item"]:
        return _neither(rest)
    missing = _by_rest(rest)
    if found["entity"]:
        return Ids(_by_name(found["entity"], "item"), missing)
    return Ids(missing, _by_name(found["item"], "entity"))


def unnamed(
    columns: Sequence[Column], clocks: Mapping[str, Clock], used: Collection[str], beside: Beside
) -> Ids:
    """Return user and item of a file without names.

    As tables beside it say, else in the usual order, the user first.
    """
    able = [
        one for one in columns
        if one.name not in used and _is_id(one) and _could_be_id(one, clocks)
    ]  # fmt: skip
    full = [one for one in able if not one.missing]
    if len(full) < 2:
        full = [one for one in able if one.missing <= _FEW_GAPS]
    if not _repeat(full[:2]):
        return Ids(Finding(FILL, _listed(able)), Finding(FILL, _listed(able)))
    user, item = full[:2]
    others = [one for one in able if one not in (user, item)]
    further = tuple((one.name, _content(one)) for one in others)
    order = beside.order(user, item)
    if abs(order) > _CLEAR:
        user, item = (user, item) if order > 0 else (item, user)
        why = "a column of ids, told from the other by a table beside the log, {}"
        first, second = (why.format(_content(one)) for one in (user, item))
        return Ids(Finding(user.name, first), Finding(item.name, second, further))
    first, second = f"the first column of ids, {_content(user)}", f"the next, {_content(item)}"
    when = "if the item stands before the user"
    return Ids(
        Finding(user.name, first, ((item.name, when),)),
        Finding(item.name, second, ((user.name, when), *further)),
    )


def _within(column: Column, known: frozenset[str]) -> float:
    """Return which share of the values is known."""
    values = column.values.unique().cast(pl.String)
    return mean(values.is_in(pl.Series([*known], dtype=pl.String).implode())) if known else 0.0


def _score(column: Column, role: str, keys: Collection[str]) -> float:
    """Return how well a column's name and content fit; <= 0 if the name does not."""
    fit = words.fit(column.name, role)
    parts = set(words.tokens(column.name))
    if not fit or (fit < 3 and _ATTRIBUTES & parts):
        return 0.0
    alone = 0 if {"session"} & parts else 5
    near = 15 if column.name in keys else 0
    repeats = 3 if column.distinct < 0.9 * len(column.values) else 0
    return 10 * fit + alone + near + repeats + ("id" in parts) - 20 * column.missing


def _is_id(column: Column) -> bool:
    """Return whether a column may hold ids; `7.0` stands for 7 where a gap made floats of them."""
    whole = column.kind == "number" and column.missing > 0 and (column.values % 1 == 0).all()
    return (whole or column.kind in ("integer", "text")) and column.distinct > 1


def _could_be_id(column: Column, clocks: Mapping[str, Clock]) -> bool:
    """Return whether a column looks like an id by its content alone."""
    clock = clocks.get(column.name)
    if clock is not None and (clock.unit is None or column.distinct > len(column.values) / 2):
        return False
    long = column.kind == "text" and longest(column.values) > 100
    return column.distinct > 4 and not long


def _by_name(found: Sequence[Column], other: str) -> Finding:
    best, *others = found
    rivals = tuple((one.name, _content(one)) for one in others if _is_close(one, best, other))
    return Finding(best.name, f"by its name, {_content(best)}", rivals)


def _is_close(one: Column, best: Column, other: str) -> bool:
    mine = "item" if other == "entity" else "entity"
    return words.fit(one.name, mine) >= min(2, words.fit(best.name, mine))


def _by_rest(rest: Sequence[Column]) -> Finding:
    if len(rest) == 1:
        return Finding(rest[0].name, f"the only other column of ids, {_content(rest[0])}")
    return Finding(FILL, _listed(rest))


def _neither(rest: Sequence[Column]) -> Ids:
    if len(rest) != 2 or not _repeat(rest):
        return Ids(Finding(FILL, _listed(rest)), Finding(FILL, _listed(rest)))
    user, item = rest
    return Ids(
        Finding(user.name, "the first of two columns of ids", ((item.name, "if it is the user"),)),
        Finding(item.name, "the second of them", ((user.name, "if it is the item"),)),
    )


def _repeat(pair: Sequence[Column]) -> bool:
    """Return whether two columns may be the ids of a log, where users or items come again."""
    return len(pair) == 2 and any(one.distinct < len(one.values) for one in pair)


def _content(column: Column) -> str:
    gaps = f", {column.missing:.0%} missing" if column.missing > 0.005 else ""
    return f"{column.distinct:,} in {column.rows:,} rows{gaps}"


def _listed(columns: Sequence[Column]) -> str:
    return "one of " + ", ".join(one.name for one in columns) if columns else "no column of ids"
