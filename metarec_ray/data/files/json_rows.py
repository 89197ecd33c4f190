"""Read a file of JSON objects, a line each or one array, every value as it is written.

Lines may be literals of Python, as some public data sets have them. Numbers and words become text,
so that no id is changed; lists stay lists of text. Does not know what a key means.
"""

import ast
import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import polars as pl

from metarec_ray.data.files.lines import Dialect, Lines
from metarec_ray.data.files.parts import Broken, Part, gathered, parted
from metarec_ray.data.files.separated import opened
from metarec_ray.data.text_format import TextFormat
from metarec_ray.errors import DataError

HEAD_ROWS = 1000  # whose keys are the columns of a file
FRAME_ROWS = 50_000
TEXT, TEXTS = pl.String(), pl.List(pl.String())

Types = dict[str, pl.DataType]


def columns(path: str, form: TextFormat, wanted: Sequence[str] = ()) -> Types:
    """Return the keys of the first rows, and their types: text, a list of text, struct, or null.

    All rows are read where a `wanted` key is not among these.

    Raises:
        DataError: there is no row, or none is an object.

    """
    found: Types = {}
    broken: list[Broken] = []
    for number, row in enumerate(_objects(path, form, broken)):
        for key, value in row.items():
            if found.get(key, pl.Null()) == pl.Null():
                found[key] = _type(value)
        if number >= HEAD_ROWS and all(found.get(name, pl.Null()) != pl.Null() for name in wanted):
            break
    if not found and broken:
        first = broken[0]
        raise DataError(f"{first.reason}, got {first.value[:80]!r} in row {first.row} of {path}")
    if not found:
        raise DataError(f"an input file must hold rows, got none ({path})")
    return found


def parts(path: str, types: Types, form: TextFormat, rows: int) -> Iterator[Part]:
    """Yield the columns of `types`, about `rows` rows at a time; at least one part.

    Lines that are no object, or say a key twice, are broken rows.

    Raises:
        DataError: a value is of another type than its column.

    """
    broken: list[Broken] = []
    frames = gathered(_frames(path, types, form, broken), rows)
    yield from parted(frames, broken, pl.DataFrame(schema=types))


def _frames(
    path: str, types: Types, form: TextFormat, broken: list[Broken]
) -> Iterator[pl.DataFrame]:
    objects = _objects(path, form, broken)
    while some := list(islice(objects, FRAME_ROWS)):
        columns = {
            n: [_value(row.get(n), n, dtype, path) for row in some] for n, dtype in types.items()
        }
        try:
            yield pl.DataFrame(columns, schema=types)
        except UnicodeEncodeError as error:
            raise DataError(f"text must be Unicode, {path} holds {error.object!r:.80}") from None


def _value(value: Any, name: str, dtype: pl.DataType, path: str) -> Any:
    found = _type(value)
    if found == pl.Null():
        return None
    if found.is_nested() and found != TEXTS:
        raise DataError(
            f"a column must hold words, numbers or lists of them, {name!r} holds "
            f"{json.dumps(value, default=str)[:80]} ({path})"
        )
    if found != dtype:
        raise DataError(
            f"a column must have one type in all rows, {name!r} is {_called(dtype)} and "
            f"{_called(found)}, {json.dumps(value)[:80]} ({path})"
        )
    return [_text(one) for one in value] if found == TEXTS else _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _type(value: Any) -> pl.DataType:
    if value is None:
        return pl.Null()
    if isinstance(value, list | tuple):
        nested = any(isinstance(one, list | tuple | dict) for one in value)
        return pl.Struct([]) if nested else TEXTS
    return pl.Struct([]) if isinstance(value, dict) else TEXT


def _called(dtype: pl.DataType) -> str:
    return {TEXT: "a word or number", TEXTS: "a list"}.get(dtype, "nested")


def _objects(path: str, form: TextFormat, broken: list[Broken]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file; lines that are none are added to `broken`."""
    with opened(path) as file:
        blocks = iter(Lines(file, Dialect(encoding=form.encoding), path))
        first = next(blocks, b"")
        if first.lstrip()[:1] == b"[":
            yield from _array(b"".join([first, *blocks]), path, broken)
            return
        lines = (line for block in chain([first], blocks) for line in block.decode().split("\n"))
        for number, line in enumerate(filter(str.strip, lines)):
            try:
                row = _object(line)
            except ValueError as error:
                broken.append(Broken(number, str(error), line))
                continue
            yield row


def _object(line: str) -> dict[str, Any]:
    try:
        found = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        found = _literal(line, error)
    except RecursionError:
        raise ValueError("a row must not be nested so deeply") from None
    if not isinstance(found, dict):
        raise ValueError("a row must be a JSON object")
    return found


def _literal(line: str, error: json.JSONDecodeError) -> Any:
    """Return a line that is a literal of Python, its numbers as they are written."""
    text = line.strip()
    try:
        return _meant(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, RecursionError, MemoryError, LookupError):
        raise ValueError(f"a row must be JSON: {error.msg} at column {error.colno}") from None


def _meant(node: ast.expr, text: str) -> Any:
    """Return the value of a literal; LookupError if it is none that JSON has, too."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return _once([(_key(key), _meant(value, text)) for key, value in pairs])
    if isinstance(node, ast.List | ast.Tuple):
        return [_meant(one, text) for one in node.elts]
    value = node.operand if isinstance(node, ast.UnaryOp) else node
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        return ast.get_source_segment(text, node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bool | None):
        return node.value
    raise LookupError(node)


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise LookupError(node)


def _array(text: bytes, path: str, broken: list[Broken]) -> Iterator[dict[str, Any]]:
    try:
        rows = _DECODER.decode(text.decode())
    except json.JSONDecodeError as error:
        raise DataError(
            f"a JSON file must be whole, {path} is not: {error.msg} in line {error.lineno}, "
            f"column {error.colno}"
        ) from None
    except ValueError as error:
        raise DataError(f"{error} ({path})") from None
    except RecursionError:
        raise DataError(f"a row must not be nested so deeply ({path})") from None
    for number, row in enumerate(rows):
        if isinstance(row, dict):
            yield row
        else:
            broken.append(Broken(number, "a row must be a JSON object", json.dumps(row)))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"a row must say a key once, not {twice!r} twice")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=str, parse_float=str, parse_constant=str, strict=False
)
"""Numbers stay as they are written: 1.0 is not 1, and no digit is lost."""
