"""More features of MovieLens films: people, certificates, words of the title.

Read from `movies.dat` and from `movies_extrainfos.dat` beside it (UTF-8), one line a film:
`id::title::year::certificate::released::genres::directors::writers::cast::plot::poster`. Tokens of
a single film are dropped, since no other film shares them; so are title words of more than a fifth
of the films.
"""

import math
from pathlib import Path

import polars as pl

from metarec_ray.errors import DataError

FILE = "movies_extrainfos.dat"
EXTRA = ("certificate", "imdb_genres", "director", "writer", "actor")
_FIELDS = 11
_WORD = r"[\p{L}\p{N}]+(?:'[\p{L}]+)?"
_COMMON = 0.2  # most films that may share a title word, as a share of all
_ABSENT = ("", "N/A", "UNRATED")


def with_content(films: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return films with `released` and `title_words`, and the columns `EXTRA` if `path` exists.

    Args:
        films: `id` and `title` ("Title (1995)"), a row a film.
        path: file of the extra columns, which are null for films without a line.

    """
    year = pl.col("title").str.extract(r"\((\d{4})\)$").cast(pl.Float32)
    name = pl.col("title").str.replace(r"\s*\(\d{4}\)$", "")
    films = films.with_columns(released=year, title_words=_words(name))
    films = films.with_columns(title_words=_shared(films, "title_words", most=_COMMON * len(films)))
    if not path.is_file():
        return films
    return films.join(_read(path), on="id", how="left", maintain_order="left")


def _read(path: Path) -> pl.DataFrame:
    try:
        lines = [line.split("::") for line in path.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{FILE} must be readable as UTF-8, {path} is not: {error}") from error
    for number, line in enumerate(lines, start=1):
        if len(line) < _FIELDS or not line[0].isdigit():
            raise DataError(
                f"a line must have {_FIELDS} fields, the first an integer, got {len(line)} that "
                f"begin with {line[0]!r} in line {number} of {path}"
            )
    names = ("certificate", "", "imdb_genres", "director", "writer", "actor")
    columns = {name: [line[at] for line in lines] for at, name in enumerate(names, 3) if name}
    frame = pl.DataFrame({"id": [int(line[0]) for line in lines], **columns})
    text = pl.col(list(columns))
    frame = frame.with_columns(pl.when(~text.is_in(_ABSENT)).then(text))
    lists = EXTRA[1:]
    frame = frame.with_columns(_names(name) for name in lists)
    return frame.select("id", "certificate", *(_shared(frame, name) for name in lists))


def _names(column: str) -> pl.Expr:
    """Return the distinct names of a list "Ann Bee (story), Cy Dee", without the parentheses."""
    name = pl.element().str.replace_all(r"\s*\(.*?\)", "").str.strip_chars()
    return pl.col(column).str.split(",").list.eval(name.filter(name != "").unique().sort())


def _words(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.extract_all(_WORD).list.unique().list.sort()


def _shared(frame: pl.DataFrame, column: str, *, most: float = math.inf) -> pl.Series:
    """Return the lists of a column without tokens of one film only, or of more than `most`."""
    flat = frame.select("id", token=column).explode("token").drop_nulls()
    kept = flat.filter(pl.len().over("token").is_between(2, max(most, 2)))
    lists = kept.group_by("id").agg(pl.col("token").sort())
    joined = frame.select("id").join(lists, on="id", how="left", maintain_order="left")
    return joined["token"].alias(column)
