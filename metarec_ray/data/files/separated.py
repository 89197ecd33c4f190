"""Read a CSV, TSV or other text file of separated fields, every field as text.

An empty field without quotes is null. Does not know what a column means, nor other formats.
"""

import codecs
import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple, cast

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from metarec_ray.data.files import paths
from metarec_ray.data.files.lines import BLOCK, Dialect, Lines
from metarec_ray.data.files.parts import Broken, Part, gathered, parted
from metarec_ray.data.text_format import TextFormat
from metarec_ray.errors import DataError

HEAD = 2**20  # bytes that must hold the first row
TABBED = (".tsv", ".tsv.gz")
EITHER = (".txt", ".dat", ".txt.gz", ".dat.gz")
"""Files whose first line says whether tabs or commas separate."""


class Head(NamedTuple):
    """What the first row says.

    Attributes:
        names: of the columns.
        lines: physical lines before the rows.
        dialect: of the file.

    """

    names: list[str]
    lines: int
    dialect: Dialect


def head(path: str, form: TextFormat) -> Head:
    """Return the columns of a file; those of `form.names` if it has no header.

    Raises:
        DataError: it is empty, or cannot be decoded.

    """
    with opened(path) as file:
        first = file.read(HEAD)
    # It may end within a character or a row; what is no text is told when rows are read.
    decoder = codecs.getincrementaldecoder(form.encoding)("replace")
    text = decoder.decode(first).removeprefix("\ufeff")
    dialect = _dialect(path, form, text)
    rows = csv.reader(
        io.StringIO(text.replace(dialect.separator, dialect.delimiter), newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )
    row = next(filter(None, rows), None)
    if row is None:
        raise DataError(f"an input file must hold rows, got none ({path})")
    if form.header:
        return Head(row, rows.line_num, dialect)
    if len(row) != len(form.names):
        raise DataError(
            f"names must name every column of a file without a header, got {len(form.names)} for "
            f"the {len(row)} fields of its first row ({path})"
        )
    return Head(list(form.names), 0, dialect)


def parts(path: str, names: Sequence[str], top: Head, rows: int) -> Iterator[Part]:
    """Yield the named columns as text, about `rows` rows at a time; at least one part.

    `top` is the head of the file. Rows with more or fewer fields than the first are broken.

    Raises:
        DataError: quotes that do not match, bytes that are no text, rows that do not add up.

    """
    twice = [name for name in names if top.names.count(name) > 1]
    if twice:
        raise DataError(f"a column must be named once, {path} has {twice[0]!r} twice")
    broken: list[Broken] = []

    def skip(row: pc.InvalidRow) -> str:
        found = f"row has {row.actual_columns} fields of {row.expected_columns}"
        broken.append(Broken((row.number or 1) - 1 - top.lines, found, row.text))
        return "skip"

    empty = pl.DataFrame(schema=dict.fromkeys(names, pl.String()))
    with opened(path) as file:
        lines = Lines(file, top.dialect, path, len(top.names))
        frames = gathered(_frames(lines, top, names, skip), rows)
        read = 0
        for part in parted(frames, broken, empty):
            read += part.read
            yield part
    told = lines.records - bool(top.lines)
    if read != told:
        raise DataError(f"every row of a file must be read, got {read} of {told} ({path})")


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Open a text file, unpacked if its name ends with .gz."""
    plain = path.partition("?")[0] if paths.is_remote(path) else path
    with paths.opened(path) as stream:
        file = cast(IO[bytes], stream)
        if not plain.lower().endswith(".gz"):
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(IO[bytes], unpacked)


def _dialect(path: str, form: TextFormat, first: str) -> Dialect:
    """Return how fields are told apart: as `form` says, else as name and first line do."""
    name = (path.partition("?")[0] if paths.is_remote(path) else path).lower()
    tabbed = name.endswith(TABBED) or (name.endswith(EITHER) and "\t" in first.partition("\n")[0])
    separator = form.separator or ("\t" if tabbed else ",")
    quote = form.quote or ("none" if separator == "\t" or len(separator) > 1 else '"')
    return Dialect(
        separator, None if quote == "none" else quote, form.quote is not None, form.encoding
    )


def _frames(
    lines: Lines, top: Head, names: Sequence[str], skip: Callable[[pc.InvalidRow], str]
) -> Iterator[pl.DataFrame]:
    reader = pc.open_csv(
        pa.PythonFile(lines, "r"),
        read_options=pc.ReadOptions(
            # Rows have numbers in one thread only.
            use_threads=False,
            block_size=BLOCK,
            column_names=_unique(top.names),
            skip_rows=top.lines,
        ),
        parse_options=pc.ParseOptions(
            delimiter=top.dialect.delimiter,
            quote_char=top.dialect.quote or False,
            newlines_in_values=top.dialect.quote is not None,
            invalid_row_handler=skip,
        ),
        convert_options=pc.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(names),
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=False,
        ),
    )
    for batch in reader:
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield frame


def _unique(names: Sequence[str]) -> list[str]:
    """Return names of which none occurs twice; a second one stands for a column nobody named."""
    return [name if name not in names[:at] else f"{name}\x1f{at}" for at, name in enumerate(names)]
