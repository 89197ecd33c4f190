"""What is doubtful of a log as a whole: refused where it would make another log, else said.

A setting that does nothing, a giant user that is a mark for "missing", a table that does not join.
Knows counts; does not read a row.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from metarec_ray.data import time_spans
from metarec_ray.data.log.sources import Source
from metarec_ray.data.log.tally import IMPOSSIBLE, WORDS, Tally, total
from metarec_ray.data.settings import Data, SideTable
from metarec_ray.errors import DataError

FEW = 0.5
"""A table with rows for fewer of the log's ids is doubtful."""
SHOWN = 20  # kinds of events in a sentence


class Join(NamedTuple):
    """How a side table and the ids of the log fit.

    Attributes:
        side: `users` or `items`.
        file: of the table.
        ids: of the log.
        found: of them, those with a row.
        examples: an id of the log without a row and one of the table that the log does not have.

    """

    side: str
    file: str
    ids: int
    found: int
    examples: tuple[str | None, str | None]

    def __str__(self) -> str:
        return f"{self.found} of {self.ids} {self.side} of the log have a row in {self.file}"


def join(ids: pl.Series, rows: pl.Series, table: SideTable, side: str) -> Join:
    """Return how the distinct ids of the log and those of a table fit."""
    inside = ids.is_in(rows.implode())
    without = ids.filter(~inside)
    unmet = rows.filter(~rows.is_in(ids.implode()))
    shown = tuple(repr(one[0]) if len(one) else None for one in (without, unmet))
    return Join(side, table.path, len(ids), int(inside.sum()), (shown[0], shown[1]))


def of_joins(joins: Iterable[Join]) -> list[str]:
    """Return sentences on tables that join little.

    Raises:
        DataError: a table joins nothing.

    """
    said = []
    for one in joins:
        log, table = one.examples
        examples = f"the log has {log}, the table {table}" if table else f"the log has {log}"
        if one.ids and not one.found:
            raise DataError(
                f"a side table must have rows for ids of the log, {one}: {examples} "
                f"(data.{one.side}.id)"
            )
        if one.found < FEW * one.ids:
            said.append(f"few ids join (data.{one.side}): {one}; {examples}")
    return said


def of_settings(source: Source, tally: Tally) -> list[str]:
    """Return sentences on kinds of events that no weight names.

    Raises:
        DataError: a weight names no kind of the log, or a filter leaves out nothing or all.

    """
    settings = source.settings
    weights = settings.event_weights
    shown = ", ".join(f"{kind} ({rows})" for kind, rows in list(tally.kinds.items())[:SHOWN])
    unknown = [kind for kind in weights if kind not in tally.kinds]
    if unknown:
        raise DataError(
            f"data.event_weights must name kinds of events that the log has, {unknown[0]!r} is "
            f"none: it has {shown or 'none'} ({settings.path})"
        )
    for key, rows in tally.caught.items():
        if key == "event_weights" or (key == "label_min" and source.layout is not None):
            continue
        value = getattr(settings, key)
        if tally.rows and rows in (0, tally.rows):
            raise DataError(
                f"data.{key} must leave out some rows and keep some, {value} leaves out "
                f"{'none' if not rows else 'all'} of {tally.rows} ({settings.path})"
            )
    others = [kind for kind in tally.kinds if kind not in weights]
    if not others:
        return []
    rows = sum(tally.kinds[kind] for kind in others)
    named = ", ".join(f"{kind} ({tally.kinds[kind]})" for kind in others[:SHOWN])
    return [f"{rows} of {tally.rows} rows have no weight (data.event_weights): {named}"]


def of_times(settings: Data, files: Iterable[tuple[str, Tally]], now: int) -> list[str]:
    """Return sentences on times that are not plausible.

    Args:
        settings: of the log.
        files: the tally of each part of a file.
        now: microseconds since 1970.

    Raises:
        DataError: files have their times in different units.

    """
    parts: dict[str, list[Tally]] = {}
    for name, one in files:
        parts.setdefault(name, []).append(one)
    wholes = {name: total(some) for name, some in parts.items()}
    spans = {n: (int(t.times[0]), int(t.times[1])) for n, t in wholes.items() if t.times}
    if not spans:
        return []
    counted = any(one.counted for one in wholes.values()) and settings.time_format is None
    unit = settings.time_unit if counted else None
    if told := time_spans.mixed(spans, unit, now):
        raise DataError(f"{told} ({settings.path})")
    lows, highs = zip(*spans.values(), strict=True)
    told = time_spans.implausible((min(lows), max(highs)), unit, now)
    return [told] if told else []


def of_marks(settings: Data, tally: Tally, sizes: Mapping[str, int]) -> list[str]:
    """Return sentences on ids and labels that look like marks for "missing".

    Args:
        settings: of the log; nothing is doubted where `null_values` says what is missing.
        tally: of the log.
        sizes: number of distinct ids by role.

    Raises:
        DataError: one of them has far more rows than an id has, or no label is near it.

    """
    if settings.null_values is not None:
        return []
    said = []
    for role in ("entity", "item"):
        for mark, rows in tally.marks.get(role, {}).items():
            others = (tally.kept - rows) / max(sizes[role] - 1, 1)
            odd = mark.strip().lower() in WORDS or mark in map(str, IMPOSSIBLE)
            times, share = (5, 0.01) if odd else (10, 0.05)
            column = getattr(settings.roles, role)
            words = f"{mark!r} in column {column!r} has {rows} of {tally.kept} rows"
            if rows >= times * others and rows >= share * tally.kept and sizes[role] > 1:
                raise DataError(
                    f"an id must stand for one {role}, {words} and looks like a mark for missing: "
                    f"{_remedy(mark)}"
                )
            if odd:
                said.append(f"{words} and may be a mark for missing: {_remedy(mark)}")
    return said + _of_labels(settings, tally)


def _of_labels(settings: Data, tally: Tally) -> list[str]:
    found = tally.marks.get("label", {})
    if settings.feedback != "explicit" or tally.labels is None:
        return []
    low, high = tally.labels
    for mark, rows in found.items():
        far = max(low - float(mark), float(mark) - high) > max(high - low, 10)
        below = float(mark) == -1 and low >= 0 and high - low >= 2
        if far or below:
            raise DataError(
                f"a label must be a rating, {mark} in column {settings.roles.label!r} is that of "
                f"{rows} of {tally.kept} rows, the others are {low:g} to {high:g}, and looks like "
                f"a mark for missing: {_remedy(mark)}"
            )
    return []


def _remedy(mark: str) -> str:
    return f'set data.null_values: ["{mark}"] if it is one, or data.null_values: [] if nothing is'
