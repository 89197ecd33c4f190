"""The layout of the Netflix prize as small files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from metarec_ray.data.log.reading import Log, read_log
from metarec_ray.data.log.sources import find
from metarec_ray.data.settings import Data
from metarec_ray.errors import DataError


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def netflix(folder: Path) -> Path:
    (folder / "combined_data_1.txt").write_text(
        "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n7,4,1999-11-11\n"
    )
    (folder / "combined_data_2.txt").write_text("10:\n822109,1,2005-05-14\n")
    titles = "1,2003,Dinosaur Planet\n2,NULL,Amélie, Part 2\n10,1997,Character\n"
    (folder / "movie_titles.csv").write_bytes(titles.encode("iso-8859-1"))
    return folder


def read(folder: Path, **fields: object) -> Log:
    return read_log(Data.model_validate({"path": str(folder), **fields}))


def test_ratings_of_all_parts_have_the_film_of_the_line_above_them(tmp_path: Path) -> None:
    log = read(netflix(tmp_path), feedback="explicit")
    assert log.events.rows() == [
        (1488844, 1, 3.0, day("2005-09-06"), 0),
        (822109, 1, 5.0, day("2005-05-13"), 1),
        (7, 2, 4.0, day("1999-11-11"), 2),
        (822109, 10, 1.0, day("2005-05-14"), 3),
    ]
    assert log.items is not None
    assert log.items.select("id", "title", "year").rows() == [
        (1, "Dinosaur Planet", 2003.0),
        (2, "Amélie, Part 2", None),
        (10, "Character", 1997.0),
    ]


def test_implicit_feedback_keeps_good_ratings(tmp_path: Path) -> None:
    assert len(read(netflix(tmp_path)).events) == 2


def test_every_part_counts_for_the_fingerprint(tmp_path: Path) -> None:
    settings = Data(path=str(netflix(tmp_path)))
    before = find(settings).fingerprint
    (tmp_path / "combined_data_2.txt").write_text("10:\n822109,2,2005-05-14\n")
    assert find(settings).fingerprint != before


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "combined_data_2.txt",
            "3:\n7,x,2005-01-01\n",
            r"below a line `movie:`, line 2 of .*_2\.txt",
        ),
        ("combined_data_1.txt", "7,4,2005-01-01\n", r"below a line `movie:`, line 1 of .*_1\.txt"),
        ("movie_titles.csv", "x,2003,A\n", r"films must be lines `id,year,title`, line 1 of"),
    ],
)
def test_a_line_of_another_form_is_named(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (netflix(tmp_path) / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        read(tmp_path)
