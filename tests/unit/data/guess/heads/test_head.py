"""The first bytes of a file, decoded."""

import gzip
from pathlib import Path

import pytest

from metarec_ray.data.guess.heads import head
from metarec_ray.errors import DataError

TEXT = "user;item\nmüller;1\n"


@pytest.mark.parametrize(
    ("written", "encoding", "why"),
    [
        (TEXT.encode(), "utf-8", "every byte read so far"),
        (TEXT.encode("utf-8-sig"), "utf-8", "a byte order mark"),
        (TEXT.encode("utf-16"), "utf-16", "a byte order mark"),
        (TEXT.encode("utf-16-le"), "utf-16-le", "every other byte is zero"),
        (TEXT.encode("utf-16-be"), "utf-16-be", "every other byte is zero"),
        (TEXT.encode("latin-1"), "latin-1", "no UTF-8: byte 0xfc in line 2; look at its letters"),
    ],
)
def test_the_encoding_is_found_and_the_text_read(
    tmp_path: Path, written: bytes, encoding: str, why: str
) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(written)
    found = head.read(path)
    assert (found.encoding.value, found.encoding.why) == (encoding, why)
    assert (found.text, found.whole, found.share) == (TEXT, True, 1.0)


def test_a_byte_that_only_windows_uses_is_read_as_windows_writes_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes("user;item\na \u2013 b;1\n".encode("cp1252"))
    found = head.read(tmp_path / "log.csv")
    assert (found.encoding.value, found.text) == ("cp1252", "user;item\na \u2013 b;1\n")


def test_a_byte_far_behind_the_rows_that_are_read_decides_the_encoding(tmp_path: Path) -> None:
    line = b"12345,67890\n"
    (tmp_path / "log.csv").write_bytes(line * (head.PARSED // len(line) + 9) + b"caf\xe9,1\n")
    found = head.read(tmp_path / "log.csv")
    assert found.encoding.value == "latin-1"
    assert not found.whole
    assert len(found.text) <= head.PARSED
    assert found.text.endswith(line.decode())


@pytest.mark.parametrize("packed", [False, True])
def test_the_share_that_was_read_estimates_the_rows(tmp_path: Path, packed: bool) -> None:
    line = b"12345,67890\n"
    rows = 2 * head.PARSED // len(line)
    path = tmp_path / ("log.csv.gz" if packed else "log.csv")
    path.write_bytes(gzip.compress(line * rows, 1) if packed else line * rows)
    found = head.read(path)
    assert found.text.count("\n") / found.share == pytest.approx(rows, rel=0.01)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [("log.csv", b"", "got 0 bytes"), ("log.csv.gz", b"user", "must be readable")],
)
def test_a_file_that_holds_nothing_to_read_is_refused(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        head.read(tmp_path / name)
