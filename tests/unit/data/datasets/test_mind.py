"""The layout of MIND as small files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from metarec_ray.data.log.reading import Log, read_log
from metarec_ray.data.settings import Data
from metarec_ray.errors import DataError

LINES = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
    "2\tU91836\t11/12/2019 12:11:30 PM\t\tN55689-0\n"
)
NEWS = (
    'N55689\tsports\tsoccer\tThe "final" score\tAn abstract\thttps://x\t[]\t[]\n'
    "N35729\tnews\tworld\tA vote\t\thttps://y\t[]\t[]\n"
)


def mind(folder: Path, lines: str = LINES) -> Path:
    (folder / "behaviors.tsv").write_text(lines)
    (folder / "news.tsv").write_text(NEWS)
    return folder


def read(folder: Path, **fields: object) -> Log:
    return read_log(Data.model_validate({"path": str(folder), **fields}))


def microseconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type]


def test_what_is_shown_at_once_becomes_a_row_each(tmp_path: Path) -> None:
    log = read(mind(tmp_path), feedback="binary")
    morning, noon = microseconds(2019, 11, 11, 9, 5, 58), microseconds(2019, 11, 12, 12, 11, 30)
    assert log.events.rows() == [
        ("U13740", "N55689", 1.0, morning, 0),
        ("U13740", "N35729", 0.0, morning, 1),
        ("U91836", "N55689", 0.0, noon, 2),
    ]
    assert log.items is not None
    assert log.items.select("id", "title", "category", "subcategory").rows() == [
        ("N55689", 'The "final" score', "sports", "soccer"),
        ("N35729", "A vote", "news", "world"),
    ]


def test_implicit_feedback_keeps_clicks(tmp_path: Path) -> None:
    assert read(mind(tmp_path)).events["item"].to_list() == ["N55689"]


@pytest.mark.parametrize(
    ("lines", "fields", "sentence"),
    [
        (
            "1\tU1\t11/11/2019 9:05:58 AM\t\tN1-1\n2\tU2\t11/11/2019 9:05:58 AM\t\tN1 N2\n",
            {},
            "line 2 of",
        ),
        ("1\tU1\t2019-11-11\t\tN1-1\n", {}, "line 1 of"),
        ("1\tU1\n", {}, "a line must have 5 fields, got 2 in line 1 of"),
        (LINES, {"feedback": "explicit"}, "impressions have no ratings"),
    ],
)
def test_a_line_of_another_form_is_named(
    tmp_path: Path, lines: str, fields: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(mind(tmp_path, lines), **fields)
