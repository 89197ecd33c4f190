"""Some rows of a file: the whole ones as a frame, the broken ones beside it.

Does not know formats.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

BROKEN = pl.Schema({"row": pl.Int64(), "reason": pl.String(), "value": pl.String()})
LONGEST = 200  # characters of a broken row that are shown


class Broken(NamedTuple):
    """A row that is no row of the table: its number in the file, why, and its text."""

    row: int
    reason: str
    value: str


class Part(NamedTuple):
    """Some rows.

    Attributes:
        frame: the named columns of the whole rows.
        rows: their numbers in the file, from 0.
        broken: row, reason and value of the others.

    """

    frame: pl.DataFrame
    rows: pl.Series
    broken: pl.DataFrame = pl.DataFrame(schema=BROKEN)

    @property
    def read(self) -> int:
        """Number of rows, broken ones included."""
        return len(self.frame) + len(self.broken)


def plain(frames: Iterator[pl.DataFrame], first: int = 0) -> Iterator[Part]:
    """Yield frames as parts, their rows numbered from `first`."""
    for frame in frames:
        yield Part(frame, pl.int_range(first, first + len(frame), eager=True))
        first += len(frame)


def parted(
    frames: Iterator[pl.DataFrame], broken: list[Broken], empty: pl.DataFrame
) -> Iterator[Part]:
    """Yield frames as parts whose rows have the numbers that are not those of `broken`.

    `broken` may grow while frames are drawn; it has every broken row before the last row of a frame
    when that is yielded. At least one part, of which the last may be `empty`.
    """
    number, yielded = 0, False
    for frame in frames:
        gone = {one.row for one in broken}
        numbers = _free(number, len(frame), gone)
        number = int(numbers[-1]) + 1 if len(numbers) else number
        before = [one for one in broken if one.row < number]
        broken[:] = [one for one in broken if one.row >= number]
        yielded = True
        yield Part(frame, pl.Series(numbers, dtype=pl.Int64), _listed(before))
    if broken or not yielded:
        yield Part(empty, pl.Series([], dtype=pl.Int64), _listed(broken))


def gathered(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yield frames of at least `rows` rows, but for the last."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= rows:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _free(first: int, count: int, gone: Collection[int]) -> np.ndarray:
    """Return the first `count` numbers from `first` on that are not `gone`."""
    numbers = np.arange(first, first + count + len(gone))
    if gone:
        numbers = numbers[~np.isin(numbers, list(gone))]
    return numbers[:count]


def _listed(broken: Sequence[Broken]) -> pl.DataFrame:
    rows = [(one.row, one.reason, one.value[:LONGEST]) for one in broken]
    return pl.DataFrame(rows, schema=BROKEN, orient="row")
