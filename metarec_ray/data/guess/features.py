"""Of which kind a feature column is, or why it is none.

Knows the head of a column; does not know whose feature it is.
"""

from typing import NamedTuple

import polars as pl

from metarec_ray.data.guess import words
from metarec_ray.data.guess.columns import Column, longest, mean

_SEPARATORS = ("|", ";", ",")
_CODES = {"id", "code", "no", "type", "kind", "class", "group", "level"}
_AMOUNTS = {"age", "year", "price", "count", "num", "number", "duration", "length", "hour", "size"}
_LONG, _MANY = 60, 1_000  # characters of a category, integers that are categories


class Kind(NamedTuple):
    """The setting of a feature, None if the column is not one, and the reason."""

    setting: dict[str, str] | None
    why: str


def kind(column: Column) -> Kind:
    """Return the kind of a feature column."""
    if column.kind == "empty":
        return Kind(None, "empty")
    if column.kind == "list":
        return _list(column.values)
    if column.distinct < 2:
        return Kind(None, f"always {column.counts[0][0]!r}")
    if column.kind == "time":
        return Kind(None, "a time")
    if column.kind == "flag":
        return Kind({"kind": "categorical"}, "true or false")
    if words.fit(column.name, "outcome") > 1:
        return Kind(None, "sums up what users did, later too")
    return _numbers(column) if column.is_numeric else _text(column)


def _numbers(column: Column) -> Kind:
    low, high = column.range
    parts = set(words.tokens(column.name))
    coded = bool(_CODES & parts)
    repeats = column.distinct <= min(_MANY, len(column.values) / 2)
    consecutive = high - low + 1 == column.distinct == column.rows
    if column.kind == "integer" and consecutive and column.values.is_sorted():
        return Kind(None, "numbers the rows")
    few = column.distinct <= (12 if _AMOUNTS & parts else 30)
    if column.kind == "integer" and repeats and (coded or few):
        return Kind({"kind": "categorical"}, f"{column.distinct} whole numbers")
    if coded and column.kind == "integer":
        return Kind(None, f"an id, {column.distinct} values")
    if not column.clean:
        return Kind(None, "numbers, but not in every row")
    return Kind({"kind": "numeric"}, f"{low:g} to {high:g}")


def _text(column: Column) -> Kind:
    text = column.values.cast(pl.String)
    if mean(text.str.starts_with("http")) > 0.5:
        return Kind(None, "addresses")
    if text.str.contains(r"^\[.*\]$").all():
        return _list(_written(text))
    ranges = bool(text.str.contains(r"^[\[(]").any())  # (10,50]
    for sign in _SEPARATORS:
        found = None if ranges else _tokens(text, sign)
        if found:
            return Kind({"kind": "multi_categorical", "separator": sign}, found)
    if column.distinct > len(text) / 2 or longest(text) > _LONG:
        return Kind(None, f"text, {column.distinct} of {len(text)} rows differ")
    return Kind({"kind": "categorical"}, f"{column.distinct} words")


def _tokens(text: pl.Series, sign: str) -> str | None:
    """Return how many tokens a separator makes; None if it does not separate tokens."""
    if mean(text.str.contains(sign, literal=True)) < 0.2:
        return None
    parts = text.str.split(sign).explode().str.strip_chars()
    parts = parts.filter(parts != "")
    # Tokens come again, and are short; what a comma cuts out of a sentence is not.
    distinct = parts.n_unique()
    wordy = mean(parts.str.count_matches(" ")) > 2
    if wordy or distinct > len(parts) / 4 or longest(parts) > 40:
        return None
    return f"{distinct} words, several a row"


def _written(text: pl.Series) -> pl.Series:
    """Return lists that are written as text, `[1, 4]`, of numbers only if some are no integers."""
    inside = text.str.slice(1, text.str.len_chars() - 2).str.strip_chars()
    sign = "," if inside.str.contains(",").any() else " "
    parts = inside.str.split(sign).list.eval(pl.element().str.strip_chars(" '\"\n"))
    parts = parts.list.eval(pl.element().filter(pl.element() != ""))
    numbers = parts.list.eval(pl.element().cast(pl.Float64, strict=False))
    floats = inside.str.contains(".", literal=True).any()
    return numbers if floats and not numbers.explode().null_count() else parts


def _list(values: pl.Series) -> Kind:
    inner = pl.Series([], dtype=values.dtype.inner).dtype  # type: ignore[attr-defined]
    lengths = values.list.len()
    if lengths.max() == 0:
        return Kind(None, "empty lists")
    if inner.is_float() and lengths.n_unique() == 1 and lengths[0] > 1:
        return Kind({"kind": "vector"}, f"{lengths[0]} numbers")
    if inner.is_float():
        return Kind(None, "lists of numbers of several lengths")
    parts = values.explode().drop_nulls().cast(pl.String)
    if parts.n_unique() > len(parts) / 2 or longest(parts) > 40:
        return Kind(None, "lists of texts that seldom come again")
    return Kind({"kind": "multi_categorical"}, f"lists of {parts.n_unique()} words")
