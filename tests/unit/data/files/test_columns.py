"""The error for a column that does not exist."""

import re

import pytest

from metarec_ray.data.files.tables import require_columns
from metarec_ray.errors import DataError


@pytest.mark.parametrize(
    ("wanted", "found", "sentence"),
    [
        (
            "user",
            ["userId", "movieId"],
            "column 'user' must exist, the columns of log.csv are userId, movieId; "
            "nearest: 'userId'",
        ),
        ("ITEM", ["id", "item"], "are id, item; nearest: 'item'"),
        ("user", ["a", "b"], "the columns of log.csv are a, b"),
    ],
)
def test_a_missing_column_proposes_the_nearest(
    wanted: str, found: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=f"{re.escape(sentence)}$"):
        require_columns([wanted], found, "log.csv")
