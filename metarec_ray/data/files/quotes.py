"""Where quoted fields begin and end in lines of text.

A quote begins a field only where a field begins; inside, it is doubled or ends the field. Knows
bytes; does not know files.
"""

from typing import NamedTuple

import numpy as np

NEWLINE, RETURN = 10, 13


class Malformed(ValueError):
    """A quote inside a quoted field neither ends it nor is doubled; `at` is where it is."""

    def __init__(self, at: int):
        super().__init__(at)
        self.at = at


class Quotes(NamedTuple):
    """The quotes of some lines.

    Attributes:
        at: their positions.
        begins: whether a field begins there.
        ends: whether a field could end there.

    """

    at: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, lines: bytes, quote: str, separator: str) -> "Quotes":
        """Find the quotes of whole lines."""
        raw = np.frombuffer(lines, np.uint8)
        edge = np.zeros(256, bool)
        edge[[NEWLINE, RETURN, ord(separator)]] = True
        at = np.flatnonzero(raw == ord(quote))
        begins, ends = edge[raw[at - 1]], edge[raw[np.minimum(at + 1, len(raw) - 1)]]
        begins[at == 0] = True
        ends[at == len(raw) - 1] = True
        return cls(at, begins, ends)

    def bounds(self, *, inside: bool) -> np.ndarray:
        """Return where quoted fields begin and end, in turns; the first is an end if `inside`.

        Raises:
            Malformed: a quoted field goes on after a quote.

        """
        at = self.at
        first = (np.arange(len(at)) + inside) % 2 == 0
        joined = np.zeros(len(at), bool)  # whether the next quote follows at once
        joined[:-1] = np.diff(at) == 1
        doubled = joined & ~first  # the first of two that stand for one
        second = np.roll(doubled, 1)
        regular = np.where(first, self.begins | second, self.ends | doubled)
        if regular.all():
            return at[~(doubled | second)]
        return self._one_by_one(joined, inside)

    def _one_by_one(self, joined: np.ndarray, inside: bool) -> np.ndarray:
        """Return the same where a quote may also be text, in a field that began without one."""
        found, number = [], 0
        while number < len(self.at):
            if not inside:
                inside = bool(self.begins[number])
                found += [self.at[number]] * inside
            elif joined[number]:
                number += 1
            elif self.ends[number]:
                inside = False
                found.append(self.at[number])
            else:
                raise Malformed(int(self.at[number]))
            number += 1
        return np.array(found, np.int64)
