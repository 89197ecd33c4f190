"""How the fields of a text are told apart."""

import pytest

from metarec_ray.data.guess.finding import Finding
from metarec_ray.data.guess.heads import dialect


def rows(separator: str, head: str | None, *, count: int = 30) -> str:
    lines = [separator.join((f"u{row % 7}", str(row % 11), f"{row % 5}.5")) for row in range(count)]
    return "".join(f"{line}\n" for line in ([head] if head else []) + lines)


@pytest.mark.parametrize("separator", ["\t", "::", ",", ";", "|", " "])
def test_a_separator_is_what_all_lines_have_equally_often(separator: str) -> None:
    found = dialect.find(rows(separator, None))
    assert found is not None
    assert (found.separator.value, found.fields) == (separator, 3)


@pytest.mark.parametrize(
    ("text", "separator", "quote"),
    [
        ('"a";"b, c"\n"d";"e, f"\n', ";", '"'),
        ("'a','b, c'\n'd','e'\n", ",", "'"),
        ('1,"The ""Gold"", two"\n2,Plain\n', ",", '"'),
        ('1\tThe "12" mix\n2\tIt\'s\n', "\t", "none"),
        ('a\t"b"\nc\t"d\te"\n', "\t", '"'),
        ("u;1,5\nv;2,5\n", ";", '"'),
    ],
)
def test_quotes_are_what_fields_begin_and_end_with(text: str, separator: str, quote: str) -> None:
    found = dialect.find(text)
    assert found is not None
    assert (found.separator.value, found.quote.value) == (separator, quote)


@pytest.mark.parametrize(
    ("head", "header", "why"),
    [
        ("userId,movieId,rating", True, "'userId' in the first line"),
        ("x,y,z", True, "'y' stands above numbers"),
        ("u1,7,3.5", False, "the first line holds values, not names"),
        ("2020-01-01,abc,x", False, "the first line holds values, not names"),
        (None, False, "the first line holds values, not names"),
    ],
)
def test_a_header_is_known_by_its_names(head: str | None, header: bool, why: str) -> None:
    found = dialect.find(rows(",", head))
    assert found is not None
    assert (found.header.value, found.header.why) == (header, why)


def test_text_above_text_may_be_a_header_or_not() -> None:
    found = dialect.find("abc,def\n" + "".join(f"u{n % 5},i{n % 7}\n" for n in range(20)))
    assert found is not None
    assert (found.header.value, found.header.others[0][0]) == (True, False)
    found = dialect.find("".join(f"u{n % 5},i{n % 7}\n" for n in range(20)))
    assert found is not None
    assert found.header == Finding(False, "a value of the first line comes again")


def test_a_comma_inside_of_numbers_is_a_decimal_and_no_separator() -> None:
    text = "Kunde;Preis\n" + "".join(f"k{n % 4};{n},5\n" for n in range(20))
    found = dialect.find(text)
    assert found is not None
    assert (found.separator.value, found.decimal.value) == (";", ",")
    assert found.decimal.why == "'0,5' in column 2"


@pytest.mark.parametrize("text", ["one\ntwo\n", "1:\n1,2,3\n4,5,6\n2:\n7,8,9\n"])
def test_lines_of_no_table_have_no_dialect(text: str) -> None:
    assert dialect.find(text) is None
