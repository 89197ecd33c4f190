"""The ratings of the Netflix prize: user_id, movie_id, rating, date, row.

Lines `user,rating,date` below a line `movie:`, in several files; read whole. Items: id, title,
year. `row` is the number of a rating over all files. Knows the content of these files only.
"""

from pathlib import Path

import polars as pl

from metarec_ray.data.datasets.movielens import LABEL_MIN, Layout, with_defaults
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.errors import DataError

NAME = "netflix"
PARTS = "combined_data_*.txt"
ITEM_FEATURES = {"year": Feature(kind="numeric")}


def effective(settings: Data, layout: Layout) -> Data:
    """Return the settings with the defaults of this layout: roles, `label_min`, the item table."""
    columns = Columns(
        entity="user_id", item="movie_id", label="rating", time="date", sequence="row"
    )
    return with_defaults(settings, layout, columns, ITEM_FEATURES, label_min=LABEL_MIN)


def parts(folder: Path) -> list[Path]:
    """Return the files of ratings, in order."""
    return sorted(folder.glob(PARTS))


def _ratings(path: Path) -> pl.DataFrame:
    whole = pl.concat([_part(part) for part in parts(path.parent)])
    return whole.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64))


def _part(path: Path) -> pl.DataFrame:
    lines = _lines(path, "utf-8").with_row_index("number", 1)
    line = pl.col("line")
    heads = pl.when(line.str.ends_with(":")).then(line.str.head(-1).cast(pl.Int64, strict=False))
    rows = lines.with_columns(movie_id=heads.forward_fill()).filter(~line.str.ends_with(":"))
    field = line.str.split_exact(",", 2).struct
    read = rows.select(
        "number",
        field.field("field_0").cast(pl.Int64, strict=False).alias("user_id"),
        "movie_id",
        field.field("field_1").cast(pl.Int64, strict=False).alias("rating"),
        field.field("field_2").str.to_date("%Y-%m-%d", strict=False).alias("date"),
    )
    broken = read.filter(pl.any_horizontal(pl.all().is_null()))
    if len(broken):
        raise DataError(
            "ratings must be lines `user,rating,date` below a line `movie:`, line "
            f"{broken['number'][0]} of {path} is not"
        )
    return read.drop("number")


def _titles(path: Path) -> pl.DataFrame:
    """Read lines `id,year,title`; a title may hold commas, a year may be NULL."""
    field = pl.col("line").str.splitn(",", 3).struct
    films = _lines(path, "iso-8859-1").select(
        id=field.field("field_0").cast(pl.Int64, strict=False),
        title=field.field("field_2"),
        year=field.field("field_1").cast(pl.Int64, strict=False),
    )
    if films["id"].null_count():
        row = int(films["id"].is_null().arg_max() or 0) + 1
        raise DataError(f"films must be lines `id,year,title`, line {row} of {path} is not")
    return films


def _lines(path: Path, encoding: str) -> pl.DataFrame:
    """Return the lines of a file that are not empty."""
    try:
        text = path.read_text(encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"an input file must be readable, {path} is not: {error}") from error
    lines = pl.Series("line", text.split("\n"), pl.String).str.strip_chars("\r ")
    return lines.filter(lines != "").to_frame()


LAYOUT = Layout(
    NAME, "combined_data_1.txt", "movie_titles.csv", None, _ratings, _titles, None, parts=parts
)  # fmt: skip
