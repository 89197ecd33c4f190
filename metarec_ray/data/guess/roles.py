"""Which column of a log means what.

Knows the head of a log and its neighbours' ids; does not know side tables otherwise.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import polars as pl

from metarec_ray.data.guess import clock, columns, ids, labels, words
from metarec_ray.data.guess.clock import Clock
from metarec_ray.data.guess.columns import Column
from metarec_ray.data.guess.features import Kind, kind
from metarec_ray.data.guess.finding import ABSENT, Finding, Tree, leaves
from metarec_ray.data.guess.heads.table import Table
from metarec_ray.data.guess.ids import Beside

MOST_DOMAINS = 100
NOTHING = Beside()
_GAPS = 0.01


class Roles(NamedTuple):
    """What the columns of a log mean.

    Attributes:
        columns: the section `columns`.
        settings: others that follow from the columns: feedback, time_unit, context, ...
        unused: columns without a role, and why.

    """

    columns: Tree
    settings: Tree
    unused: dict[str, str]

    @property
    def are_found(self) -> bool:
        """Whether user and item are known."""
        return all(self.name(role) is not None for role in ("entity", "item"))

    def name(self, role: str) -> str | None:
        """Return the column of a role, None for none."""
        found = self.columns.get(role)
        return found.value if isinstance(found, Finding) and isinstance(found.value, str) else None


def find(table: Table, now: datetime, beside: Beside = NOTHING) -> Roles:
    """Return the roles of a log's columns, given what lies beside it."""
    seen = columns.look(table.rows)
    clocks = {c.name: found for c in seen if (found := _clock(c, now)) is not None}
    roles, settings = (
        _of_names(table.rows, seen, clocks, beside)
        if table.named
        else _of_content(seen, clocks, beside)
    )
    time = roles.get("time")
    if isinstance(time, Finding):
        settings |= _clock_settings(clocks[str(time.value)])
    named = [one.value for one in roles.values() if isinstance(one, Finding)]
    settings |= _gaps([c for c in seen if c.name in named])
    rest = [c for c in seen if c.name not in named]
    return _with_rest(Roles(roles, settings, {}), table.rows, rest, clocks)


def _of_names(
    rows: pl.DataFrame,
    seen: Sequence[Column],
    clocks: Mapping[str, Clock],
    beside: Beside,
) -> tuple[Tree, Tree]:
    """Return the roles of columns with names, and settings that go with them."""
    found = ids.named(seen, clocks, beside)
    rest = [c for c in seen if c.name not in (found.entity.value, found.item.value)]
    time = _time(rest, clocks, are_named=True)
    item = Roles({"item": found.item}, {}, {})
    fixed = [c.name for c in rest if _owner(rows, c, item)]
    meant, settings = labels.find(_without(rest, time), are_named=True, fixed=fixed)
    return {"entity": found.entity, "item": found.item, **meant, **time}, settings


def _of_content(
    seen: Sequence[Column], clocks: Mapping[str, Clock], beside: Beside
) -> tuple[Tree, Tree]:
    """Return the roles of columns without names, and settings that go with them."""
    time = _time(seen, clocks, are_named=False)
    rest = _without(seen, time)
    meant, settings = labels.find(rest, are_named=False)
    used = [one.value for one in meant.values() if isinstance(one, Finding)]
    taken = [name for name in used if isinstance(name, str)]
    found = ids.unnamed(rest, clocks, taken, beside)
    return {"entity": found.entity, "item": found.item, **meant, **time}, settings


def _clock(column: Column, now: datetime) -> Clock | None:
    found = clock.find(column, now)
    if found is None and column.is_numeric and words.fit(column.name, "time") == 3:
        return clock.counter(column)
    return found


def _told(known: Roles) -> set[object]:
    """Return the columns that other readings of a role name."""
    return {other for _, one in leaves(known.columns) for other, _ in one.others}


def _without(seen: Sequence[Column], time: Tree) -> list[Column]:
    return [c for c in seen if c.name not in [one.value for _, one in leaves(time)]]


def _time(seen: Sequence[Column], clocks: Mapping[str, Clock], *, are_named: bool) -> Tree:
    """Return the column of the time, those that are times too as its rivals; {} for none."""
    able = [c for c in seen if c.name in clocks and _is_time(c, clocks[c.name], named=are_named)]
    if not able:
        return {}
    best, *others = sorted(able, key=lambda c: -_time_score(c, clocks[c.name]))
    rivals = tuple((c.name, _written(clocks[c.name])) for c in others)
    return {"time": Finding(best.name, clocks[best.name].why, rivals)}


def _is_time(one: Column, found: Clock, *, named: bool) -> bool:
    if not named:
        # Ids may be as large as seconds since 1970, but come again and again.
        return found.unit is None or one.distinct > min(len(one.values) / 10, 1000)
    if one.is_numeric:
        return words.fit(one.name, "time") > 0
    return True


def _time_score(one: Column, found: Clock) -> float:
    numbers = 3 if found.unit else 2 if found.format is None else 0
    differ = one.distinct / max(len(one.values), 1)
    return 10 * words.fit(one.name, "time") + numbers + 2 * differ - 20 * one.missing


def _written(found: Clock) -> str:
    if found.unit:
        return f"with time_unit: {found.unit}"
    return f'with time_format: "{found.format}"' if found.format else "without time_unit"


def _clock_settings(found: Clock) -> Tree:
    if found.unit:
        return {"time_unit": Finding(found.unit, found.how)}
    if found.format:
        rivals = tuple((one, "fits every date, too") for one in found.rivals)
        return {"time_format": Finding(found.format, found.how, rivals)}
    return {}


def _gaps(used: Sequence[Column]) -> Tree:
    """Return the share of bad rows to allow, if values of roles are missing."""
    wanting = {c.name: c.missing for c in used if c.missing > _GAPS / 2}
    if not wanting:
        return {}
    share = min(1.0, round(2 * sum(wanting.values()) + _GAPS, 2))
    said = ", ".join(f"{name} in {part:.1%}" for name, part in wanting.items())
    return {"max_bad_share": Finding(share, f"rows without a value are left out: {said}")}


def _with_rest(
    known: Roles, rows: pl.DataFrame, rest: Sequence[Column], clocks: Mapping[str, Clock]
) -> Roles:
    """Return the roles with sequence, domain and context, and the reasons of what is left."""
    roles, unused, context = dict(known.columns), dict(known.unused), Tree()
    told = _told(known)
    for one in [one for one in rest if one.name not in told]:
        owner = _owner(rows, one, known)
        made = kind(one)
        if words.fit(one.name, "sequence") == 3 and one.kind == "integer":
            roles["sequence"] = Finding(one.name, "by its name, whole numbers")
        elif one.name in clocks and not one.is_numeric:
            unused[one.name] = "another time"
        elif one.is_numeric and words.fit(one.name, "time") == 3 and one.name not in clocks:
            unused[one.name] = f"a time by its name, in no unit that is known: {one.values[0]}"
        elif _is_domain(one, owner) and "domain" not in roles:
            roles["domain"] = Finding(one.name, f"by its name, {one.distinct} of them")
        elif owner is not None:
            unused[one.name] = f"the same in all rows of {owner}: a feature of it, {made.why}"
        elif made.setting is None:
            unused[one.name] = made.why
        else:
            context[one.name] = _context(one, made)
    settings = known.settings | ({"context": context} if context else {})
    return Roles(roles, settings, unused)


def _context(one: Column, made: Kind) -> Finding:
    if words.fit(one.name, "context") > 1:
        return Finding(made.setting, f"by its name, {made.why}")
    return Finding(ABSENT, "", ((made.setting, f"{made.why}; if known before the item is"),))


def _is_domain(one: Column, owner: str | None) -> bool:
    few = 1 < one.distinct <= MOST_DOMAINS
    return few and owner == "an item" and words.fit(one.name, "domain") > 1


def _owner(rows: pl.DataFrame, one: Column, known: Roles) -> str | None:
    """Return whether a column is the same in all rows of an item, or of a user, that has several.

    What an item always has says which item it is: as context it would give the answer away.
    """
    if one.distinct < 2 or one.kind == "list":
        return None
    for role, called in (("item", "an item"), ("entity", "a user")):
        name = known.name(role)
        if name is None:
            continue
        pairs = rows.select(key=name, value=one.name).drop_nulls()
        groups = pairs.group_by("key").agg(pl.len(), pl.col("value").n_unique().alias("values"))
        several = groups.filter(pl.col("len") > 1)
        if len(several) > 2 and columns.mean(several["values"] == 1) > 0.98:
            return called
    return None
