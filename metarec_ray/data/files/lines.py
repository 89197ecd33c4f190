"""The lines of a text file as UTF-8, audited on their way: decoded, counted, their quotes matched.

Every physical line is accounted for: it ends a row, is empty, or ends inside of a quoted field.
Does not know what a field means.
"""

import codecs
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np

from metarec_ray.data.files.quotes import NEWLINE, RETURN, Malformed, Quotes
from metarec_ray.errors import DataError

BLOCK = 8 * 2**20
UNIT_SEPARATOR = "\x1f"
"""What stands for a separator of several characters once a line is read."""


class Dialect(NamedTuple):
    """How fields are told apart.

    Attributes:
        separator: of fields.
        quote: None for none.
        certain: whether somebody said that there are quotes; else fields that could be rows of
            their own are refused.
        encoding: of the characters.

    """

    separator: str = ","
    quote: str | None = None
    certain: bool = True
    encoding: str = "utf-8"

    @property
    def delimiter(self) -> str:
        """The one character that separates fields once lines are read."""
        return self.separator if len(self.separator.encode()) == 1 else UNIT_SEPARATOR


class Lines:
    """A binary file of the lines of another file: in UTF-8, with one character as separator.

    Attributes:
        records: lines so far that end a record, the header among them.

    """

    def __init__(self, file: IO[bytes], dialect: Dialect, place: str, columns: int = 0):
        """Take an open file; `place` names it in errors, `columns` is the number of its fields."""
        self.dialect, self.place, self.columns = dialect, place, columns
        self.records = self.lines = 0
        self.closed = False
        self._opened: int | None = None  # line of the quoted field that is open
        self._blocks = self._audited(file)
        self._ready = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            DataError: bytes that the encoding does not have, or a quote that is not closed.

        """
        if not self._ready:
            self._ready = next(self._blocks, b"")
        found, self._ready = self._ready[:size], self._ready[size:]
        return found

    def __iter__(self) -> Iterator[bytes]:
        """Yield blocks of whole lines."""
        return self._blocks

    def _audited(self, file: IO[bytes]) -> Iterator[bytes]:
        for lines in _whole_lines(self._decoded(file)):
            self._refuse_bytes(lines)
            if self.dialect.separator != self.dialect.delimiter:
                self._refuse(UNIT_SEPARATOR.encode() in lines, "hold no character U+001F")
                separator = self.dialect.separator.encode()
                lines = lines.replace(separator, UNIT_SEPARATOR.encode())
            self._count(lines)
            yield lines
        if self._opened is not None:
            raise self._unmatched(self._opened, "is never closed")

    def _decoded(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield UTF-8 without a byte order mark; other encodings are decoded."""
        name = self.dialect.encoding
        decoder = None if name == "utf-8" else codecs.getincrementaldecoder(name)()
        first = True
        while block := file.read(BLOCK):
            if decoder is not None:
                block = self._transcoded(decoder, block)
            yield block.removeprefix(codecs.BOM_UTF8) if first else block
            first = False
        if decoder is not None:
            yield self._transcoded(decoder, b"", last=True)

    def _transcoded(
        self, decoder: codecs.IncrementalDecoder, block: bytes, *, last: bool = False
    ) -> bytes:
        try:
            return decoder.decode(block, last).encode()
        except UnicodeError as error:
            raise DataError(
                f"a text file must be {self.dialect.encoding} (encoding), {self.place} is not "
                f"after line {self.lines}: {error}"
            ) from None

    def _refuse_bytes(self, lines: bytes) -> None:
        try:
            codecs.utf_8_decode(lines, "strict", True)
        except UnicodeDecodeError as error:
            line = self.lines + 1 + lines.count(b"\n", 0, error.start)
            known = lines[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            raise DataError(
                f"a text file must be {self.dialect.encoding} (encoding), got the byte "
                f"{lines[error.start]:#04x} in line {line} of {self.place}: try encoding: "
                f"{'utf-16' if known else 'latin-1'}"
            ) from None

    def _refuse(self, broken: bool, rule: str) -> None:
        if broken:
            raise DataError(
                f"a text file must {rule}, got one after line {self.lines} of {self.place}"
            )

    def _count(self, lines: bytes) -> None:
        ends = _line_ends(lines)
        quote = self.dialect.quote
        inside = np.zeros(len(ends), bool)
        if quote is not None and (self._opened is not None or quote.encode() in lines):
            inside = self._inside(lines, ends)
        starts = np.concatenate([[0], ends[:-1] + 1])
        bare = _bare_lengths(lines, starts, ends)
        # An empty line inside of a quoted field is part of a record.
        empty = (bare == 0) & ~inside & ~np.concatenate([[False], inside[:-1]])
        self.lines += len(ends)
        self.records += len(ends) - int(inside.sum()) - int(empty.sum())

    def _inside(self, lines: bytes, ends: np.ndarray) -> np.ndarray:
        """Return which line ends are inside of quoted fields."""
        quotes = Quotes.of(lines, self.dialect.quote or "", self.dialect.delimiter)
        inside = self._opened is not None
        try:
            bounds = quotes.bounds(inside=inside)
        except Malformed as error:
            before = quotes.at[quotes.at < error.at]
            line = self._line(ends, int(before[-1]) if len(before) else error.at)
            raise self._unmatched(line, "is closed inside of its field") from None
        if not self.dialect.certain:
            self._refuse_rows(lines, ends, bounds[int(inside) :])
        if (len(bounds) + inside) % 2:
            self._opened = self._line(ends, bounds[-1]) if len(bounds) else self._opened
        else:
            self._opened = None
        return (np.searchsorted(bounds, ends) + inside) % 2 == 1

    def _refuse_rows(self, lines: bytes, ends: np.ndarray, bounds: np.ndarray) -> None:
        """Refuse a quoted field over several lines, each of which could be a row of its own."""
        pairs = bounds[: len(bounds) // 2 * 2].reshape(-1, 2)
        first, last = np.searchsorted(ends, pairs).T
        for low, high in zip(first[first < last], last[first < last], strict=True):
            start = 0 if low == 0 else ends[low - 1] + 1
            rows = lines[start : ends[high]].splitlines()
            delimiter = self.dialect.delimiter.encode()
            if all(row.count(delimiter) == self.columns - 1 for row in rows):
                one, other = self.lines + low + 1, self.lines + high + 1
                raise DataError(
                    f"a quoted field must not look like rows, lines {one} to {other} of "
                    f"{self.place} are one row with quotes and {other - one + 1} without: set "
                    f"quote: none, or quote: '{self.dialect.quote}'"
                )

    def _line(self, ends: np.ndarray, at: int) -> int:
        return self.lines + 1 + int(np.searchsorted(ends, at))

    def _unmatched(self, line: int, what: str) -> DataError:
        return DataError(
            f"a quote that begins a field must end it, the one in line {line} of {self.place} "
            f"{what}: double quotes inside of fields, or set quote: none if they are text"
        )


def _whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, cut after line ends."""
    held: list[bytes] = []
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if not cut:
            held.append(block)
            continue
        yield b"".join([*held, block[:cut]])
        held = [block[cut:]]
    if rest := b"".join(held):
        yield rest


def _line_ends(lines: bytes) -> np.ndarray:
    """Return where lines end: at a newline, a return without one, or the end."""
    raw = np.frombuffer(lines, np.uint8)
    ends = raw == NEWLINE
    if b"\r" in lines:
        following = np.append(raw[1:], 0)
        ends |= (raw == RETURN) & (following != NEWLINE)
    found = np.flatnonzero(ends)
    return found if ends[-1] else np.append(found, len(raw))


def _bare_lengths(lines: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the lengths of lines without their ends."""
    raw = np.frombuffer(lines, np.uint8)
    lengths = ends - starts
    returns = (lengths > 0) & (raw[np.minimum(ends, len(raw)) - 1] == RETURN)
    return lengths - returns
