"""The head of any file that a log may be, as a table, with the settings that read it.

Knows text files, JSON and Parquet; does not know what a column means.
"""

import ast
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from metarec_ray.data.files import tables
from metarec_ray.data.guess.finding import Finding, Tree
from metarec_ray.data.guess.heads import dialect, head, marks
from metarec_ray.data.guess.heads.head import Head
from metarec_ray.data.text_format import MISSING
from metarec_ray.errors import DataError

ROWS = 10_000
PARQUET = (".parquet", ".pq")
JSON = (".json", ".jsonl", ".ndjson")
TEXT = (".csv", ".tsv", ".txt", ".dat")
SUFFIXES = (*PARQUET, *(s + z for s in (*JSON, *TEXT) for z in ("", ".gz")))


class Table(NamedTuple):
    r"""The head of a file.

    Attributes:
        path: of the file.
        rows: the head: text, numbers, lists, booleans; nested objects are left out.
        settings: what must be said to read the file.
        named: whether the file names its columns.
        whole: whether these are all of its rows.
        estimate: about how many rows the file has.
        nested: names of columns that hold objects.
        broken: rows of the head with another number of fields.
        escapes: whether quotes inside of fields are written `\"`, which no reader here knows.

    """

    path: Path
    rows: pl.DataFrame
    settings: Tree
    named: bool
    whole: bool
    estimate: int
    nested: tuple[str, ...] = ()
    broken: int = 0
    escapes: bool = False


def look(path: Path) -> Table:
    """Return the head of a file.

    Raises:
        DataError: it cannot be read, or nothing in it looks like a table.

    """
    name = path.name.lower()
    if name.endswith(PARQUET):
        return _parquet(path)
    plain = name.removesuffix(".gz")
    if not plain.endswith(JSON + TEXT):
        raise DataError(f"an input file must be one of {', '.join(SUFFIXES)}, got {path}")
    found = head.read(path)
    return _json(path, found) if plain.endswith(JSON) else _text(path, found, plain)


def _parquet(path: Path) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            batches = list(islice(file.iter_batches(ROWS), 1))
            empty = file.schema_arrow.empty_table()
            total = file.metadata.num_rows
        found = pa.Table.from_batches(batches) if batches else empty
        names = list(dict.fromkeys(name for name in found.column_names if _is_column(found, name)))
        frame = tables.frame(found.select(names))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"an input file must be readable, {path} is not: {error}") from error
    frame = frame.with_columns(pl.col(pl.Decimal).cast(pl.Float64))
    return _kept(Table(path, frame, {}, True, len(frame) == total, total))


def _is_column(found: pa.Table, name: str) -> bool:
    """Return whether a column can be looked at: named once, of years that Python has."""
    if found.column_names.count(name) > 1:
        return False
    dtype = found.schema.field(name).type
    if not (pa.types.is_timestamp(dtype) or pa.types.is_date(dtype)):
        return True
    try:
        found[name].to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return False
    return True


def _text(path: Path, found: Head, plain: str) -> Table:
    spoken = dialect.find(found.text)
    if spoken is None:
        raise DataError(
            "the lines of a text file must have one number of fields, two or more, told apart by a "
            f"tab, ::, comma, semicolon, | or space; those of {path} have not, they begin with "
            f"{found.text[:60]!r}"
        )
    rows, broken = _rows(found.text, spoken)
    header = spoken.header.value is True
    names = [f"column_{number}" for number in range(1, spoken.fields + 1)]
    frame = _frame(rows[1:] if header else rows, rows[0] if header else names)
    settings = {"separator": spoken.separator, "encoding": found.encoding}
    settings |= {"quote": spoken.quote, "header": spoken.header, "decimal": spoken.decimal}
    if spoken.decimal.value == ",":
        frame = frame.with_columns(pl.col(pl.String).str.replace(r"^([-+]?\d+),(\d+)$", "$1.$2"))
    words = marks.find(frame)
    frame = frame.with_columns(pl.col(pl.String).replace(list(words), None))
    bare = spoken.separator.value == "\t" or len(str(spoken.separator.value)) > 1
    known: Tree = {k: one for k, one in settings.items() if _needed(k, one, plain, bare=bare)}
    if words:
        said = ", ".join(f"{word!r} among the numbers of {name}" for word, name in words.items())
        known["null_values"] = Finding([*MISSING[1:], *words], said)
    escapes = spoken.quote.value != "none" and f"\\{spoken.quote.value}" in found.text
    made = Table(path, frame, known, header, found.whole, 0, (), broken, escapes)
    return _estimated(made, found)


def _frame(rows: Sequence[Sequence[str]], names: Sequence[str]) -> pl.DataFrame:
    """Return fields as columns of text; of columns of one name the first."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    found: dict[str, pl.Series] = {}
    for name, column in zip(names, columns, strict=True):
        values = [None if value in MISSING else value for value in column]
        found.setdefault(name, pl.Series(name, values, pl.String))
    return pl.DataFrame(list(found.values()))


def _needed(key: str, one: Finding, plain: str, *, bare: bool) -> bool:
    """Return whether a setting is not the default of its suffix, or could be another.

    Files are `bare` of quotes by default where a tab or several characters separate.
    """
    defaults = {
        "separator": "\t" if plain.endswith(".tsv") else ",",
        "quote": "none" if bare else '"',
        "encoding": "utf-8",
        "header": True,
        "decimal": ".",
    }
    return one.value != defaults[key] or bool(one.others)


def _rows(text: str, spoken: dialect.Dialect) -> tuple[list[list[str]], int]:
    lines = (line for line in text.split("\n") if line.strip())
    found = dialect.records(lines, str(spoken.separator.value), str(spoken.quote.value))
    rows = list(islice(found, ROWS + 1))
    good = [row for row in rows if len(row) == spoken.fields]
    return good, len(rows) - len(good)


def _json(path: Path, found: Head) -> Table:
    text = found.text.lstrip()
    try:
        objects = list(islice(_elements(text) if text.startswith("[") else _lines(text), ROWS))
    except ValueError as error:
        raise DataError(f"a JSON file must hold objects, {path} does not: {error}") from error
    if not objects:
        raise DataError(f"an input file must hold rows, got none ({path})")
    names = list(dict.fromkeys(name for one in objects for name in one))
    frame = pl.DataFrame([_series(name, [one.get(name) for one in objects]) for name in names])
    settings: Tree = {} if found.encoding.value == "utf-8" else {"encoding": found.encoding}
    return _kept(_estimated(Table(path, frame, settings, True, found.whole, 0), found))


def _lines(text: str) -> Iterator[dict[str, object]]:
    for line in text.split("\n"):
        if line.strip():
            yield _object(_value(line))


def _value(line: str) -> object:
    """Return the value of a line of JSON, or of a literal of Python, as some public logs have."""
    try:
        return json.loads(line)
    except ValueError:
        if not line.lstrip().startswith("{"):
            raise
    try:
        return ast.literal_eval(line.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{error} in {line[:60]!r}") from error


def _elements(text: str) -> Iterator[dict[str, object]]:
    """Yield the objects of an array whose end may be missing."""
    decoder, at = json.JSONDecoder(), 1
    while True:
        at += len(text[at : at + 100]) - len(text[at : at + 100].lstrip(" \r\n\t,"))
        if at >= len(text) or text[at] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            if len(text) - at < 2**20 and at > 1:
                return  # the head ends within this object
            raise
        yield _object(value)


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} stands where an object should")
    return value


def _series(name: str, values: list[object]) -> pl.Series:
    """Return JSON values as a column; objects stay objects, to be left out."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        whole = kinds == {int}
        return pl.Series(name, values, pl.Int64 if whole else pl.Float64, strict=False)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds <= {str, int, float, bool}:
        text = [None if v is None or str(v) in MISSING else str(v) for v in values]
        return pl.Series(name, text, pl.String)
    inner = {type(one) for value in values if isinstance(value, list) for one in value}
    if kinds == {list} and inner == {int}:
        return pl.Series(name, values, pl.List(pl.Int64), strict=False)
    if kinds == {list} and inner <= {int, float}:
        return pl.Series(name, values, pl.List(pl.Float64), strict=False)
    if kinds == {list} and inner <= {str}:
        return pl.Series(name, values, pl.List(pl.String))
    return pl.Series(name, values, pl.Object)


def _kept(table: Table) -> Table:
    """Return the table without its nested columns, which it names."""
    nested = [
        name
        for name, dtype in table.rows.schema.items()
        if dtype in (pl.Object, pl.Struct)
        or (isinstance(dtype, pl.List) and dtype.inner in (pl.Struct, pl.List, pl.Object))
    ]
    return table._replace(rows=table.rows.drop(nested), nested=tuple(nested))


def _estimated(table: Table, found: Head) -> Table:
    """Return the table with the number of rows that its file has, by the length of the head."""
    lines = found.text.count("\n") + (not found.text.endswith("\n"))
    whole = found.whole and lines <= ROWS
    count = len(table.rows) if whole else round(lines / found.share)
    return table._replace(whole=whole, estimate=count)
