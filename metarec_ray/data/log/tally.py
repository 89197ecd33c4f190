"""What some rows of a log hold, counted: tallies of parts add up to that of the log.

Knows checked rows; does not know what is made of the counts (`doubts`).
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

WORDS = frozenset(
    ("?", "-", "--", ".", "na", "none", "nil", "null", "nan", "n/a", "n.a.", "#n/a", "<na>",
     "<null>", "(null)", "(none)", "(not set)", "\\n", "unknown", "undefined", "missing",
     "unspecified", "anonymous", "guest", "nobody", "deleted", "[deleted]")
)  # fmt: skip
"""Words, in lower case, that stand for "nobody" or "nothing" where an id is expected."""
IMPOSSIBLE = frozenset((-1, -9, -99, -999, -9999, 2**31 - 1, 2**32 - 1, 2**63 - 1))
"""Numbers that are hardly ever an id or a label."""
POSSIBLE = frozenset((0, 99, 999, 9999, 99999, 999999))
"""Numbers that are marks in some logs and ids in others."""
_NUMBERS = IMPOSSIBLE | POSSIBLE

Range = tuple[float, float]


class Tally(NamedTuple):
    """Counts of some rows.

    Attributes:
        rows: all of them.
        kept: good ones.
        rejected: bad ones.
        filtered: rows that each setting leaves out, by its key; the first of several.
        caught: rows that each setting would leave out alone.
        kinds: rows of each kind of event, filtered ones included.
        marks: good rows whose entity, item or label could be a mark for missing, by role and mark.
        labels: smallest and largest label that is none.
        times: smallest and largest time of good rows, microseconds.
        counted: whether times are numbers.

    """

    rows: int = 0
    kept: int = 0
    rejected: int = 0
    filtered: dict[str, int] = {}  # noqa: RUF012
    caught: dict[str, int] = {}  # noqa: RUF012
    kinds: dict[str, int] = {}  # noqa: RUF012
    marks: dict[str, dict[str, int]] = {}  # noqa: RUF012
    labels: Range | None = None
    times: Range | None = None
    counted: bool = False


def total(parts: Iterable[Tally]) -> Tally:
    """Return the tally of all parts together."""
    whole = Tally()
    for part in parts:
        roles = sorted({*whole.marks, *part.marks})
        whole = Tally(
            whole.rows + part.rows,
            whole.kept + part.kept,
            whole.rejected + part.rejected,
            _added(whole.filtered, part.filtered),
            _added(whole.caught, part.caught),
            _added(whole.kinds, part.kinds),
            {r: _added(whole.marks.get(r, {}), part.marks.get(r, {})) for r in roles},
            _widened(whole.labels, part.labels),
            _widened(whole.times, part.times),
            whole.counted or part.counted,
        )
    return whole


def marks(events: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return the rows of good events whose entity, item or label could be a mark, by role."""
    found = {role: _marks(events[role]) for role in ("entity", "item", "label")}
    return {role: counts for role, counts in found.items() if counts}


def span(column: pl.Series) -> Range | None:
    """Return the smallest and the largest value; None if there is none."""
    present = column.drop_nulls()
    return None if present.is_empty() else (present.min(), present.max())  # type: ignore[return-value]


def are_numbers(column: pl.Series) -> bool:
    """Return whether a column holds numbers, by its type or its first value."""
    first = column.drop_nulls().head(1).cast(pl.Float64, strict=False)
    return column.dtype.is_numeric() or (column.dtype == pl.String and first.count() > 0)


def unmarked(labels: pl.Series) -> pl.Series:
    """Return the labels that could not be marks."""
    return labels.filter(
        ~labels.is_in(pl.Series(sorted(_NUMBERS - {0}), dtype=pl.Float64).implode())
    )


def _marks(column: pl.Series) -> dict[str, int]:
    if column.dtype == pl.String:
        known = pl.Series([*WORDS, *map(str, _NUMBERS)])
        found = column.filter(column.str.strip_chars().str.to_lowercase().is_in(known.implode()))
    else:
        known = pl.Series(sorted(_NUMBERS), dtype=pl.Int64).cast(column.dtype)
        found = column.filter(column.is_in(known.implode()))
    counts = found.value_counts(name="rows")
    return {
        f"{value:g}" if isinstance(value, float) else str(value): n
        for value, n in counts.iter_rows()
    }


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    both = Counter(one)
    both.update(other)
    return dict(both)


def _widened(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])
