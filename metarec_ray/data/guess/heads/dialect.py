"""How the fields of a text file are told apart: separator, quote, header, decimal sign.

Knows lines of text; does not know what a column means.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from metarec_ray.data.guess import words
from metarec_ray.data.guess.finding import Finding

SEPARATORS = ("\t", "::", ";", ",", "|", " ")
LOOKED = 500  # lines
STEADY = 0.95  # share of the lines that must have one number of fields
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_DECIMAL = re.compile(r"[-+]?\d+,\d+")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")


class Dialect(NamedTuple):
    """How a text file is written; `fields` is the number of its columns."""

    separator: Finding
    quote: Finding
    header: Finding
    decimal: Finding
    fields: int


def find(text: str) -> Dialect | None:
    """Return the dialect of whole lines; None if no separator makes columns of them."""
    lines = [line for line in text[: 2**20].split("\n") if line.strip()][:LOOKED]
    if not lines:
        return None
    steady = {one: count for one in SEPARATORS if (count := _columns(lines, one)) > 1}
    if not steady:
        return None
    # A space is inside of dates and names too.
    able = [one for one in SEPARATORS if one in steady and one != " "] or [" "]
    chosen = max(able, key=lambda one: (steady[one], -SEPARATORS.index(one)))
    count = steady[chosen]
    rivals = [(o, f"{count} columns too") for o in able if steady[o] == count and o != chosen]
    quote = _quote(lines, chosen)
    rows = [row for row in records(lines, chosen, str(quote.value)) if len(row) == count]
    return Dialect(
        Finding(chosen, f"{count} columns in every line", tuple(rivals)),
        quote,
        _header(rows),
        _decimal(rows, chosen),
        count,
    )


def records(
    lines: Iterable[str], separator: str, quote: str, *, strict: bool = False
) -> Iterator[list[str]]:
    """Yield the fields of each row; a quoted field may go over several lines.

    A row is empty whose field has no end, or if `strict` goes on behind its quote.
    """
    if len(separator) > 1 or quote == "none":
        yield from (line.rstrip("\r\n").split(separator) for line in lines)
        return
    reader = csv.reader(lines, delimiter=separator, quotechar=quote, strict=strict)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield []


def is_number(text: str) -> bool:
    """Return whether a field is a number.

    >>> is_number("-1.5e3"), is_number("A1")
    (True, False)
    """
    return _NUMBER.fullmatch(text.strip()) is not None


def _columns(lines: Sequence[str], separator: str) -> int:
    """Return how many columns nearly all lines have; 0 if they differ."""
    quote = _quote(lines, separator)
    rows = records(lines, separator, str(quote.value), strict=True)
    lengths = [len(row) for row in rows]
    count = lengths[0]  # a comma inside of numbers is not in the header
    return count if lengths.count(count) >= STEADY * len(lengths) else 0


def _quote(lines: Sequence[str], separator: str) -> Finding:
    """Return the quote whose fields both begin and end with it."""
    fields = [field for line in lines[:100] for field in line.split(separator)]
    for sign in ('"', "'"):
        begin = sum(len(field) > 1 and field.startswith(sign) for field in fields)
        end = sum(len(field) > 1 and field.endswith(sign) for field in fields)
        if begin and 0.9 * begin <= end <= 1.1 * begin:
            return Finding(sign, "fields begin and end with it")
    if separator == "\t" or len(separator) > 1 or not _balanced(lines):
        return Finding("none", "no field is quoted")
    return Finding('"', "none seen, as usual")


def _balanced(lines: Sequence[str]) -> bool:
    odd = sum(line.count('"') % 2 for line in lines)
    return odd <= 0.01 * len(lines)


def _header(rows: Sequence[Sequence[str]]) -> Finding:
    first, below = rows[0], rows[1:]
    values = [name.strip() for name in first if name.strip()]
    if any(is_number(value) or _DATE.match(value) for value in values):
        return Finding(False, "the first line holds values, not names")
    if len(set(values)) < len(values):
        return Finding(False, "the first line has a value twice")
    known = [name for name in first if words.role(name) is not None]
    if known:
        return Finding(True, f"{known[0]!r} in the first line")
    for column, name in enumerate(first):
        seen = [row[column] for row in below]
        if seen and not is_number(name) and all(is_number(value) for value in seen if value):
            return Finding(True, f"{name!r} stands above numbers")
    seen = {value for row in below for value in row}
    if any(value in seen for value in first):
        return Finding(False, "a value of the first line comes again")
    lost = ((False, "if the first line is a row like the others"),)
    return Finding(True, "nothing in the first line comes again", lost)


def _decimal(rows: Sequence[Sequence[str]], separator: str) -> Finding:
    if separator != ",":
        for column in range(len(rows[0])):
            seen = [row[column] for row in rows[1:] if row[column]]
            commas = sum(_DECIMAL.fullmatch(value) is not None for value in seen)
            if commas and all(_DECIMAL.fullmatch(v) or is_number(v) for v in seen):
                one = next(value for value in seen if "," in value)
                return Finding(",", f"{one!r} in column {column + 1}")
    return Finding(".", "no comma inside a number")
