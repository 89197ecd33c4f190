"""The rows of one bucket: sorted, deduplicated, cut short, summed up; pure functions.

Rows hold entity, item (int64 or string), label float32, time int64 microseconds (absent without a
clock), sequence int64, domain string (where the log says it) and `context.<feature>` and
`label.<name>` columns in canonical dtypes. Does not know files, nor what other buckets hold.
"""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from metarec_ray.data import id_hashes
from metarec_ray.data.draws import mixed
from metarec_ray.data.settings import DOMAIN

TOO_LONG = "history is longer than data.max_events"
"""Why the events after the first `data.max_events` of an entity are quarantined."""
OLD_SEQUENCE = -(2**62)
"""Sequence of a bucket's first event of the previous version: old ones come first in a tie."""


class Summary(NamedTuple):
    """What one bucket holds: `entities` (entity, first, events), `items` (item, first).

    `first` is the time of the first event. With domains, `items` has a row an item and `domain`.
    """

    entities: pl.DataFrame
    items: pl.DataFrame


def with_bucket(rows: pl.DataFrame, buckets: int) -> pl.DataFrame:
    """Add the `bucket` of each row's entity."""
    unique = rows["entity"].unique()
    number = pl.Series([id_hashes.stable_hash(raw) % buckets for raw in unique], dtype=pl.Int32)
    table = pl.DataFrame({"entity": unique, "bucket": number})
    return rows.join(table, on="entity", how="left", maintain_order="left")


def deduplicate(rows: pl.DataFrame, *, shuffle: int | None = None) -> pl.DataFrame:
    """Sort rows by (entity, time, sequence, item) and keep one of each (entity, item, time).

    The last by sequence is kept, of those the one with the largest label; the other columns decide
    the rest, so that the result does not depend on the order of `rows`.

    With `shuffle`, a seed, events of one entity and time are in a random order, drawn from (entity,
    item, sequence): where the order inside one timestamp could tell what follows. Events of the
    previous version (see `OLD_SEQUENCE`) keep their order and come first.
    """
    clock = ["time"] if "time" in rows.columns else []
    known = {"entity", "item", "time", "sequence", "label", "bucket"}
    others = sorted(name for name in rows.columns if name not in known)
    key = ["entity", "item", *clock]
    by = [*key, "sequence", "label", *others]
    # Nulls first: a value wins over none, and polars takes a quarter of the time.
    found = rows.sort(by)
    unique = found.filter(
        pl.any_horizontal(pl.col(name) != pl.col(name).shift(-1) for name in key).fill_null(True)
    )
    if shuffle is None:
        return unique.sort("entity", *clock, "sequence", "item")
    # Without the entity in the hash, histories with the same sequences would be shuffled alike.
    numbers = [id_hashes.stable_hashes(unique["entity"]), id_hashes.stable_hashes(unique["item"])]
    numbers.append(unique["sequence"].cast(pl.Int64).fill_null(0).to_numpy())
    drawn = unique.with_columns(order=pl.Series(mixed(shuffle, *numbers)))
    old = pl.when(pl.col("sequence") < OLD_SEQUENCE // 2).then("sequence").otherwise(0)
    return drawn.sort("entity", *clock, old, "order", "sequence", "item").drop("order")


def truncate(rows: pl.DataFrame, max_events: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first `max_events` of each entity, and as rejected rows how many were cut."""
    position = pl.int_range(pl.len()).over("entity")
    cut = rows.filter(position >= max_events).group_by("entity").agg(rows=pl.len())
    rejected = cut.sort("entity").select(
        file=pl.lit(""),
        row=pl.lit(None, pl.Int64),
        reason=pl.lit(TOO_LONG),
        value=pl.col("entity").cast(pl.String),
        rows=pl.col("rows").cast(pl.Int64),
    )
    return rows.filter(position < max_events), rejected


def summarise(rows: pl.DataFrame) -> Summary:
    """Return the entities and items of one bucket; `first` is 0 without a clock."""
    first = pl.col("time").min() if "time" in rows.columns else pl.lit(0, pl.Int64)
    entities = rows.group_by("entity").agg(first=first, events=pl.len().cast(pl.Int64))
    items = rows.group_by(_item_key(rows)).agg(first=first)
    return Summary(entities.sort("entity"), items.sort(_item_key(rows)))


def first_met(items: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the items of some summaries with their first time, each once (once a domain)."""
    whole = pl.concat(items)
    return whole.group_by(_item_key(whole)).agg(pl.col("first").min()).sort(_item_key(whole))


def item_domains(items: pl.DataFrame) -> pl.DataFrame:
    """Return each item once with each domain that it was met in; rows without one do not count."""
    return items.drop_nulls(DOMAIN).select("item", DOMAIN).unique()


def _item_key(rows: pl.DataFrame) -> list[str]:
    return [name for name in ("item", DOMAIN) if name in rows.columns]
