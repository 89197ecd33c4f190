"""Lines of text files: every one is counted, and quotes that do not match are named."""

import io

import pytest

from metarec_ray.data.files.lines import Dialect, Lines
from metarec_ray.errors import DataError


def read(text: bytes, *, columns: int = 3, **dialect: object) -> Lines:
    lines = Lines(io.BytesIO(text), Dialect(**dialect), "log.csv", columns)  # type: ignore[arg-type]
    while lines.read(7):
        pass
    return lines


def content(text: bytes, **dialect: object) -> bytes:
    lines = Lines(io.BytesIO(text), Dialect(**dialect), "log.csv")  # type: ignore[arg-type]
    return b"".join(lines)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_empty_lines_and_line_ends_in_quotes_are_no_records(end: str, last: bool) -> None:
    rows = ["a,b,c", "1,2,3", "", '2,"x', "", 'y",3', "", "", '3,"""q""",4']
    text = end.join(rows) + end * last
    found = read(text.encode(), quote='"')
    assert (found.records, found.lines) == (4, 9)


def test_a_quote_inside_of_a_bare_field_is_text() -> None:
    assert read(b'a,b,c\n1,5" screen,2\n2,6",3\n', quote='"').records == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'a,b,c\n1,"x,2\n2,y,3\n', "the one in line 2 of log.csv is never closed"),
        (b'a,b,c\n1,x,2\n2,"y" z,3\n', "the one in line 3 of log.csv is closed inside"),
        (b'a,b,c\n1,"x,2\n2,"y",3\n', "the one in line 2 of log.csv is closed inside"),
    ],
)
def test_a_quote_that_does_not_match_is_named_with_its_line(text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text, quote='"')
    assert read(text, quote=None).records == 3


def test_quotes_that_would_swallow_rows_are_refused_unless_somebody_said_so() -> None:
    text = b'a,b,c\n1,7,"five inch\n2,8,screen"\n'
    with pytest.raises(DataError, match=r"lines 2 to 3 of log.csv are one row with quotes and 2 w"):
        read(text, quote='"', certain=False)
    assert read(text, quote='"', certain=True).records == 2
    assert read(b'a,b,c\n1,7,"five\ninch"\n', quote='"', certain=False).records == 2


def test_quotes_match_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarec_ray.data.files.lines.BLOCK", 5)
    text = b"a,b,c\n" + b'1,"x\n\n""y\n",2\n' * 20
    assert read(text, quote='"').records == 21
    with pytest.raises(DataError, match=r"in line 82 of log.csv is never closed"):
        read(text + b'3,"open\n\n', quote='"')


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("utf-8", "utf-8-sig"), ("utf-16", "utf-16"), ("iso8859-1", "latin-1"), ("cp1252", "cp1252")],
)
def test_text_is_decoded_and_its_mark_is_skipped(
    encoding: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarec_ray.data.files.lines.BLOCK", 3)
    text = "a,b\né,ü\n"
    assert content(text.encode(codec), encoding=encoding).decode() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,é\n".encode("latin-1"), "got the byte 0xe9 in line 2 of log.csv: try .* latin-1"),
        ("a,b\n1,2\n".encode("utf-16"), "try encoding: utf-16"),
    ],
)
def test_bytes_that_are_no_text_are_named(text: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        content(text)


def test_several_characters_separate() -> None:
    assert content(b"a::b\n1::2\n", separator="::") == b"a\x1fb\n1\x1f2\n"
    with pytest.raises(DataError, match=r"hold no character U\+001F"):
        content(b"a::b\n1::\x1f\n", separator="::")
