"""Values of features that are written as text: numbers, and lists as JSON, Python or SQL has them.

Does not know what a list is for, nor the types of Parquet.
"""

import ast
import csv
import json
import re
from collections.abc import Callable, Sequence
from math import inf, isfinite, nan

import polars as pl

from metarec_ray.data.log.features.stored import WHOLE
from metarec_ray.data.settings import Feature
from metarec_ray.errors import DataError

BRACKETS = {"[": "]", "(": ")", "{": "}"}
QUOTES = "'\""
MISSING = ("", "NULL", "null", "None")
_SIDE_BY_SIDE = re.compile(r"""[^\s,\[({]['"]\s*['"]""")  # numpy and SQL; Python joins the strings
_LISTED = r"(?s)^\s*(\[.*\]|\{.*\})\s*$"
_IN_PARENTHESES = r"(?s)^\s*\(.*\)\s*$"
_BEGUN = r"^\s*[\[{]"
Scalar = str | int | float | bool


def read(text: pl.Series, feature: Feature, place: str) -> pl.Series:
    """Return text as what a feature is: numbers, categories or lists of them.

    Raises:
        DataError: a value cannot be one; `place` names the column.

    """
    if feature.kind == "numeric":
        return numbers(text)
    if feature.kind == "vector":
        return vectors(text, feature.separator, place)
    if feature.kind == "multi_categorical":
        return tokens(text, feature.separator, place)
    return text


def tokens(text: pl.Series, separator: str | None, place: str) -> pl.Series:
    """Return lists of tokens: of lists that are written out, else of parts between separators.

    Equal texts are read once; a text that is empty has no tokens.

    Raises:
        DataError: some values are lists and others are not, or one cannot be read; `place` names
            the column.

    """
    if _are_lists(text, place):
        return _each(text, lambda value: _named(parsed(value)), pl.String, place)
    if separator is None and _first(text) is not None:
        raise DataError(
            f"a multi_categorical feature of text needs a separator, or lists as [1, 4], got "
            f"{_first(text)!r} ({place})"
        )
    parts = text.str.split(separator or "").to_frame("t")
    kept = pl.element().str.strip_chars()
    return parts.select(pl.col("t").list.eval(kept.filter(kept != ""))).to_series()


def vectors(text: pl.Series, separator: str | None, place: str) -> pl.Series:
    """Return lists of numbers, as `tokens` does of text; a missing number is NaN."""
    if _are_lists(text, place):
        return _each(text, lambda value: _floats(parsed(value)), pl.Float32, place)
    if separator is None and _first(text) is not None:
        raise DataError(
            f"a vector feature of text needs a separator, or lists as [0.1, 0.2], got "
            f"{_first(text)!r} ({place})"
        )
    return _each(text, lambda value: _floats(_parts(value, separator or " ")), pl.Float32, place)


def numbers(text: pl.Series) -> pl.Series:
    """Return text as numbers, null where it is missing; infinity where it is no number.

    What is no number is not missing: a row with it is rejected as one with infinity is.
    """
    found = text.str.strip_chars().cast(pl.Float64, strict=False)
    bad = found.is_null() & text.is_not_null() & (text.str.strip_chars() != "")
    return found.zip_with(~bad, pl.Series([inf]))


def parsed(value: str) -> list[Scalar | None]:
    """Return the list that a text is, None for what is missing in it.

    >>> parsed('["a", "b"]'), parsed("(1, 2)"), parsed("{rock,'new wave'}"), parsed("[0.5 1.5]")
    (['a', 'b'], [1, 2], ['rock', 'new wave'], ['0.5', '1.5'])

    Raises:
        ValueError: it is none, or has lists in it.

    """
    text = value.strip()
    for way in (_json, _literal, _plain):
        found = way(text)
        if found is not None:
            break
    else:
        raise ValueError(f"no list of values: {value}")
    if not all(isinstance(one, Scalar | None) for one in found):
        raise ValueError(f"lists in a list: {value}")
    return found


def named(value: Scalar) -> str:
    """Return the token that a value of a list is; a float that is whole is the integer.

    Raises:
        ValueError: a float that is not whole.

    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if not (isfinite(value) and value.is_integer() and abs(value) < WHOLE):
            raise ValueError(f"no whole number: {value}")
        return str(int(value))
    return str(value).strip()


def _named(values: list[Scalar | None]) -> list[str]:
    return [token for one in values if one is not None and (token := named(one))]


def _floats(values: Sequence[Scalar | None]) -> list[float]:
    return [nan if one is None else float(one) for one in values]


def _parts(value: str, separator: str) -> list[str]:
    return [part for part in value.split(separator) if part.strip()]


def _are_lists(text: pl.Series, place: str) -> bool:
    present = text.drop_nulls()
    present = present.filter(present.str.strip_chars() != "")
    listed = present.str.contains(_LISTED)
    # `(no genres listed)` among other words is no list.
    inside = listed | present.str.contains(_IN_PARENTHESES)
    begun = present.str.contains(_BEGUN)
    listed = inside if inside.all() else begun if begun.all() else listed
    if listed.any() and not listed.all():
        raise DataError(
            f"a column must be written as lists or not, got {present.filter(listed)[0]!r} and "
            f"{present.filter(~listed)[0]!r} ({place})"
        )
    return bool(len(present)) and bool(listed.all())


def _each(
    text: pl.Series, read: Callable[[str], list], inner: type[pl.DataType], place: str
) -> pl.Series:
    """Return the list that each text is; equal texts are read once."""
    known: dict[str, list] = {"": []}
    for value in text.drop_nulls().unique():
        try:
            known[value] = read(value) if value.strip() else []
        except ValueError:
            row = (text == value).arg_max()
            raise DataError(
                f"a value must be a list that can be read, as [1, 4] or ['a', 'b'], got {value!r} "
                f"in row {row} ({place})"
            ) from None
    found = [None if value is None else known[value] for value in text]
    return pl.Series(text.name, found, dtype=pl.List(inner))


def _json(text: str) -> list | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _without_keys(found)


def _literal(text: str) -> list | None:
    if _SIDE_BY_SIDE.search(text):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return _without_keys(found)


def _without_keys(found: object) -> list | None:
    """Return a literal as a list; ValueError if its values have keys."""
    if isinstance(found, dict) and found:
        raise ValueError(f"keys and values: {found}")
    if isinstance(found, set):
        return sorted(found, key=str)
    # `(1)` is a number in Python, and a list of one where lists are written so.
    return [found] if isinstance(found, Scalar | None) else list(found)  # type: ignore[call-overload]


def _plain(text: str) -> list | None:
    """Return the parts of what is no literal: {rock,pop} of SQL, [0.1 0.2] of numpy."""
    inside = " ".join(text[1:-1].split())
    blank = "," not in inside and (any(mark in inside for mark in QUOTES) or _are_numbers(inside))
    reader = csv.reader(
        [inside],
        delimiter=" " if blank else ",",
        quotechar="'" if "'" in inside and '"' not in inside else '"',
        skipinitialspace=True,
        strict=True,
    )
    try:
        parts = [part.strip() for row in reader for part in row]
    except csv.Error:
        return None
    if any(mark in part for part in parts for mark in (*BRACKETS, *BRACKETS.values(), '"', "...")):
        return None
    return [None if part in MISSING else part for part in parts]


def _are_numbers(text: str) -> bool:
    try:
        return bool([float(part) for part in text.split()])
    except ValueError:
        return False


def _first(text: pl.Series) -> object:
    present = text.drop_nulls()
    return present[0] if len(present) else None
