"""Impressions of the news of MIND: user_id, news_id, click, time, row.

A line of `behaviors.tsv` holds all that was shown at once, `N1-1 N2-0`: a row each here, 1 a
click, 0 none. What a user had clicked before has no times and is left out. Items: id, title,
category, subcategory. `row` is the number of an impression in its file. Knows the content of these
files only.
"""

from pathlib import Path

import polars as pl

from metarec_ray.data.datasets.movielens import Layout, with_defaults
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.errors import DataError

NAME = "mind"
CLICK = 1.0
ITEM_FEATURES = {
    "category": Feature(kind="categorical"),
    "subcategory": Feature(kind="categorical"),
}
_TIME = "%m/%d/%Y %I:%M:%S %p"


def effective(settings: Data, layout: Layout) -> Data:
    """Return the settings with the defaults of this layout: roles and the item table.

    With implicit feedback only clicks are kept.
    """
    if settings.feedback == "explicit":
        raise DataError(
            f"impressions have no ratings: data.feedback must be binary or implicit, got explicit "
            f"({settings.path})"
        )
    columns = Columns(entity="user_id", item="news_id", label="click", time="time", sequence="row")
    return with_defaults(settings, layout, columns, ITEM_FEATURES, label_min=CLICK)


def _behaviors(path: Path) -> pl.DataFrame:
    names = ["impression", "user_id", "time", "history", "shown"]
    lines = _fields(path, names).with_row_index("number", 1)
    times = lines["time"].str.to_datetime(_TIME, strict=False, time_unit="us")
    shown = lines.with_columns(time=times, shown=pl.col("shown").str.strip_chars().str.split(" "))
    rows = shown.explode("shown", empty_as_null=True)
    found = rows.select(
        "number",
        "user_id",
        "time",
        news_id=pl.col("shown").str.extract(r"^(.+)-[01]$"),
        click=pl.col("shown").str.extract(r"-([01])$").cast(pl.Int64),
    )
    broken = found.filter(pl.any_horizontal(pl.all().is_null()))
    if len(broken):
        raise DataError(
            "a line must be `impression user time history shown`, told apart by tabs, with the "
            "time as 11/15/2019 8:55:22 AM and what was shown as N1-1 N2-0, line "
            f"{broken['number'][0]} of {path} is not"
        )
    return found.select(
        "user_id", "news_id", "click", "time", row=pl.int_range(pl.len(), dtype=pl.Int64)
    )


def _news(path: Path) -> pl.DataFrame:
    names = ["id", "category", "subcategory", "title"]
    return _fields(path, names).select("id", "title", "category", "subcategory")


def _fields(path: Path, names: list[str]) -> pl.DataFrame:
    """Return the first fields of lines without quotes, told apart by tabs, as text."""
    try:
        lines = [line.split("\t") for line in path.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"an input file must be readable, {path} is not: {error}") from error
    for number, line in enumerate(lines, start=1):
        if len(line) < len(names):
            raise DataError(
                f"a line must have {len(names)} fields, got {len(line)} in line {number} of {path}"
            )
    columns = {name: [line[at] for line in lines] for at, name in enumerate(names)}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


LAYOUT = Layout(
    NAME, "behaviors.tsv", "news.tsv", None, _behaviors, _news, None, has_text_ids=True
)  # fmt: skip
