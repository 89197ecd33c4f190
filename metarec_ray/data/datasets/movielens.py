"""The MovieLens layouts, read as one set of columns: user_id, movie_id, rating, timestamp, row.

Items: id, title, genres, year (in bins), and the columns of `film_content`, which a config must
name. Users: id, gender, age, occupation. `row` is the number of a rating in its file. Knows the
content of these files only.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import polars as pl

from metarec_ray.data.datasets import film_content
from metarec_ray.data.files import tables
from metarec_ray.data.settings import Columns, Data, Feature, SideTable
from metarec_ray.errors import DataError

DType = type[pl.Int64] | type[pl.Float64]
LABEL_MIN = 4.0
CSV_COLUMNS = ("userId", "movieId", "rating", "timestamp")
RATING_COLUMNS = ["user_id", "movie_id", "rating", "timestamp", "row"]
ITEM_FEATURES = {
    "genres": Feature(kind="multi_categorical"),
    "year": Feature(kind="categorical"),
}
USER_FEATURES = {
    "gender": Feature(kind="categorical"),
    "age": Feature(kind="categorical"),
    "occupation": Feature(kind="categorical"),
}
_YEARS = (1930, 1940, 1950, 1960, 1970, 1980, 1985, 1990, 1993, 1996, 1998)
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip


class Layout(NamedTuple):
    """File names of a data set and functions that read them; `users` is None without user data.

    `parts` returns the files of a log that has several, `log` the first of them.
    """

    name: str
    log: str
    items: str
    users: str | None
    read_log: Callable[[Path], pl.DataFrame]
    read_items: Callable[[Path], pl.DataFrame]
    read_users: Callable[[Path], pl.DataFrame] | None
    parts: Callable[[Path], list[Path]] | None = None
    has_text_ids: bool = False

    def further(self, folder: Path, settings: Data) -> list[Path]:
        """Return the files to read besides the log and the side tables.

        Raises:
            DataError: a feature is asked for whose file is missing.

        """
        table = settings.items
        if self.parts is not None:
            return [path for path in self.parts(folder) if path.name != self.log]
        if table is None or table.path != self.items:
            return []
        path = folder / film_content.FILE
        asked = [name for name in film_content.EXTRA if name in table.features]
        if asked and not path.is_file():
            raise DataError(
                f"{film_content.FILE} must lie beside {self.items} for the feature {asked[0]!r}, "
                f"none is at {path} (data.items.features)"
            )
        return [path] if asked else []


def with_defaults(
    settings: Data,
    layout: Layout,
    columns: Columns,
    features: dict[str, Feature],
    *,
    label_min: float | None = None,
) -> Data:
    """Return the settings with the roles, the item table and, if implicit, the least label.

    What the settings say themselves stays.
    """
    update: dict[str, object] = {}
    if settings.columns is None:
        update["columns"] = columns
    if settings.label_min is None and settings.feedback == "implicit":
        update["label_min"] = label_min
    if settings.items is None:
        update["items"] = SideTable(path=layout.items, id="id", title="title", features=features)
    return settings.model_copy(update=update)


def effective(settings: Data, layout: Layout, folder: Path) -> Data:
    """Return the settings with the defaults of a layout: roles, `label_min`, side tables.

    With explicit feedback, a log in which some timestamps are missing has no time role: ratings are
    then in file order.
    """
    # Asked only where it matters: it reads the log.
    timed = (
        settings.columns is not None
        or settings.feedback == "implicit"
        or _all_timed(folder / layout.log)
    )
    columns = Columns(
        entity="user_id",
        item="movie_id",
        label="rating",
        time="timestamp" if timed else None,
        sequence="row",
    )
    filled = with_defaults(settings, layout, columns, ITEM_FEATURES, label_min=LABEL_MIN)
    # The log of ten million ratings has no users beside it.
    if settings.users is None and layout.users and (folder / layout.users).is_file():
        users = SideTable(path=layout.users, id="id", features=USER_FEATURES)
        return filled.model_copy(update={"users": users})
    return filled


def _all_timed(log: Path) -> bool:
    if log.suffix != ".parquet":
        return True
    return tables.read(log, ["timestamp"])["timestamp"].null_count() == 0


def _lines(path: Path, names: list[str], separator: str) -> pl.DataFrame:
    """Return the fields of a text file in ISO-8859-1 without quotes, as strings."""
    try:
        text = path.read_text(encoding="iso-8859-1")
    except OSError as error:
        raise DataError(f"an input file must exist, {path} cannot be read") from error
    rows = [line.split(separator) for line in text.split("\n") if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) < len(names):
            raise DataError(
                f"a line must have {len(names)} fields, got {len(row)} in line {number} of {path}"
            )
    if not rows:
        raise DataError(f"an input file must hold rows, got none ({path})")
    columns = list(zip(*(row[: len(names)] for row in rows), strict=True))
    fields = [[value.rstrip("\r") for value in column] for column in columns]
    return pl.DataFrame(dict(zip(names, fields, strict=True)))


def _numbers(frame: pl.DataFrame, dtypes: dict[str, DType], path: Path) -> pl.DataFrame:
    try:
        return frame.with_columns(pl.col(name).cast(dtype) for name, dtype in dtypes.items())
    except pl.exceptions.InvalidOperationError as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"fields of {path} must be numbers: {reason}") from error


def _with_row(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64)).select(RATING_COLUMNS)


def _ratings(separator: str) -> Callable[[Path], pl.DataFrame]:
    def read(path: Path) -> pl.DataFrame:
        names = RATING_COLUMNS[:4]
        whole = {"user_id": pl.Int64, "movie_id": pl.Int64, "timestamp": pl.Int64}
        frame = _numbers(_lines(path, names, separator), {**whole, "rating": pl.Float64}, path)
        return _with_row(frame)

    return read


def _ratings_csv(path: Path) -> pl.DataFrame:
    names = {"userId": "user_id", "movieId": "movie_id"}
    frame = tables.read(path, [*names, "rating", "timestamp"]).rename(names)
    whole = dict.fromkeys(("user_id", "movie_id", "timestamp"), pl.Int64)
    return _with_row(_numbers(frame, {**whole, "rating": pl.Float64}, path))


def _ratings_parquet(path: Path) -> pl.DataFrame:
    return tables.read(path, RATING_COLUMNS)


def _movies_dat(path: Path) -> pl.DataFrame:
    frame = _numbers(_lines(path, ["id", "title", "genres"], "::"), {"id": pl.Int64}, path)
    return _movies(frame, path)


def _movies_csv(path: Path) -> pl.DataFrame:
    frame = tables.read(path, ["movieId", "title", "genres"]).rename({"movieId": "id"})
    return _movies(_numbers(frame, {"id": pl.Int64}, path), path)


def _movies_100k(path: Path) -> pl.DataFrame:
    flags = [f"flag{i}" for i in range(len(_GENRES_100K))]
    frame = _lines(path, ["id", "title", "released", "video", "url", *flags], "|")
    names = [
        pl.when(pl.col(flag) == "1").then(pl.lit(genre))
        for flag, genre in zip(flags, _GENRES_100K, strict=True)
    ]
    genres = pl.concat_str(names, separator="|", ignore_nulls=True)
    frame = _numbers(frame.select("id", "title", genres=genres), {"id": pl.Int64}, path)
    return _movies(frame, path)


def _movies(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return films with genres as lists and the year of `Title (1995)` in one of twelve bins.

    And with the columns of `film_content`, from the file beside `path`.
    """
    title = pl.col("title").str.strip_chars()
    year = title.str.extract(r"\((\d{4})\)$").cast(pl.Int64)
    labels = [f"<={_YEARS[0]}", *(f"{a + 1}-{b}" for a, b in pairwise(_YEARS))]
    bins = pl.when(year > _YEARS[-1]).then(pl.lit(f">{_YEARS[-1]}"))
    for last, label in zip(reversed(_YEARS), reversed(labels), strict=True):
        bins = pl.when(year <= last).then(pl.lit(label)).otherwise(bins)
    genres = pl.when(pl.col("genres") != "(no genres listed)").then(pl.col("genres").str.split("|"))
    films = frame.select("id", title=title, genres=genres, year=bins)
    return film_content.with_content(films, path.with_name(film_content.FILE))


def _users_dat(path: Path) -> pl.DataFrame:
    names = ["id", "gender", "age", "occupation"]
    return _numbers(_lines(path, names, "::"), {"id": pl.Int64}, path)


def _users_100k(path: Path) -> pl.DataFrame:
    frame = _lines(path, ["id", "age", "gender", "occupation"], "|")
    decade = (pl.col("age").cast(pl.Int64, strict=False) // 10 * 10).cast(pl.String) + "s"
    return _numbers(frame.with_columns(age=decade), {"id": pl.Int64}, path)


LAYOUTS = (
    Layout(
        "ml-1m", "ratings.dat", "movies.dat", "users.dat", _ratings("::"), _movies_dat, _users_dat
    ),
    Layout(
        "ml-1m parquet", "ratings.parquet", "movies.dat", "users.dat",
        _ratings_parquet, _movies_dat, _users_dat,
    ),
    Layout("ml-100k", "u.data", "u.item", "u.user", _ratings("\t"), _movies_100k, _users_100k),
    Layout("ml-latest", "ratings.csv", "movies.csv", None, _ratings_csv, _movies_csv, None),
)  # fmt: skip
