"""The first bytes of a text file, decoded: which encoding, how many lines the file may have.

Knows local files and `.gz`; does not know what a line means.
"""

import codecs
import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from metarec_ray.data.guess.finding import Finding
from metarec_ray.errors import DataError

PARSED, DECODED = 4 * 2**20, 32 * 2**20
"""Bytes that are looked at row by row, and bytes in which the encoding is looked for."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Head(NamedTuple):
    """The beginning of a text file.

    Attributes:
        text: whole lines, without a byte order mark.
        encoding: and why.
        whole: whether this is all of the file.
        share: of the file's bytes, how many are in `text`.

    """

    text: str
    encoding: Finding
    whole: bool
    share: float


def read(path: str | Path) -> Head:
    """Return the head of a file.

    Raises:
        DataError: it cannot be read, or holds nothing.

    """
    path = Path(path)
    try:
        zipped = path.name.lower().endswith(".gz")
        with path.open("rb") as raw, gzip.open(raw) if zipped else raw as stream:
            data = _bytes(stream, DECODED)
            ended = not stream.read(1)
            used = raw.tell()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"an input file must be readable, {path} is not: {error}") from error
    if not data:
        raise DataError(f"an input file must hold rows, got 0 bytes ({path})")
    encoding = _encoding(data, whole=ended)
    part = data[:PARSED]
    whole = ended and len(part) == len(data)
    text = codecs.getincrementaldecoder(str(encoding.value))(errors="replace").decode(part)
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise DataError(f"a text file must hold text, {path} holds NUL bytes: it may be packed")
    if not whole:
        text = text[: text.rfind("\n") + 1] or text
    # Of a compressed file as many bytes stand for a row as in what was unpacked.
    total = path.stat().st_size * (len(data) / max(used, 1) if zipped else 1.0)
    return Head(text, encoding, whole, 1.0 if whole else min(1.0, len(part) / total))


def _bytes(stream: BinaryIO | gzip.GzipFile, most: int) -> bytes:
    parts, count = [], 0
    while count < most and (part := stream.read(min(2**20, most - count))):
        parts.append(part)
        count += len(part)
    return b"".join(parts)


def _encoding(data: bytes, *, whole: bool) -> Finding:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return Finding(name, "a byte order mark")
    zeros = data[:4096].count(b"\0")
    if zeros > len(data[:4096]) / 4:
        little = data[1:4096:2].count(b"\0") > zeros / 2
        return Finding("utf-16-le" if little else "utf-16-be", "every other byte is zero")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        why = f"no UTF-8: byte 0x{data[error.start]:02x} in line {line}"
        # These bytes are controls in latin-1, which nobody writes, and letters in cp1252.
        windows = any(0x80 <= byte < 0xA0 for byte in set(data))
        return Finding("cp1252" if windows else "latin-1", f"{why}; look at its letters")
    return Finding("utf-8", "every byte read so far")
