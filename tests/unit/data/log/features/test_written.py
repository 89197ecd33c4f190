"""Lists and numbers as text, the ways they are met."""

import polars as pl
import pytest

from metarec_ray.data.log.features.written import numbers, parsed, tokens, vectors
from metarec_ray.errors import DataError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[1, 4]", [1, 4]),
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ('["a, b", null]', ["a, b", None]),
        ("['a', \"it's\", None]", ["a", "it's", None]),
        ("(1, 2)", [1, 2]),
        ("(1)", [1]),
        ("('a',)", ["a"]),
        ("{a,b}", ["a", "b"]),
        ('{NULL,"a, b"}', [None, "a, b"]),
        ("{'b', 'a'}", ["a", "b"]),
        ("[rock, new wave]", ["rock", "new wave"]),
        ("['a' 'b c']", ["a", "b c"]),
        ("['it''s', 'b']", ["it's", "b"]),
        ("[0.5\n 1.5]", ["0.5", "1.5"]),
        ("[true, false]", [True, False]),
        (" [] ", []),
        ("{}", []),
        ("(None)", [None]),
    ],
)
def test_a_list_is_read_however_it_is_written(text: str, found: list[object]) -> None:
    assert parsed(text) == found


@pytest.mark.parametrize(
    "text", ["[1, [2]]", "[[1], [2]]", "{'a': 1}", '{"a": 1}', "['a', 'b]", "['a' ... 'b']"]
)
def test_what_is_no_list_of_values_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"in a list|no list|keys and values"):
        parsed(text)


@pytest.mark.parametrize("separator", [None, ",", "|"])
def test_brackets_and_quotes_are_no_part_of_a_token(separator: str | None) -> None:
    text = pl.Series(["[1, 4]", "['a b', 2.0]", None, " ", "[]", "[true, None, '']"])
    found = tokens(text, separator, "here")
    assert found.to_list() == [["1", "4"], ["a b", "2"], None, [], [], ["true"]]


def test_a_column_without_lists_is_split() -> None:
    text = pl.Series(["a| b", "", None, "[live"])
    assert tokens(text, "|", "here").to_list() == [["a", "b"], [], None, ["[live"]]
    assert vectors(pl.Series(["0.5  1", None]), " ", "here").to_list() == [[0.5, 1.0], None]
    for read in (tokens, vectors):
        assert read(pl.Series([None], dtype=pl.String), None, "here").to_list() == [None]


def test_a_missing_number_of_a_vector_is_nan() -> None:
    (found,) = vectors(pl.Series(["[0.5, null]"]), None, "here").to_list()
    assert found[0] == 0.5
    assert found[1] != found[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["[1]", "a|b"], r"as lists or not, got '\[1\]' and 'a\|b' \(here\)"),
        (
            ["[1]", "[2]", "[[3]]"],
            r"can be read, as \[1, 4\] .*, got '\[\[3\]\]' in row 2 \(here\)",
        ),
        (["[0.5]"], r"got '\[0.5\]' in row 0"),
        (["a|b"], r"a multi_categorical feature of text needs a separator, .* got 'a\|b' \(here\)"),
    ],
)
def test_tokens_that_cannot_be_read_are_refused(text: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tokens(pl.Series(text), None, "here")


@pytest.mark.parametrize(
    ("text", "separator", "message"),
    [
        (["0.1 0.2"], None, "a vector feature of text needs a separator"),
        (["0.1 x"], " ", r"got '0.1 x' in row 0 \(here\)"),
        (["['a']"], None, "got \"\\['a'\\]\" in row 0"),
    ],
)
def test_vectors_that_cannot_be_read_are_refused(
    text: list[str], separator: str | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        vectors(pl.Series(text), separator, "here")


def test_text_that_is_no_number_is_infinite_and_not_missing() -> None:
    found = numbers(pl.Series([" 1.5", "", None, "2e3", "1,5"]))
    assert found.to_list() == [1.5, None, None, 2e3, float("inf")]
