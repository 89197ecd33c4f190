"""Words among numbers that stand for a missing one, beside those that are read so by themselves.

Knows columns of text; does not know what a column means.
"""

import polars as pl

from metarec_ray.data.log.tally import WORDS

_NUMBERS = 0.5  # least share of a column's values that must be numbers


def find(rows: pl.DataFrame) -> dict[str, str]:
    """Return each such word with the first column that has it.

    >>> find(pl.DataFrame({"stars": ["4", "?", "5"], "kind": ["0", "S", "3"]}))
    {'?': 'stars'}
    """
    found: dict[str, str] = {}
    for column in rows.get_columns():
        if column.dtype != pl.String:
            continue
        present = column.drop_nulls()
        others = present.filter(present.str.strip_chars().cast(pl.Float64, strict=False).is_null())
        if len(others) == 0 or len(others) > (1 - _NUMBERS) * len(present):
            continue
        words = others.unique().to_list()
        if all(word.strip().lower() in WORDS for word in words):
            found |= {word: column.name for word in sorted(words) if word not in found}
    return found
