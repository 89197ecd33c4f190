"""Two Amazon shops, food and kitchen, as one log: user_id, item_id, timestamp, row.

Every user bought in both. Items: id, title (the shop's item number), domain (`food` or `kitchen`).
`row` is the number of an event in its file; a timestamp is the first second of a day. Knows the
content of these two files only.
"""

import json
from pathlib import Path

import polars as pl

from metarec_ray.data.datasets.movielens import Layout, with_defaults
from metarec_ray.data.settings import Columns, Data, Feature
from metarec_ray.errors import DataError

NAME = "amazon-food-kitchen"
DOMAINS = ("food", "kitchen")
ITEM_FEATURES = {"domain": Feature(kind="categorical")}


def effective(settings: Data, layout: Layout) -> Data:
    """Return the settings with the defaults of this layout: roles and the item table."""
    if settings.feedback != "implicit":
        raise DataError(
            f"purchases have no labels: data.feedback must be implicit, got {settings.feedback} "
            f"({settings.path})"
        )
    columns = Columns(entity="user_id", item="item_id", time="timestamp", sequence="row")
    return with_defaults(settings, layout, columns, ITEM_FEATURES)


def _events(path: Path) -> pl.DataFrame:
    """Read lines `user item|time item|time ...`."""
    try:
        lines = pl.Series("line", path.read_text("utf-8").splitlines()).to_frame()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"an input file must exist, {path} cannot be read") from error
    words = lines.with_row_index("number", 1).with_columns(
        pl.col("line").str.strip_chars().str.split(" ")
    )
    events = words.select(
        "number",
        user_id=pl.col("line").list.first().cast(pl.Int64, strict=False),
        event=pl.col("line").list.slice(1),
    ).explode("event", empty_as_null=True)
    part = pl.col("event").str.split("|")
    found = events.select(
        "number",
        "user_id",
        item_id=part.list.get(0, null_on_oob=True).cast(pl.Int64, strict=False),
        timestamp=part.list.get(1, null_on_oob=True).cast(pl.Int64, strict=False),
        extra=part.list.len() != 2,
    )
    broken = found.filter(
        pl.any_horizontal(pl.col("user_id", "item_id", "timestamp").is_null(), "extra")
    )
    if len(broken):
        raise DataError(
            "a line must be `user item|time item|time ...` in whole numbers, line "
            f"{broken['number'][0]} is not ({path})"
        )
    return found.select(
        "user_id", "item_id", "timestamp", row=pl.int_range(pl.len(), dtype=pl.Int64)
    )


def _items(path: Path) -> pl.DataFrame:
    """Read the JSON object that maps an item number to [id, domain 0 or 1]."""
    try:
        known = json.loads(path.read_text("utf-8"))
        rows = [(int(item), title, DOMAINS[domain]) for title, (item, domain) in known.items()]
    except OSError as error:
        raise DataError(f"an input file must exist, {path} cannot be read") from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"items must be JSON of number -> [id, 0 or 1], {path} is not") from error
    return pl.DataFrame(rows, schema={"id": pl.Int64, "title": pl.String, "domain": pl.String},
                        orient="row")  # fmt: skip


LAYOUT = Layout(
    NAME, "afk_50_preprocessed.txt", "map_item_50.txt", None, _events, _items, None
)  # fmt: skip
