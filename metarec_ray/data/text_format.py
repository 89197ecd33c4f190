"""How a text file is written: separator, quotes, header, encoding, marks for what is missing.

Knows settings and what they are by default; does not read a file.
"""

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from metarec_ray.data.setting_types import Settings

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "\\N")
"""What is read as missing where `null_values` is not set; upper and lower case as they stand."""


def _known_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
        plain = "a,b\n".encode(found).decode(found) == "a,b\n"
    except (LookupError, ValueError):
        plain, found = False, name
    if not plain:
        raise ValueError(f"an encoding of text must be known to Python, as latin-1, got {name!r}")
    return found


def _separates(text: str) -> str:
    if not text or set(text) & set("\r\n\"'\0"):
        raise ValueError(
            f"a separator must be characters other than quotes and line ends, got {text!r}"
        )
    return text


def _as_text(values: object) -> object:
    """Return marks that YAML took for numbers as they print."""
    if not isinstance(values, list | tuple):
        return values
    numbers = [type(one) in (int, float) for one in values]
    return [str(one) if number else one for one, number in zip(values, numbers, strict=True)]


class TextFormat(Settings):
    r"""The keys of a section whose file may be text; a Parquet file needs `null_values` alone.

    Attributes:
        separator: of fields, one character or several; by default a tab in `.tsv` files and in
            `.txt` and `.dat` files whose first line has one, else a comma.
        quote: what begins and ends a field that holds separators; `none` where quotes are text. By
            default `none` where a tab or several characters separate, else `"`. A quote inside is
            doubled.
        header: whether the first row names the columns.
        names: of the columns, in order, where there is no header.
        encoding: of the characters, as Python calls it; a byte order mark is skipped.
        null_values: values that mean missing; by default NA, N/A, NaN, null, None and \N in usual
            spellings. A list replaces these; the empty field is always missing.
        decimal: mark of decimals in numbers.

    """

    separator: Annotated[str, AfterValidator(_separates)] | None = None
    quote: Literal['"', "'", "none"] | None = None
    header: bool = True
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    encoding: Annotated[str, AfterValidator(_known_encoding)] = "utf-8"
    null_values: Annotated[tuple[str, ...], BeforeValidator(_as_text)] | None = None
    decimal: Literal[".", ","] = "."

    @model_validator(mode="after")
    def _names_columns_once(self) -> "TextFormat":
        if self.header == bool(self.names):
            raise ValueError(
                "names must name the columns of a file without a header (header: false), and only "
                f"of such a one, got header: {str(self.header).lower()} and {len(self.names)} names"
            )
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names must name each column once, got {list(self.names)}")
        return self

    @property
    def missing(self) -> tuple[str, ...]:
        """Values that mean missing, as text."""
        return MISSING if self.null_values is None else ("", *self.null_values)

    def asked(self) -> list[str]:
        """Return the keys that are not at their default and say how a text file is written."""
        fields = TextFormat.model_fields
        keys = [name for name in fields if name != "null_values"]
        return [name for name in keys if getattr(self, name) != fields[name].default]
